/** Working time of this life of the worker: waiting for people does not count. */
export class Stopwatch {
  readonly #now: () => number;
  readonly #begun: number;
  #away = 0;

  constructor(now: () => number) {
    this.#now = now;
    this.#begun = now();
  }

  /** ms. */
  elapsed(): number {
    return this.#now() - this.#begun - this.#away;
  }

  async paused<T>(wait: () => Promise<T>): Promise<T> {
    const begun = this.#now();
    try {
      return await wait();
    } finally {
      this.#away += this.#now() - begun;
    }
  }
}
