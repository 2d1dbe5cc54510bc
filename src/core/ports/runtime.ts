/** Ports of the process itself: time, ids, log and the bus. */

export interface Clock {
  /** Epoch ms. */
  now(): number;
  /** Resolves after `ms`; rejects with an AbortError when aborted. Never resolves early. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /**
   * Calls back once after `ms`, never early; the returned function calls it off. Cheaper than a
   * sleep that is aborted.
   */
  timer(ms: number, wake: () => void): () => void;
}

export interface Ids {
  /** `<prefix>_<26 characters>`: unique, sortable by time of creation within one process. */
  next(prefix: string): string;
  /** 0 <= x < 1. */
  random(): number;
}

/** What verbs and doors write their diary with; pino satisfies it. Fields first, words second. */
export interface Log {
  debug(fields: object, text: string): void;
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
}

/** An address, not data (rule R4): "this task has grown to this seq". */
export interface Hint {
  readonly taskId: string;
  readonly userId: string;
  readonly seq: number;
}

/** A piece of text on its way to the screen; never stored, may be dropped (rule F4). */
export interface Delta {
  readonly taskId: string;
  readonly userId: string;
  readonly messageId: string;
  readonly text: string;
}

/**
 * Carries hints to whoever listens. A lost hint costs latency, never data; listeners must not
 * throw.
 */
export interface Bus {
  publishHint(hint: Hint): void;
  publishDelta(delta: Delta): void;
  onHint(listener: (hint: Hint) => void): () => void;
  onDelta(listener: (delta: Delta) => void): () => void;
  close(): Promise<void>;
}
