/**
 * The logs of commands: files in a directory outside the workspace, which the `read` tool can page.
 * The oldest are removed when there are too many.
 */
import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";

/** The limits for the logs of commands that have ended: bytes in all, and files. */
const MAX_BYTES = 64 * 1024 * 1024;
const MAX_LOGS = 40;

export class Logs {
  readonly dir: string;
  readonly #inUse = new Set<string>();

  constructor(dir: string) {
    this.dir = dir;
  }

  /** @returns the path of a new log, which stays until `keep` or `remove` is called. */
  create(kind: "command" | "job" | "answer"): string {
    mkdirSync(this.dir, { recursive: true, mode: 0o700 });
    const path = join(this.dir, `${kind}-${randomBytes(4).toString("hex")}.log`);
    this.#inUse.add(path);
    return path;
  }

  /** The command has ended; its log stays readable until newer logs replace it. */
  keep(path: string): void {
    this.#inUse.delete(path);
    this.#removeOldest();
  }

  /** The command has ended, and its output was shown completely. */
  remove(path: string): void {
    this.#inUse.delete(path);
    rmSync(path, { force: true });
  }

  #removeOldest(): void {
    const paths = readdirSync(this.dir)
      .map((name) => join(this.dir, name))
      .filter((path) => !this.#inUse.has(path));
    const found = paths.flatMap((path) => {
      const stat = statSync(path, { throwIfNoEntry: false });
      return stat === undefined ? [] : [{ path, bytes: stat.size, changedAt: stat.mtimeMs }];
    });
    let bytesLeft = MAX_BYTES;
    for (const [index, { path, bytes }] of found.sort((a, b) => b.changedAt - a.changedAt).entries()) {
      bytesLeft -= bytes;
      if (index >= MAX_LOGS || bytesLeft < 0) rmSync(path, { force: true, recursive: true });
    }
  }
}
