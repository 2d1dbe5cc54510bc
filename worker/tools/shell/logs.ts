/**
 * The logs of commands: files in a folder of ours that `read` can page. The oldest go when there
 * are too many.
 */
import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";

/** Kept at most: of commands that have ended, bytes. */
const KEPT_BYTES = 64 * 1024 * 1024;
const KEPT_LOGS = 40;

export class Logs {
  readonly dir: string;
  readonly #used = new Set<string>();

  constructor(dir: string) {
    this.dir = dir;
  }

  /** @returns the path of a new log. It is not removed before `done` or `drop`. */
  make(kind: "command" | "job" | "answer"): string {
    mkdirSync(this.dir, { recursive: true, mode: 0o700 });
    const path = join(this.dir, `${kind}-${randomBytes(4).toString("hex")}.log`);
    this.#used.add(path);
    return path;
  }

  /** The command has ended; its log may be read for a while. */
  done(path: string): void {
    this.#used.delete(path);
    this.#sweep();
  }

  /** The command has ended, and everything in the log was shown. */
  drop(path: string): void {
    this.#used.delete(path);
    rmSync(path, { force: true });
  }

  #sweep(): void {
    const paths = readdirSync(this.dir)
      .map((name) => join(this.dir, name))
      .filter((path) => !this.#used.has(path));
    const found = paths.flatMap((path) => {
      const stat = statSync(path, { throwIfNoEntry: false });
      return stat === undefined ? [] : [{ path, bytes: stat.size, at: stat.mtimeMs }];
    });
    let left = KEPT_BYTES;
    for (const [index, { path, bytes }] of found.sort((a, b) => b.at - a.at).entries()) {
      left -= bytes;
      if (index >= KEPT_LOGS || left < 0) rmSync(path, { force: true, recursive: true });
    }
  }
}
