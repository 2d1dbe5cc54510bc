import type { Writable } from "node:stream";
import type { Clock } from "../../ports/runtime.ts";

/**
 * The abort reason for the effect of a state that the task has left. Shared: it carries no data.
 */
export const STATE_LEFT: Error = Object.assign(new Error("the state was left"), { name: "AbortError" });

/** Settles like `work`, or rejects after `ms`. The work itself is not cancelled. */
export function withTimeout<T>(ms: number, work: Promise<T>, clock: Clock): Promise<T> {
  return new Promise((resolve, reject) => {
    const cancel = clock.timer(ms, () => reject(new Error(`it took longer than ${ms} ms`)));
    work.then(resolve, reject).finally(cancel);
  });
}

/**
 * Settles like `work`, or rejects with the signal's reason when that is aborted first. The work
 * itself is not cancelled.
 */
export async function raceAbort<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  work.catch(() => undefined);
  signal.throwIfAborted();
  let onAbort = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason as Error);
    signal.addEventListener("abort", onAbort, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/**
 * Resolves when `work` is done or the signal is aborted, whichever comes first; rejects when `work`
 * rejects before the abort.
 */
export async function ignoreAbort(work: Promise<unknown>, signal: AbortSignal): Promise<void> {
  await raceAbort(work, signal).catch((error: unknown) => {
    if (!signal.aborted) throw error;
  });
}

/**
 * Runs `work` with a signal that is aborted with the first of `signals`. In Node 20 what
 * `AbortSignal.any` returns stays in a list of each source for as long as that lives; this leaves
 * nothing on a source once the work has settled, so it is for sources that outlive many works.
 */
export async function withAnySignal<T>(
  signals: readonly AbortSignal[],
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const any = new AbortController();
  const forward = (event: Event): void => any.abort((event.target as AbortSignal).reason);
  const aborted = signals.find((signal) => signal.aborted);
  if (aborted !== undefined) any.abort(aborted.reason);
  for (const signal of signals) signal.addEventListener("abort", forward, { once: true });
  try {
    return await work(any.signal);
  } finally {
    for (const signal of signals) signal.removeEventListener("abort", forward);
  }
}

/**
 * Runs all works concurrently. The first failure aborts the others. Settles only when all have
 * ended; rejects with the first failure.
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

/**
 * Enqueues work whose signal ends with its wait: an abort takes waiting work out of the queue at
 * once, and is ignored by work that has begun. p-queue by itself lets go of a running job when its
 * signal is aborted.
 * @param enqueue adds `begin` to a queue with the signal `queued`.
 */
export async function untilBegun<T>(
  enqueue: (begin: () => Promise<T>, queued: AbortSignal) => Promise<T>,
  work: () => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  signal.throwIfAborted();
  const queued = new AbortController();
  const leave = (): void => queued.abort(signal.reason);
  signal.addEventListener("abort", leave, { once: true });
  const begin = (): Promise<T> => {
    signal.removeEventListener("abort", leave);
    return work();
  };
  try {
    return await enqueue(begin, queued.signal);
  } finally {
    signal.removeEventListener("abort", leave);
  }
}
