/**
 * The slots of the installation: each is one job of a p-queue, and the queue's concurrency is what
 * limits the number of sandboxes (decision 029).
 *
 * L1 The job of a slot starts with the claim and ends when the slot is given back, so the queue's
 *    own counts are the only counts.
 * L2 Adopted tasks hold a slot already and go before claims. When there are more of them than the
 *    concurrency allows (the setting was lowered), the rest wait in the queue, where they keep
 *    claims out.
 * L3 A slot is given back by ending its running job, or by aborting the signal of a waiting one,
 *    which then leaves the queue.
 */
import type PQueue from "p-queue";

/** Priorities of the queue. Claims among themselves are ordered by the store (rule D8). */
const ADOPTED = 1;
const CLAIMED = 0;

/** One error for all slots: `abort()` without a reason records a stack each time. */
const RELEASED = Object.assign(new Error("the slot was given back"), { name: "AbortError" });

/** How a slot is given back: by ending its job, or by taking the job out of the queue. */
interface HeldSlot {
  readonly end: () => void;
  /** Null when the job started at once: a signal costs more than the rest of the job. */
  readonly waiting: AbortController | null;
}

export class Slots {
  readonly #queue: PQueue;
  readonly #held = new Map<string, HeldSlot>();

  /** @param freed called after each slot that was given back, when the queue counts it as free. */
  constructor(queue: PQueue, freed: () => void) {
    this.#queue = queue;
    queue.on("next", freed);
  }

  /** Slots taken, including those of adopted tasks beyond the concurrency. */
  get used(): number {
    return this.#queue.pending + this.#queue.size;
  }

  /** Claims that would start at once. */
  get free(): number {
    return Math.max(0, this.#queue.concurrency - this.used);
  }

  /** The tasks that hold a slot, or wait in the queue with one that they hold by their state. */
  get ids(): Iterable<string> {
    return this.#held.keys();
  }

  has(taskId: string): boolean {
    return this.#held.has(taskId);
  }

  /** Takes a slot for a task that holds one by its state. Idempotent. */
  adopt(taskId: string): void {
    if (!this.#held.has(taskId)) void this.#start(taskId, ADOPTED, () => Promise.resolve(true));
  }

  /**
   * Runs `claim` in a free slot, and keeps the slot if it resolves to true. Resolves when the claim
   * has ended, or when the slot was given back before the claim began. Never rejects: `claim` must
   * not.
   */
  take(taskId: string, claim: () => Promise<boolean>): Promise<void> {
    return this.#start(taskId, CLAIMED, claim);
  }

  /** Idempotent. */
  release(taskId: string): void {
    const slot = this.#held.get(taskId);
    this.#held.delete(taskId);
    slot?.end();
    slot?.waiting?.abort(RELEASED);
  }

  #start(taskId: string, priority: number, claim: () => Promise<boolean>): Promise<void> {
    let end = (): void => undefined;
    const ended = new Promise<void>((resolve) => (end = resolve));
    const waiting = this.free > 0 ? null : new AbortController();
    this.#held.set(taskId, { end, waiting });
    return new Promise((resolve) => {
      const hold = async (): Promise<void> => {
        const isClaimed = await claim();
        resolve();
        if (isClaimed) await ended;
        else this.release(taskId);
      };
      const options = waiting === null ? { priority } : { priority, signal: waiting.signal };
      // An aborted job rejects: the slot was given back.
      this.#queue.add(hold, options).catch(() => resolve());
    });
  }
}
