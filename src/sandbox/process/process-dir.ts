/**
 * The folder of one worker process: the truth about it, readable by every coordinator that comes
 * after.
 *
 *   box.json   whose it is; there from the first moment, because the folder appears by rename
 *   claim      "<pid> <start>" of the keeper that runs the worker; "0 -" = stopped before anything ran
 *   exit       the worker's exit code, or "lost" when nobody saw it
 *   log        stdout and stderr;  workspace/ state/ home/ tmp/  what the worker uses
 *
 * B1 The claim is made by a hard link, complete and at most once: whoever makes it may run the
 *    worker, nobody else ever (rule D1).
 * B2 The claimant is the keeper itself, not the coordinator that started it, so that a crash at any
 *    moment leaves either no claim (start again) or a claim whose holder can be looked up (running,
 *    or lost).
 * B3 No claim is ever taken away from a folder under its own name; removal renames the folder
 *    first.
 */
import { link, mkdir, open, readdir, readFile, rename, rm, stat, truncate, writeFile } from "node:fs/promises";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { z } from "zod";
import type { ProcessId } from "./processes.ts";

export const ownerSchema = z.object({ instance: z.string(), taskId: z.string(), attempt: z.int() });
export type Owner = z.infer<typeof ownerSchema>;

/** Stale leavings of a crash are deleted after this long, ms. */
const STALE_MS = 60_000;
const TAIL_CHARACTERS = 4_000;
/** A log over this size starts anew, bytes. */
const LOG_LIMIT = 64 * 1_024 * 1_024;

/**
 * Runs as `sh -c KEEPER keeper <folder> <node> <worker file>`. It ignores SIGTERM, because it must
 * outlive the worker to note its exit code; the trap does not reach the worker: a subshell begins
 * with the signals' defaults. After the worker it starts no further process, because whoever is
 * killing the worker would kill that too; hence a note that is whole only with its line end.
 */
export const SUPERVISOR_SCRIPT = `
dir=$1 node=$2 file=$3
cd "$dir" || exit 1
if [ -r /proc/self/stat ]; then
  boot=
  read -r boot < /proc/sys/kernel/random/boot_id
  read -r line < "/proc/$$/stat"
  set -f
  set -- \${line##*) }
  start="$boot \${20}"
else
  start=$(LC_ALL=C ps -o lstart= -p $$ | tr -s ' ' | sed 's/^ //;s/ $//')
fi
printf '%s %s\\n' "$$" "$start" > "claim.$$" || exit 1
ln "claim.$$" claim 2>/dev/null
claimed=$?
rm -f "claim.$$"
[ "$claimed" = 0 ] || exit 0
trap : TERM INT HUP
(cd workspace && exec "$node" "$file")
code=$?
set -C
printf '%s\\n' "$code" > exit
`;

function isCode(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && "code" in error && codes.includes(String(error.code));
}

async function textOf(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (isCode(error, "ENOENT", "ENOTDIR")) return null;
    throw error;
  }
}

/** Puts a file in place, whole, unless there is one already. @returns false when there was. */
async function putOnce(dir: string, name: string, text: string): Promise<boolean> {
  const draft = join(dir, `${name}.${randomBytes(6).toString("hex")}`);
  try {
    await writeFile(draft, text, { mode: 0o600 });
    await link(draft, join(dir, name));
    return true;
  } catch (error) {
    if (isCode(error, "EEXIST", "ENOENT")) return false;
    throw error;
  } finally {
    await rm(draft, { force: true });
  }
}

/** Makes the folder if there is none of that name. */
export async function createProcessDir(root: string, name: string, owner: Owner): Promise<void> {
  await mkdir(root, { recursive: true, mode: 0o700 });
  if ((await readOwner(join(root, name))) !== null) return;
  const draft = join(root, `.new-${randomBytes(6).toString("hex")}`);
  await mkdir(draft, { mode: 0o700 });
  for (const part of ["workspace", "state", "home", "tmp"]) await mkdir(join(draft, part), { mode: 0o700 });
  await writeFile(join(draft, "box.json"), JSON.stringify(owner), { mode: 0o600 });
  try {
    await rename(draft, join(root, name));
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    if (!isCode(error, "ENOTEMPTY", "EEXIST")) throw error;
  }
}

export async function readOwner(dir: string): Promise<Owner | null> {
  const text = await textOf(join(dir, "box.json"));
  return text === null ? null : ownerSchema.parse(JSON.parse(text));
}

/** Null = nobody has claimed it. pid 0 = stopped before it ran. */
export async function readClaim(dir: string): Promise<ProcessId | null> {
  const text = await textOf(join(dir, "claim"));
  const [, pid, start] = /^(\d+) (.*)$/m.exec(text ?? "") ?? [];
  return pid === undefined || start === undefined ? null : { pid: Number(pid), start: start.trim() };
}

/** Takes the claim so that no keeper can. @returns false when one has it. */
export function reserve(dir: string): Promise<boolean> {
  return putOnce(dir, "claim", "0 -\n");
}

/** The recorded end: an exit code, "lost", or null while there is none. */
export async function readExit(dir: string): Promise<number | "lost" | null> {
  const [, word] = /^(\d+|lost)\n$/.exec((await textOf(join(dir, "exit"))) ?? "") ?? [];
  if (word === undefined) return null;
  return word === "lost" ? "lost" : Number(word);
}

/** Records an end that the keeper did not; what is recorded stays. */
export async function recordExit(dir: string, exit: number | "lost"): Promise<void> {
  await putOnce(dir, "exit", `${exit}\n`);
}

export async function readLogTail(dir: string): Promise<string> {
  let file;
  try {
    file = await open(join(dir, "log"), "r");
  } catch (error) {
    if (isCode(error, "ENOENT")) return "";
    throw error;
  }
  try {
    const { size } = await file.stat();
    const length = Math.min(size, TAIL_CHARACTERS * 4);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, size - length);
    return buffer.subarray(0, bytesRead).toString("utf8").slice(-TAIL_CHARACTERS);
  } finally {
    await file.close();
  }
}

/**
 * Keeps a chatty worker from filling the disk: its log is written in append mode, so that it goes
 * on at the new end.
 */
export async function truncateLog(dir: string): Promise<void> {
  try {
    const path = join(dir, "log");
    if ((await stat(path)).size > LOG_LIMIT) await truncate(path, 0);
  } catch (error) {
    if (!isCode(error, "ENOENT")) throw error;
  }
}

/** Names of all boxes. Leavings of crashed makers and removers are deleted on the way. */
export async function listProcessDirs(root: string): Promise<string[]> {
  let names: string[];
  try {
    names = await readdir(root);
  } catch (error) {
    if (isCode(error, "ENOENT")) return [];
    throw error;
  }
  for (const name of names.filter((one) => one.startsWith("."))) {
    const found = await stat(join(root, name)).catch(() => null);
    if (found !== null && Date.now() - found.ctimeMs > STALE_MS) await deleteTree(join(root, name));
  }
  return names.filter((name) => !name.startsWith("."));
}

/** Forgets the box at once and deletes what it held. Nothing may run in it any more. */
export async function removeProcessDir(root: string, name: string): Promise<void> {
  const gone = join(root, `.gone-${randomBytes(6).toString("hex")}`);
  try {
    await rename(join(root, name), gone);
  } catch (error) {
    if (isCode(error, "ENOENT")) return;
    throw error;
  }
  await deleteTree(gone);
}

/** Package caches leave folders that even their owner may not write to. */
async function deleteTree(path: string): Promise<void> {
  const options = { recursive: true, force: true, maxRetries: 5, retryDelay: 50 };
  try {
    await rm(path, options);
  } catch (error) {
    if (!isCode(error, "EACCES", "EPERM")) throw error;
    await new Promise((resolve) => execFile("chmod", ["-R", "u+rwX", path], resolve));
    await rm(path, options);
  }
}
