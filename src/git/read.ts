/**
 * Reads of one commit of a bare repository. Every command is plumbing that runs no filter, textconv
 * or external diff.
 */
import { SlipwayError } from "../core/error.ts";
import { BoundedCache } from "../core/lib/concurrency/bounded-cache.ts";
import type { FileId, Repositories, RepositoryFile } from "../core/ports/repositories.ts";
import type { Git } from "./git-process.ts";
import type { TaskRepositories } from "./task-repositories.ts";

const COMMIT = /^([0-9a-f]{40}|[0-9a-f]{64})$/;
/** Files and lists of commits, which never change, in characters. */
const READS = { concurrency: 16, maxWaiting: Infinity, maxSize: 8 * 2 ** 20 } as const;
const TREE_BYTES = 32 * 2 ** 20;

export interface TreeEntry {
  readonly mode: string;
  readonly object: string;
  readonly size: number;
}

/** @returns a file, a link, a folder or a submodule; null = there is none. */
export async function findBlob(git: Git, cwd: string, sha: string, path: string): Promise<TreeEntry | null> {
  const { text } = await git({ cwd, args: ["--literal-pathspecs", "ls-tree", "-z", "--long", sha, "--", path] });
  const [, mode, object, size] = /^(\d{6}) \w+ ([0-9a-f]{40,64}) +(\d+|-)\t/.exec(text) ?? [];
  return mode === undefined || object === undefined ? null : { mode, object, size: Number(size) };
}

export const isPlainFile = ({ mode }: TreeEntry): boolean => mode === "100644" || mode === "100755";

interface FileRequest {
  readonly cwd: string;
  readonly sha: string;
  /** A plain name at the top of the tree. */
  readonly path: string;
  readonly maxBytes: number;
}

const unusable = (why: string): RepositoryFile => ({ kind: "unusable", why });

/** The file as UTF-8 text. Links, folders, larger files and other encodings are `unusable`. */
async function readFileAt(git: Git, { cwd, sha, path, maxBytes }: FileRequest): Promise<RepositoryFile> {
  const found = await findBlob(git, cwd, sha, path);
  if (found === null) return { kind: "absent" };
  if (found.mode === "120000") return unusable("it is a symbolic link.");
  if (!isPlainFile(found)) return unusable("it is not a file.");
  if (found.size > maxBytes) return unusable(`it has ${found.size} bytes, and at most ${maxBytes} are read.`);
  const { bytes } = await git({ cwd, args: ["cat-file", "blob", found.object], maxBytes });
  try {
    return { kind: "text", text: new TextDecoder("utf-8", { fatal: true }).decode(bytes) };
  } catch {
    return unusable("it is not UTF-8.");
  }
}

/** Files and links of a commit, by its full SHA; null when the list is too long to read. */
async function listFileIds(git: Git, cwd: string, sha: string): Promise<FileId[] | null> {
  const { text, truncated } = await git({
    cwd,
    args: ["ls-tree", "-r", "-z", "--end-of-options", sha],
    maxBytes: TREE_BYTES,
  });
  if (truncated) return null;
  return text.split("\0").flatMap((line) => {
    const [, mode, object, path] = /^(\d{6}) \w+ ([0-9a-f]{40,64})\t(.*)$/s.exec(line) ?? [];
    return mode === undefined || object === undefined || path === undefined ? [] : [{ path, id: `${mode} ${object}` }];
  });
}

export const isCommit = (sha: string): boolean => COMMIT.test(sha);

/** @throws SlipwayError `invalid_request` for anything but a full SHA. */
export function requireCommit(sha: string): string {
  if (isCommit(sha)) return sha;
  throw new SlipwayError("invalid_request", "Commits are named by their full SHA.");
}

const sizeOfFile = (file: RepositoryFile): number => (file.kind === "text" ? file.text.length : 0) + 200;

function sizeOfList(files: readonly FileId[] | null): number {
  return (files ?? []).reduce((sum, { path, id }) => sum + path.length + id.length + 50, 200);
}

/** What the tasks of one person read of one commit of a repository is the same, and kept. */
export function openCommitReads(
  git: Git,
  tasks: Pick<TaskRepositories, "path" | "mirrorsOf">,
): Pick<Repositories, "file" | "fileIds"> {
  const reads = new BoundedCache(READS);
  const keyOf = (taskId: string, ...parts: readonly string[]): string =>
    [...tasks.mirrorsOf(taskId), ...parts].join("\n");
  return {
    async file(taskId, sha, path, maxBytes) {
      const asked = { cwd: tasks.path(taskId), sha: requireCommit(sha), path, maxBytes };
      const key = keyOf(taskId, "file", sha, path, String(maxBytes));
      return await reads.get(key, () => readFileAt(git, asked), sizeOfFile);
    },
    async fileIds(taskId, sha) {
      const read = (): Promise<FileId[] | null> => listFileIds(git, tasks.path(taskId), requireCommit(sha));
      return await reads.get(keyOf(taskId, "ids", sha), read, sizeOfList);
    },
  };
}
