/**
 * Results that are expensive to make and never change: made once, kept while there is room.
 *
 * - Callers of one key share one run of the work. At most `concurrency` works run at a time, and at
 *   most `maxWaiting` wait.
 * - The least recently used results leave when all together are larger than `maxSize`.
 * - A failure is not kept.
 */
import PQueue from "p-queue";
import { SlipwayError } from "../../error.ts";

export interface BoundedCacheOptions {
  readonly concurrency: number;
  readonly maxWaiting: number;
  /** In the unit of `size`. */
  readonly maxSize: number;
}

interface Entry {
  readonly value: unknown;
  readonly size: number;
}

export class BoundedCache {
  readonly #options: BoundedCacheOptions;
  readonly #queue: PQueue;
  /** Least recently used first. */
  readonly #entries = new Map<string, Entry>();
  readonly #running = new Map<string, Promise<unknown>>();
  #size = 0;

  constructor(options: BoundedCacheOptions) {
    this.#options = options;
    this.#queue = new PQueue({ concurrency: options.concurrency });
  }

  /**
   * @param key names the result and its type: one key always belongs to one `T`.
   * @throws SlipwayError `rate_limited` when too many works wait.
   */
  async get<T>(key: string, make: () => Promise<T>, sizeOf: (value: T) => number): Promise<T> {
    const entry = this.#entries.get(key);
    if (entry !== undefined) {
      this.#entries.delete(key);
      this.#entries.set(key, entry);
      return entry.value as T;
    }
    const running = this.#running.get(key) ?? this.#start(key, make, sizeOf);
    return (await running) as T;
  }

  #start<T>(key: string, make: () => Promise<T>, sizeOf: (value: T) => number): Promise<T> {
    if (this.#queue.size >= this.#options.maxWaiting)
      return Promise.reject(new SlipwayError("rate_limited", "Too many comparisons wait. Try again in some seconds."));
    const work = async (): Promise<T> => {
      const value = await make();
      this.#keep(key, { value, size: sizeOf(value) });
      return value;
    };
    const running = this.#queue.add(work).finally(() => this.#running.delete(key));
    this.#running.set(key, running);
    return running;
  }

  #keep(key: string, entry: Entry): void {
    const { maxSize } = this.#options;
    if (entry.size > maxSize) return;
    this.#entries.set(key, entry);
    this.#size += entry.size;
    for (const [oldest, { size }] of this.#entries) {
      if (this.#size <= maxSize) return;
      this.#entries.delete(oldest);
      this.#size -= size;
    }
  }
}
