/**
 * The rate limits of the provider: one per family of models, as the provider counts them.
 *
 * V1 After a refusal every request to the family waits. Then one request every 2 s is sent as a
 *    probe until one succeeds; then all go.
 * V2 Of those that wait, the task that sent least since the limit began goes first: a task that
 *    floods the provider waits for the others, not they for it.
 */
import type { Clock } from "../../core/ports/runtime.ts";
import { familyOf } from "../../core/values/model-name.ts";

export interface ProviderRateLimitOptions {
  readonly clock: Clock;
  /** Upper bound for the wait that the provider requests, ms. */
  readonly longestMs: number;
}

export interface RateCaller {
  readonly taskId: string;
  readonly signal: AbortSignal;
}

export interface ProviderRateLimit {
  /**
   * Waits at most `ms` for the limit of the model's family to end. Rejects when aborted.
   * @returns 0 when the request may be sent, else the rest of the limit, ms.
   */
  remainingMs(model: string, ms: number, caller: RateCaller): Promise<number>;
  /** Records a 429. @param ms the requested wait; null when the provider named none. */
  noteRefusal(model: string, ms: number | null): void;
  /** Records a successful request: the limit of the family ends for all. */
  noteSuccess(model: string): void;
  /** The end of the limit of the model's family, epoch ms; null when none is active. */
  until(model: string): number | null;
}

const DEFAULT_WAIT_MS = 5_000;
/** Interval between probes after a refusal, ms. */
const PROBE_MS = 2_000;

export function createProviderRateLimit(options: ProviderRateLimitOptions): ProviderRateLimit {
  const families = new Map<string, FamilyLimit>();
  const of = (model: string): FamilyLimit => {
    const family = familyOf(model);
    const known = families.get(family) ?? new FamilyLimit(options);
    families.set(family, known);
    return known;
  };
  return {
    remainingMs: (model, ms, caller) => of(model).wait(ms, caller),
    noteRefusal: (model, ms) => of(model).noteRefusal(ms),
    noteSuccess: (model) => of(model).noteSuccess(),
    until: (model) => families.get(familyOf(model))?.until() ?? null,
  };
}

interface Waiter {
  readonly taskId: string;
  readonly pass: () => void;
}

class FamilyLimit {
  readonly #options: ProviderRateLimitOptions;
  /** On the monotonic clock: a wall clock that is set back would prolong the limit. */
  #blockedUntil = 0;
  #probing = false;
  /** In order of arrival. */
  readonly #waiters = new Set<Waiter>();
  /** Requests that each task sent since the limit began. */
  readonly #sent = new Map<string, number>();
  #stopTimer: () => void = () => undefined;

  constructor(options: ProviderRateLimitOptions) {
    this.#options = options;
  }

  async wait(ms: number, { taskId, signal }: RateCaller): Promise<number> {
    signal.throwIfAborted();
    if (this.#waiters.size === 0 && this.#leftMs() === 0) {
      this.#count(taskId);
      return 0;
    }
    let settle = (_leftMs: number): void => undefined;
    const settled = new Promise<number>((resolve) => (settle = resolve));
    const waiter: Waiter = { taskId, pass: () => settle(0) };
    const giveUp = (): void => settle(Math.max(1, this.#leftMs()));
    const stopTimer = this.#options.clock.timer(ms, giveUp);
    signal.addEventListener("abort", giveUp, { once: true });
    this.#waiters.add(waiter);
    this.#schedule();
    try {
      const leftMs = await settled;
      signal.throwIfAborted();
      return leftMs;
    } finally {
      stopTimer();
      signal.removeEventListener("abort", giveUp);
      this.#waiters.delete(waiter);
    }
  }

  noteRefusal(ms: number | null): void {
    const { clock, longestMs } = this.#options;
    const pause = Math.min(longestMs, ms ?? DEFAULT_WAIT_MS);
    if (!this.#probing) this.#sent.clear();
    this.#blockedUntil = Math.max(this.#probing ? 0 : this.#blockedUntil, clock.monotonic() + pause);
    this.#probing = true;
    this.#schedule();
  }

  noteSuccess(): void {
    if (!this.#probing && this.#waiters.size === 0) return;
    this.#probing = false;
    this.#blockedUntil = 0;
    this.#admit();
  }

  until(): number | null {
    const leftMs = this.#leftMs();
    return leftMs > 0 ? Math.ceil(this.#options.clock.now() + leftMs) : null;
  }

  #leftMs(): number {
    return Math.max(0, Math.ceil(this.#blockedUntil - this.#options.clock.monotonic()));
  }

  /** A request is sent; while probing, the next one waits for its answer or the time. */
  #count(taskId: string): void {
    if (!this.#probing) return;
    this.#sent.set(taskId, (this.#sent.get(taskId) ?? 0) + 1);
    this.#blockedUntil = this.#options.clock.monotonic() + PROBE_MS;
  }

  #schedule(): void {
    this.#stopTimer();
    if (this.#waiters.size > 0) this.#stopTimer = this.#options.clock.timer(this.#leftMs(), () => this.#admit());
  }

  #admit(): void {
    this.#stopTimer();
    for (const waiter of [...this.#waiters].toSorted((a, b) => this.#sentBy(a) - this.#sentBy(b))) {
      if (this.#leftMs() > 0) break;
      this.#waiters.delete(waiter);
      this.#count(waiter.taskId);
      waiter.pass();
    }
    this.#schedule();
  }

  #sentBy({ taskId }: Waiter): number {
    return this.#sent.get(taskId) ?? 0;
  }
}
