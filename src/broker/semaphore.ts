/**
 * A weighted semaphore with a strict FIFO queue: a later request never overtakes an earlier one, so
 * a request for many permits cannot starve.
 */

/** Returns the permits. Idempotent. */
export type Release = () => void;

interface Waiter {
  readonly weight: number;
  readonly resume: () => void;
}

export class Semaphore {
  readonly #permits: number;
  #free: number;
  /** In order of arrival. */
  readonly #waiters = new Set<Waiter>();

  constructor(permits: number) {
    this.#permits = permits;
    this.#free = permits;
  }

  /** Requests in the queue. */
  get waiting(): number {
    return this.#waiters.size;
  }

  /**
   * Resolves once `weight` permits are taken. Rejects with the signal's reason when it is aborted
   * first; no permit is taken then.
   * @throws RangeError immediately for a weight that is negative, NaN or above the total.
   */
  async acquire(weight: number, signal: AbortSignal): Promise<Release> {
    if (!(weight >= 0 && weight <= this.#permits)) throw new RangeError(`${weight} of ${this.#permits} permits`);
    signal.throwIfAborted();
    if (this.#waiters.size === 0 && weight <= this.#free) this.#free -= weight;
    else await this.#wait(weight, signal);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#free += weight;
      this.#admit();
    };
  }

  /** Resolves once `#admit` took the permits for this waiter. */
  #wait(weight: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#waiters.delete(waiter);
        reject(signal.reason as Error);
        this.#admit();
      };
      const resume = (): void => {
        signal.removeEventListener("abort", onAbort);
        resolve();
      };
      const waiter: Waiter = { weight, resume };
      signal.addEventListener("abort", onAbort, { once: true });
      this.#waiters.add(waiter);
    });
  }

  /** Resumes waiters from the head of the queue while their permits are free. */
  #admit(): void {
    for (const waiter of this.#waiters) {
      if (waiter.weight > this.#free) return;
      this.#waiters.delete(waiter);
      this.#free -= waiter.weight;
      waiter.resume();
    }
  }
}
