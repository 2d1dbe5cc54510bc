/**
 * Keeps transfers from filling the disk: while one runs, the room is looked at; below the floor the
 * largest one is ended, until there is room again.
 *
 * A transfer without which there would be room is to blame (`repo_too_large`); any other end for
 * lack of room is excused (`interrupted`), because the task waits for room then.
 */
import { readdirSync, statfsSync, statSync } from "node:fs";
import { join } from "node:path";
import { TaskFailure } from "../core/failure.ts";

export interface TransferWatchOptions {
  /** A folder on the disk. */
  readonly dir: string;
  readonly floorMb: number;
}

interface Transfer {
  /** The bare repository that receives. */
  readonly repository: string;
  readonly stop: AbortController;
}

const LOOK_MS = 100;
const MIB = 1_024 * 1_024;

export class TransferWatch {
  readonly #options: TransferWatchOptions;
  readonly #running = new Set<Transfer>();
  #timer: NodeJS.Timeout | null = null;

  constructor(options: TransferWatchOptions) {
    this.#options = options;
  }

  /** Rejects as `work` does, which gets a signal that also ends for lack of room. */
  async run<T>(repository: string, signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const transfer: Transfer = { repository, stop: new AbortController() };
    this.#running.add(transfer);
    this.#timer ??= setInterval(() => this.#look(), LOOK_MS).unref();
    try {
      return await work(AbortSignal.any([signal, transfer.stop.signal]));
    } finally {
      this.#running.delete(transfer);
      if (this.#running.size === 0 && this.#timer !== null) {
        clearInterval(this.#timer);
        this.#timer = null;
      }
    }
  }

  #look(): void {
    const { dir, floorMb } = this.#options;
    const { bavail, bsize } = statfsSync(dir);
    const free = bavail * bsize;
    if (free >= floorMb * MIB) return;
    // What the ended ones have received is given back a moment later.
    if ([...this.#running].some(({ stop }) => stop.signal.aborted)) return;
    const bySize = [...this.#running].map((transfer) => ({ transfer, bytes: receivedBytes(transfer.repository) }));
    const largest = bySize.toSorted((a, b) => b.bytes - a.bytes)[0];
    if (largest === undefined) return;
    const isToBlame = free + largest.bytes >= floorMb * MIB;
    largest.transfer.stop.abort(isToBlame ? tooLarge(largest.bytes) : noRoom());
  }
}

function tooLarge(bytes: number): TaskFailure {
  return new TaskFailure("repo_too_large", {
    detail: `After ${Math.floor(bytes / MIB)} MB of it the server's disk had too little room left.`,
  });
}

function noRoom(): TaskFailure {
  return new TaskFailure("interrupted", { detail: "The server's disk has too little room. The task waits for it." });
}

/** Bytes of what has not become a pack yet. */
function receivedBytes(repository: string): number {
  const folder = join(repository, "objects", "pack");
  try {
    const drafts = readdirSync(folder).filter((name) => name.startsWith("tmp_"));
    return drafts.reduce((sum, name) => sum + (statSync(join(folder, name), { throwIfNoEntry: false })?.size ?? 0), 0);
  } catch {
    return 0;
  }
}
