import type { Writable } from "node:stream";
import type { Clock } from "../ports/runtime.ts";

/**
 * Why waits of an effect end when its state is left: one error for all, because it carries nothing.
 */
export const STATE_LEFT: Error = Object.assign(new Error("the state was left"), { name: "AbortError" });

/** The work's result, or an error after `ms`; the work itself goes on. */
export function withTimeout<T>(ms: number, work: Promise<T>, clock: Clock): Promise<T> {
  return new Promise((resolve, reject) => {
    const callOff = clock.timer(ms, () => reject(new Error(`it took longer than ${ms} ms`)));
    work.then(resolve, reject).finally(callOff);
  });
}

/**
 * The work's result, or the signal's reason when that is aborted first; the work itself goes on.
 */
export async function raceAbort<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  work.catch(() => undefined);
  signal.throwIfAborted();
  let leave = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    leave = () => reject(signal.reason as Error);
    signal.addEventListener("abort", leave, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", leave);
  }
}

/**
 * Resolves when the work is done or the signal is aborted, whichever comes first; rejects when the
 * work does before.
 */
export async function ignoreAbort(work: Promise<unknown>, signal: AbortSignal): Promise<void> {
  await raceAbort(work, signal).catch((error: unknown) => {
    if (!signal.aborted) throw error;
  });
}

/**
 * Runs both at once. When one fails the other is aborted; resolves or rejects (with the first
 * failure) only when both have ended.
 */
export async function allOrAbort(
  signal: AbortSignal,
  works: readonly ((signal: AbortSignal) => Promise<void>)[],
): Promise<void> {
  const failed = new AbortController();
  const stop = AbortSignal.any([signal, failed.signal]);
  const failures: unknown[] = [];
  const each = works.map(async (work) => {
    try {
      await work(stop);
    } catch (error) {
      failures.push(error);
      failed.abort(STATE_LEFT);
    }
  });
  await Promise.all(each);
  if (failures.length > 0) throw failures[0];
}

/** Resolves when the stream drains, closes, or the signal is aborted; never rejects. */
export function waitForDrain(stream: Writable, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const finish = (): void => {
      stream.off("drain", finish).off("close", finish);
      signal?.removeEventListener("abort", finish);
      resolve();
    };
    stream.once("drain", finish).once("close", finish);
    signal?.addEventListener("abort", finish, { once: true });
    if (stream.destroyed || signal?.aborted === true) finish();
  });
}
