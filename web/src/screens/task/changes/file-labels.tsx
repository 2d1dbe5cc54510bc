/** How a changed file is named: its letter, its path, its place in the page. */
import type { TaskDiff } from "../../../../../src/client/types.ts";

type FileChange = TaskDiff["files"][number];

export const fileId = (path: string): string => `file-${encodeURIComponent(path)}`;

export const LETTERS: Readonly<Record<FileChange["status"], string>> = {
  added: "A",
  modified: "M",
  deleted: "D",
  renamed: "R",
  copied: "C",
  type_changed: "T",
};

/** Folder and name; a long path is cut at its beginning. */
export function Path({ path }: { path: string }) {
  const cut = path.lastIndexOf("/") + 1;
  return (
    <bdi>
      {path.slice(0, cut)}
      <b>{path.slice(cut)}</b>
    </bdi>
  );
}
