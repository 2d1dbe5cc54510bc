/**
 * The event log of a task in this page: watched through the SDK, folded into a conversation.
 *
 * E1 Subscribers are notified at most once per frame, so that 2,000 events cost a few renders; less
 *    often while a long log comes in.
 * E2 A log stays for a while after its last reader left: going back shows it at once, and the watch
 *    continues after the last event.
 * E3 What was seen is kept on the device: a log begins with that, with and without a network.
 */
import { useEffect, useSyncExternalStore } from "react";
import type { ConnectionState } from "../../../../src/client/watch.ts";
import type { WireEvent } from "../../../../src/core/protocol/events.ts";
import { client, problemText } from "../client.ts";
import { ConversationFold, type Conversation } from "./conversation.ts";
import { keepEvents, readLog } from "../device/kept.ts";
import { session } from "../session.ts";

export interface LogView {
  readonly seq: number;
  readonly conversation: Conversation;
  /** The text of the message that is being written. */
  readonly streaming: { readonly id: string; readonly text: string } | null;
  readonly connection: ConnectionState["kind"] | "ended" | "connecting";
  readonly problem: string | null;
}

const KEEP_MS = 5 * 60_000;
const RATE_HIDDEN_MS = 1_000;
/** More events than this since the last notification are a log that comes in. */
const BULK_EVENTS = 200;
const RATE_BULK_MS = 150;
/** New events are kept in batches: after this many, or this time. */
const KEEP_EVENTS = 500;
const KEEP_AFTER_MS = 400;

class EventLog {
  readonly #id: string;
  readonly #key: string;
  readonly #fold = new ConversationFold();
  readonly #listeners = new Set<() => void>();
  #seq = 0;
  #streaming: LogView["streaming"] = null;
  #connection: LogView["connection"] = "connecting";
  #problem: string | null = null;
  #view: LogView;
  #stop: AbortController | null = null;
  #isScheduled = false;
  #isBulk = false;
  #expiry: ReturnType<typeof setTimeout> | undefined;
  #unkept: WireEvent[] = [];
  #keeping: ReturnType<typeof setTimeout> | undefined;

  /** @param key where it is listed. */
  constructor(id: string, key: string) {
    this.#id = id;
    this.#key = key;
    this.#view = this.#build();
  }

  readonly view = (): LogView => this.#view;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    clearTimeout(this.#expiry);
    if (this.#stop === null && this.#connection !== "ended") this.#start();
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) this.#expiry = setTimeout(() => this.#expire(), KEEP_MS);
    };
  };

  /** Ends the watch; the next subscription begins a new one, from the start of the log. */
  #expire(): void {
    this.#stop?.abort();
    this.#stop = null;
    logs.delete(this.#key);
  }

  #start(): void {
    const stop = new AbortController();
    this.#stop = stop;
    this.#problem = null;
    void this.#watch(stop.signal).catch((thrown: unknown) => {
      if (stop.signal.aborted) return;
      this.#problem = problemText(thrown);
      this.#stop = null;
      this.#notify();
    });
  }

  async #watch(signal: AbortSignal): Promise<void> {
    if (this.#seq === 0) {
      for (const event of await readLog(this.#id)) this.#add(event);
      signal.throwIfAborted();
      if (this.#seq > 0) this.#notify();
    }
    const events = client.watch(this.#id, {
      after: this.#seq,
      signal,
      onDelta: ({ messageId, text }) => {
        if (this.#fold.addLive(messageId, text)) return this.#notify();
        const current = this.#streaming?.id === messageId ? this.#streaming.text : "";
        this.#streaming = { id: messageId, text: current + text };
        this.#notify();
      },
      onConnection: ({ kind }) => {
        this.#connection = kind;
        this.#notify();
      },
    });
    for await (const event of events) {
      this.#add(event);
      this.#keep(event);
      if (event.type === "message" || event.type === "task.state") this.#streaming = null;
      this.#notify();
    }
    this.#connection = "ended";
    this.#notify();
  }

  #add(event: WireEvent): void {
    this.#fold.add(event);
    this.#seq = event.seq;
  }

  #keep(event: WireEvent): void {
    this.#unkept.push(event);
    if (this.#unkept.length >= KEEP_EVENTS) this.keepNow();
    else this.#keeping ??= setTimeout(() => this.keepNow(), KEEP_AFTER_MS);
  }

  keepNow(): void {
    clearTimeout(this.#keeping);
    this.#keeping = undefined;
    if (this.#unkept.length > 0) void keepEvents(this.#id, this.#unkept.splice(0));
  }

  #notify(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    const publish = (): void => {
      this.#isScheduled = false;
      this.#isBulk = this.#seq - this.#view.seq > BULK_EVENTS;
      this.#view = this.#build();
      for (const listener of this.#listeners) listener();
    };
    if (document.visibilityState !== "visible") setTimeout(publish, RATE_HIDDEN_MS);
    else if (this.#isBulk) setTimeout(publish, RATE_BULK_MS);
    else requestAnimationFrame(publish);
  }

  #build(): LogView {
    return {
      seq: this.#seq,
      conversation: this.#fold.get(),
      streaming: this.#streaming,
      connection: this.#connection,
      problem: this.#problem,
    };
  }
}

/** By person and task: the next person on this device begins with an empty page. */
const logs = new Map<string, EventLog>();
addEventListener("pagehide", () => {
  for (const log of logs.values()) log.keepNow();
});

function getLog(id: string): EventLog {
  const state = session.get();
  const key = `${state.kind === "active" ? state.user.id : ""} ${id}`;
  const known = logs.get(key);
  if (known !== undefined) return known;
  const log = new EventLog(id, key);
  logs.set(key, log);
  return log;
}

export function useEventLog(id: string, onSeq?: (seq: number) => void): LogView {
  const log = getLog(id);
  const view = useSyncExternalStore(log.subscribe, log.view);
  useEffect(() => onSeq?.(view.seq), [onSeq, view.seq]);
  return view;
}
