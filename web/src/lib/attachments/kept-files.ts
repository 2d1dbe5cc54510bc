/** The draft of what is attached to a text, as `useAttaching` keeps it. */
import type { Attachment } from "../../../../src/core/values/attachment.ts";
import { readDraft, writeDraft } from "../drafts.ts";
import { createStore } from "../store.ts";

/** How often files were put back into a draft: a field that is on the screen takes them up then. */
export const filesRestored = createStore(0);

export function readFiles(draft: string): readonly Attachment[] {
  try {
    const kept: unknown = JSON.parse(readDraft(draft) || "[]");
    return Array.isArray(kept) ? (kept as Attachment[]) : [];
  } catch {
    return [];
  }
}

export function restoreFiles(draft: string, files: readonly Attachment[]): void {
  writeDraft(draft, JSON.stringify(files));
  filesRestored.set(filesRestored.get() + 1);
}
