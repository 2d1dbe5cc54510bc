/**
 * The slots of the installation: each is one job of a p-queue, and the queue's concurrency is what
 * limits the number of sandboxes (decision 029).
 *
 * L1 The job of a slot starts with the claim and ends when the slot is given back, so the queue's
 *    own counts are the only counts.
 * L2 Adopted tasks hold a slot already and go before claims. When there are more of them than the
 *    concurrency allows (the setting was lowered), the rest wait in the queue, where they keep
 *    claims out.
 * L3 A slot is given back by aborting the signal of its job: a running job ends, a waiting job
 *    leaves the queue.
 */
import type PQueue from "p-queue";

/** Priorities of the queue. Claims among themselves are ordered by the store (rule D8). */
const ADOPTED = 1;
const CLAIMED = 0;

/** One error for all slots: `abort()` without a reason records a stack each time. */
const RELEASED = Object.assign(new Error("the slot was given back"), { name: "AbortError" });

export class Slots {
  readonly #queue: PQueue;
  readonly #held = new Map<string, AbortController>();

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
    this.#held.get(taskId)?.abort(RELEASED);
    this.#held.delete(taskId);
  }

  #start(taskId: string, priority: number, claim: () => Promise<boolean>): Promise<void> {
    const slot = new AbortController();
    this.#held.set(taskId, slot);
    return new Promise((resolve) => {
      const hold = async (): Promise<void> => {
        const isClaimed = await claim();
        resolve();
        if (isClaimed) await aborted(slot.signal);
        else this.release(taskId);
      };
      // An aborted job rejects: the slot was given back.
      this.#queue.add(hold, { priority, signal: slot.signal }).catch(() => resolve());
    });
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
