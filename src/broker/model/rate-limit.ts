import type { Clock } from "../../core/ports/runtime.ts";

export interface ProviderRateLimitOptions {
  readonly clock: Clock;
  /** The longest wait that is believed, ms: a provider may name hours. */
  readonly longestMs: number;
}

export interface ProviderRateLimit {
  /**
   * Waits for the limit to be over, at most `ms`.
   * @returns 0 when the request may go, else how long the limit still lasts, ms. Rejects when
   * aborted.
   */
  remainingMs(ms: number, signal: AbortSignal): Promise<number>;
  /** The provider refused for so long, ms; null when it did not say. */
  noteRefusal(ms: number | null): void;
  /** A request got through. */
  noteSuccess(): void;
  /** Until when everybody waits, epoch ms; null = nobody waits. */
  until(): number | null;
}

const UNSAID_MS = 5_000;
/** Between two requests after a wait, until one has got through, ms. */
const TRIAL_MS = 2_000;

export function createProviderRateLimit({ clock, longestMs }: ProviderRateLimitOptions): ProviderRateLimit {
  let blockedUntil = 0;
  /** Set after a refusal: one request at a time is let out until one has passed. */
  let onTrial = false;

  async function wait(ms: number, signal: AbortSignal): Promise<number> {
    const end = clock.now() + ms;
    for (;;) {
      const now = clock.now();
      if (blockedUntil <= now) {
        if (onTrial) blockedUntil = now + TRIAL_MS;
        return 0;
      }
      if (now >= end) return blockedUntil - now;
      await clock.sleep(Math.min(blockedUntil, end) - now, signal);
    }
  }

  return {
    remainingMs: wait,
    noteRefusal(ms) {
      const pause = Math.min(longestMs, ms ?? UNSAID_MS);
      blockedUntil = Math.max(onTrial ? 0 : blockedUntil, clock.now() + pause);
      onTrial = true;
    },
    noteSuccess() {
      onTrial = false;
      blockedUntil = 0;
    },
    until: () => (blockedUntil > clock.now() ? blockedUntil : null),
  };
}
