/** Uses up this process's file descriptors for a while. Linux with util-linux. */
import { execFileSync, spawnSync } from "node:child_process";
import { closeSync, openSync, readdirSync } from "node:fs";

export const hasPrlimit = spawnSync("prlimit", ["--version"]).status === 0;

const setLimit = (soft: string): void =>
  void execFileSync("prlimit", ["--pid", String(process.pid), `--nofile=${soft}:`]);

/** Runs `work` while at most `free` descriptors can be opened. */
export async function withDescriptors<T>(free: number, work: () => Promise<T>): Promise<T> {
  const before = execFileSync("prlimit", ["--pid", String(process.pid), "--nofile", "--noheadings", "-o", "SOFT"], {
    encoding: "utf8",
  }).trim();
  setLimit(String(readdirSync("/proc/self/fd").length + 64));
  const held: number[] = [];
  try {
    for (;;) held.push(openSync("/dev/null", "r"));
  } catch {
    // EMFILE: every descriptor is held.
  }
  for (const fd of held.splice(0, free)) closeSync(fd);
  try {
    return await work();
  } finally {
    for (const fd of held) closeSync(fd);
    setLimit(before);
  }
}
