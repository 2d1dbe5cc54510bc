/**
 * A time limit that can be stopped and started again, with marks that are reported on the way. The
 * time without a coordinator does not count.
 */
import type { Clock } from "../../src/core/ports/runtime.ts";

/** `setTimeout` counts at most this many ms. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** What is known of the coordinator's absence (CoordinatorLink). */
export interface CoordinatorContact {
  readonly awayMs: number;
  reach(signal: AbortSignal): Promise<void>;
}

export class Deadline {
  readonly #clock: Clock;
  readonly #contact: CoordinatorContact;
  readonly #onExpired: () => void;
  readonly #marks: { readonly leftMs: number; readonly onReached: () => void }[] = [];
  #leftMs: number;
  #run: { readonly since: number; readonly stop: AbortController } | null = null;

  /** Does not run before `start`. */
  constructor(clock: Clock, contact: CoordinatorContact, ms: number, onExpired: () => void) {
    this.#clock = clock;
    this.#contact = contact;
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
    this.#run = { since: this.#now(), stop };
    this.#after(this.#leftMs, stop.signal, this.#onExpired);
    for (const mark of this.#marks) {
      const reach = (): void => {
        this.#marks.splice(this.#marks.indexOf(mark), 1);
        mark.onReached();
      };
      this.#after(Math.max(0, this.#leftMs - mark.leftMs), stop.signal, reach);
    }
  }

  /** Keeps the time that is left. Idempotent. */
  stop(): void {
    if (this.#run === null) return;
    this.#leftMs = Math.max(0, this.#leftMs - (this.#now() - this.#run.since));
    this.#run.stop.abort();
    this.#run = null;
  }

  #after(ms: number, stop: AbortSignal, onElapsed: () => void): void {
    this.#wait(this.#now() + ms, stop).then(onElapsed, () => {});
  }

  /** Rejects when it is stopped, and when the attempt is over. */
  async #wait(until: number, stop: AbortSignal): Promise<void> {
    for (let leftMs = until - this.#now(); leftMs > 0; leftMs = until - this.#now()) {
      await this.#clock.sleep(Math.min(Math.ceil(leftMs), MAX_TIMER_MS), stop);
      // An absence may only now be noticed, or go on.
      await this.#contact.reach(stop);
    }
  }

  /** Time with a coordinator, ms from an arbitrary moment. */
  #now(): number {
    return this.#clock.monotonic() - this.#contact.awayMs;
  }
}
