import type { Clock } from "../../src/core/ports/runtime.ts";

export class Deadline {
  readonly #clock: Clock;
  readonly #expire: () => void;
  readonly #marks: { readonly leftMs: number; readonly reached: () => void }[] = [];
  #leftMs: number;
  #run: { readonly since: number; readonly stop: AbortController } | null = null;

  constructor(clock: Clock, ms: number, expire: () => void) {
    this.#clock = clock;
    this.#leftMs = ms;
    this.#expire = expire;
  }

  /** Calls back once when no more than `leftMs` are left. Set before `start`. */
  mark(leftMs: number, reached: () => void): void {
    this.#marks.push({ leftMs, reached });
  }

  start(): void {
    if (this.#run !== null) return;
    const stop = new AbortController();
    this.#run = { since: this.#clock.now(), stop };
    this.#after(this.#leftMs, stop.signal, this.#expire);
    for (const mark of this.#marks) {
      const pass = (): void => {
        this.#marks.splice(this.#marks.indexOf(mark), 1);
        mark.reached();
      };
      this.#after(Math.max(0, this.#leftMs - mark.leftMs), stop.signal, pass);
    }
  }

  #after(ms: number, stop: AbortSignal, act: () => void): void {
    this.#clock.sleep(Math.min(ms, 2 ** 31 - 1), stop).then(act, () => {});
  }

  stop(): void {
    if (this.#run === null) return;
    this.#leftMs = Math.max(0, this.#leftMs - (this.#clock.now() - this.#run.since));
    this.#run.stop.abort();
    this.#run = null;
  }
}
