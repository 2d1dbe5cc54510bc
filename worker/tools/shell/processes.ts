/**
 * Finds and ends all processes that a command started, including those outside its process group.
 */
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const POLL_MS = 50;
const KILL_ROUNDS = 40;

/** The environment variable that marks the processes of a command. */
export const MARKER = "JOB";

/**
 * The ids of the processes whose environment contains the marker. Zombies have no environment.
 * Empty on systems without /proc.
 */
export function findMarked(marker: string): number[] {
  const wanted = `${MARKER}=${marker}`;
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
        return readFileSync(`/proc/${name}/environ`, "latin1").split("\0").includes(wanted);
      } catch {
        return false;
      }
    })
    .map(Number);
}

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
