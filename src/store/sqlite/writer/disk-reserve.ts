/**
 * Disk space that belongs to the store alone: a file of some MiB beside the database.
 *
 * - It is given up when a write finds no room, so that ends of tasks can still be recorded.
 * - It is made again when there is room for it twice.
 * - Its blocks are allocated. On file systems that compress it is worth less.
 */
import { closeSync, existsSync, openSync, rmSync, statfsSync, statSync, writeSync } from "node:fs";
import { randomBytes } from "node:crypto";
import { dirname, join } from "node:path";
import type { ThreadData } from "./messages.ts";

const MIB = 1_024 * 1_024;
/** Pause between two looks at the room for a new reserve, ms. */
const LOOK_MS = 1_000;

/** Beside the database. */
export const RESERVE_FILE = "reserve.bin";

/** The reserve of a database; null = none. */
export function openReserve({ path, reserveBytes }: Pick<ThreadData, "path" | "reserveBytes">): DiskReserve | null {
  return reserveBytes === 0 ? null : new DiskReserve(join(dirname(path), RESERVE_FILE), reserveBytes);
}

export class DiskReserve {
  readonly #path: string;
  readonly #bytes: number;
  #isSpent = false;
  #lookedAt = -Infinity;

  /** Frees a reserve at once when the disk is full already: opening the database needs room. */
  constructor(path: string, bytes: number) {
    this.#path = path;
    this.#bytes = bytes;
    if (this.#freeBytes() < bytes / 4) this.release();
    else this.#makeIfRoom();
  }

  /** True from the moment that it was given up until it was made again. */
  get isSpent(): boolean {
    return this.#isSpent;
  }

  /** @returns true when that gave room; false when there was none left to give. */
  release(): boolean {
    const existed = existsSync(this.#path);
    rmSync(this.#path, { force: true });
    this.#isSpent = true;
    return existed;
  }

  /** To be called often: looks once per LOOK_MS, and only while the reserve is spent. */
  restore(): void {
    const now = performance.now();
    if (!this.#isSpent || now - this.#lookedAt < LOOK_MS) return;
    this.#lookedAt = now;
    this.#makeIfRoom();
  }

  #makeIfRoom(): void {
    try {
      if (!this.#isWhole()) {
        if (this.#freeBytes() < 2 * this.#bytes) return void this.release();
        this.#write();
      }
      this.#isSpent = false;
    } catch {
      this.release();
    }
  }

  #isWhole(): boolean {
    return (statSync(this.#path, { throwIfNoEntry: false })?.size ?? -1) === this.#bytes;
  }

  #write(): void {
    const file = openSync(this.#path, "w", 0o600);
    try {
      // Not zeros: some file systems would store nothing.
      const block = randomBytes(MIB);
      for (let left = this.#bytes; left > 0; left -= MIB) writeSync(file, block, 0, Math.min(MIB, left));
    } finally {
      closeSync(file);
    }
  }

  #freeBytes(): number {
    const { bavail, bsize } = statfsSync(dirname(this.#path));
    return bavail * bsize;
  }
}
