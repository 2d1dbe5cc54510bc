/**
 * Keeps transfers from filling the disk: while one runs, the room is looked at; below the floor the
 * largest one is ended, until there is room again.
 *
 * A transfer without which there would be room is to blame (`repo_too_large`); any other end for
 * lack of room is excused (`interrupted`), because the task waits for room then.
 *
 * The transfers of one person share the room that the person has: above it the largest is ended.
 */
import { readdirSync, statfsSync, statSync } from "node:fs";
import { join } from "node:path";
import { TaskFailure } from "../core/failure.ts";

export interface TransferWatchOptions {
  /** A folder on the disk. */
  readonly dir: string;
  /** 0 = the disk is not looked at. */
  readonly floorMb: number;
}

/** How much a person may receive from the beginning of a transfer on; null = no limit. */
export interface TransferAllowance {
  readonly userId: string;
  readonly allowedBytes: number | null;
}

interface Transfer {
  /** The bare repository that receives. */
  readonly repository: string;
  readonly stop: AbortController;
  readonly userId: string | null;
  /** Without what the person's other transfers have received since. */
  allowedBytes: number | null;
  /** At the last look. */
  bytes: number;
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
  async run<T>(
    repository: string,
    signal: AbortSignal,
    work: (signal: AbortSignal) => Promise<T>,
    { userId, allowedBytes }: TransferAllowance | { userId: null; allowedBytes: null } = {
      userId: null,
      allowedBytes: null,
    },
  ): Promise<T> {
    const transfer: Transfer = { repository, stop: new AbortController(), userId, allowedBytes, bytes: 0 };
    this.#running.add(transfer);
    this.#timer ??= setInterval(() => this.#look(), LOOK_MS).unref();
    try {
      const result = await work(AbortSignal.any([signal, transfer.stop.signal]));
      for (const other of this.#running)
        if (other.userId === userId && other.allowedBytes !== null) other.allowedBytes -= transfer.bytes;
      return result;
    } finally {
      this.#running.delete(transfer);
      if (this.#running.size === 0 && this.#timer !== null) {
        clearInterval(this.#timer);
        this.#timer = null;
      }
    }
  }

  #look(): void {
    for (const transfer of this.#running) transfer.bytes = receivedBytes(transfer.repository) || transfer.bytes;
    for (const userId of new Set([...this.#running].map((transfer) => transfer.userId)))
      if (userId !== null) this.#judge([...this.#running].filter((transfer) => transfer.userId === userId));
    this.#lookAtDisk();
  }

  /** @param own the transfers of one person. */
  #judge(own: readonly Transfer[]): void {
    const room = Math.min(...own.map(({ allowedBytes }) => allowedBytes ?? Infinity));
    const received = own.reduce((sum, { bytes }) => sum + bytes, 0);
    if (received <= room || own.some(({ stop }) => stop.signal.aborted)) return;
    own.toSorted((a, b) => b.bytes - a.bytes)[0]?.stop.abort(quotaUsedUp(received));
  }

  #lookAtDisk(): void {
    const { dir, floorMb } = this.#options;
    if (floorMb === 0) return;
    const { bavail, bsize } = statfsSync(dir);
    const free = bavail * bsize;
    if (free >= floorMb * MIB) return;
    // What the ended ones have received is given back a moment later.
    if ([...this.#running].some(({ stop }) => stop.signal.aborted)) return;
    const largest = [...this.#running].toSorted((a, b) => b.bytes - a.bytes)[0];
    if (largest === undefined) return;
    const isToBlame = free + largest.bytes >= floorMb * MIB;
    largest.stop.abort(isToBlame ? tooLarge(largest.bytes) : noRoom());
  }
}

function tooLarge(bytes: number): TaskFailure {
  return new TaskFailure("repo_too_large", {
    detail: `After ${Math.floor(bytes / MIB)} MB of it the server's disk had too little room left.`,
  });
}

function quotaUsedUp(bytes: number): TaskFailure {
  return new TaskFailure("repo_too_large", {
    detail:
      `After ${Math.floor(bytes / MIB)} MB of it the quota of what is stored for its person was used up. ` +
      "Delete tasks that have ended (slipway delete), or ask an admin for more (slipway users quota --storage-mb).",
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
