/** Processes of an installation's sandboxes, as /proc shows them. Linux only. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../../support/process/server.ts";

export const WORKER = join(ROOT, "dist/worker.mjs");

export interface SandboxProcess {
  readonly pid: number;
  /** The folder of its sandbox. */
  readonly box: string;
  /** A child between fork and exec looks like its parent and is none. */
  readonly isWorker: boolean;
}

/** None on other systems. */
export function listProcesses(data: string): SandboxProcess[] {
  if (process.platform !== "linux") return [];
  const found = new Map<string, { box: string; parent: string; runsWorker: boolean }>();
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const box = /(?:^|\0)SLIPWAY_BOX=([^\0]*)/.exec(readFileSync(`/proc/${pid}/environ`, "utf8"))?.[1];
      if (box?.startsWith(`${data}/`) !== true) continue;
      const parent = /^PPid:\s*(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
      const runsWorker = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")[1] === WORKER;
      if (parent !== undefined) found.set(pid, { box, parent, runsWorker });
    } catch {
      // It ended while it was looked at.
    }
  }
  return [...found].map(([pid, { box, parent, runsWorker }]) => ({
    pid: Number(pid),
    box,
    isWorker: runsWorker && found.get(parent)?.runsWorker !== true,
  }));
}
