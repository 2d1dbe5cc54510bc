/** How much room the disks have that tasks write to. */
import { stat, statfs } from "node:fs/promises";
import type { DiskSpace } from "../coordinator/scheduler/workspace-admission.ts";
import type { Sandbox } from "../core/ports/sandbox.ts";

/** MiB that this process may still use on the disk of a folder. */
export async function readFreeMb(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path);
  return Math.floor((bavail * bsize) / 2 ** 20);
}

/** What is free where workspaces are, and what each takes; null = nothing bounds their sizes. */
export async function readDiskSpace(sandbox: Pick<Sandbox, "workspaces">): Promise<DiskSpace | null> {
  const use = (await sandbox.workspaces?.()) ?? null;
  if (use === null) return null;
  const usedMb = new Map([...use.bytes].map(([name, bytes]) => [name, bytes / 2 ** 20]));
  return { freeMb: await readFreeMb(use.dir), usedMb };
}

export interface Disk {
  /** Text for operators. */
  readonly label: string;
  readonly path: string;
}

/**
 * Disks with less than `minMb` MiB free, as text; null = all have enough. Folders on one disk
 * count once, one that cannot be looked at has enough.
 */
export async function describeShortage(disks: readonly Disk[], minMb: number): Promise<string | null> {
  const seen = new Set<number>();
  const found: string[] = [];
  for (const { label, path } of disks) {
    try {
      const { dev } = await stat(path);
      const free = seen.has(dev) ? Infinity : await readFreeMb(path);
      seen.add(dev);
      if (free < minMb) found.push(`the disk of ${label} has ${free} MB free, ${minMb} are needed`);
    } catch {
      continue;
    }
  }
  return found.length === 0 ? null : `Too little disk space: ${found.join("; ")}.`;
}
