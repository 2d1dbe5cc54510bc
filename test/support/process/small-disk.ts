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
  /** Gives back what `fill` took. */
  clear(): void;
  close(): void;
}

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
    clear: () => rmSync(filler, { force: true }),
    close() {
      execFileSync("umount", ["--lazy", dir]);
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

function fits(file: number, bytes: number): boolean {
  try {
    return writeSync(file, Buffer.alloc(bytes)) === bytes;
  } catch {
    return false;
  }
}
