/** Changed files as a tree of folders. A folder that holds one folder alone is one with it. */
import type { TaskDiff } from "../../../../../../src/client/types.ts";

export type FileChange = TaskDiff["files"][number];

export interface Folder {
  readonly path: string;
  readonly name: string;
  readonly folders: readonly Folder[];
  readonly files: readonly FileChange[];
  /** All files below it. */
  readonly count: number;
  readonly additions: number;
  readonly deletions: number;
}

interface Branch {
  readonly folders: Map<string, Branch>;
  readonly files: FileChange[];
}

/** `part-2` comes before `part-10`. */
const { compare } = new Intl.Collator("en", { numeric: true });

export function buildTree(files: readonly FileChange[]): Folder {
  const root: Branch = { folders: new Map(), files: [] };
  for (const file of files) {
    let branch = root;
    for (const name of file.path.split("/").slice(0, -1)) {
      const next: Branch = branch.folders.get(name) ?? { folders: new Map(), files: [] };
      branch.folders.set(name, next);
      branch = next;
    }
    branch.files.push(file);
  }
  return toFolder("", "", root);
}

function toFolder(path: string, name: string, branch: Branch): Folder {
  const [only, ...others] = branch.folders;
  if (only !== undefined && others.length === 0 && branch.files.length === 0 && path !== "")
    return toFolder(`${path}/${only[0]}`, `${name}/${only[0]}`, only[1]);
  const folders = [...branch.folders]
    .map(([below, next]) => toFolder(path === "" ? below : `${path}/${below}`, below, next))
    .toSorted((a, b) => compare(a.name, b.name));
  const sum = (key: "additions" | "deletions"): number =>
    [...folders, ...branch.files].reduce((total, part) => total + part[key], 0);
  return {
    path,
    name,
    folders,
    files: branch.files.toSorted((a, b) => compare(a.path, b.path)),
    count: folders.reduce((total, folder) => total + folder.count, branch.files.length),
    additions: sum("additions"),
    deletions: sum("deletions"),
  };
}

/** In the order in which the tree shows them. */
export function listFiles(folder: Folder): FileChange[] {
  return [...folder.folders.flatMap(listFiles), ...folder.files];
}

export const isBelow = (path: string, { path: folder }: Folder): boolean => path.startsWith(`${folder}/`);

/** Files that somebody who saw one of them has seen: kinds of binary files, and equal edits. */
export function groupAlike(files: readonly FileChange[]): ReadonlyMap<string, readonly FileChange[]> {
  const groups = new Map<string, FileChange[]>();
  for (const file of files) {
    const key = describeChange(file);
    if (key === null) continue;
    const group = groups.get(key) ?? [];
    group.push(file);
    groups.set(key, group);
  }
  return new Map([...groups.values()].flatMap((group) => group.map((file) => [file.path, group] as const)));
}

function describeChange({ path, status, binary, patch, additions, deletions }: FileChange): string | null {
  const folder = path.slice(0, path.lastIndexOf("/") + 1);
  if (binary) return `${status} ${folder} ${path.slice(path.lastIndexOf(".") + 1)}`;
  if (additions + deletions === 0) return status === "renamed" ? `${status} ${folder}` : null;
  if (patch === null) return null;
  const edits = patch.split("\n").filter((line) => /^[+-](?![+-]{2} )/.test(line));
  return `${status}\n${edits.join("\n")}`;
}
