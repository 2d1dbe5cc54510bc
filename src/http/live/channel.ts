/**
 * A channel: the subscribers of one feed and how far each has read.
 *
 * H1 Subscribers at the tail have seen the same items: they share one frame per flush, which is
 *    encoded once.
 * H2 A subscriber that is catching up reads its own pages from the store until it has seen what the
 *    tail has seen, then joins the tail.
 * H3 Between the last read of such a subscriber and its place at the tail there is no await, so it
 *    misses no item and sees none twice.
 * H4 Nothing is queued per subscriber: one whose socket is full keeps only its cursor and reads on
 *    when the socket has drained.
 * H5 The tail has a cursor only while a subscriber is there; the first subscriber that reaches the
 *    end of the feed sets it.
 * H6 A delta waits while an item that came before it is not yet sent, and is dropped when one of
 *    those ends its text. So what is drawn last belongs last.
 */
import { isAbort, errorMessage } from "../../core/error.ts";
import type { LoopTurns } from "../../core/lib/concurrency/loop-turns.ts";
import type { Page } from "../../core/lib/pagination.ts";
import type { Clock, Log } from "../../core/ports/runtime.ts";
import type { ServerFrame } from "../../core/protocol/stream.ts";
import { encodeEvents, encodeFrame, type FeedItem } from "./frames.ts";

/** The sending half of one socket. `send` must not throw. */
export interface FrameSink {
  send(frame: Buffer): void;
  /** Bytes passed to `send` that this process still holds. */
  buffered(): number;
  close(code: number, reason: string): void;
}

/**
 * Reads at most `limit` items after a cursor in ascending order, as one consistent view of what is
 * committed. The page is empty only at the end of the feed.
 */
export type Feed = (after: number, limit: number) => Promise<Page<FeedItem>>;

/** At the tail the cursor of the channel is the subscriber's cursor. */
export type SubscriberPosition =
  | { readonly state: "catching_up"; readonly cursor: number }
  | { readonly state: "tail" }
  | { readonly state: "left" };

export interface Subscriber {
  /** The person: their subscribers take turns at reading pages of their own. */
  readonly owner: string;
  readonly sink: FrameSink;
  /** Ends the whole connection, because its client does not read. */
  readonly tooSlow: () => void;
  /** Ends the subscription: its topic is gone. */
  readonly ended: () => void;
  /** `left` is final. */
  position: SubscriberPosition;
}

export interface ChannelContext {
  readonly clock: Clock;
  readonly log: Pick<Log, "warn">;
  readonly turns: LoopTurns;
  /** Aborted when the hub closes. */
  readonly signal: AbortSignal;
  /** A subscriber whose full socket drains nothing for this long is too slow. */
  readonly stallMs: number;
  /**
   * Least time between two frames of the channel, in ms; the first after a pause is sent at once.
   */
  readonly gapMs: number;
}

/** Maximum items per read, and so per frame (rule F5). */
const PAGE_ITEMS = 1_000;
/** No frame is sent to a socket that holds more bytes than this. */
const SOFT_BYTES = 1024 * 1024;
/** Sending to a full socket resumes at this many bytes. */
const LOW_BYTES = 256 * 1024;
/** A connection that holds more bytes than this is closed. */
const HARD_BYTES = 8 * 1024 * 1024;
/** No delta is sent to a socket that holds more bytes than this (rule F4). */
const DELTA_BYTES = 64 * 1024;
/** Characters of one delta frame at most, and how many texts wait at most. */
const DELTA_TEXT = 64 * 1024;
const DELTA_TEXTS = 100;
const DRAIN_MS = { first: 10, longest: 250 };
const RETRY_MS = 1_000;

export class Channel {
  readonly #topic: string;
  readonly #feed: Feed;
  readonly #context: ChannelContext;
  readonly #subscribers = new Set<Subscriber>();
  readonly #tail = new Set<Subscriber>();
  /** Null while the tail is empty (H5). */
  #cursor: number | null = null;
  #dirty = false;
  #flushing = false;
  #reading = false;
  /** Text that waits to be sent, by message. */
  readonly #deltas = new Map<string, string>();
  #sendingDeltas = false;

  constructor(topic: string, feed: Feed, context: ChannelContext) {
    this.#topic = topic;
    this.#feed = feed;
    this.#context = context;
  }

  get empty(): boolean {
    return this.#subscribers.size === 0;
  }

  /** Sends everything after the subscriber's cursor until it leaves. */
  join(subscriber: Subscriber): void {
    this.#subscribers.add(subscriber);
    void this.#catchUp(subscriber);
  }

  /** Idempotent. */
  leave(subscriber: Subscriber): void {
    subscriber.position = { state: "left" };
    this.#subscribers.delete(subscriber);
    this.#removeFromTail(subscriber);
  }

  /**
   * Reports that the feed may have grown. Calls within one gap share one read and one frame.
   * @param seq cursor of the newest item, if known.
   */
  notify(seq?: number): void {
    if (this.#cursor === null || (seq !== undefined && seq <= this.#cursor)) return;
    // They came before the new items (H6).
    if (!this.#isBehind) this.#sendDeltas();
    this.#dirty = true;
    if (!this.#flushing) void this.#flushWhileDirty();
  }

  /**
   * Sends text of a message in progress to subscribers at the tail whose socket is nearly empty.
   */
  publishDelta(messageId: string, text: string): void {
    if (this.#cursor === null) return;
    const waiting = this.#deltas.get(messageId);
    if (waiting === undefined && this.#deltas.size >= DELTA_TEXTS) return;
    if (waiting === undefined) this.#deltas.set(messageId, text.slice(0, DELTA_TEXT));
    else if (waiting.length + text.length <= DELTA_TEXT) this.#deltas.set(messageId, waiting + text);
    if (!this.#sendingDeltas) void this.#sendWaitingDeltas();
  }

  /** Ends every subscription. */
  end(): void {
    for (const subscriber of this.#subscribers) subscriber.ended();
  }

  /** Sends a frame that belongs to no place of the feed to every subscriber. */
  broadcast(frame: ServerFrame): void {
    const bytes = encodeFrame(frame);
    for (const { sink } of this.#subscribers) sink.send(bytes);
  }

  // ---------------------------------------------------------------- the tail

  async #flushWhileDirty(): Promise<void> {
    const { clock, log, signal, gapMs } = this.#context;
    this.#flushing = true;
    try {
      while (this.#dirty) {
        this.#dirty = false;
        this.#reading = true;
        // The next poll retries; until then the subscribers wait.
        await this.#flush()
          .catch((error: unknown) =>
            log.warn({ topic: this.#topic, error: errorMessage(error) }, "a feed could not be read"),
          )
          .finally(() => (this.#reading = false));
        if (!this.#sendingDeltas) void this.#sendWaitingDeltas();
        await clock.sleep(gapMs, signal);
      }
    } catch (error) {
      if (!isAbort(error)) throw error;
    } finally {
      this.#flushing = false;
    }
  }

  async #flush(): Promise<void> {
    for (;;) {
      const from = this.#cursor;
      if (from === null) return;
      const { items, more } = await this.#feed(from, PAGE_ITEMS);
      if (this.#cursor !== from) continue;
      this.#dropEnded(items);
      for (const frame of encodeEvents(this.#topic, items)) {
        this.#deliver(frame.bytes);
        if (this.#cursor === null) return;
        this.#cursor = frame.cursor;
      }
      if (!more) return;
      await this.#context.clock.sleep(0, this.#context.signal);
    }
  }

  #deliver(bytes: Buffer): void {
    const cursor = this.#cursor;
    for (const subscriber of this.#tail) {
      if (subscriber.sink.buffered() <= SOFT_BYTES) {
        subscriber.sink.send(bytes);
      } else if (cursor !== null) {
        subscriber.position = { state: "catching_up", cursor };
        this.#removeFromTail(subscriber);
        void this.#catchUp(subscriber);
      }
    }
  }

  #removeFromTail(subscriber: Subscriber): void {
    this.#tail.delete(subscriber);
    if (this.#tail.size === 0) this.#cursor = null;
  }

  /** Items that came before the newest delta may not be sent yet. */
  get #isBehind(): boolean {
    return this.#dirty || this.#reading;
  }

  /** Until none waits, or the end of a flush calls it again. */
  async #sendWaitingDeltas(): Promise<void> {
    const { clock, signal, gapMs } = this.#context;
    this.#sendingDeltas = true;
    try {
      while (this.#deltas.size > 0 && !this.#isBehind) {
        this.#sendDeltas();
        await clock.sleep(gapMs, signal);
      }
    } catch (error) {
      if (!isAbort(error)) throw error;
    } finally {
      this.#sendingDeltas = false;
    }
  }

  #sendDeltas(): void {
    for (const [messageId, text] of this.#deltas) {
      const bytes = encodeFrame({ type: "delta", topic: this.#topic, messageId, text });
      for (const { sink } of this.#tail) if (sink.buffered() <= DELTA_BYTES) sink.send(bytes);
    }
    this.#deltas.clear();
  }

  #dropEnded(items: readonly FeedItem[]): void {
    for (const messageId of this.#deltas.keys()) {
      const id = JSON.stringify(messageId);
      if (items.some(({ endsText, json }) => endsText === true && json.includes(id))) this.#deltas.delete(messageId);
    }
  }

  // ---------------------------------------------------------------- catching up

  async #catchUp(subscriber: Subscriber): Promise<void> {
    const { clock, log, signal, turns, gapMs } = this.#context;
    while (!signal.aborted) {
      try {
        if (!(await this.#waitForDrain(subscriber))) return;
        const from = getCursor(subscriber);
        if (await turns.run(subscriber.owner, () => this.#readPage(subscriber))) return;
        if (getCursor(subscriber) === from) await clock.sleep(gapMs, signal);
      } catch (error) {
        if (isAbort(error)) return;
        log.warn({ topic: this.#topic, error: errorMessage(error) }, "a feed could not be read");
        await clock.sleep(RETRY_MS, signal).catch(() => undefined);
      }
    }
  }

  /** Sends the subscriber's next page. @returns true when it is at the tail or has left. */
  async #readPage(subscriber: Subscriber): Promise<boolean> {
    const from = getCursor(subscriber);
    if (from === null) return true;
    const { items, more } = await this.#feed(from, PAGE_ITEMS);
    const cursor = getCursor(subscriber);
    return cursor === null || this.#advance(subscriber, cursor, items, !more);
  }

  /**
   * Sends the items that were read and moves the subscriber to the tail if it has seen the same
   * items now. Synchronous (H3). @returns true at the tail.
   */
  #advance(subscriber: Subscriber, from: number, items: readonly FeedItem[], atEnd: boolean): boolean {
    const tailCursor = this.#cursor;
    // Items after the tail's cursor are sent to all by the next flush.
    const unseen = tailCursor === null ? items : items.filter((item) => item.cursor <= tailCursor);
    let cursor = from;
    for (const frame of encodeEvents(this.#topic, unseen)) {
      if (subscriber.sink.buffered() > SOFT_BYTES) return false;
      subscriber.sink.send(frame.bytes);
      cursor = frame.cursor;
      subscriber.position = { state: "catching_up", cursor };
    }
    if (tailCursor === null) {
      if (!atEnd) return false;
    } else if (unseen.length < items.length && cursor < tailCursor) {
      // The read saw items after the tail's cursor, so it saw all items before it.
      cursor = tailCursor;
    } else if (cursor !== tailCursor) {
      this.notify();
      return false;
    }
    subscriber.position = { state: "tail" };
    this.#tail.add(subscriber);
    this.#cursor = cursor;
    // Hints are ignored while the tail is empty: one may have come during the read.
    if (tailCursor === null) this.notify();
    return true;
  }

  /** Waits until the socket takes frames. False when the subscriber left or was too slow. */
  async #waitForDrain(subscriber: Subscriber): Promise<boolean> {
    const { clock, signal, stallMs } = this.#context;
    const { sink } = subscriber;
    let last = sink.buffered();
    if (last <= SOFT_BYTES) return hasJoined(subscriber);
    let drainedAt = clock.monotonic();
    for (let pause = DRAIN_MS.first; hasJoined(subscriber); pause = Math.min(pause * 2, DRAIN_MS.longest)) {
      const now = sink.buffered();
      if (now <= LOW_BYTES) return true;
      if (now < last) {
        drainedAt = clock.monotonic();
        pause = DRAIN_MS.first;
      }
      last = now;
      if (now > HARD_BYTES || clock.monotonic() - drainedAt >= stallMs) {
        subscriber.tooSlow();
        return false;
      }
      await clock.sleep(pause, signal);
    }
    return false;
  }
}

function hasJoined({ position }: Subscriber): boolean {
  return position.state !== "left";
}

/** Null when the subscriber is not catching up. */
function getCursor({ position }: Subscriber): number | null {
  return position.state === "catching_up" ? position.cursor : null;
}
