/**
 * Mutual exclusion per key: work under one key runs in the order of its calls, one at a time; work
 * under different keys runs in parallel.
 *
 * K1 A queue exists only while work of its key waits or runs, so idle keys take no memory.
 * K2 A failure rejects only its caller: the next work of the key still runs.
 */
import PQueue from "p-queue";
import { untilBegun } from "./async.ts";

export class KeyedMutex {
  readonly #queues = new Map<string, PQueue>();

  /**
   * Runs the work once all earlier work of the key has ended.
   * An aborted signal rejects with its reason and takes waiting work out of the queue. It does not
   * end work that has begun: that holds the key, and decides the result, until it ends.
   */
  async run<T>(key: string, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    const queue = this.#queues.get(key) ?? new PQueue({ concurrency: 1 });
    this.#queues.set(key, queue);
    try {
      if (signal === undefined) return await queue.add(work);
      return await untilBegun((begin, queued) => queue.add(begin, { signal: queued }), work, signal);
    } finally {
      if (queue.size === 0 && queue.pending === 0 && this.#queues.get(key) === queue) this.#queues.delete(key);
    }
  }

  /** True while work of the key waits or runs. */
  isBusy(key: string): boolean {
    return this.#queues.has(key);
  }

  /** Resolves when no work waits or runs, including work that is added during the wait. */
  async idle(): Promise<void> {
    while (this.#queues.size > 0) await Promise.all([...this.#queues.values()].map((queue) => queue.onIdle()));
  }
}
