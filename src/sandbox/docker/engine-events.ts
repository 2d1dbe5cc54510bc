/**
 * News of the engine: wakes whoever waits for a container when the engine reports that one ended or
 * went away. News is a hint, not a fact: it may be lost while the stream reconnects, so waiters
 * look for themselves when woken, after each reconnect, and now and then anyway.
 */
import { Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import type { Engine } from "./engine.ts";

export interface EngineEvents {
  /**
   * Resolves at the next hint about `name`, or after `ms`. Rejects with the signal's reason when
   * aborted.
   */
  next(name: string, ms: number, signal: AbortSignal): Promise<void>;
  close(): void;
}

const RECONNECT_MIN_MS = 200;
const RECONNECT_MAX_MS = 5_000;

function nameIn(line: string): string | null {
  try {
    const name: unknown = JSON.parse(line)?.Actor?.Attributes?.name;
    return typeof name === "string" ? name : null;
  } catch {
    return null;
  }
}

/** @param label the containers of interest, `key=value`. Listens from the first `next` on. */
export function openEngineEvents(engine: Engine, label: string): EngineEvents {
  const waiting = new Map<string, Set<() => void>>();
  const closing = new AbortController();
  let started = false;

  function wake(name: string | null): void {
    const sets = name === null ? [...waiting.values()] : [waiting.get(name) ?? new Set<() => void>()];
    for (const set of sets) for (const rouse of set) rouse();
  }

  async function listen(): Promise<void> {
    const filters = { type: ["container" as const], event: ["die", "destroy"], label: [label] };
    const stream = await engine.call((docker, stop) => docker.getEvents({ filters, abortSignal: stop }));
    const source = stream instanceof Readable ? stream : new Readable().wrap(stream);
    const stop = (): void => void source.destroy();
    closing.signal.addEventListener("abort", stop, { once: true });
    if (closing.signal.aborted) stop();
    wake(null);
    let rest = "";
    try {
      for await (const piece of source) {
        const lines = (rest + String(piece)).split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) wake(nameIn(line));
      }
    } finally {
      closing.signal.removeEventListener("abort", stop);
    }
  }

  /** An engine that is away is no error here: the waiters' own look finds out. */
  async function keepListening(): Promise<void> {
    let gap = RECONNECT_MIN_MS;
    while (!closing.signal.aborted) {
      const begun = Date.now();
      await listen().catch(() => undefined);
      gap = Date.now() - begun > RECONNECT_MAX_MS ? RECONNECT_MIN_MS : Math.min(gap * 2, RECONNECT_MAX_MS);
      await delay(gap, undefined, { signal: closing.signal, ref: false }).catch(() => undefined);
    }
  }

  function next(name: string, ms: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (!started) {
      started = true;
      void keepListening();
    }
    return new Promise((resolve, reject) => {
      const set = waiting.get(name) ?? new Set<() => void>();
      waiting.set(name, set);
      const end = (): void => {
        clearTimeout(timer);
        signal.removeEventListener("abort", stop);
        set.delete(rouse);
        if (set.size === 0 && waiting.get(name) === set) waiting.delete(name);
      };
      const rouse = (): void => resolve(end());
      const stop = (): void => {
        end();
        reject(signal.reason);
      };
      const timer = setTimeout(rouse, ms);
      signal.addEventListener("abort", stop, { once: true });
      set.add(rouse);
    });
  }

  return { next, close: () => closing.abort() };
}

/**
 * Asks `look` until it finds something; between two looks it waits for news, which it subscribes to
 * before it looks.
 */
export async function waitUntil<T>(
  news: EngineEvents,
  name: string,
  pollMs: () => number,
  signal: AbortSignal,
  look: () => Promise<T | null>,
): Promise<T> {
  for (;;) {
    const over = new AbortController();
    const hint = news.next(name, pollMs(), AbortSignal.any([signal, over.signal]));
    hint.catch(() => undefined);
    try {
      const found = await look();
      if (found !== null) return found;
      await hint;
    } finally {
      over.abort();
    }
  }
}
