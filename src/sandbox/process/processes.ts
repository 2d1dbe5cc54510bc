/**
 * Processes of this machine, read from /proc. Without /proc (macOS) only `isAlive` works, by `ps`.
 * Process ids are reused, so a process is identified by its id and start time.
 */
import { readFileSync } from "node:fs";
import { readdir, readFile, stat } from "node:fs/promises";
import { setImmediate as yieldToOthers } from "node:timers/promises";
import { hasMark, type ProcessMark } from "../../core/lib/runtime/process-mark.ts";
import { runTool, ToolExitError } from "../../core/lib/runtime/process-group.ts";

export interface ProcessId {
  readonly pid: number;
  /**
   * Boot id and start time (Linux), or the start time as `ps` prints it. SUPERVISOR_SCRIPT writes
   * the same text.
   */
  readonly start: string;
}

const PS_MS = 10_000;

interface Stat {
  readonly state: string;
  readonly group: number;
  readonly session: number;
  readonly start: string;
}

/**
 * Null for a process that does not exist. Any other error is thrown: a process that cannot be read,
 * because the descriptors are used up, has not ended. The kernel answers these files from memory in
 * some microseconds, a tenth of what a read through the thread pool takes.
 */
function readOrNull(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (isCode(error, "ENOENT", "ESRCH")) return null;
    throw error;
  }
}

function isCode(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && "code" in error && codes.includes(String(error.code));
}

let proc: Promise<boolean> | null = null;

/** True when this machine has /proc. Checked once. */
function hasProc(): Promise<boolean> {
  proc ??= stat("/proc/self/stat").then(
    () => true,
    (error: unknown) => {
      if (isCode(error, "ENOENT", "ENOTDIR")) return false;
      proc = null;
      throw error;
    },
  );
  return proc;
}

/**
 * The process name may contain spaces and brackets, so fields are counted from the last bracket,
 * after which field 3 begins.
 */
function readStat(pid: number): Stat | null {
  const text = readOrNull(`/proc/${pid}/stat`);
  if (text === null) return null;
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return { state: fields[0] ?? "", group: Number(fields[2]), session: Number(fields[3]), start: fields[19] ?? "" };
}

async function readStartByPs(pid: number): Promise<string | null> {
  const env = { PATH: process.env["PATH"] ?? "/usr/bin:/bin", LC_ALL: "C" };
  try {
    const text = await runTool("ps", ["-o", "lstart=", "-p", String(pid)], { env, timeoutMs: PS_MS });
    return text.trim().replace(/\s+/g, " ") || null;
  } catch (error) {
    // `ps` ends with 1 for a process that does not exist.
    if (error instanceof ToolExitError) return null;
    throw error;
  }
}

let boot: string | null = null;

/** The id of this start of the machine. */
function readBoot(): string {
  boot ??= readOrNull("/proc/sys/kernel/random/boot_id")?.trim() ?? "";
  return boot;
}

async function readStart(pid: number): Promise<string | null> {
  if (!(await hasProc())) return readStartByPs(pid);
  const found = readStat(pid);
  // A zombie has ended; its parent has not collected it.
  if (found === null || found.state === "Z" || found.state === "X") return null;
  return `${readBoot()} ${found.start}`.trim();
}

/** True while the process runs; false for another process with the same id. */
export async function isAlive(id: ProcessId): Promise<boolean> {
  return (await readStart(id.pid)) === id.start;
}

/** Sends a signal to a process, or with a negative id to a group. Ignores a missing process. */
export function sendSignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (!(error instanceof Error) || !("code" in error) || error.code !== "ESRCH") throw error;
  }
}

/** Processes that are read at once; each takes a descriptor. */
const READ_AT_ONCE = 16;

/**
 * When the process started, in ticks of this start of the machine; 0 when it ran before that, or
 * without /proc. What it started has no smaller number.
 */
export function startTicks({ start }: ProcessId): number {
  const [of, ticks] = start.split(" ");
  return of !== "" && of === readBoot() ? Number(ticks) || 0 : 0;
}

export interface Marks {
  /** "NAME=value" in the initial environment of a process. */
  readonly environment: readonly string[];
  readonly limit: ProcessMark;
  /** No marked process started before (`startTicks`). */
  readonly since: number;
}

async function isFollower(pid: number, leader: number, { environment, limit, since }: Marks): Promise<boolean> {
  const found = readStat(pid);
  if (found === null || found.state === "Z" || found.state === "X" || Number(found.start) < since) return false;
  if (leader > 0 && (found.session === leader || found.group === leader)) return true;
  if (hasMark(readOrNull(`/proc/${pid}/limits`) ?? "", limit)) return true;
  try {
    // Through the thread pool: a process that hangs in its memory makes this read wait.
    const environ = Buffer.concat([Buffer.from("\0"), await readFile(`/proc/${pid}/environ`)]);
    return environment.some((mark) => environ.includes(`\0${mark}\0`));
  } catch (error) {
    // Ended meanwhile, or of another user.
    if (isCode(error, "ENOENT", "ESRCH", "EACCES", "EPERM")) return false;
    throw error;
  }
}

/**
 * Processes (without `leader`) in the leader's session or group, or with one of `marks`. Leader 0 =
 * by marks only. Empty without /proc.
 */
async function findFollowers(leader: number, marks: Marks): Promise<number[]> {
  if (!(await hasProc())) return [];
  const pids = (await readdir("/proc")).map(Number).filter((pid) => pid > 1 && pid !== leader && pid !== process.pid);
  const found: number[] = [];
  for (let at = 0; at < pids.length; at += READ_AT_ONCE) {
    const some = pids.slice(at, at + READ_AT_ONCE);
    const matches = await Promise.all(some.map((pid) => isFollower(pid, leader, marks)));
    found.push(...some.filter((_pid, index) => matches[index]));
    await yieldToOthers();
  }
  return found;
}

/**
 * Kills all followers, repeatedly because they may fork. Does not kill the leader, nor what became
 * another user's process.
 */
export async function killFollowers(leader: number, marks: Marks): Promise<void> {
  for (let round = 0; round < 20; round++) {
    const found = await findFollowers(leader, marks);
    if (found.length === 0) return;
    for (const pid of found) {
      try {
        sendSignal(pid, "SIGKILL");
      } catch (error) {
        if (!isCode(error, "EPERM")) throw error;
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 5 + round * 5));
  }
}
