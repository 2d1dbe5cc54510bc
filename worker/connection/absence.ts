/**
 * Sums the time in which the coordinator gave no answer: it was stopped, restarted or suspended.
 * The limit of the attempt's time does not count it, as the coordinator's own does not (rule D11).
 */

/** An answer that takes longer shows that the coordinator was not working, ms. */
const SLOW_MS = 5_000;

export class Absence {
  readonly #now: () => number;
  #totalMs = 0;
  /** Up to here the time is counted. */
  #countedTo = -Infinity;
  #awaySince: number | null = null;

  /** @param now the monotonic clock. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Up to now, ms. */
  get totalMs(): number {
    return this.#totalMs + (this.#awaySince === null ? 0 : this.#now() - this.#awaySince);
  }

  /** @param startedAt of the request. */
  onFailure(startedAt: number): void {
    this.#awaySince ??= Math.max(startedAt, this.#countedTo);
  }

  /** @param isPoll the request waited for commands, which takes long on purpose. */
  onAnswer(startedAt: number, isPoll: boolean): void {
    const now = this.#now();
    const since = this.#awaySince ?? (isPoll || now - startedAt <= SLOW_MS ? null : startedAt);
    this.#awaySince = null;
    if (since === null) return;
    this.#totalMs += Math.max(0, now - Math.max(since, this.#countedTo));
    this.#countedTo = now;
  }
}
