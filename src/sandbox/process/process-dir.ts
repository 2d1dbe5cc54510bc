/**
 * The folder of one worker process. It is the only record of the process, so every later
 * coordinator can read its state.
 *
 *   box.json   the owner; present from the start, because the folder appears by rename
 *   claim      "<pid> <start>" of the worker's supervisor; "0 -" = stopped before it ran
 *   exit       the worker's exit code, or "lost" when it was not observed
 *   log        stdout and stderr;  workspace/ state/ home/ tmp/  used by the worker
 *
 * B1 The claim is created by a hard link, complete and at most once. Only its creator may run the
 *    worker (rule D1).
 * B2 The supervisor itself creates the claim, not the coordinator that started it. A crash at any
 *    moment therefore leaves either no claim (the worker can be started) or the claim of a process
 *    whose state can be determined (running or lost).
 * B3 A claim is never removed from a folder under its own name: removal first renames the folder.
 */
import { link, mkdir, open, readdir, readFile, rename, rm, stat, truncate, writeFile } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { z } from "zod";
import { isDiskFullError } from "../../core/lib/disk/disk-full.ts";
import { runTool } from "../../core/lib/runtime/process-group.ts";
import type { ProcessId } from "./processes.ts";

export const ownerSchema = z.object({ instance: z.string(), taskId: z.string(), attempt: z.int() });
export type Owner = z.infer<typeof ownerSchema>;

/** Incomplete folders older than this were left by a crash, ms. */
const STALE_MS = 60_000;
const CHMOD_MS = 120_000;
const TAIL_CHARACTERS = 4_000;
/** A larger log is truncated, bytes. */
const LOG_LIMIT = 64 * 1_024 * 1_024;

/**
 * Runs as `sh -c SUPERVISOR_SCRIPT keeper <folder> <node> <worker file> <mark>`. The supervisor and
 * everything below it carry the mark (process-mark.ts). The supervisor ignores
 * SIGTERM, because it must outlive the worker to record its exit code; the worker runs in a
 * subshell, which resets the signals to their defaults. After the worker the script starts no
 * process, because a kill of the worker's session would include it. The exit code is therefore
 * written in place, and is complete only with its line end.
 */
export const SUPERVISOR_SCRIPT = `
dir=$1 node=$2 file=$3
ulimit -m "$4" 2>/dev/null
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

async function readIfExists(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (isCode(error, "ENOENT", "ENOTDIR")) return null;
    throw error;
  }
}

/** Creates a file atomically. @returns false when it exists already, or the folder is gone. */
async function createOnce(dir: string, name: string, text: string): Promise<boolean> {
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

/** Creates the folder unless it exists. */
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
  const text = await readIfExists(join(dir, "box.json"));
  return text === null ? null : ownerSchema.parse(JSON.parse(text));
}

/** Null = unclaimed. pid 0 = stopped before it ran. */
export async function readClaim(dir: string): Promise<ProcessId | null> {
  const text = await readIfExists(join(dir, "claim"));
  const [, pid, start] = /^(\d+) (.*)$/m.exec(text ?? "") ?? [];
  return pid === undefined || start === undefined ? null : { pid: Number(pid), start: start.trim() };
}

/** Takes the claim, so that no supervisor can. @returns false when it is taken already. */
export function reserve(dir: string): Promise<boolean> {
  return createOnce(dir, "claim", "0 -\n");
}

/** The recorded exit; null = none yet. */
export async function readExit(dir: string): Promise<number | "lost" | null> {
  const [, exit] = /^(\d+|lost)\n$/.exec((await readIfExists(join(dir, "exit"))) ?? "") ?? [];
  if (exit === undefined) return null;
  return exit === "lost" ? "lost" : Number(exit);
}

/**
 * Records an exit that the supervisor did not record. An existing record is kept. On a full disk
 * there is none: without a record the exit of a dead supervisor is "lost" (readState), so that
 * sandboxes are listed, ended and removed without room.
 */
export async function recordExit(dir: string, exit: number | "lost"): Promise<void> {
  try {
    await createOnce(dir, "exit", `${exit}\n`);
  } catch (error) {
    if (!isDiskFullError(error)) throw error;
  }
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

/** Truncates a log above LOG_LIMIT. The worker appends, so it continues at the new end. */
export async function truncateLog(dir: string): Promise<void> {
  try {
    const path = join(dir, "log");
    if ((await stat(path)).size > LOG_LIMIT) await truncate(path, 0);
  } catch (error) {
    if (!isCode(error, "ENOENT")) throw error;
  }
}

/** Names of all folders. Deletes incomplete folders that a crash left. */
export async function listProcessDirs(root: string): Promise<string[]> {
  let names: string[];
  try {
    names = await readdir(root);
  } catch (error) {
    if (isCode(error, "ENOENT")) return [];
    throw error;
  }
  for (const name of names.filter((entry) => entry.startsWith("."))) {
    const stats = await stat(join(root, name)).catch(() => null);
    if (stats !== null && Date.now() - stats.ctimeMs > STALE_MS) await deleteTree(join(root, name));
  }
  return names.filter((name) => !name.startsWith("."));
}

/** Removes the folder atomically, then deletes its content. No process may use it any more. */
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

/** Package caches contain folders without write permission for their owner. */
async function deleteTree(path: string): Promise<void> {
  const options = { recursive: true, force: true, maxRetries: 5, retryDelay: 50 };
  try {
    await rm(path, options);
  } catch (error) {
    if (!isCode(error, "EACCES", "EPERM")) throw error;
    await runTool("chmod", ["-R", "u+rwX", path], { env: { PATH: process.env["PATH"] }, timeoutMs: CHMOD_MS }).catch(
      () => undefined,
    );
    await rm(path, options);
  }
}
