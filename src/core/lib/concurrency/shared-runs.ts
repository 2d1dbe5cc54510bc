/**
 * One run per key that several callers wait for, and that outlives them for a short time.
 *
 * - A caller that is aborted leaves; the run goes on for `lingerMs`, and the next caller joins it.
 * - A run that nobody has joined by then is aborted.
 */
import { raceAbort } from "./async.ts";

type Report = (text: string) => void;

interface Run {
  readonly work: Promise<void>;
  readonly stop: AbortController;
  readonly reports: Set<Report>;
  linger: NodeJS.Timeout | undefined;
}

export class SharedRuns {
  readonly #lingerMs: number;
  readonly #runs = new Map<string, Run>();
  #isClosed = false;

  constructor(lingerMs: number) {
    this.#lingerMs = lingerMs;
  }

  isRunning(key: string): boolean {
    return this.#runs.has(key);
  }

  /**
   * Joins the run of that key, or starts one. Settles like the run, or rejects with the signal's
   * reason. Progress goes to all callers.
   */
  async join(
    key: string,
    start: (signal: AbortSignal, report: Report) => Promise<void>,
    signal: AbortSignal,
    report: Report = () => undefined,
  ): Promise<void> {
    signal.throwIfAborted();
    let ending = this.#runs.get(key);
    for (; ending?.stop.signal.aborted; ending = this.#runs.get(key))
      await raceAbort(
        ending.work.catch(() => undefined),
        signal,
      );
    const run = ending ?? this.#start(key, start);
    clearTimeout(run.linger);
    // A function of its own: two callers may pass the same one.
    const listener: Report = (text) => report(text);
    run.reports.add(listener);
    try {
      await raceAbort(run.work, signal);
    } finally {
      run.reports.delete(listener);
      if (run.reports.size === 0 && this.#runs.get(key) === run)
        run.linger = setTimeout(() => run.stop.abort(), this.#lingerMs).unref();
    }
  }

  #start(key: string, start: (signal: AbortSignal, report: Report) => Promise<void>): Run {
    const stop = new AbortController();
    const reports = new Set<Report>();
    const announce: Report = (text) => {
      for (const report of reports) report(text);
    };
    const work = start(stop.signal, announce).finally(() => {
      clearTimeout(this.#runs.get(key)?.linger);
      this.#runs.delete(key);
    });
    const run: Run = { work, stop, reports, linger: undefined };
    this.#runs.set(key, run);
    if (this.#isClosed) stop.abort();
    return run;
  }

  /** Aborts all runs and waits for their end. Later runs are aborted at once. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const runs = [...this.#runs.values()];
    for (const { stop } of runs) stop.abort();
    await Promise.allSettled(runs.map(({ work }) => work));
  }
}
