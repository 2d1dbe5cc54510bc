/** A stop watch that runs out once; it stands still while somebody is waited for. */
import type { Clock } from "../src/ports.ts";

export class Deadline {
  readonly #clock: Clock;
  readonly #expire: () => void;
  #leftMs: number;
  #run: { readonly since: number; readonly stop: AbortController } | null = null;

  constructor(clock: Clock, ms: number, expire: () => void) {
    this.#clock = clock;
    this.#leftMs = ms;
    this.#expire = expire;
  }

  start(): void {
    if (this.#run !== null) return;
    const stop = new AbortController();
    this.#run = { since: this.#clock.now(), stop };
    this.#clock.sleep(Math.min(this.#leftMs, 2 ** 31 - 1), stop.signal).then(this.#expire, () => {});
  }

  stop(): void {
    if (this.#run === null) return;
    this.#leftMs = Math.max(0, this.#leftMs - (this.#clock.now() - this.#run.since));
    this.#run.stop.abort();
    this.#run = null;
  }
}
