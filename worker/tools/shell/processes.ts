/** Finds and ends everything that a command has started, also what left its process group. */
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const POLL_MS = 50;
const KILL_ROUNDS = 40;

/** The name of the variable that marks a command's processes. */
export const MARKER = "JOB";

/**
 * Live processes whose environment holds the marker; zombies have none. Empty where there is no
 * /proc.
 */
export function findMarked(job: string): number[] {
  const wanted = `${MARKER}=${job}`;
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

function signal(pid: number, name: "SIGTERM" | "SIGKILL" | 0): boolean {
  try {
    process.kill(pid, name);
    return true;
  } catch {
    return false;
  }
}

/**
 * Nothing of the command is left when this resolves, but for what the kernel itself cannot kill.
 * `group`: the process group's id; `graceMs`: from SIGTERM to SIGKILL.
 */
export async function endAll(group: number, job: string, graceMs: number): Promise<void> {
  const alive = (): boolean => signal(-group, 0) || findMarked(job).length > 0;
  if (!alive()) return;
  signal(-group, "SIGTERM");
  for (const pid of findMarked(job)) signal(pid, "SIGTERM");
  for (let waited = 0; waited < graceMs && alive(); waited += POLL_MS) await sleep(POLL_MS);
  for (let round = 0; round < KILL_ROUNDS && alive(); round += 1) {
    signal(-group, "SIGKILL");
    for (const pid of findMarked(job)) signal(pid, "SIGKILL");
    await sleep(POLL_MS / 5);
  }
}
