/**
 * Single-flight: concurrent callers with the same key share one run. Aborting one caller does not
 * cancel the run for the others.
 */
import { raceAbort } from "./async.ts";

type OnProgress = (text: string) => void;

interface Run<T> {
  readonly done: Promise<T>;
  readonly listeners: Set<OnProgress>;
  lastProgress: string | null;
}

export interface SingleFlight<T> {
  /**
   * Joins the run of the key, or starts one. A caller that joins later receives the latest progress
   * at once. Settles like the run, or rejects with the reason of the caller's signal.
   */
  join(
    key: string,
    work: (onProgress: OnProgress) => Promise<T>,
    onProgress: OnProgress,
    signal: AbortSignal,
  ): Promise<T>;
}

export function createSingleFlight<T>(): SingleFlight<T> {
  const runs = new Map<string, Run<T>>();

  function start(key: string, work: (onProgress: OnProgress) => Promise<T>): Run<T> {
    const listeners = new Set<OnProgress>();
    const publish = (text: string): void => {
      run.lastProgress = text;
      for (const listener of listeners) listener(text);
    };
    const done = Promise.resolve()
      .then(() => work(publish))
      .finally(() => runs.delete(key));
    const run: Run<T> = { done, listeners, lastProgress: null };
    runs.set(key, run);
    return run;
  }

  return {
    async join(key, work, onProgress, signal) {
      signal.throwIfAborted();
      const { done, listeners, lastProgress } = runs.get(key) ?? start(key, work);
      // A new function per call: two callers may pass the same one, and a set would hold it once.
      const listener: OnProgress = (text) => onProgress(text);
      if (lastProgress !== null) onProgress(lastProgress);
      listeners.add(listener);
      try {
        return await raceAbort(done, signal);
      } finally {
        listeners.delete(listener);
      }
    },
  };
}
