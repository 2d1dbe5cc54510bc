/**
 * Signs of life while a tool or a check runs: it may be silent for an hour and be well, and the
 * coordinator ends an attempt that emits nothing for too long. Only for work that has a time limit
 * of its own.
 */
import type { Clock } from "../../src/core/ports/runtime.ts";
import { isAbort } from "../../src/core/error.ts";
import type { CoordinatorLink } from "../connection/link.ts";

/** Between two signs of life, unless the coordinator says otherwise, ms. */
export const SIGN_MS = 60_000;

export interface SignsOfLife {
  readonly link: Pick<CoordinatorLink, "emit">;
  readonly clock: Clock;
  /** Between two notices, ms. */
  readonly everyMs: number;
}

export async function withSignsOfLife<T>(parts: SignsOfLife, what: string, work: () => Promise<T>): Promise<T> {
  const ended = new AbortController();
  const telling = repeat(parts, what, ended.signal);
  try {
    return await work();
  } finally {
    ended.abort();
    await telling;
  }
}

/** Resolves when the signal is aborted. */
async function repeat({ link, clock, everyMs }: SignsOfLife, what: string, ended: AbortSignal): Promise<void> {
  const startedAt = clock.monotonic();
  try {
    for (;;) {
      await clock.sleep(everyMs, ended);
      const seconds = Math.round((clock.monotonic() - startedAt) / 1_000);
      const elapsed = seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
      link.emit("notice", { level: "info", code: "working", text: `${what} has been running for ${elapsed}.` });
    }
  } catch (error) {
    if (!isAbort(error)) throw error;
  }
}
