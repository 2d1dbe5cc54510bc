/**
 * Group commit, in a thread of its own: what is written in one turn of the event loop, or while the
 * thread is busy, shares one transaction. The event loop neither runs SQL that writes nor waits for
 * the disk (decision 026).
 *
 * B1 A promise resolves after COMMIT, never before.
 * B2 A write that fails rejects; its neighbours do not notice (writer.ts).
 * B3 Writes happen in the order in which they were asked for, and are answered in that order.
 */
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { SlipwayError } from "../../../core/error.ts";
import { packageRoot } from "../../../core/lib/package-root.ts";
import type { ThreadData, WriteCall, WriteOutcome, Writes } from "./messages.ts";

interface Item {
  readonly call: WriteCall;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** The longest transaction, in calls: it bounds how long the others wait. */
const BATCH = 256;
/** Batches that the thread has at a time: while it writes one, the next is there already. */
const DEPTH = 2;
/**
 * How many are told of their commit in one turn of the loop: the first of them have their next call
 * with the thread while the rest is told.
 */
const TELL = 32;

/** Of the build, also for what runs from its sources (tests). */
const THREAD = join(packageRoot(), "dist", "writer-thread.mjs");

/** What the database said of a write that it refused. */
export class WriteError extends Error {
  /** SQLite's, as SQLITE_CONSTRAINT_UNIQUE; null for other errors. */
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
  readonly #underWay: (readonly Item[])[] = [];
  /** Answers that are due, in order. */
  readonly #answers: (() => void)[] = [];
  #scheduled = false;
  #closing: Promise<void> | null = null;
  #drained: (() => void) | null = null;

  /**
   * Starts the thread. Should it fail (it cannot open the database, it has no memory), the process
   * ends: nothing could be recorded.
   */
  constructor(data: ThreadData) {
    this.#thread = new Worker(THREAD, { workerData: data, env: {}, execArgv: [] });
    this.#thread.on("message", (outcomes: readonly WriteOutcome[]) => this.#settle(outcomes));
    this.#thread.unref();
  }

  /** Makes the call in the next transaction. @returns what it returned, once that is durable. */
  run<K extends keyof Writes>(name: K, ...args: Parameters<Writes[K]>): Promise<ReturnType<Writes[K]>> {
    return new Promise((resolve, reject) => {
      if (this.#closing !== null) return reject(new SlipwayError("unavailable", "The store is closed."));
      const call = [name, ...args] as unknown as WriteCall;
      this.#queue.push({ call, resolve: resolve as (value: unknown) => void, reject });
      this.#schedule();
    });
  }

  /** Writes what is queued and ends the thread; further work is refused. Idempotent. */
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
      this.#tell();
    });
  }

  #send(): void {
    if (this.#underWay.length === DEPTH || this.#queue.length === 0) return;
    const items = this.#queue.length <= BATCH ? this.#queue : this.#queue.slice(0, BATCH);
    this.#queue = this.#queue.length <= BATCH ? [] : this.#queue.slice(BATCH);
    this.#underWay.push(items);
    // Only somebody who waits for an answer keeps the process.
    this.#thread.ref();
    this.#thread.postMessage(items.map(({ call }) => call));
  }

  #settle(outcomes: readonly WriteOutcome[]): void {
    for (const [i, item] of (this.#underWay.shift() ?? []).entries())
      this.#answers.push(() => answer(item, outcomes[i]));
    if (this.#underWay.length === 0) this.#thread.unref();
    this.#send();
    this.#tell();
  }

  #tell(): void {
    for (const answered of this.#answers.splice(0, TELL)) answered();
    if (this.#answers.length > 0) this.#schedule();
    else if (this.#idle()) this.#drained?.();
  }

  #idle(): boolean {
    return this.#queue.length + this.#underWay.length + this.#answers.length === 0;
  }
}

function answer({ resolve, reject }: Item, outcome: WriteOutcome | undefined): void {
  if (outcome?.kind === "done") resolve(outcome.value);
  else reject(new WriteError(outcome?.message ?? "The thread that writes did not answer.", outcome?.code ?? null));
}
