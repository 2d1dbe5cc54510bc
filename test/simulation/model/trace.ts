/** What happened in a run, line by line, and its digest: two runs are the same if it is. */
import { createHash } from "node:crypto";
import type { VirtualTime } from "./virtual-time.ts";

/** The end of a run is kept. */
const LINES = 20_000;

export class Trace {
  readonly #time: VirtualTime;
  readonly #hash = createHash("sha256");
  #lines: string[] = [];

  constructor(time: VirtualTime) {
    this.#time = time;
  }

  add(text: string): void {
    const line = `${(this.#time.now / 1_000).toFixed(3)} ${text}`;
    this.#hash.update(line).update("\n");
    this.#lines.push(line);
    if (this.#lines.length > LINES * 2) this.#lines = this.#lines.slice(-LINES);
  }

  get lines(): readonly string[] {
    return this.#lines;
  }

  /** Of the run so far. */
  digest(): string {
    return this.#hash.copy().digest("hex");
  }
}
