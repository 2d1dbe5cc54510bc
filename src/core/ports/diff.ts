/** What changed between two commits. */

export interface DiffFile {
  readonly path: string;
  readonly oldPath: string | null;
  readonly status: "added" | "modified" | "deleted" | "renamed" | "copied" | "type_changed";
  readonly additions: number;
  readonly deletions: number;
  readonly binary: boolean;
  readonly patch: string | null;
  /** Of a binary file, bytes; null on the side that has no such file. */
  readonly sizes: { readonly before: number | null; readonly after: number | null } | null;
}

export type DiffSide = "before" | "after";

export interface Diff {
  readonly base: string;
  readonly head: string;
  readonly files: readonly DiffFile[];
  readonly truncated: boolean;
}
