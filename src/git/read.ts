/**
 * Reads of a bare repository: the difference of two commits, and one file of a commit. Every
 * command is plumbing that runs no filter, textconv or external diff.
 */
import { isUtf8 } from "node:buffer";
import { SlipwayError } from "../core/error.ts";
import { GitError } from "../core/lib/git/git-error.ts";
import { exceedsLimit } from "./git-errors.ts";
import { BoundedCache } from "../core/lib/concurrency/bounded-cache.ts";
import type { Git } from "./git-process.ts";
import type { TaskRepositories } from "./task-repositories.ts";
import type { Diff, DiffFile, FileId, Repositories, RepositoryFile } from "../core/ports/repositories.ts";

const COMMIT = /^([0-9a-f]{40}|[0-9a-f]{64})$/;
/** Files and lists of commits, which never change, in characters. */
const READS = { concurrency: 16, maxWaiting: Infinity, maxSize: 8 * 2 ** 20 } as const;
const FILES_LIMIT = 3_000;
const LIST_BYTES = 4 * 2 ** 20;
const TREE_BYTES = 32 * 2 ** 20;
const PATCH_BYTES = 256 * 1024;
const FILE_PATCH_BYTES = 2 * 2 ** 20;
const WHOLE_PATCH_BYTES = 10 * 2 ** 20;
/**
 * A text of nothing but line ends takes fifty times its size in memory to compare: larger files
 * count as binary.
 */
const SMALL = ["-c", "core.bigFileThreshold=4m"] as const;
const PLAIN = ["--no-color", "--no-ext-diff", "--no-textconv", "-M"] as const;

const STATUS: Readonly<Record<string, DiffFile["status"]>> = {
  A: "added",
  M: "modified",
  D: "deleted",
  R: "renamed",
  C: "copied",
  T: "type_changed",
};

/** @throws SlipwayError `payload_too_large` when the comparison takes too much memory or time. */
async function compare(
  git: Git,
  cwd: string,
  args: readonly string[],
  maxBytes: number,
  settings: readonly string[] = [],
): ReturnType<Git> {
  try {
    return await git({ cwd, kind: "diff", args: [...SMALL, ...settings, "diff", ...args], maxBytes });
  } catch (error) {
    if (!(error instanceof GitError) || !exceedsLimit(error)) throw error;
    throw new SlipwayError(
      "payload_too_large",
      "Comparing these commits takes more memory or time than this server allows. Fetch the pushed branch instead.",
    );
  }
}

export async function readDiff(git: Git, cwd: string, base: string, head: string): Promise<Diff> {
  const range = ["--end-of-options", base, head, "--"];
  const raw = await compare(git, cwd, [...PLAIN, "--raw", "-z", ...range], LIST_BYTES);
  const counts = await compare(git, cwd, [...PLAIN, "--numstat", "-z", ...range], LIST_BYTES);
  const all = withCounts(readRaw(raw.text), counts.text);
  const { text, truncated } = await compare(git, cwd, [...PLAIN, ...range], PATCH_BYTES);
  // Only a line feed begins a line: file content may hold every other character that a pattern's ^
  // stands for.
  const pieces = text.split(/(?<![^\n])(?=diff --git )/);
  // The last patch of a cut text is not whole.
  if (truncated) pieces.pop();
  const patches = pieces[Symbol.iterator]();
  const files = all.slice(0, FILES_LIMIT).map((file) => {
    // A change of type is shown as a deletion and an addition.
    const own = [patches.next().value, ...(file.status === "type_changed" ? [patches.next().value] : [])];
    return { ...file, patch: file.binary || own.includes(undefined) ? null : own.join("") };
  });
  return { base, head, files, truncated: truncated || raw.truncated || counts.truncated || all.length > FILES_LIMIT };
}

/** The patch of one file of the difference; null when it is larger than 2 MiB. */
export async function readFilePatch(
  git: Git,
  cwd: string,
  range: { readonly base: string; readonly head: string },
  { path, oldPath }: Pick<DiffFile, "path" | "oldPath">,
): Promise<string | null> {
  const paths = oldPath === null ? [path] : [oldPath, path];
  const args = [...PLAIN, "--end-of-options", range.base, range.head, "--", ...paths];
  const { text, truncated } = await compare(git, cwd, args, FILE_PATCH_BYTES, ["--literal-pathspecs"]);
  return truncated ? null : text;
}

/**
 * @param allBinary an attributes file that calls every file binary.
 * @throws SlipwayError `payload_too_large`: half a patch would apply as if it were all.
 */
export async function readPatch(git: Git, cwd: string, base: string, head: string, allBinary: string): Promise<string> {
  const range = ["--binary", "--full-index", "--end-of-options", base, head, "--"];
  const found = await compare(git, cwd, [...PLAIN, ...range], WHOLE_PATCH_BYTES);
  // Text in another encoding would not survive the way to the reader; as if binary, and with names
  // quoted, it does.
  const ascii = ["-c", `core.attributesFile=${allBinary}`, "-c", "core.quotePath=true"];
  const sure =
    found.truncated || isUtf8(found.bytes)
      ? found
      : await compare(git, cwd, [...PLAIN, ...range], WHOLE_PATCH_BYTES, ascii);
  if (!sure.truncated) return sure.text;
  throw new SlipwayError("payload_too_large", "The patch is larger than 10 MiB. Fetch the pushed branch instead.");
}

type Listed = Omit<DiffFile, "patch">;

/**
 * `--raw -z`: a colon, modes, ids and a letter; then one path, or two for what was renamed or
 * copied.
 */
function readRaw(text: string): Pick<Listed, "path" | "oldPath" | "status">[] {
  const fields = text.split("\0");
  const found: Pick<Listed, "path" | "oldPath" | "status">[] = [];
  for (let at = 0; fields[at]?.startsWith(":");) {
    const letter = fields[at]?.split(" ").at(-1)?.[0] ?? "M";
    const two = letter === "R" || letter === "C";
    const [first = "", second = ""] = fields.slice(at + 1, at + 3);
    found.push({ path: two ? second : first, oldPath: two ? first : null, status: STATUS[letter] ?? "modified" });
    at += two ? 3 : 2;
  }
  return found;
}

/**
 * `--numstat -z` lists the same files in the same order: two counts and a path, or an empty path
 * and then the two.
 */
function withCounts(files: ReturnType<typeof readRaw>, text: string): Listed[] {
  const fields = text.split("\0");
  let at = 0;
  return files.map((file) => {
    const [added = "0", deleted = "0", path = ""] = (fields[at] ?? "").split("\t");
    at += path === "" ? 3 : 1;
    const binary = added === "-";
    return { ...file, additions: binary ? 0 : Number(added), deletions: binary ? 0 : Number(deleted), binary };
  });
}

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
  const { text } = await git({ cwd, args: ["--literal-pathspecs", "ls-tree", "-z", "--long", sha, "--", path] });
  const [, mode, object, size] = /^(\d{6}) \w+ ([0-9a-f]{40,64}) +(\d+|-)\t/.exec(text) ?? [];
  if (mode === undefined || object === undefined) return { kind: "absent" };
  if (mode === "120000") return unusable("it is a symbolic link.");
  if (mode !== "100644" && mode !== "100755") return unusable("it is not a file.");
  if (Number(size) > maxBytes) return unusable(`it has ${size} bytes, and at most ${maxBytes} are read.`);
  const { bytes } = await git({ cwd, args: ["cat-file", "blob", object], maxBytes });
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
