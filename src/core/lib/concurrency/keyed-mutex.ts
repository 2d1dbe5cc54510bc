/**
 * Mutual exclusion per key: work under one key runs in the order of its calls, one at a time; work
 * under different keys runs in parallel.
 *
 * K1 A key takes memory only while its work waits or runs. Its queue is created when a second call
 *    comes: most calls find their key idle, and a queue for each costs more than their work.
 * K2 A failure is the caller's alone: the next work of the key runs all the same.
 */
import PQueue from "p-queue";
import { untilBegun } from "./async.ts";

export class KeyedMutex {
  /** Keys with work. Null = one work runs and none waits. */
  readonly #queues = new Map<string, PQueue | null>();

  /**
   * Runs the work once all earlier work of the key has ended.
   * An aborted signal rejects with its reason and takes waiting work out of the queue. It does not
   * end work that has begun: that holds the key, and decides the result, until it ends.
   */
  async run<T>(key: string, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    if (this.#queues.has(key)) return this.#enqueue(key, work, signal);
    this.#queues.set(key, null);
    try {
      return await work();
    } finally {
      const queue = this.#queues.get(key) ?? null;
      // Waiting work may have left the queue since.
      if (queue === null || queue.size === 0) this.#queues.delete(key);
      else queue.start();
    }
  }

  async #enqueue<T>(key: string, work: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    const queue = this.#queues.get(key) ?? new PQueue({ concurrency: 1, autoStart: false });
    this.#queues.set(key, queue);
    try {
      if (signal === undefined) return await queue.add(work);
      return await untilBegun((begin, queued) => queue.add(begin, { signal: queued }), work, signal);
    } finally {
      const isIdle = !queue.isPaused && queue.size === 0 && queue.pending === 0;
      if (isIdle && this.#queues.get(key) === queue) this.#queues.delete(key);
    }
  }

  /** True while work of the key waits or runs. */
  isBusy(key: string): boolean {
    return this.#queues.has(key);
  }

  /** Resolves when no work waits or runs, including work that is added meanwhile. */
  async idle(): Promise<void> {
    while (this.#queues.size > 0) await Promise.all([...this.#queues.keys()].map((key) => this.run(key, nothing)));
  }
}

const nothing = (): Promise<void> => Promise.resolve();
