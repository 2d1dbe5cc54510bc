/** How a changed file is named: its letter, its path, how large its change is. */
import type { DiffFile } from "../../../../../src/client/types.ts";
import { LineCount } from "../../../components/tasks/change-count.tsx";
import { formatBytes } from "../../../lib/format.ts";

export const fileId = (path: string): string => `file-${encodeURIComponent(path)}`;

const LETTERS: Readonly<Record<DiffFile["status"], string>> = {
  added: "A",
  modified: "M",
  deleted: "D",
  renamed: "R",
  copied: "C",
  type_changed: "T",
};

const COLOURS: Readonly<Partial<Record<DiffFile["status"], string>>> = { added: " a", deleted: " d", renamed: " r" };

export function FileLetter({ status }: { status: DiffFile["status"] }) {
  return (
    <span className={`letter${COLOURS[status] ?? ""}`} title={status}>
      {LETTERS[status]}
    </span>
  );
}

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

/** Lines of a text, bytes of what is none. */
export function ChangeSize({ file }: { file: Pick<DiffFile, "binary" | "sizes" | "additions" | "deletions"> }) {
  if (file.binary) return <span>{describeSizes(file)}</span>;
  return <LineCount additions={file.additions} deletions={file.deletions} />;
}

function describeSizes({ sizes }: Pick<DiffFile, "sizes">): string {
  // A server of an earlier version does not say them.
  const { before = null, after = null } = sizes ?? {};
  if (before === null && after === null) return "binary";
  if (before === null || after === null) return formatBytes(before ?? after ?? 0);
  const [old, now] = [formatBytes(before), formatBytes(after)];
  return old === now ? now : `${old} → ${now}`;
}
