/**
 * The working time of this worker process. Time that is spent waiting for people does not count.
 */
export class Stopwatch {
  readonly #now: () => number;
  readonly #startedAt: number;
  #pausedMs = 0;

  /** Starts at once. */
  constructor(now: () => number) {
    this.#now = now;
    this.#startedAt = now();
  }

  /** ms. */
  elapsed(): number {
    return this.#now() - this.#startedAt - this.#pausedMs;
  }

  /** Does not count the time until `wait` settles. */
  async paused<T>(wait: () => Promise<T>): Promise<T> {
    const startedAt = this.#now();
    try {
      return await wait();
    } finally {
      this.#pausedMs += this.#now() - startedAt;
    }
  }
}
