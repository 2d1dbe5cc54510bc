/** How much room the disks have that tasks write to. */
import { stat, statfs } from "node:fs/promises";

/** MiB that this process may still use on the disk of a folder. */
export async function freeMb(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path);
  return Math.floor((bavail * bsize) / 2 ** 20);
}

export interface Disk {
  /** In words for operators. */
  readonly what: string;
  readonly path: string;
}

/** Disks with less than `minMb` MiB free, in words; null = all have enough. Folders on one disk count once, one that cannot be looked at has enough. */
export async function shortage(disks: readonly Disk[], minMb: number): Promise<string | null> {
  const seen = new Set<number>();
  const found: string[] = [];
  for (const { what, path } of disks) {
    try {
      const { dev } = await stat(path);
      const free = seen.has(dev) ? Infinity : await freeMb(path);
      seen.add(dev);
      if (free < minMb) found.push(`the disk of ${what} has ${free} MB free, ${minMb} are needed`);
    } catch {
      continue;
    }
  }
  return found.length === 0 ? null : `Too little disk space: ${found.join("; ")}.`;
}
