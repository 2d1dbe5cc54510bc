/**
 * Group commit in the writer thread: writes of one turn of the event loop, or that arrive while the
 * thread is busy, share one transaction. The event loop runs no writing SQL and never waits for the
 * disk (decision 026).
 *
 * B1 A promise resolves after COMMIT, never before.
 * B2 A failed write rejects only its own promise (writer.ts).
 * B3 Writes are executed and answered in the order of the calls.
 */
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { SlipwayError } from "../../../core/error.ts";
import { packageRoot } from "../../../core/lib/runtime/package-root.ts";
import type { ThreadData, WriteCall, WriteOutcome, Writes } from "./messages.ts";

interface Item {
  readonly call: WriteCall;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** Maximum number of calls in a transaction; bounds the wait of the following calls. */
const BATCH = 256;
/** Batches in flight: while the thread writes one, the next is already queued there. */
const DEPTH = 2;
/**
 * Promises settled per turn of the event loop: the first callers can submit their next write while
 * the others are still being settled.
 */
const SETTLED_PER_TURN = 32;

/** The built file, also when this module runs from its source (tests). */
const THREAD = join(packageRoot(), "dist", "writer-thread.mjs");

const LOCKED = "Another process holds the database's lock. Try again.";

/** The writer thread refused a write. */
export class WriteError extends Error {
  /** The SQLite error code, such as SQLITE_CONSTRAINT_UNIQUE; null for other errors. */
  readonly code: string | null;

  constructor(message: string, code: string | null) {
    super(message);
    this.name = "WriteError";
    this.code = code;
  }
}

export class GroupCommit {
  readonly #thread: Worker;
  #queue: Item[] = [];
  readonly #inFlight: (readonly Item[])[] = [];
  /** Settles one promise each, in order. */
  readonly #settlements: (() => void)[] = [];
  #scheduled = false;
  #closing: Promise<void> | null = null;
  #drained: (() => void) | null = null;

  /**
   * Starts the thread. If the thread fails (it cannot open the database, or is out of memory), the
   * process ends, because nothing could be recorded.
   */
  constructor(data: ThreadData) {
    this.#thread = new Worker(THREAD, { workerData: data, env: {}, execArgv: [] });
    this.#thread.on("message", (outcomes: readonly WriteOutcome[]) => this.#receive(outcomes));
    this.#thread.unref();
  }

  /** Runs the call in the next transaction. Resolves with its result when that is durable. */
  run<K extends keyof Writes>(name: K, ...args: Parameters<Writes[K]>): Promise<ReturnType<Writes[K]>> {
    return new Promise((resolve, reject) => {
      if (this.#closing !== null) return reject(new SlipwayError("unavailable", "The store is closed."));
      const call = [name, ...args] as unknown as WriteCall;
      this.#queue.push({ call, resolve: resolve as (value: unknown) => void, reject });
      this.#schedule();
    });
  }

  /** Completes queued writes and ends the thread; later calls of `run` reject. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (!this.#idle()) await new Promise<void>((resolve) => (this.#drained = resolve));
    const ended = new Promise((resolve) => this.#thread.once("exit", resolve));
    this.#thread.ref();
    this.#thread.postMessage(null);
    await ended;
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#send();
      this.#settleSome();
    });
  }

  #send(): void {
    if (this.#inFlight.length === DEPTH || this.#queue.length === 0) return;
    const items = this.#queue.length <= BATCH ? this.#queue : this.#queue.slice(0, BATCH);
    this.#queue = this.#queue.length <= BATCH ? [] : this.#queue.slice(BATCH);
    this.#inFlight.push(items);
    // The thread keeps the process alive only while a write is in flight.
    this.#thread.ref();
    this.#thread.postMessage(items.map(({ call }) => call));
  }

  #receive(outcomes: readonly WriteOutcome[]): void {
    for (const [i, item] of (this.#inFlight.shift() ?? []).entries())
      this.#settlements.push(() => settle(item, outcomes[i]));
    if (this.#inFlight.length === 0) this.#thread.unref();
    this.#send();
    this.#settleSome();
  }

  #settleSome(): void {
    for (const settleNext of this.#settlements.splice(0, SETTLED_PER_TURN)) settleNext();
    if (this.#settlements.length > 0) this.#schedule();
    else if (this.#idle()) this.#drained?.();
  }

  #idle(): boolean {
    return this.#queue.length + this.#inFlight.length + this.#settlements.length === 0;
  }
}

const REASONS: readonly { readonly codes: RegExp; readonly text: string }[] = [
  { codes: /^SQLITE_(BUSY|LOCKED)/, text: LOCKED },
  {
    codes: /^SQLITE_(FULL|IOERR)/,
    text: "The disk of the data folder is full or fails. Try again when there is room.",
  },
];

function settle({ resolve, reject }: Item, outcome: WriteOutcome | undefined): void {
  if (outcome?.kind === "done") return resolve(outcome.value);
  const error = new WriteError(outcome?.message ?? "The writer thread did not answer.", outcome?.code ?? null);
  const reason = REASONS.find(({ codes }) => codes.test(error.code ?? ""));
  reject(reason === undefined ? error : new SlipwayError("unavailable", reason.text, { cause: error }));
}
