/**
 * Permits that are shared out in the order in which they were asked for: nobody overtakes, so that
 * whoever needs many gets them too.
 */

/** Gives the permits back; a second call does nothing. */
export type Release = () => void;

interface Waiter {
  readonly weight: number;
  readonly enter: () => void;
}

export class Semaphore {
  readonly #permits: number;
  #free: number;
  /** In the order in which they came. */
  readonly #waiters = new Set<Waiter>();

  constructor(permits: number) {
    this.#permits = permits;
    this.#free = permits;
  }

  /** How many wait for their turn. */
  get waiting(): number {
    return this.#waiters.size;
  }

  /**
   * Resolves when so many permits are taken. Rejects with the signal's reason when that is aborted
   * first; nothing was taken then.
   * @throws RangeError at once when there will never be so many.
   */
  async acquire(weight: number, signal: AbortSignal): Promise<Release> {
    if (!(weight >= 0 && weight <= this.#permits)) throw new RangeError(`${weight} of ${this.#permits} permits`);
    signal.throwIfAborted();
    if (this.#waiters.size === 0 && weight <= this.#free) this.#free -= weight;
    else await this.#turn(weight, signal);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#free += weight;
      this.#admit();
    };
  }

  /** Resolves when the permits were taken for this waiter. */
  #turn(weight: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        this.#waiters.delete(waiter);
        reject(signal.reason as Error);
        this.#admit();
      };
      const enter = (): void => {
        signal.removeEventListener("abort", leave);
        resolve();
      };
      const waiter: Waiter = { weight, enter };
      signal.addEventListener("abort", leave, { once: true });
      this.#waiters.add(waiter);
    });
  }

  /** Lets in who stands first, and those after, as long as there is room. */
  #admit(): void {
    for (const waiter of this.#waiters) {
      if (waiter.weight > this.#free) return;
      this.#waiters.delete(waiter);
      this.#free -= waiter.weight;
      waiter.enter();
    }
  }
}
