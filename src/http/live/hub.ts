/**
 * Cursor subscriptions -> batched frames. A hint only says "look again": every frame is made of
 * what the store holds, so a frame can show nothing that was not committed (rule F2), and a lost
 * hint costs latency (the poll), never data.
 */
import { setMaxListeners } from "node:events";
import { coerceError, isAbort, errorMessage } from "../../core/error.ts";
import type { Store } from "../../core/ports/store.ts";
import { Channel, type Feed, type Subscriber, type FrameSink } from "./channel.ts";
import type { Task } from "../../core/task.ts";
import { toWireEvent } from "../../core/protocol/mapping.ts";
import { type WireTask } from "../../core/protocol/rest.ts";
import type { Bus, Clock, Log } from "../../core/ports/runtime.ts";
import type { Identity } from "../../core/ports/accounts.ts";
import { CLOSE_CODES, type ServerFrame } from "../../core/protocol/stream.ts";

export type { FrameSink } from "./channel.ts";

export interface HubTiming {
  /** Least time between two frames of a task's log. */
  readonly logGapMs: number;
  /**
   * The same for lists of tasks, whose items are larger and change with every event of every task.
   */
  readonly listGapMs: number;
  /** How long a lost hint can stay unnoticed. */
  readonly pollMs: number;
  /** A reader that is behind and takes nothing for this long is cut. */
  readonly stallMs: number;
}
export const HUB_TIMING: HubTiming = { logGapMs: 16, listGapMs: 100, pollMs: 3_000, stallMs: 30_000 };

export interface HubDeps {
  readonly store: Pick<Store, "task" | "events" | "changes">;
  readonly bus: Pick<Bus, "onHint" | "onDelta">;
  /** The task as the wire shows it now. */
  readonly view: (task: Task) => Promise<WireTask>;
  readonly clock: Clock;
  readonly log: Pick<Log, "warn">;
  readonly timing?: Partial<HubTiming>;
}

/** What one socket follows. */
export interface HubConnection {
  /**
   * Follows a topic from after a cursor (null = from its beginning); a topic that is followed
   * already begins again there. Answers with a `subscribed` or an `error` frame: `not_found` (also
   * for what the person may not see), `invalid_cursor`, `too_many_subscriptions`. Resolves when it
   * has answered; never rejects.
   */
  subscribe(topic: string, after: number | null): Promise<void>;
  /** Idempotent; no frame of that topic is sent after it. */
  unsubscribe(topic: string): void;
  /** Idempotent; no frame at all is sent after it. The sink is the caller's to close. */
  close(): void;
}

export interface Hub {
  connect(person: Identity, sink: FrameSink): HubConnection;
  /** Rooms that someone is in. */
  channels(): number;
  /** Stops feeding everyone. Sinks are their owners' to close. */
  close(): void;
}

export const SUBSCRIPTIONS_PER_CONNECTION = 200;
/** Rooms polled before others get their turn. */
const POLL_BATCH = 50;

/**
 * Topics: `task:<id>`, `tasks` (one's own), `tasks:all` (operators and admins). Keys name the room
 * behind a topic.
 */
const keyOf = { log: (taskId: string) => `task:${taskId}`, own: (userId: string) => `own:${userId}`, all: "all" };

interface ChannelTarget {
  readonly key: string;
  readonly feed: Feed;
  readonly gapMs: number;
}

export function openHub(deps: HubDeps): Hub {
  const { bus, clock, log } = deps;
  const timing: HubTiming = { ...HUB_TIMING, ...deps.timing };
  const stopped = new AbortController();
  const { signal } = stopped;
  // Every room that rests waits for it too.
  setMaxListeners(0, signal);
  const rooms = new Map<string, Channel>();
  const locate = locator(deps, timing);

  function roomOf(place: ChannelTarget, topic: string): Channel {
    const known = rooms.get(place.key);
    if (known !== undefined) return known;
    const room = new Channel(topic, place.feed, { clock, log, signal, stallMs: timing.stallMs, gapMs: place.gapMs });
    rooms.set(place.key, room);
    return room;
  }

  async function poll(): Promise<void> {
    for (;;) {
      await clock.sleep(timing.pollMs, signal);
      let turn = 0;
      for (const room of rooms.values()) {
        room.notify();
        if (++turn % POLL_BATCH === 0) await clock.sleep(0, signal);
      }
    }
  }
  void poll().catch((error: unknown) => {
    if (!isAbort(error)) log.warn({ error: errorMessage(error) }, "the poll of the hub ended");
  });

  const deaf = [
    bus.onHint(({ taskId, userId, seq }) => {
      rooms.get(keyOf.log(taskId))?.notify(seq);
      rooms.get(keyOf.own(userId))?.notify();
      rooms.get(keyOf.all)?.notify();
    }),
    bus.onDelta(({ taskId, messageId, text }) => rooms.get(keyOf.log(taskId))?.publishDelta(messageId, text)),
  ];

  return {
    connect: (person, sink) =>
      connection(sink, {
        locate: (topic, after) => locate(person, topic, after),
        enter(place, topic, member) {
          const room = roomOf(place, topic);
          room.join(member);
          return () => {
            room.leave(member);
            if (room.empty && rooms.get(place.key) === room) rooms.delete(place.key);
          };
        },
      }),
    channels: () => rooms.size,
    close() {
      for (const stop of deaf) stop();
      stopped.abort();
    },
  };
}

interface Access {
  locate(topic: string, after: number): Promise<ChannelTarget | "not_found" | "invalid_cursor">;
  /** @returns what leaves again. */
  enter(place: ChannelTarget, topic: string, member: Subscriber): () => void;
}

function connection(sink: FrameSink, access: Access): HubConnection {
  const followed = new Map<string, { readonly member: Subscriber; leave: () => void }>();
  let open = true;

  const send = (frame: ServerFrame): void => {
    if (open) sink.send(JSON.stringify(frame));
  };
  function unsubscribe(topic: string): void {
    const entry = followed.get(topic);
    if (entry === undefined) return;
    followed.delete(topic);
    entry.member.live = false;
    entry.leave();
  }
  function close(): void {
    open = false;
    for (const topic of followed.keys()) unsubscribe(topic);
  }
  function tooSlow(): void {
    if (!open) return;
    close();
    sink.close(CLOSE_CODES.tooSlow, "too slow; reconnect with your cursor");
  }

  return {
    unsubscribe,
    close,
    async subscribe(topic, after) {
      unsubscribe(topic);
      if (followed.size >= SUBSCRIPTIONS_PER_CONNECTION)
        return send({ type: "error", code: "too_many_subscriptions", topic });
      const member: Subscriber = { sink, tooSlow, cursor: after ?? 0, live: true };
      // Takes its place before the first await, so that the limit holds and a later unsubscribe
      // finds it.
      const entry = { member, leave: (): void => undefined };
      followed.set(topic, entry);
      const place = await access.locate(topic, member.cursor).catch((error: unknown) => coerceError(error).code);
      if (!open || !member.live) return;
      if (typeof place === "string") {
        unsubscribe(topic);
        return send({ type: "error", code: place, topic });
      }
      send({ type: "subscribed", topic, after });
      entry.leave = access.enter(place, topic, member);
      if (!member.live) entry.leave();
    },
  };
}

/**
 * Finds the room behind a topic, if the person may enter it and the cursor is one that we can have
 * given.
 */
function locator({ store, view }: HubDeps, timing: HubTiming) {
  const log = (taskId: string): ChannelTarget => ({
    key: keyOf.log(taskId),
    gapMs: timing.logGapMs,
    async feed(after, limit) {
      const { items, more } = await store.events(taskId, after, limit);
      return { items: items.map((event) => ({ cursor: event.seq, json: JSON.stringify(toWireEvent(event)) })), more };
    },
  });
  const list = (userId: string | null): ChannelTarget => ({
    key: userId === null ? keyOf.all : keyOf.own(userId),
    gapMs: timing.listGapMs,
    async feed(after, limit) {
      const { items, more } = await store.changes(userId, after, limit);
      return {
        items: await Promise.all(
          items.map(async (task) => ({ cursor: task.rev, json: JSON.stringify(await view(task)) })),
        ),
        more,
      };
    },
  });
  // The task that gave a cursor has that rev or a later one, for ever.
  const given = async (userId: string | null, cursor: number): Promise<boolean> =>
    cursor === 0 || (await store.changes(userId, cursor - 1, 1)).items.length > 0;

  return async (
    person: Identity,
    topic: string,
    after: number,
  ): Promise<ChannelTarget | "not_found" | "invalid_cursor"> => {
    const seesAll = person.role !== "user";
    if (topic === "tasks" || (topic === "tasks:all" && seesAll)) {
      const userId = topic === "tasks" ? person.userId : null;
      return (await given(userId, after)) ? list(userId) : "invalid_cursor";
    }
    if (!topic.startsWith("task:")) return "not_found";
    const task = await store.task(topic.slice("task:".length));
    if (task === null || (task.userId !== person.userId && !seesAll)) return "not_found";
    return after > task.seq ? "invalid_cursor" : log(task.id);
  };
}
