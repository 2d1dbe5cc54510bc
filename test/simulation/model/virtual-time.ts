/**
 * The scheduler of a simulated world.
 *
 * V1 Everything that takes time is an event in one queue. One event runs, then every promise that
 *    it settled, and only then the next event: the order of the queue is the order of the run.
 * V2 Events of the same millisecond run in an order that the seed draws.
 * V3 An event belongs to a domain (a process of the world). Events of a dead domain never run, as
 *    after SIGKILL; those of a paused domain run when the pause ends, as after SIGSTOP.
 * V4 No real clock is read. Work outside of this thread (`hold`) stops the virtual time until it
 *    has ended, so it is not seen as time.
 */
import { Dice } from "./dice.ts";

export class Domain {
  readonly name: string;
  alive = true;
  /** Virtual ms. */
  pausedUntil = 0;
  readonly #onEnd = new Set<() => void>();

  constructor(name: string) {
    this.name = name;
  }

  /** A pause within a longer one changes nothing. */
  pause(until: number): void {
    this.pausedUntil = Math.max(this.pausedUntil, until);
  }

  end(): void {
    this.alive = false;
    for (const call of this.#onEnd) call();
    this.#onEnd.clear();
  }

  /** @returns a function that removes the call. */
  onEnd(call: () => void): () => void {
    this.#onEnd.add(call);
    return () => this.#onEnd.delete(call);
  }
}

interface Entry {
  at: number;
  readonly tie: number;
  readonly n: number;
  readonly domain: Domain;
  readonly run: () => void;
  isCancelled: boolean;
}

const isBefore = (a: Entry, b: Entry): boolean =>
  a.at !== b.at ? a.at < b.at : a.tie !== b.tie ? a.tie < b.tie : a.n < b.n;

export class VirtualTime {
  /** Ms since the world began. */
  now = 0;
  /** Events that ran. */
  steps = 0;
  readonly #heap: Entry[] = [];
  readonly #ties: Dice;
  #count = 0;
  #held = 0;

  constructor(seed: number) {
    this.#ties = new Dice(seed, "ties");
  }

  /** @returns a function that cancels the event. */
  schedule(domain: Domain, ms: number, run: () => void): () => void {
    const at = this.now + Math.max(0, Math.ceil(ms));
    const entry: Entry = { at, tie: this.#ties.next(), n: (this.#count += 1), domain, run, isCancelled: false };
    this.#push(entry);
    return () => void (entry.isCancelled = true);
  }

  /** Resolves after `ms` in the domain; rejects with the signal's reason when aborted before. */
  wait(domain: Domain, ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) return reject(signal.reason as Error);
      const abort = (): void => {
        cancel();
        reject(signal?.reason as Error);
      };
      const cancel = this.schedule(domain, ms, () => {
        signal?.removeEventListener("abort", abort);
        resolve();
      });
      signal?.addEventListener("abort", abort, { once: true });
    });
  }

  /** The result of work of another domain, as it arrives in this one `ms` after the work's end. */
  deliver<T>(domain: Domain, work: Promise<T>, ms: number): Promise<T> {
    return new Promise((resolve, reject) => {
      work.then(
        (value) => this.schedule(domain, ms, () => resolve(value)),
        (error: unknown) => this.schedule(domain, ms, () => reject(error as Error)),
      );
    });
  }

  /** Stops the virtual time until the work has settled (V4). */
  async hold<T>(work: Promise<T>): Promise<T> {
    this.#held += 1;
    try {
      return await work;
    } finally {
      this.#held -= 1;
    }
  }

  /** Runs the next event and everything that follows from it. @returns false when none is left. */
  async step(): Promise<boolean> {
    const entry = this.#pop();
    if (entry === undefined) return false;
    this.now = Math.max(this.now, entry.at);
    if (entry.isCancelled || !entry.domain.alive) return true;
    if (entry.domain.pausedUntil > this.now) {
      entry.at = entry.domain.pausedUntil;
      this.#push(entry);
      return true;
    }
    this.steps += 1;
    entry.run();
    await this.settle();
    return true;
  }

  async settle(): Promise<void> {
    do await new Promise((resolve) => setImmediate(resolve));
    while (this.#held > 0);
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let at = heap.push(entry) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(entry, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = entry;
  }

  #pop(): Entry | undefined {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (top === undefined || last === undefined || heap.length === 0) return top;
    let at = 0;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child += 1;
      if (!isBefore(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return top;
  }
}
