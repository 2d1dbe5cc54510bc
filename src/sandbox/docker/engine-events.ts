/**
 * The engine's event stream as hints: a container ended or was removed.
 *
 * H1 A hint is not a fact. Hints are lost while the stream reconnects, so callers check the state
 *    themselves when notified, after each reconnect (which notifies all), and at an interval.
 */
import { Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import type { Engine } from "./engine.ts";

const RECONNECT_MIN_MS = 200;
const RECONNECT_MAX_MS = 5_000;

/** The container that an event is about; null when the line cannot be parsed. */
function parseContainerName(line: string): string | null {
  try {
    const name: unknown = JSON.parse(line)?.Actor?.Attributes?.name;
    return typeof name === "string" ? name : null;
  } catch {
    return null;
  }
}

export class EngineEvents {
  readonly #engine: Engine;
  readonly #label: string;
  readonly #subscribers = new Map<string, Set<() => void>>();
  readonly #closing = new AbortController();
  #connected = false;

  /** @param label selects containers, `key=value`. The stream opens with the first `next`. */
  constructor(engine: Engine, label: string) {
    this.#engine = engine;
    this.#label = label;
  }

  /**
   * Resolves at the next hint about the container, or after `ms`. Rejects with the reason of
   * `signal` when it aborts.
   */
  next(name: string, ms: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (!this.#connected) {
      this.#connected = true;
      void this.#keepConnected();
    }
    return new Promise((resolve, reject) => {
      const set = this.#subscribers.get(name) ?? new Set<() => void>();
      this.#subscribers.set(name, set);
      const unsubscribe = (): void => {
        clearTimeout(timer);
        signal.removeEventListener("abort", onAbort);
        set.delete(wake);
        if (set.size === 0 && this.#subscribers.get(name) === set) this.#subscribers.delete(name);
      };
      const wake = (): void => resolve(unsubscribe());
      const onAbort = (): void => {
        unsubscribe();
        reject(signal.reason);
      };
      const timer = setTimeout(wake, ms);
      signal.addEventListener("abort", onAbort, { once: true });
      set.add(wake);
    });
  }

  close(): void {
    this.#closing.abort();
  }

  /** @param name null = all subscribers. */
  #notify(name: string | null): void {
    const sets = name === null ? [...this.#subscribers.values()] : [this.#subscribers.get(name) ?? []];
    for (const set of sets) for (const wake of set) wake();
  }

  async #readEvents(): Promise<void> {
    const filters = { type: ["container" as const], event: ["die", "destroy"], label: [this.#label] };
    const stream = await this.#engine.call((docker, stop) => docker.getEvents({ filters, abortSignal: stop }));
    const source = stream instanceof Readable ? stream : new Readable().wrap(stream);
    const stop = (): void => void source.destroy();
    this.#closing.signal.addEventListener("abort", stop, { once: true });
    if (this.#closing.signal.aborted) stop();
    this.#notify(null);
    let rest = "";
    try {
      for await (const piece of source) {
        const lines = (rest + String(piece)).split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) this.#notify(parseContainerName(line));
      }
    } finally {
      this.#closing.signal.removeEventListener("abort", stop);
    }
  }

  /** Errors are dropped: subscribers that poll (H1) see the outage themselves. */
  async #keepConnected(): Promise<void> {
    const { signal } = this.#closing;
    let gap = RECONNECT_MIN_MS;
    while (!signal.aborted) {
      const begun = Date.now();
      await this.#readEvents().catch(() => undefined);
      gap = Date.now() - begun > RECONNECT_MAX_MS ? RECONNECT_MIN_MS : Math.min(gap * 2, RECONNECT_MAX_MS);
      await delay(gap, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }
}

/**
 * Calls `check` until it returns a value: at once, then after each hint and at least every
 * `pollMs`. Subscribes before each check, so a hint that arrives during a check is not missed.
 */
export async function waitUntil<T>(
  events: EngineEvents,
  name: string,
  pollMs: () => number,
  signal: AbortSignal,
  check: () => Promise<T | null>,
): Promise<T> {
  for (;;) {
    const checked = new AbortController();
    const hint = events.next(name, pollMs(), AbortSignal.any([signal, checked.signal]));
    hint.catch(() => undefined);
    try {
      const found = await check();
      if (found !== null) return found;
      await hint;
    } finally {
      checked.abort();
    }
  }
}
