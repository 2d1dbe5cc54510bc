/**
 * The event log of a task in this page: watched through the SDK, folded into a conversation.
 *
 * E1 Subscribers are notified at most once per frame, so that 2,000 events cost a few renders; less
 *    often while a long log comes in.
 * E2 A log stays for a while after its last reader left: going back shows it at once, and the watch
 *    continues after the last event.
 * E3 What was seen is kept on the device: a log begins with that, with and without a network.
 * E4 The page holds the begin and the end of a long log; what is between comes back on request. The
 *    view in which it goes or comes back differs in nothing else, so that a list keeps its place.
 * E5 A list that learns the height of what stands above the screen corrects the scroll position by
 *    it. While the end is followed, which scrolls too, a view waits for a frame without that.
 * E6 A log begins with its ends: the newest events are there first, however long it is. What is
 *    between comes as in E4.
 */
import { useEffect, useSyncExternalStore } from "react";
import type { ConnectionState } from "../../../../src/client/watch.ts";
import type { WireEvent } from "../../../../src/core/protocol/events.ts";
import { client, problemText } from "../client.ts";
import { ConversationFold, type Conversation } from "./conversation.ts";
import { keepEnds, keepEvents, readLog, type KeptLog } from "../device/kept.ts";
import { PAGE, readEnds } from "./ends.ts";
import { session } from "../session.ts";
import { isSettled } from "../tasks/task-view.ts";

export interface LogView {
  readonly seq: number;
  readonly conversation: Conversation;
  /** The text of the message that is being written. */
  readonly streaming: { readonly id: string; readonly text: string } | null;
  readonly connection: ConnectionState["kind"] | "ended" | "connecting";
  readonly problem: string | null;
}

/** What the log has to know of the list that shows it. */
export interface ShownList {
  /** Whether somebody reads what could be left out, which stays then. */
  readonly isRead: () => boolean;
  readonly isFollowing: () => boolean;
  /** False = the heights of parts of it are learnt in this frame. */
  readonly isMeasured: () => boolean;
}

const NO_LIST: ShownList = { isRead: () => false, isFollowing: () => false, isMeasured: () => true };

const KEEP_MS = 5 * 60_000;
const RATE_HIDDEN_MS = 1_000;
/** More events than this since the last notification are a log that comes in. */
const BULK_EVENTS = 200;
const RATE_BULK_MS = 150;
/** New events are kept in batches: after this many, or this time. */
const KEEP_EVENTS = 500;
const KEEP_AFTER_MS = 400;
/** The most frames that a view waits for a list that measures. */
const MEASURING_FRAMES = 30;
/** Blocks beyond those of a long log that stay while somebody reads among them. */
const HELD_BLOCKS = 5_000;

class EventLog {
  readonly #id: string;
  readonly #key: string;
  #fold = new ConversationFold();
  readonly #listeners = new Set<() => void>();
  #seq = 0;
  /** The last event left the task open. */
  #isOpen = true;
  #streaming: LogView["streaming"] = null;
  #connection: LogView["connection"] = "connecting";
  #problem: string | null = null;
  #view: LogView;
  #stop: AbortController | null = null;
  #isScheduled = false;
  /** Something came after the view that is about to be shown was built. */
  #isMissed = false;
  #isBulk = false;
  #list: ShownList = NO_LIST;
  /** Of the next view. */
  #change: (() => boolean) | null = null;
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
    if (this.#seq === 0) await this.#begin(signal);
    const events = client.watch(this.#id, {
      after: this.#seq,
      isOpen: this.#isOpen,
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
      this.#fold.add(event);
      this.#seq = event.seq;
      this.#isOpen = !isSettled({ state: event.to });
      this.#keep(event);
      if (event.type === "message" || event.type === "task.state") this.#streaming = null;
      this.#notify();
    }
    this.#connection = "ended";
    this.#notify();
  }

  /** Shows what the device kept, then the ends of a log that is much longer by now (E6). */
  async #begin(signal: AbortSignal): Promise<void> {
    const kept = await readLog(this.#id);
    signal.throwIfAborted();
    this.#open(kept);
    // Without an answer the watch goes on from what is there, and says why it cannot.
    const ends = await readEnds(this.#id, this.#seq, signal).catch(() => null);
    signal.throwIfAborted();
    if (ends === null) return;
    this.#open(ends);
    void keepEnds(this.#id, ends);
  }

  #open({ begin, run }: KeptLog): void {
    const last = run.at(-1);
    if (last === undefined) return;
    this.#fold = new ConversationFold();
    this.#fold.open(begin, run);
    this.#seq = last.seq;
    this.#isOpen = !isSettled({ state: last.to });
    this.#notify();
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

  show(list: ShownList): void {
    this.#list = list;
  }

  /** Brings back the end of what was left out. @throws what the read throws. */
  async showEarlier(): Promise<void> {
    const { missing } = this.#fold;
    if (missing === null) return;
    const events = await this.#readBefore(missing);
    // Unless it came back meanwhile, or more was left out.
    this.#change = () => this.#fold.missing === missing && (this.#fold.restore(events), true);
    this.#notify();
  }

  async #readBefore(seq: number): Promise<readonly WireEvent[]> {
    try {
      const { items } = await client.events(this.#id, { before: seq, limit: PAGE });
      return items.toReversed();
    } catch (thrown) {
      const kept = (await readLog(this.#id)).run.filter((event) => event.seq < seq);
      if (kept.at(-1)?.seq !== seq - 1) throw thrown;
      return kept.slice(-PAGE);
    }
  }

  #notify(): void {
    this.#isMissed = true;
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    this.#later(() => this.#publish());
  }

  /** Shows what is new, then in a view of its own what goes or comes back (E4). */
  #publish(): void {
    if (this.#list.isFollowing()) this.#whenMeasured(() => this.#publishNow());
    else this.#publishNow();
  }

  #publishNow(): void {
    this.#isBulk = this.#seq - this.#view.seq > BULK_EVENTS;
    this.#show(this.#build());
    const change = this.#change ?? (() => this.#fold.trim(() => (this.#list.isRead() ? HELD_BLOCKS : 0)));
    this.#change = null;
    this.#isScheduled = change();
    if (!this.#isScheduled) return;
    const changed = this.#build();
    this.#isMissed = false;
    inFrame(() =>
      this.#whenMeasured(() => {
        this.#isScheduled = false;
        this.#show(changed);
        if (this.#isMissed) this.#notify();
      }),
    );
  }

  /** In a frame in which the list measures nothing (E5). */
  #whenMeasured(work: () => void, frames = MEASURING_FRAMES): void {
    if (frames === 0 || document.visibilityState !== "visible" || this.#list.isMeasured()) work();
    else inFrame(() => this.#whenMeasured(work, frames - 1));
  }

  #show(view: LogView): void {
    this.#view = view;
    for (const listener of this.#listeners) listener();
  }

  #later(work: () => void): void {
    if (this.#isBulk && document.visibilityState === "visible") setTimeout(work, RATE_BULK_MS);
    else inFrame(work);
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

/** There are no frames while the page is hidden. */
function inFrame(work: () => void): void {
  if (document.visibilityState === "visible") requestAnimationFrame(work);
  else setTimeout(work, RATE_HIDDEN_MS);
}

/** By person and task: the next person on this device begins with an empty page. */
const logs = new Map<string, EventLog>();
addEventListener("pagehide", () => {
  for (const log of logs.values()) log.keepNow();
});

function keyOf(id: string): string {
  const state = session.get();
  return `${state.kind === "active" ? state.user.id : ""} ${id}`;
}

function getLog(id: string): EventLog {
  const key = keyOf(id);
  const known = logs.get(key);
  if (known !== undefined) return known;
  const log = new EventLog(id, key);
  logs.set(key, log);
  return log;
}

/** Brings back the end of what the view of the log leaves out. */
export const showEarlier = (id: string): Promise<void> => getLog(id).showEarlier();

export const showLog = (id: string, list: ShownList | null): void => logs.get(keyOf(id))?.show(list ?? NO_LIST);

export function useEventLog(id: string, onSeq?: (seq: number) => void): LogView {
  const log = getLog(id);
  const view = useSyncExternalStore(log.subscribe, log.view);
  useEffect(() => onSeq?.(view.seq), [onSeq, view.seq]);
  return view;
}
