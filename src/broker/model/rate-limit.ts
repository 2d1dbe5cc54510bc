/**
 * The rate limit of the provider, shared by all tasks. After a refusal every request waits; then
 * one request every 2 s is sent as a probe until one succeeds.
 */
import type { Clock } from "../../core/ports/runtime.ts";

export interface ProviderRateLimitOptions {
  readonly clock: Clock;
  /** Upper bound for the wait that the provider requests, ms. */
  readonly longestMs: number;
}

export interface ProviderRateLimit {
  /**
   * Waits at most `ms` for the limit to end. Rejects when aborted.
   * @returns 0 when the request may be sent, else the rest of the limit, ms.
   */
  remainingMs(ms: number, signal: AbortSignal): Promise<number>;
  /** Records a 429. @param ms the requested wait; null when the provider named none. */
  noteRefusal(ms: number | null): void;
  /** Records a successful request: the limit ends for all. */
  noteSuccess(): void;
  /** The end of the limit, epoch ms; null when none is active. */
  until(): number | null;
}

const DEFAULT_WAIT_MS = 5_000;
/** Interval between probes after a refusal, ms. */
const PROBE_MS = 2_000;

export function createProviderRateLimit({ clock, longestMs }: ProviderRateLimitOptions): ProviderRateLimit {
  /** On the monotonic clock: a wall clock that is set back would prolong the limit. */
  let blockedUntil = 0;
  let probing = false;

  async function wait(ms: number, signal: AbortSignal): Promise<number> {
    const end = clock.monotonic() + ms;
    for (;;) {
      const now = clock.monotonic();
      if (blockedUntil <= now) {
        if (probing) blockedUntil = now + PROBE_MS;
        return 0;
      }
      if (now >= end) return Math.ceil(blockedUntil - now);
      await clock.sleep(Math.ceil(Math.min(blockedUntil, end) - now), signal);
    }
  }

  return {
    remainingMs: wait,
    noteRefusal(ms) {
      const pause = Math.min(longestMs, ms ?? DEFAULT_WAIT_MS);
      blockedUntil = Math.max(probing ? 0 : blockedUntil, clock.monotonic() + pause);
      probing = true;
    },
    noteSuccess() {
      probing = false;
      blockedUntil = 0;
    },
    until() {
      const leftMs = blockedUntil - clock.monotonic();
      return leftMs > 0 ? Math.ceil(clock.now() + leftMs) : null;
    },
  };
}
