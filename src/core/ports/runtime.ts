/** Ports of the process itself: time, ids, log and the bus. */

export interface Clock {
  /** The wall clock: epoch ms. It can be set, in both directions. */
  now(): number;
  /**
   * Ms since an arbitrary moment, with fractions. It never goes back, a change of the wall clock
   * does not move it, and it may stand still while the machine is suspended.
   */
  monotonic(): number;
  /** Resolves after `ms`; rejects with an AbortError when aborted. Never resolves early. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /**
   * Calls `wake` once after `ms`, never early. The returned function cancels it and is idempotent.
   * Cheaper than a sleep with an AbortSignal.
   */
  timer(ms: number, wake: () => void): () => void;
}

export interface Ids {
  /** `<prefix>_<26 characters>`: unique; ids of one process sort by creation. */
  next(prefix: string): string;
  /** 0 <= x < 1. */
  random(): number;
}

/** The structured logger; pino satisfies it. */
export interface Log {
  debug(fields: object, text: string): void;
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
}

/** "The log of this task has reached this seq": a pointer without data (rule R4). */
export interface Hint {
  readonly taskId: string;
  readonly userId: string;
  readonly seq: number;
}

/** "This task is deleted": no hint of it follows. */
export type Deleted = Pick<Hint, "taskId" | "userId">;

/** Streamed assistant text. Never stored, and may be dropped (rule F4). */
export interface Delta {
  readonly taskId: string;
  readonly userId: string;
  readonly messageId: string;
  readonly text: string;
}

/**
 * Delivers hints, deletions, read marks and deltas to subscribers. A lost hint costs latency, never
 * data. Listeners must not throw. The functions that take one return how to unsubscribe.
 */
export interface Bus {
  publishHint(hint: Hint): void;
  publishDeleted(deleted: Deleted): void;
  /** "This person marked tasks of theirs as read." */
  publishRead(userId: string): void;
  publishDelta(delta: Delta): void;
  onHint(listener: (hint: Hint) => void): () => void;
  onDeleted(listener: (deleted: Deleted) => void): () => void;
  onRead(listener: (userId: string) => void): () => void;
  onDelta(listener: (delta: Delta) => void): () => void;
  close(): Promise<void>;
}
