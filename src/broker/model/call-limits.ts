/**
 * How many requests to the model one attempt may make at once, and how many that cost nothing per
 * minute. No other attempt waits for them.
 */
import { SlipwayError } from "../../core/error.ts";
import { Semaphore, type Release } from "../semaphore.ts";

/** Messages under way; further ones wait unread in the worker's socket. */
export const MAX_MESSAGES = 4;
/** Messages that may wait. */
const MAX_WAITING = 32;
/** Requests that cost nothing: at once, and within a minute. */
const MAX_FREE = 2;
export const FREE_PER_MINUTE = 60;
const MINUTE_MS = 60_000;

export interface Caller {
  readonly taskId: string;
  readonly attempt: number;
  readonly signal: AbortSignal;
}

interface AttemptCalls {
  readonly messages: Semaphore;
  readonly free: Semaphore;
  /** Requests that are under way or wait. */
  users: number;
  /** Requests that cost nothing and may be made now, at the time `countedAt`. */
  allowance: number;
  countedAt: number;
}

export class CallLimits {
  readonly #attempts = new Map<string, AttemptCalls>();

  /**
   * Resolves once the attempt may send a message. Rejects with the signal's reason when it is
   * aborted.
   * @throws SlipwayError rate_limited
   */
  acquireMessage(caller: Caller): Promise<Release> {
    return this.#acquire(caller, "messages");
  }

  /** The same for a request that costs nothing. */
  async acquireFree(caller: Caller): Promise<Release> {
    const calls = this.#of(caller);
    if (calls.allowance < 1)
      throw new SlipwayError(
        "rate_limited",
        `A task may ask for models and counts of tokens ${FREE_PER_MINUTE} times a minute. Retry later.`,
      );
    calls.allowance -= 1;
    return await this.#acquire(caller, "free");
  }

  async #acquire(caller: Caller, kind: "messages" | "free"): Promise<Release> {
    const calls = this.#of(caller);
    if (calls[kind].waiting >= MAX_WAITING)
      throw new SlipwayError("rate_limited", "Too many requests to the model at once. Read the pending answers first.");
    calls.users += 1;
    try {
      const release = await calls[kind].acquire(1, caller.signal);
      let isHeld = true;
      return () => {
        if (!isHeld) return;
        isHeld = false;
        calls.users -= 1;
        release();
      };
    } catch (error) {
      calls.users -= 1;
      throw error;
    }
  }

  #of({ taskId, attempt }: Caller): AttemptCalls {
    const now = performance.now();
    const key = `${taskId} ${attempt}`;
    const known = this.#attempts.get(key);
    if (known !== undefined) {
      const gained = ((now - known.countedAt) / MINUTE_MS) * FREE_PER_MINUTE;
      known.allowance = Math.min(FREE_PER_MINUTE, known.allowance + gained);
      known.countedAt = now;
      return known;
    }
    // One that makes no request for a minute has its whole allowance again: it is forgotten.
    for (const [id, calls] of this.#attempts)
      if (calls.users === 0 && now - calls.countedAt > MINUTE_MS) this.#attempts.delete(id);
    const messages = new Semaphore(MAX_MESSAGES);
    const free = new Semaphore(MAX_FREE);
    const fresh = { messages, free, users: 0, allowance: FREE_PER_MINUTE, countedAt: now };
    this.#attempts.set(key, fresh);
    return fresh;
  }
}
