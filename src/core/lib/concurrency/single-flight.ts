/**
 * Single-flight: concurrent callers with the same key share one run of the work. Aborting one
 * caller does not cancel the run for the others.
 */
import { raceAbort } from "./async.ts";

type Report = (text: string) => void;

interface Run<T> {
  readonly done: Promise<T>;
  readonly listeners: Set<Report>;
  lastReport: string | null;
}

export interface SingleFlight<T> {
  /**
   * Joins the run of the key, or starts one. A caller that joins late receives the last progress
   * report at once. Rejects as the work does, or with the reason of `signal`.
   */
  join(key: string, work: (report: Report) => Promise<T>, report: Report, signal: AbortSignal): Promise<T>;
}

export function createSingleFlight<T>(): SingleFlight<T> {
  const runs = new Map<string, Run<T>>();

  function start(key: string, work: (report: Report) => Promise<T>): Run<T> {
    const listeners = new Set<Report>();
    const reportToAll = (text: string): void => {
      run.lastReport = text;
      for (const listener of listeners) listener(text);
    };
    const done = Promise.resolve()
      .then(() => work(reportToAll))
      .finally(() => runs.delete(key));
    const run: Run<T> = { done, listeners, lastReport: null };
    runs.set(key, run);
    return run;
  }

  return {
    async join(key, work, report, signal) {
      signal.throwIfAborted();
      const { done, listeners, lastReport } = runs.get(key) ?? start(key, work);
      // A new function per caller, because two callers may pass the same one.
      const listener: Report = (text) => report(text);
      if (lastReport !== null) report(lastReport);
      listeners.add(listener);
      try {
        return await raceAbort(done, signal);
      } finally {
        listeners.delete(listener);
      }
    },
  };
}
