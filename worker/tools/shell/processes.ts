/**
 * Finds and ends all processes that a command started, including those outside its process group.
 */
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { createMark, hasMark } from "../../../src/core/lib/runtime/process-mark.ts";

const POLL_MS = 50;
const KILL_ROUNDS = 40;

/**
 * The environment variable that marks the processes of a command. They also have the soft mark of
 * process-mark.ts, if they were started with it.
 */
export const MARKER = "JOB";

/**
 * The ids of the processes that carry the marker, in the environment or as a limit. Zombies have
 * neither. Empty on systems without /proc.
 */
export function findMarked(marker: string): number[] {
  const wanted = `${MARKER}=${marker}`;
  const limit = createMark("soft", marker);
  let names: string[];
  try {
    names = readdirSync("/proc");
  } catch {
    return [];
  }
  return names
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((name) => {
      try {
        if (hasMark(readFileSync(`/proc/${name}/limits`, "latin1"), limit)) return !isZombie(name);
        return readFileSync(`/proc/${name}/environ`, "latin1").split("\0").includes(wanted);
      } catch {
        return false;
      }
    })
    .map(Number);
}

const isZombie = (pid: string): boolean => /^\d+ \(.*\) [ZX]/s.test(readFileSync(`/proc/${pid}/stat`, "latin1"));

/** Signal 0 only tests. @returns false when the process does not exist. */
function sendSignal(pid: number, name: "SIGTERM" | "SIGKILL" | 0): boolean {
  try {
    process.kill(pid, name);
    return true;
  } catch {
    return false;
  }
}

/**
 * Resolves when all processes of the command have ended, except those that the operating system
 * cannot kill.
 * @param group the id of the process group. @param graceMs the time from SIGTERM to SIGKILL.
 */
export async function endProcesses(group: number, marker: string, graceMs: number): Promise<void> {
  const alive = (): boolean => sendSignal(-group, 0) || findMarked(marker).length > 0;
  if (!alive()) return;
  sendSignal(-group, "SIGTERM");
  for (const pid of findMarked(marker)) sendSignal(pid, "SIGTERM");
  for (let waited = 0; waited < graceMs && alive(); waited += POLL_MS) await sleep(POLL_MS);
  for (let round = 0; round < KILL_ROUNDS && alive(); round += 1) {
    sendSignal(-group, "SIGKILL");
    for (const pid of findMarked(marker)) sendSignal(pid, "SIGKILL");
    await sleep(POLL_MS / 5);
  }
}
