/**
 * A room: everyone who follows one feed, and how far each has come.
 *
 * H1 Those at the head have all seen the same: they share one frame per flush, its bytes made once.
 * H2 Everyone else is a laggard: it reads its own pages from the store until it has seen what the
 *    head has seen, then joins.
 * H3 Between a laggard's last read and its place at the head there is no await, so nothing is
 *    missed and nothing comes twice.
 * H4 Nothing is queued per member: one whose socket is full keeps only its cursor and reads on when
 *    the socket has drained.
 * H5 The head's cursor exists only while someone stands there; the first laggard that reaches the
 *    end of the feed sets it.
 */
import { isAbort, errorMessage } from "../../core/error.ts";
import type { Page } from "../../core/lib/pagination.ts";
import type { Clock, Log } from "../../core/ports/runtime.ts";
import type { ServerFrame } from "../../core/protocol/stream.ts";

/** Where frames go: one socket. `send` must not throw. */
export interface FrameSink {
  send(frame: string | Buffer): void;
  /** Bytes that were sent but have not left this process. */
  buffered(): number;
  close(code: number, reason: string): void;
}

/** One entry of a feed, as the wire shows it. */
export interface FeedItem {
  readonly cursor: number;
  readonly json: string;
}

/**
 * Items after a cursor in ascending order, at most `limit`: a consistent view of what is committed.
 * Empty only at the end.
 */
export type Feed = (after: number, limit: number) => Promise<Page<FeedItem>>;

export interface Subscriber {
  readonly sink: FrameSink;
  /** Ends the whole connection: it does not read what it asked for. */
  readonly tooSlow: () => void;
  /** Meaningful only while it is a laggard; at the head the room's cursor counts. */
  cursor: number;
  live: boolean;
}

export interface ChannelContext {
  readonly clock: Clock;
  readonly log: Pick<Log, "warn">;
  /** Aborted when the hub closes. */
  readonly signal: AbortSignal;
  /** A member that is behind and whose socket takes nothing for this long is too slow. */
  readonly stallMs: number;
  /** Least time between two frames of one room, in ms; the first after a rest goes at once. */
  readonly gapMs: number;
}

/** Items per read, and so per frame (rule F5). */
const PAGE_ITEMS = 1_000;
/** A frame is closed when it has grown to this. A single item may be larger. */
const FRAME_BYTES = 256 * 1024;
/** Above this a socket is not fed. */
const SOFT_BYTES = 1024 * 1024;
/** A full socket is fed again below this. */
const LOW_BYTES = 256 * 1024;
/** Above this a socket is cut. */
const HARD_BYTES = 8 * 1024 * 1024;
/** Above this a socket gets no deltas: they are the first to go (rule F4). */
const DELTA_BYTES = 64 * 1024;
/** Most text of one delta frame, in characters. */
const DELTA_TEXT = 64 * 1024;
const DRAIN_MS = { first: 10, longest: 250 };
const RETRY_MS = 1_000;

export class Channel {
  readonly #topic: string;
  readonly #feed: Feed;
  readonly #context: ChannelContext;
  readonly #members = new Set<Subscriber>();
  readonly #head = new Set<Subscriber>();
  #cursor: number | null = null;
  #dirty = false;
  #pumping = false;
  #delta: { readonly messageId: string; text: string } | null = null;
  #whispering = false;

  constructor(topic: string, feed: Feed, context: ChannelContext) {
    this.#topic = topic;
    this.#feed = feed;
    this.#context = context;
  }

  get empty(): boolean {
    return this.#members.size === 0;
  }

  /** From now on the member gets everything after its cursor. */
  join(member: Subscriber): void {
    this.#members.add(member);
    void this.#catchUp(member);
  }

  /** Idempotent. */
  leave(member: Subscriber): void {
    member.live = false;
    this.#members.delete(member);
    this.#stepDown(member);
  }

  /**
   * The feed may have grown. Cheap to call: many calls within one gap are one read and one frame.
   */
  notify(seq?: number): void {
    if (this.#cursor === null || (seq !== undefined && seq <= this.#cursor)) return;
    this.#dirty = true;
    if (!this.#pumping) void this.#pump();
  }

  /** Text on its way to the screen, for those at the head whose socket is nearly empty. */
  publishDelta(messageId: string, text: string): void {
    if (this.#cursor === null) return;
    if (this.#delta !== null && this.#delta.messageId !== messageId) this.#sendDelta();
    if (this.#delta === null) this.#delta = { messageId, text: text.slice(0, DELTA_TEXT) };
    else if (this.#delta.text.length + text.length <= DELTA_TEXT) this.#delta.text += text;
    if (!this.#whispering) void this.#pumpDeltas();
  }

  // ---------------------------------------------------------------- the head

  async #pump(): Promise<void> {
    const { clock, log, signal, gapMs } = this.#context;
    this.#pumping = true;
    try {
      while (this.#dirty) {
        this.#dirty = false;
        // The poll tries again; until then the members only wait.
        await this.#flush().catch((error: unknown) =>
          log.warn({ topic: this.#topic, error: errorMessage(error) }, "a feed could not be read"),
        );
        await clock.sleep(gapMs, signal);
      }
    } catch (error) {
      if (!isAbort(error)) throw error;
    } finally {
      this.#pumping = false;
    }
  }

  async #flush(): Promise<void> {
    for (;;) {
      const from = this.#cursor;
      if (from === null) return;
      const { items, more } = await this.#feed(from, PAGE_ITEMS);
      if (this.#cursor !== from) continue;
      if (items.length > 0) this.#sendDelta();
      for (const frame of framesOf(this.#topic, items)) {
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
    for (const member of this.#head) {
      if (member.sink.buffered() <= SOFT_BYTES) {
        member.sink.send(bytes);
      } else if (cursor !== null) {
        member.cursor = cursor;
        this.#stepDown(member);
        void this.#catchUp(member);
      }
    }
  }

  #stepDown(member: Subscriber): void {
    this.#head.delete(member);
    if (this.#head.size === 0) this.#cursor = null;
  }

  async #pumpDeltas(): Promise<void> {
    const { clock, signal, gapMs } = this.#context;
    this.#whispering = true;
    try {
      while (this.#delta !== null) {
        this.#sendDelta();
        await clock.sleep(gapMs, signal);
      }
    } catch (error) {
      if (!isAbort(error)) throw error;
    } finally {
      this.#whispering = false;
    }
  }

  #sendDelta(): void {
    const delta = this.#delta;
    if (delta === null) return;
    this.#delta = null;
    const frame: ServerFrame = { type: "delta", topic: this.#topic, messageId: delta.messageId, text: delta.text };
    const bytes = Buffer.from(JSON.stringify(frame));
    for (const { sink } of this.#head) if (sink.buffered() <= DELTA_BYTES) sink.send(bytes);
  }

  // ---------------------------------------------------------------- laggards

  async #catchUp(member: Subscriber): Promise<void> {
    const { clock, log, signal, gapMs } = this.#context;
    while (member.live && !signal.aborted) {
      try {
        if (!(await this.#drained(member))) return;
        const from = member.cursor;
        const { items, more } = await this.#feed(from, PAGE_ITEMS);
        if (!member.live || this.#advance(member, items, !more)) return;
        // Also the turn of everyone else: a long log is read in pages.
        await clock.sleep(member.cursor === from ? gapMs : 0, signal);
      } catch (error) {
        if (isAbort(error)) return;
        log.warn({ topic: this.#topic, error: errorMessage(error) }, "a feed could not be read");
        await clock.sleep(RETRY_MS, signal).catch(() => undefined);
      }
    }
  }

  /**
   * Sends what was read and takes the member to the head if that is where it now is. Without an
   * await (H3). @returns true at the head.
   */
  #advance(member: Subscriber, items: readonly FeedItem[], atEnd: boolean): boolean {
    const head = this.#cursor;
    // What is beyond the head comes to everyone with the next flush.
    const mine = head === null ? items : items.filter((item) => item.cursor <= head);
    for (const frame of framesOf(this.#topic, mine)) {
      if (member.sink.buffered() > SOFT_BYTES) return false;
      member.sink.send(frame.bytes);
      member.cursor = frame.cursor;
    }
    if (head === null) {
      if (!atEnd) return false;
    } else if (mine.length < items.length && member.cursor < head) {
      // The read saw beyond the head, so it saw all that is before it.
      member.cursor = head;
    } else if (member.cursor !== head) {
      this.notify();
      return false;
    }
    this.#head.add(member);
    this.#cursor = member.cursor;
    // A hint that came while nobody stood at the head was not heard.
    if (head === null) this.notify();
    return true;
  }

  /** Waits until the socket can be fed. False when the member left or was cut. */
  async #drained(member: Subscriber): Promise<boolean> {
    const { clock, signal, stallMs } = this.#context;
    let last = member.sink.buffered();
    if (last <= SOFT_BYTES) return member.live;
    let movedAt = clock.now();
    for (let pause = DRAIN_MS.first; member.live; pause = Math.min(pause * 2, DRAIN_MS.longest)) {
      const now = member.sink.buffered();
      if (now <= LOW_BYTES) return true;
      if (now < last) {
        movedAt = clock.now();
        pause = DRAIN_MS.first;
      }
      last = now;
      if (now > HARD_BYTES || clock.now() - movedAt >= stallMs) {
        member.tooSlow();
        return false;
      }
      await clock.sleep(pause, signal);
    }
    return false;
  }
}

/**
 * `events` frames of items in order, each closed when it is large enough; made one by one, as they
 * are asked for.
 */
function* framesOf(
  topic: string,
  items: readonly FeedItem[],
): Generator<{ readonly bytes: Buffer; readonly cursor: number }> {
  const opening = `{"type":"events","topic":${JSON.stringify(topic)},"items":[`;
  let parts: string[] = [];
  let size = 0;
  for (const [index, item] of items.entries()) {
    parts.push(item.json);
    size += item.json.length;
    if (size < FRAME_BYTES && index < items.length - 1) continue;
    yield { bytes: Buffer.from(`${opening}${parts.join(",")}],"cursor":${item.cursor}}`), cursor: item.cursor };
    parts = [];
    size = 0;
  }
}
