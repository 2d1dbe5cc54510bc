/** Drafts of texts, kept per device until they are sent. */
import { useCallback, useState } from "react";

const PREFIX = "slipway.draft.";

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

export function useDraft(name: string, initial = ""): readonly [string, (text: string) => void] {
  const [text, setText] = useState(() => readDraft(name) || initial);
  const update = useCallback(
    (next: string) => {
      setText(next);
      writeDraft(name, next);
    },
    [name],
  );
  return [text, update];
}
