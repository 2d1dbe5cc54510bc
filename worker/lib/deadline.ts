/** A time limit that can be stopped and started again, with marks that are reported on the way. */
import type { Clock } from "../../src/core/ports/runtime.ts";

/** `setTimeout` counts at most this many ms. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export class Deadline {
  readonly #clock: Clock;
  readonly #onExpired: () => void;
  readonly #marks: { readonly leftMs: number; readonly onReached: () => void }[] = [];
  #leftMs: number;
  #run: { readonly since: number; readonly stop: AbortController } | null = null;

  /** Does not run before `start`. */
  constructor(clock: Clock, ms: number, onExpired: () => void) {
    this.#clock = clock;
    this.#leftMs = ms;
    this.#onExpired = onExpired;
  }

  /** Calls back once, when at most `leftMs` are left. Call it before `start`. */
  mark(leftMs: number, onReached: () => void): void {
    this.#marks.push({ leftMs, onReached });
  }

  /** Idempotent. */
  start(): void {
    if (this.#run !== null) return;
    const stop = new AbortController();
    this.#run = { since: this.#clock.now(), stop };
    this.#after(this.#leftMs, stop.signal, this.#onExpired);
    for (const mark of this.#marks) {
      const reach = (): void => {
        this.#marks.splice(this.#marks.indexOf(mark), 1);
        mark.onReached();
      };
      this.#after(Math.max(0, this.#leftMs - mark.leftMs), stop.signal, reach);
    }
  }

  #after(ms: number, stop: AbortSignal, onElapsed: () => void): void {
    this.#clock.sleep(Math.min(ms, MAX_TIMER_MS), stop).then(onElapsed, () => {});
  }

  /** Keeps the time that is left. Idempotent. */
  stop(): void {
    if (this.#run === null) return;
    this.#leftMs = Math.max(0, this.#leftMs - (this.#clock.now() - this.#run.since));
    this.#run.stop.abort();
    this.#run = null;
  }
}
