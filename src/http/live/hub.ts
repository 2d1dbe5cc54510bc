/**
 * Turns subscriptions with a cursor into batched frames. A hint carries no data: every frame is
 * built from what the store returns, so a frame contains only committed data (rule F2), and a lost
 * hint costs latency (until the next poll), never data.
 */
import { setMaxListeners } from "node:events";
import { coerceError, isAbort, errorMessage } from "../../core/error.ts";
import type { EventRow } from "../../core/event.ts";
import { LoopTurns } from "../../core/lib/concurrency/loop-turns.ts";
import type { Store } from "../../core/ports/store.ts";
import { Channel, type Feed, type Subscriber, type FrameSink } from "./channel.ts";
import { TEXT_ENDS } from "../../core/protocol/worker.ts";
import { encodeFrame, type FeedItem } from "./frames.ts";
import type { Task } from "../../core/task.ts";
import { toWireEventJson } from "../../core/protocol/mapping.ts";
import type { WireTask } from "../../core/protocol/rest.ts";
import type { Bus, Clock, Log } from "../../core/ports/runtime.ts";
import type { Identity } from "../../core/ports/accounts.ts";
import { CLOSE_CODES } from "../../core/protocol/stream-constants.ts";
import type { ServerFrame } from "../../core/protocol/stream.ts";

export interface HubTiming {
  /** Least time between two frames of a task's log, in ms. */
  readonly logGapMs: number;
  /** The same for task lists, whose items are larger and change with every event of every task. */
  readonly listGapMs: number;
  /** Longest delay, in ms, that a lost hint causes. */
  readonly pollMs: number;
  /** A client whose full socket drains nothing for this long, in ms, is disconnected. */
  readonly stallMs: number;
}
const HUB_TIMING: HubTiming = { logGapMs: 16, listGapMs: 100, pollMs: 3_000, stallMs: 30_000 };

export interface HubDeps {
  readonly store: Pick<Store, "task" | "eventRows" | "changes" | "deletedSince">;
  readonly bus: Pick<Bus, "onHint" | "onDeleted" | "onRead" | "onDelta">;
  /** Converts tasks to their current wire form, in their order. */
  readonly views: (tasks: readonly Task[]) => Promise<readonly WireTask[]>;
  readonly clock: Clock;
  readonly log: Pick<Log, "warn">;
  readonly timing?: Partial<HubTiming>;
}

/** The subscriptions of one socket. */
export interface HubConnection {
  /**
   * Subscribes to a topic after a cursor (null = from its beginning); a second subscription to the
   * same topic replaces the first. Sends a `subscribed` or an `error` frame: `not_found` (also for
   * a topic that the user may not see, and later for a task that is deleted), `invalid_cursor`,
   * `too_many_subscriptions`. Resolves when that frame is sent; never rejects.
   */
  subscribe(topic: string, after: number | null): Promise<void>;
  /** Idempotent; no frame of the topic follows. */
  unsubscribe(topic: string): void;
  /** Idempotent; no frame follows. The caller closes the sink. */
  close(): void;
}

export interface Hub {
  connect(identity: Identity, sink: FrameSink): HubConnection;
  /** Number of channels with subscribers. */
  channels(): number;
  /** Stops all channels. The callers of `connect` close their sinks. */
  close(): void;
}

export const SUBSCRIPTIONS_PER_CONNECTION = 200;
/** Deletions that a list reports at once; a client that missed more reads the list again. */
const DELETIONS = 1_000;
/** Tasks per read of a list: a task takes far more time than an event of a log. */
const LIST_PAGE_ITEMS = 100;
/** Channels polled before the event loop gets a turn. */
const POLL_BATCH = 50;

/**
 * Topics: `task:<id>`, `tasks` (the user's own), `tasks:all` (operators and admins). A key names
 * the channel of a topic; lists have one channel per person, because a person's read marks are
 * changes of their lists alone (rule V11).
 */
const ALL = "all:";
const channelKey = {
  log: (taskId: string) => `task:${taskId}`,
  own: (userId: string) => `own:${userId}`,
  all: (userId: string) => `${ALL}${userId}`,
};

interface FeedDeps extends HubDeps {
  /** True for a task that was deleted a short time ago. */
  readonly isDeleted: (taskId: string) => boolean;
}

interface ChannelTarget {
  readonly key: string;
  readonly feed: Feed;
  readonly gapMs: number;
  /** Of a list: the tasks that were deleted after the cursor. */
  readonly deleted?: readonly string[];
}

export function openHub(deps: HubDeps): Hub {
  return new ChannelHub(deps);
}

class ChannelHub implements Hub {
  readonly #deps: HubDeps;
  readonly #timing: HubTiming;
  readonly #channels = new Map<string, Channel>();
  /** Those of `tasks:all`. */
  readonly #ofAll = new Set<Channel>();
  readonly #turns = new LoopTurns();
  readonly #stopped = new AbortController();
  readonly #unsubscribers: readonly (() => void)[];
  /** The newest deleted tasks: a page of a list that was being read may still have them. */
  readonly #deleted = new Set<string>();

  constructor(deps: HubDeps) {
    const { bus, log } = deps;
    this.#deps = deps;
    this.#timing = { ...HUB_TIMING, ...deps.timing };
    // Every channel that pauses listens to this signal.
    setMaxListeners(0, this.#stopped.signal);
    this.#unsubscribers = [
      bus.onHint(({ taskId, userId, seq }) => {
        this.#channels.get(channelKey.log(taskId))?.notify(seq);
        this.#channels.get(channelKey.own(userId))?.notify();
        for (const channel of this.#ofAll) channel.notify();
      }),
      bus.onRead((userId) => {
        this.#channels.get(channelKey.own(userId))?.notify();
        this.#channels.get(channelKey.all(userId))?.notify();
      }),
      bus.onDeleted(({ taskId, userId }) => this.#endTask(taskId, userId)),
      bus.onDelta(({ taskId, messageId, text }) =>
        this.#channels.get(channelKey.log(taskId))?.publishDelta(messageId, text),
      ),
    ];
    void this.#poll().catch((error: unknown) => {
      if (!isAbort(error)) log.warn({ error: errorMessage(error) }, "the poll of the hub ended");
    });
  }

  #endTask(taskId: string, userId: string): void {
    this.#deleted.add(taskId);
    for (const oldest of this.#deleted) if (this.#deleted.size > DELETIONS) this.#deleted.delete(oldest);
    this.#channels.get(channelKey.log(taskId))?.end();
    const ids = [taskId];
    this.#channels.get(channelKey.own(userId))?.broadcast({ type: "deleted", topic: "tasks", ids });
    for (const channel of this.#ofAll) channel.broadcast({ type: "deleted", topic: "tasks:all", ids });
  }

  connect(identity: Identity, sink: FrameSink): HubConnection {
    const isDeleted = (id: string): boolean => this.#deleted.has(id);
    const resolve = (topic: string, after: number) =>
      resolveTopic({ ...this.#deps, isDeleted }, this.#timing, identity, topic, after);
    const join: JoinChannel = (target, topic, subscriber) => this.#join(target, topic, subscriber);
    return new Subscriptions(identity.userId, sink, resolve, join);
  }

  channels(): number {
    return this.#channels.size;
  }

  close(): void {
    for (const unsubscribe of this.#unsubscribers) unsubscribe();
    this.#stopped.abort();
  }

  #join(target: ChannelTarget, topic: string, subscriber: Subscriber): () => void {
    const channel = this.#channels.get(target.key) ?? this.#openChannel(target, topic);
    channel.join(subscriber);
    return () => {
      channel.leave(subscriber);
      if (!channel.empty || this.#channels.get(target.key) !== channel) return;
      this.#channels.delete(target.key);
      this.#ofAll.delete(channel);
    };
  }

  #openChannel({ key, feed, gapMs }: ChannelTarget, topic: string): Channel {
    const { clock, log } = this.#deps;
    const { signal } = this.#stopped;
    const { stallMs } = this.#timing;
    const channel = new Channel(topic, feed, { clock, log, turns: this.#turns, signal, stallMs, gapMs });
    this.#channels.set(key, channel);
    if (key.startsWith(ALL)) this.#ofAll.add(channel);
    return channel;
  }

  async #poll(): Promise<void> {
    const { clock } = this.#deps;
    const { signal } = this.#stopped;
    for (;;) {
      await clock.sleep(this.#timing.pollMs, signal);
      let polled = 0;
      for (const channel of this.#channels.values()) {
        channel.notify();
        if (++polled % POLL_BATCH === 0) await clock.sleep(0, signal);
      }
    }
  }
}

type ResolveTopic = (topic: string, after: number) => Promise<ChannelTarget | "not_found" | "invalid_cursor">;
/** @returns a function that leaves the channel again; idempotent. */
type JoinChannel = (target: ChannelTarget, topic: string, subscriber: Subscriber) => () => void;

/** The topics of one connection. */
class Subscriptions implements HubConnection {
  readonly #owner: string;
  readonly #sink: FrameSink;
  readonly #resolve: ResolveTopic;
  readonly #join: JoinChannel;
  readonly #topics = new Map<string, { readonly subscriber: Subscriber; leave: () => void }>();
  #state: "open" | "closed" = "open";

  constructor(owner: string, sink: FrameSink, resolve: ResolveTopic, join: JoinChannel) {
    this.#owner = owner;
    this.#sink = sink;
    this.#resolve = resolve;
    this.#join = join;
  }

  async subscribe(topic: string, after: number | null): Promise<void> {
    this.unsubscribe(topic);
    if (this.#topics.size >= SUBSCRIPTIONS_PER_CONNECTION)
      return this.#send({ type: "error", code: "too_many_subscriptions", topic });
    const cursor = after ?? 0;
    const subscriber: Subscriber = {
      owner: this.#owner,
      sink: this.#sink,
      tooSlow: () => this.#closeTooSlow(),
      ended: () => {
        this.unsubscribe(topic);
        this.#send({ type: "error", code: "not_found", topic });
      },
      position: { state: "catching_up", cursor },
    };
    const hasLeft = (): boolean => subscriber.position.state === "left";
    // Registered before the first await, so that the limit holds and a later unsubscribe finds it.
    const entry = { subscriber, leave: (): void => undefined };
    this.#topics.set(topic, entry);
    const target = await this.#resolve(topic, cursor).catch((error: unknown) => coerceError(error).code);
    if (hasLeft()) return;
    if (typeof target === "string") {
      this.unsubscribe(topic);
      return this.#send({ type: "error", code: target, topic });
    }
    this.#send({ type: "subscribed", topic, after });
    const { deleted = [] } = target;
    if (deleted.length > 0 && !hasLeft()) this.#send({ type: "deleted", topic, ids: [...deleted] });
    // Sending may close the connection.
    if (!hasLeft()) entry.leave = this.#join(target, topic, subscriber);
  }

  unsubscribe(topic: string): void {
    const entry = this.#topics.get(topic);
    if (entry === undefined) return;
    this.#topics.delete(topic);
    entry.subscriber.position = { state: "left" };
    entry.leave();
  }

  close(): void {
    this.#state = "closed";
    for (const topic of this.#topics.keys()) this.unsubscribe(topic);
  }

  #closeTooSlow(): void {
    if (this.#state === "closed") return;
    this.close();
    this.#sink.close(CLOSE_CODES.tooSlow, "too slow; reconnect with the last cursor");
  }

  #send(frame: ServerFrame): void {
    if (this.#state === "open") this.#sink.send(encodeFrame(frame));
  }
}

/**
 * Checks that the user may see the topic and that the cursor is one that the server can have sent.
 */
async function resolveTopic(
  deps: FeedDeps,
  timing: HubTiming,
  { userId, role }: Identity,
  topic: string,
  after: number,
): Promise<ChannelTarget | "not_found" | "invalid_cursor"> {
  const { store } = deps;
  const seesAll = role !== "user";
  if (topic === "tasks" || (topic === "tasks:all" && seesAll)) {
    const owner = topic === "tasks" ? userId : null;
    // The task with the rev that was sent as the cursor has that rev or a higher one from then on,
    // as its deletion has.
    const deleted = after === 0 ? [] : await store.deletedSince(owner, after - 1, DELETIONS);
    const isKnown =
      after === 0 || deleted.length > 0 || (await store.changes(owner, after - 1, 1, userId)).items.length > 0;
    if (!isKnown || deleted.length === DELETIONS) return "invalid_cursor";
    return { ...getListTarget(deps, timing, owner, userId), deleted: deleted.map(({ id }) => id) };
  }
  if (!topic.startsWith("task:")) return "not_found";
  const task = await store.task(topic.slice("task:".length));
  if (task === null || (task.userId !== userId && !seesAll)) return "not_found";
  return after > task.seq ? "invalid_cursor" : getLogTarget(deps, timing, task.id);
}

/**
 * The data of an event goes from its row into the frame as text: it was checked when it was stored.
 */
function getLogTarget({ store }: HubDeps, timing: HubTiming, taskId: string): ChannelTarget {
  return {
    key: channelKey.log(taskId),
    gapMs: timing.logGapMs,
    async feed(after, limit) {
      const { items, more } = await store.eventRows(taskId, after, limit);
      return { items: items.map(toFeedItem), more };
    },
  };
}

function toFeedItem(row: EventRow): FeedItem {
  const json = toWireEventJson(row);
  // All fields beside the data are ASCII: one byte per character.
  const bytes = json.length - row.data.length + row.dataBytes;
  return { cursor: row.seq, json, bytes, endsText: TEXT_ENDS.has(row.type) };
}

function getListTarget(
  { store, views, isDeleted }: FeedDeps,
  timing: HubTiming,
  owner: string | null,
  reader: string,
): ChannelTarget {
  return {
    key: owner === null ? channelKey.all(reader) : channelKey.own(reader),
    gapMs: timing.listGapMs,
    async feed(after, limit) {
      const { items, more } = await store.changes(owner, after, Math.min(limit, LIST_PAGE_ITEMS), reader);
      const found = (await views(items)).map((view, i): FeedItem => {
        const json = JSON.stringify(view);
        return { cursor: items[i]?.rev ?? after, json, bytes: Buffer.byteLength(json) };
      });
      return { items: found.filter((_, i) => !isDeleted(items[i]?.id ?? "")), more };
    },
  };
}
