/**
 * Processes of this machine, read from /proc. Without /proc (macOS) only `isAlive` works, by `ps`.
 * Process ids are reused, so a process is identified by its id and start time.
 */
import { execFile } from "node:child_process";
import { readdir, readFile, stat } from "node:fs/promises";

export interface ProcessId {
  readonly pid: number;
  /**
   * Boot id and start time (Linux), or the start time as `ps` prints it. SUPERVISOR_SCRIPT writes
   * the same text.
   */
  readonly start: string;
}

interface Stat {
  readonly state: string;
  readonly group: number;
  readonly session: number;
  readonly start: string;
}

async function readOrNull(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch {
    return null;
  }
}

let proc: Promise<boolean> | null = null;

/** True when this machine has /proc. Checked once. */
function hasProc(): Promise<boolean> {
  proc ??= stat("/proc/self/stat").then(
    () => true,
    () => false,
  );
  return proc;
}

/**
 * The process name may contain spaces and brackets, so fields are counted from the last bracket,
 * after which field 3 begins.
 */
async function readStat(pid: number): Promise<Stat | null> {
  const text = await readOrNull(`/proc/${pid}/stat`);
  if (text === null) return null;
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return { state: fields[0] ?? "", group: Number(fields[2]), session: Number(fields[3]), start: fields[19] ?? "" };
}

function readStartByPs(pid: number): Promise<string | null> {
  return new Promise((resolve) => {
    execFile(
      "ps",
      ["-o", "lstart=", "-p", String(pid)],
      { env: { PATH: process.env["PATH"] ?? "/usr/bin:/bin", LC_ALL: "C" } },
      (error, out) => {
        resolve(error === null && out.trim() !== "" ? out.trim().replace(/\s+/g, " ") : null);
      },
    );
  });
}

async function readStart(pid: number): Promise<string | null> {
  if (!(await hasProc())) return readStartByPs(pid);
  const found = await readStat(pid);
  // A zombie has ended; its parent has not collected it.
  if (found === null || found.state === "Z" || found.state === "X") return null;
  const boot = (await readOrNull("/proc/sys/kernel/random/boot_id"))?.trim() ?? "";
  return `${boot} ${found.start}`.trim();
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

async function isFollower(pid: number, leader: number, marks: readonly Buffer[]): Promise<boolean> {
  const found = await readStat(pid);
  if (found === null || found.state === "Z" || found.state === "X") return false;
  if (leader > 0 && (found.session === leader || found.group === leader)) return true;
  try {
    const environ = Buffer.concat([Buffer.from("\0"), await readFile(`/proc/${pid}/environ`)]);
    return marks.some((mark) => environ.includes(mark));
  } catch {
    return false;
  }
}

/**
 * Processes (without `leader`) in the leader's session or group, or with one of `marks`
 * ("NAME=value") in their initial environment. Leader 0 = by marks only. Empty without /proc.
 */
async function findFollowers(leader: number, marks: readonly string[]): Promise<number[]> {
  if (!(await hasProc())) return [];
  const wanted = marks.map((mark) => Buffer.from(`\0${mark}\0`));
  const pids = (await readdir("/proc")).map(Number).filter((pid) => pid > 1 && pid !== leader && pid !== process.pid);
  const matches = await Promise.all(pids.map(async (pid) => ((await isFollower(pid, leader, wanted)) ? pid : 0)));
  return matches.filter((pid) => pid !== 0);
}

/** Kills all followers, repeatedly because they may fork. Does not kill the leader. */
export async function killFollowers(leader: number, marks: readonly string[]): Promise<void> {
  for (let round = 0; round < 20; round++) {
    const found = await findFollowers(leader, marks);
    if (found.length === 0) return;
    for (const pid of found) sendSignal(pid, "SIGKILL");
    await new Promise((resolve) => setTimeout(resolve, 5 + round * 5));
  }
}
