/**
 * Work that several callers want at the same time is done once. Whoever gives up leaves the others
 * theirs.
 */
import { raceAbort } from "./async.ts";

type Tell = (text: string) => void;

interface Running<T> {
  readonly done: Promise<T>;
  readonly listeners: Set<Tell>;
  last: string | null;
}

export interface SingleFlight<T> {
  /**
   * Joins the work of that key, or begins it. Who comes late is told the last word at once. Rejects
   * as the work does, or with the signal's reason.
   */
  join(key: string, work: (tell: Tell) => Promise<T>, tell: Tell, signal: AbortSignal): Promise<T>;
}

export function createSingleFlight<T>(): SingleFlight<T> {
  const running = new Map<string, Running<T>>();

  function begin(key: string, work: (tell: Tell) => Promise<T>): Running<T> {
    const listeners = new Set<Tell>();
    const said = (text: string): void => {
      mine.last = text;
      for (const listener of listeners) listener(text);
    };
    const done = Promise.resolve()
      .then(() => work(said))
      .finally(() => running.delete(key));
    const mine: Running<T> = { done, listeners, last: null };
    running.set(key, mine);
    return mine;
  }

  return {
    async join(key, work, tell, signal) {
      signal.throwIfAborted();
      const { done, listeners, last } = running.get(key) ?? begin(key, work);
      // A function of its own per caller: two may have given the same one.
      const mine: Tell = (text) => tell(text);
      if (last !== null) tell(last);
      listeners.add(mine);
      try {
        return await raceAbort(done, signal);
      } finally {
        listeners.delete(mine);
      }
    },
  };
}
