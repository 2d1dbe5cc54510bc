/**
 * Processes of this machine, read from /proc; where there is none (macOS) from `ps`, as far as that
 * goes. A process id alone is no identity, because ids are used again: here it is id + start.
 */
import { execFile } from "node:child_process";
import { readdir, readFile, stat } from "node:fs/promises";

export interface ProcessId {
  readonly pid: number;
  /**
   * Boot id and start time (Linux), or the start time in the words of `ps`. The keeper's shell
   * script writes the same text.
   */
  readonly start: string;
}

interface Stat {
  readonly state: string;
  readonly group: number;
  readonly session: number;
  readonly start: string;
}

async function textOf(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch {
    return null;
  }
}

let proc: Promise<boolean> | null = null;

/** True where /proc tells about processes. */
function hasProc(): Promise<boolean> {
  proc ??= stat("/proc/self/stat").then(
    () => true,
    () => false,
  );
  return proc;
}

/**
 * The name of a process may hold spaces and brackets: fields are counted from the last bracket,
 * where field 3 begins.
 */
async function statOf(pid: number): Promise<Stat | null> {
  const text = await textOf(`/proc/${pid}/stat`);
  if (text === null) return null;
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return { state: fields[0] ?? "", group: Number(fields[2]), session: Number(fields[3]), start: fields[19] ?? "" };
}

function startByPs(pid: number): Promise<string | null> {
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

async function startOf(pid: number): Promise<string | null> {
  if (!(await hasProc())) return startByPs(pid);
  const found = await statOf(pid);
  // A zombie has ended; whoever should have collected it is gone.
  if (found === null || found.state === "Z" || found.state === "X") return null;
  const boot = (await textOf("/proc/sys/kernel/random/boot_id"))?.trim() ?? "";
  return `${boot} ${found.start}`.trim();
}

/** True while this very process lives, not merely one with its number. */
export async function isAlive(id: ProcessId): Promise<boolean> {
  return (await startOf(id.pid)) === id.start;
}

/** Sends a signal to a process, or with a negative id to a group. One that is gone is no error. */
export function sendSignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (!(error instanceof Error) || !("code" in error) || error.code !== "ESRCH") throw error;
  }
}

async function belongs(pid: number, leader: number, marks: readonly Buffer[]): Promise<boolean> {
  const found = await statOf(pid);
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
 * Processes (without `leader` itself) of the leader's session or group, or with one of `marks`
 * ("NAME=value") in the environment that they were started with. Leader 0 = by marks only. Empty
 * where there is no /proc.
 */
async function followers(leader: number, marks: readonly string[]): Promise<number[]> {
  if (!(await hasProc())) return [];
  const wanted = marks.map((mark) => Buffer.from(`\0${mark}\0`));
  const pids = (await readdir("/proc")).map(Number).filter((pid) => pid > 1 && pid !== leader && pid !== process.pid);
  const mine = await Promise.all(pids.map(async (pid) => ((await belongs(pid, leader, wanted)) ? pid : 0)));
  return mine.filter((pid) => pid !== 0);
}

/**
 * Kills all followers, again while new ones appear (they may fork meanwhile). The leader lives on.
 */
export async function killFollowers(leader: number, marks: readonly string[]): Promise<void> {
  for (let round = 0; round < 20; round++) {
    const found = await followers(leader, marks);
    if (found.length === 0) return;
    for (const pid of found) sendSignal(pid, "SIGKILL");
    await new Promise((resolve) => setTimeout(resolve, 5 + round * 5));
  }
}
