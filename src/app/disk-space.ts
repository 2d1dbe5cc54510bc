/** How much room the disks have that tasks write to. */
import { statfsSync } from "node:fs";
import { stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import { PushSpace } from "../broker/push-space.ts";
import type { DiskSpace } from "../coordinator/scheduler/workspace-admission.ts";
import type { StoreReserve } from "../coordinator/services/operations.ts";
import type { Log } from "../core/ports/runtime.ts";
import type { Sandbox } from "../core/ports/sandbox.ts";
import { RESERVE_FILE } from "../store/sqlite/writer/disk-reserve.ts";

/** Disk space that is kept for the ends of tasks. */
export const RESERVE_BYTES = 16 * 2 ** 20;

/** MiB that this process may still use on the disk of a folder. */
export async function readFreeMb(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path);
  return Math.floor((bavail * bsize) / 2 ** 20);
}

/**
 * Free space on the disk of workspaces, and the size of each; null = workspaces have no size limit.
 */
export async function readDiskSpace(sandbox: Pick<Sandbox, "workspaces">): Promise<DiskSpace | null> {
  const use = (await sandbox.workspaces?.()) ?? null;
  if (use === null) return null;
  const usedMb = new Map([...use.bytes].map(([name, bytes]) => [name, bytes / 2 ** 20]));
  return { freeMb: await readFreeMb(use.dir), usedMb };
}

/** The reserve of the store in that data folder. */
export async function readReserve(dir: string): Promise<StoreReserve> {
  const found = await stat(join(dir, RESERVE_FILE)).catch(() => null);
  return { mb: RESERVE_BYTES / 2 ** 20, held: found?.size === RESERVE_BYTES };
}

/** Room for what workers push, on the disk of the data folder. */
export function openPushSpace(dir: string, floorMb: number, log: Pick<Log, "warn">): PushSpace {
  return new PushSpace({
    readFree: () => {
      const { bavail, bsize } = statfsSync(dir);
      return bavail * bsize;
    },
    floorBytes: floorMb * 2 ** 20,
    report: (repository) => log.warn({ repository, floorMb }, "the disk has too little room for a push of a worker"),
  });
}

export interface Disk {
  /** Text for operators. */
  readonly label: string;
  readonly path: string;
}

/** The disks that tasks write to. */
export async function getDisks(dir: string, sandbox: Pick<Sandbox, "storage">): Promise<Disk[]> {
  const path = await sandbox.storage();
  const engine = path === null ? [] : [{ label: "the sandbox engine", path }];
  return [{ label: "the data folder", path: dir }, { label: "the workspaces", path: join(dir, "disks") }, ...engine];
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
