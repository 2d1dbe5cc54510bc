/** Drafts of texts, kept per device until they are sent or the person logs out. */
import { useCallback, useEffect, useState } from "react";

const PREFIX = "slipway.draft.";
/** The fields on the screen that show a draft, by its name. */
const shown = new Map<string, (text: string) => void>();
/** How often a text was put back, by draft. */
const restores = new Map<string, number>();

export function readDraft(name: string): string {
  try {
    return localStorage.getItem(PREFIX + name) ?? "";
  } catch {
    // Storage may be forbidden; then drafts live as long as the page.
    return "";
  }
}

export function writeDraft(name: string, text: string): void {
  try {
    if (text === "") localStorage.removeItem(PREFIX + name);
    else localStorage.setItem(PREFIX + name, text);
  } catch {
    // As above; a full storage loses only the copy.
  }
}

/** Puts a text back into its field, whether the field is on the screen or not. */
export function restoreDraft(name: string, text: string): void {
  restores.set(name, (restores.get(name) ?? 0) + 1);
  writeDraft(name, text);
  shown.get(name)?.(text);
}

/**
 * Before a text is sent, which takes a while. @returns whether its drafts are as they were: if not,
 * something else was typed meanwhile, or the same was put back.
 */
export function markDrafts(...names: readonly string[]): () => boolean {
  const read = (): string => JSON.stringify(names.map((name) => [readDraft(name), restores.get(name)]));
  const before = read();
  return () => read() === before;
}

export function forgetDrafts(): void {
  try {
    for (const name of Object.keys(localStorage)) if (name.startsWith(PREFIX)) localStorage.removeItem(name);
  } catch {
    // As above.
  }
}

export function useDraft(name: string, initial = ""): readonly [string, (text: string) => void] {
  const [text, setText] = useState(() => readDraft(name) || initial);
  useEffect(() => {
    shown.set(name, setText);
    return () => void shown.delete(name);
  }, [name]);
  const update = useCallback(
    (next: string) => {
      setText(next);
      writeDraft(name, next);
    },
    [name],
  );
  return [text, update];
}
