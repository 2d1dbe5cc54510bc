import type { Clock, Ids } from "../../src/core/ports/runtime.ts";

export interface ManualClock extends Clock {
  /** Advances by `ms`, wakes each sleeper at its time, and lets its work settle. */
  advance(ms: number): Promise<void>;
  /**
   * Jumps by `ms`, as for a process that is stopped: each sleeper whose time has passed wakes once.
   */
  jump(ms: number): Promise<void>;
  /** Sets the wall clock forward or back by `ms`; no time passes for sleepers. */
  setWall(ms: number): void;
}

interface Sleeper {
  readonly at: number;
  readonly wake: () => void;
}

/** Lets pending promises and immediates finish. */
export async function settle(rounds = 20): Promise<void> {
  for (let i = 0; i < rounds; i += 1) await new Promise((resolve) => setImmediate(resolve));
}

export function createManualClock(startAt = Date.UTC(2026, 0, 1)): ManualClock {
  let now = 0;
  let offset = startAt;
  const sleepers = new Set<Sleeper>();
  return {
    now: () => now + offset,
    monotonic: () => now,
    setWall(ms) {
      offset += ms;
    },
    timer(ms, wake) {
      const sleeper: Sleeper = { at: now + ms, wake };
      sleepers.add(sleeper);
      return () => sleepers.delete(sleeper);
    },
    sleep(ms, signal) {
      return new Promise((resolve, reject) => {
        const abort = (): void => {
          sleepers.delete(sleeper);
          reject(new DOMException("The wait was aborted", "AbortError"));
        };
        const sleeper: Sleeper = {
          at: now + ms,
          wake() {
            signal?.removeEventListener("abort", abort);
            resolve();
          },
        };
        if (signal?.aborted) return abort();
        signal?.addEventListener("abort", abort, { once: true });
        sleepers.add(sleeper);
      });
    },
    async advance(ms) {
      const end = now + ms;
      for (;;) {
        await settle();
        const next = [...sleepers].filter((sleeper) => sleeper.at <= end).sort((a, b) => a.at - b.at)[0];
        if (next === undefined) break;
        now = Math.max(now, next.at);
        sleepers.delete(next);
        next.wake();
      }
      now = end;
      await settle();
    },
    async jump(ms) {
      now += ms;
      for (const sleeper of [...sleepers].filter((sleeper) => sleeper.at <= now).sort((a, b) => a.at - b.at)) {
        sleepers.delete(sleeper);
        sleeper.wake();
      }
      await settle();
    },
  };
}

/** Deterministic ids and random numbers from a seed. */
export function seededIds(seed = 1): Ids {
  let state = seed >>> 0 || 1;
  let count = 0;
  const random = (): number => {
    // mulberry32 (public domain, Tommy Ettinger)
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return { random, next: (prefix) => `${prefix}_${String((count += 1)).padStart(26, "0")}` };
}
