/** A file system of a few MiB in memory, for tests that fill it to the last byte. Needs root. */
import { execFileSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmSync, statfsSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface SmallDisk {
  readonly dir: string;
  freeMb(): number;
  /** Takes all of the room. */
  fill(): void;
  /** Takes the room away that is free now, without memory for what would fill it. */
  shrink(): void;
  /** Gives back what `fill` and `shrink` took. */
  clear(): void;
  close(): void;
}

const SHRINK_TRIES = 20;

/** @returns null where this user may not mount. */
export function openSmallDisk(sizeMb: number): SmallDisk | null {
  const dir = mkdtempSync(join(tmpdir(), "slipway-small-"));
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${sizeMb}m`, "tmpfs", dir], { stdio: "ignore" });
  } catch {
    rmSync(dir, { recursive: true, force: true });
    return null;
  }
  const filler = join(dir, "filler");
  return {
    dir,
    freeMb() {
      const { bavail, bsize } = statfsSync(dir);
      return (bavail * bsize) / 2 ** 20;
    },
    fill() {
      const file = openSync(filler, "a");
      try {
        for (const block of [2 ** 20, 4_096, 1]) for (;;) if (!fits(file, block)) break;
      } finally {
        closeSync(file);
      }
    },
    shrink() {
      for (let left = SHRINK_TRIES; left > 0; left -= 1) {
        const { blocks, bfree, bsize } = statfsSync(dir);
        // Refused when more was written since; then there is less to take.
        if (resize(dir, (blocks - bfree) * bsize)) return;
      }
      throw new Error(`${dir} is written to all the time`);
    },
    clear() {
      rmSync(filler, { force: true });
      if (!resize(dir, sizeMb * 2 ** 20)) throw new Error(`${dir} cannot be made larger`);
    },
    close() {
      execFileSync("umount", ["--lazy", dir]);
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

function resize(dir: string, bytes: number): boolean {
  try {
    execFileSync("mount", ["-o", `remount,size=${bytes}`, dir], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

function fits(file: number, bytes: number): boolean {
  try {
    return writeSync(file, Buffer.alloc(bytes)) === bytes;
  } catch {
    return false;
  }
}
