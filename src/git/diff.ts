/**
 * The difference of two commits of a bare repository. Every command is plumbing that runs no
 * filter, textconv or external diff.
 */
import { isUtf8 } from "node:buffer";
import { join } from "node:path";
import { SlipwayError } from "../core/error.ts";
import { BoundedCache } from "../core/lib/concurrency/bounded-cache.ts";
import { GitError } from "../core/lib/git/git-error.ts";
import { replaceFile } from "../core/lib/runtime/replace-file.ts";
import type { Diff, DiffFile } from "../core/ports/diff.ts";
import type { Repositories } from "../core/ports/repositories.ts";
import { exceedsLimit } from "./git-errors.ts";
import type { Git } from "./git-process.ts";
import { findBlob, isPlainFile, requireCommit } from "./read.ts";
import type { TaskRepositories } from "./task-repositories.ts";

/** Comparisons at once: each may take some hundred MiB and one core. */
const COMPARISONS = { concurrency: 2, maxWaiting: 32, maxSize: 32 * 2 ** 20 } as const;

/** UTF-16 units, and a constant for the rest of each file. */
function sizeOfDiff({ files }: Diff): number {
  return files.reduce((sum, { path, oldPath, patch }) => {
    return sum + path.length + (oldPath?.length ?? 0) + (patch?.length ?? 0) + 200;
  }, 0);
}

const FILES_LIMIT = 3_000;
const LIST_BYTES = 4 * 2 ** 20;
const PATCH_BYTES = 256 * 1024;
const FILE_PATCH_BYTES = 2 * 2 ** 20;
const WHOLE_PATCH_BYTES = 10 * 2 ** 20;
const CONTENT_BYTES = 10 * 2 ** 20;
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
  const raw = await compare(git, cwd, [...PLAIN, "--raw", "--no-abbrev", "-z", ...range], LIST_BYTES);
  const counts = await compare(git, cwd, [...PLAIN, "--numstat", "-z", ...range], LIST_BYTES);
  const all = withCounts(readRaw(raw.text), counts.text);
  const listed = await withSizes(git, cwd, all.slice(0, FILES_LIMIT));
  const { text, truncated } = await compare(git, cwd, [...PLAIN, ...range], PATCH_BYTES);
  // Only a line feed begins a line: file content may hold every other character that a pattern's ^
  // stands for.
  const pieces = text.split(/(?<![^\n])(?=diff --git )/);
  // The last patch of a cut text is not whole.
  if (truncated) pieces.pop();
  const patches = pieces[Symbol.iterator]();
  const files = listed.map((file) => {
    // A change of type is shown as a deletion and an addition.
    const own = [patches.next().value, ...(file.status === "type_changed" ? [patches.next().value] : [])];
    return { ...file, patch: file.binary || own.includes(undefined) ? null : own.join("") };
  });
  return { base, head, files, truncated: truncated || raw.truncated || counts.truncated || all.length > FILES_LIMIT };
}

/** The patch of one file of the difference; null when it is larger than 2 MiB. */
async function readFilePatch(
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

type Listed = Omit<DiffFile, "patch" | "sizes">;
/** The ids of both sides; zeros = there is none. */
type Changed = Pick<Listed, "path" | "oldPath" | "status"> & { readonly ids: readonly [before: string, after: string] };

/**
 * `--raw -z`: a colon, modes, ids and a letter; then one path, or two for what was renamed or
 * copied.
 */
function readRaw(text: string): Changed[] {
  const fields = text.split("\0");
  const found: Changed[] = [];
  for (let at = 0; fields[at]?.startsWith(":");) {
    const [, , before = "", after = "", word = "M"] = fields[at]?.split(" ") ?? [];
    const letter = word[0] ?? "M";
    const two = letter === "R" || letter === "C";
    const [first = "", second = ""] = fields.slice(at + 1, at + 3);
    const status = STATUS[letter] ?? "modified";
    found.push({ path: two ? second : first, oldPath: two ? first : null, status, ids: [before, after] });
    at += two ? 3 : 2;
  }
  return found;
}

/**
 * `--numstat -z` lists the same files in the same order: two counts and a path, or an empty path
 * and then the two.
 */
function withCounts(files: readonly Changed[], text: string): (Listed & Changed)[] {
  const fields = text.split("\0");
  let at = 0;
  return files.map((file) => {
    const [added = "0", deleted = "0", path = ""] = (fields[at] ?? "").split("\t");
    at += path === "" ? 3 : 1;
    const binary = added === "-";
    return { ...file, additions: binary ? 0 : Number(added), deletions: binary ? 0 : Number(deleted), binary };
  });
}

/** Binary files with their sizes, which one call reads. */
async function withSizes(
  git: Git,
  cwd: string,
  files: readonly (Listed & Changed)[],
): Promise<Omit<DiffFile, "patch">[]> {
  const ids = files.flatMap((file) => (file.binary ? file.ids : []));
  const known = new Map<string, number>();
  if (ids.length > 0) {
    const args = ["cat-file", "--batch-check=%(objectname) %(objecttype) %(objectsize)"];
    const { text } = await git({ cwd, args, input: ids.map((id) => `${id}\n`).join("") });
    for (const [, id = "", size] of text.matchAll(/^([0-9a-f]+) blob (\d+)$/gm)) known.set(id, Number(size));
  }
  return files.map(({ ids: [before, after], ...file }) => {
    const sizes = { before: known.get(before) ?? null, after: known.get(after) ?? null };
    return { ...file, sizes: file.binary ? sizes : null };
  });
}

/**
 * The bytes of a file of a commit. @throws SlipwayError `not_found` for what is no file,
 * `payload_too_large` above 10 MiB.
 */
async function readContent(git: Git, cwd: string, sha: string, path: string): Promise<Buffer> {
  const blob = await findBlob(git, cwd, sha, path);
  if (blob === null || !isPlainFile(blob))
    throw new SlipwayError("not_found", "There is no file of that name on this side of the change.");
  if (blob.size > CONTENT_BYTES)
    throw new SlipwayError("payload_too_large", "The file is larger than 10 MiB. Fetch the pushed branch instead.");
  return (await git({ cwd, args: ["cat-file", "blob", blob.object] })).bytes;
}

type Tasks = Pick<TaskRepositories, "exists" | "path">;

/** Validates both SHAs and returns the path of the task repository. */
export function validateRange(tasks: Tasks, taskId: string, base: string, head: string): string {
  [base, head].forEach(requireCommit);
  if (!tasks.exists(taskId))
    throw new SlipwayError("expired", "The task's repository is no longer kept. The pushed branch has the work.");
  return tasks.path(taskId);
}

/** What a task changed. Comparisons of commits never change, so they are kept. */
export function openDiffReads(
  git: Git,
  dir: string,
  tasks: Tasks,
): Pick<Repositories, "diff" | "diffFile" | "diffContent" | "patch"> {
  const allBinary = join(dir, "binary.attributes");
  replaceFile(allBinary, "* -diff\n");
  const comparisons = new BoundedCache(COMPARISONS);

  async function readCachedDiff(taskId: string, base: string, head: string): Promise<Diff> {
    const cwd = validateRange(tasks, taskId, base, head);
    return await comparisons.get(`diff ${taskId} ${base} ${head}`, () => readDiff(git, cwd, base, head), sizeOfDiff);
  }

  async function findChanged(taskId: string, base: string, head: string, path: string): Promise<DiffFile> {
    const file = (await readCachedDiff(taskId, base, head)).files.find((changed) => changed.path === path);
    if (file === undefined) throw new SlipwayError("not_found", "The task did not change a file of that name.");
    return file;
  }

  return {
    diff: readCachedDiff,
    async diffFile(taskId, base, head, path) {
      const file = await findChanged(taskId, base, head, path);
      if (file.patch !== null || file.binary) return file;
      const cwd = tasks.path(taskId);
      const read = async (): Promise<string> => (await readFilePatch(git, cwd, { base, head }, file)) ?? "";
      const patch = await comparisons.get(`file ${taskId} ${base} ${head} ${path}`, read, (text) => text.length);
      return { ...file, patch: patch === "" ? null : patch };
    },
    async diffContent(taskId, base, head, path, side) {
      const { oldPath } = await findChanged(taskId, base, head, path);
      const [sha, name] = side === "after" ? [head, path] : [base, oldPath ?? path];
      return await readContent(git, tasks.path(taskId), sha, name);
    },
    async patch(taskId, base, head) {
      const cwd = validateRange(tasks, taskId, base, head);
      const read = (): Promise<string> => readPatch(git, cwd, base, head, allBinary);
      return await comparisons.get(`patch ${taskId} ${base} ${head}`, read, (text) => text.length);
    },
  };
}
