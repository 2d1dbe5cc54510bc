import fc from "fast-check";
import { afterEach, expect, it } from "vitest";
import type { Page } from "../../../src/core/lib/pagination.ts";
import { LoopTurns } from "../../../src/core/lib/concurrency/loop-turns.ts";
import { Channel, type Subscriber } from "../../../src/http/live/channel.ts";
import type { FeedItem } from "../../../src/http/live/frames.ts";
import { systemClock } from "../../../src/core/lib/runtime/system-clock.ts";
import { upTo } from "./stream-client.ts";
import { until } from "./live-server.ts";

const stopped: AbortController[] = [];
afterEach(() => {
  for (const one of stopped.splice(0)) one.abort();
});

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const settle = async (): Promise<void> => {
  for (let n = 0; n < 10; n++) await new Promise((resolve) => setImmediate(resolve));
};

/**
 * A log whose reads wait until the test releases them. A read returns the log as of its start or
 * as of its release.
 */
function heldLog(length: number) {
  const waiting: ((sees: "then" | "now") => void)[] = [];
  const log = {
    length,
    /** By number: the message that the event ends. */
    ends: new Map<number, string>(),
    /** How many reads there were. */
    reads: 0,
    held: true,
    async feed(after: number, limit: number): Promise<Page<FeedItem>> {
      log.reads++;
      const then = log.length;
      const sees = log.held ? await new Promise<"then" | "now">((resolve) => waiting.push(resolve)) : "now";
      const seen = upTo(sees === "then" ? then : log.length, after + 1);
      return {
        items: seen.slice(0, limit).map((cursor) => {
          const id = log.ends.get(cursor);
          const json = id === undefined ? String(cursor) : JSON.stringify({ cursor, id });
          return { cursor, json, bytes: json.length, endsText: id !== undefined };
        }),
        more: seen.length > limit,
      };
    },
    /** Lets a read through, if there is one. */
    pass: (sees: "then" | "now", which: "oldest" | "newest" = "oldest"): void =>
      (which === "oldest" ? waiting.shift() : waiting.pop())?.(sees),
    /** The same for one that is yet to come. */
    async let(sees: "then" | "now"): Promise<void> {
      await until("a read", () => waiting.length > 0);
      log.pass(sees);
      await settle();
    },
  };
  return log;
}

function createChannel(log: ReturnType<typeof heldLog>): Channel {
  const stop = new AbortController();
  stopped.push(stop);
  const context = {
    clock: systemClock,
    log: { warn: () => undefined },
    turns: new LoopTurns(),
    signal: stop.signal,
    stallMs: 60_000,
    gapMs: 1,
  };
  return new Channel("task:1", (after, limit) => log.feed(after, limit), context);
}

interface TestSubscriber extends Subscriber {
  seen: number[];
  frames: number;
  deltas: string;
  /** Numbers of events and texts of deltas, in order. */
  all: (number | string)[];
  bytes: number;
  /** Frames that came after it had left. */
  late: number;
}

let people = 0;

/** Each is another person's, so that the reads of several can be held at once. */
function createSubscriber(cursor = 0): TestSubscriber {
  const one: TestSubscriber = {
    owner: `user_${++people}`,
    position: { state: "catching_up", cursor },
    seen: [],
    frames: 0,
    deltas: "",
    all: [],
    bytes: 0,
    late: 0,
    tooSlow: () => undefined,
    ended: () => undefined,
    sink: {
      buffered: () => one.bytes,
      close: () => undefined,
      send(bytes) {
        if (one.position.state === "left") one.late++;
        const frame = JSON.parse(bytes.toString());
        one.frames++;
        if (frame.type === "delta") {
          one.deltas += frame.text;
          one.all.push(...(frame.text as string).split(" ").slice(0, -1));
          return;
        }
        const seen = (frame.items as (number | { cursor: number })[]).map((item) =>
          typeof item === "number" ? item : item.cursor,
        );
        one.seen.push(...seen);
        one.all.push(...seen);
      },
    },
  };
  return one;
}

it("[F1] a read that saw items after the tail joins the tail at once; the flush sends those items once", async () => {
  const log = heldLog(3);
  const channel = createChannel(log);
  const [first, second] = [createSubscriber(), createSubscriber()];
  channel.join(first);
  await log.let("now");
  await log.let("now");
  channel.join(second);
  log.length = 5;
  await log.let("now");
  expect(second.seen).toEqual([1, 2, 3]);
  const before = log.reads;
  channel.notify(5);
  await log.let("now");
  expect(first.seen).toEqual([1, 2, 3, 4, 5]);
  expect(second.seen).toEqual([1, 2, 3, 4, 5]);
  expect(log.reads).toBe(before + 1);
});

it("[F1] a hint during the last read before the tail is not lost", async () => {
  const log = heldLog(3);
  const channel = createChannel(log);
  const one = createSubscriber();
  channel.join(one);
  await settle();
  log.length = 4;
  channel.notify(4);
  await log.let("then");
  expect(one.seen).toEqual([1, 2, 3]);
  await log.let("now");
  expect(one.seen).toEqual([1, 2, 3, 4]);
});

it("[F1] a flush sends nothing to subscribers that reached the tail during its read", async () => {
  const log = heldLog(3);
  const channel = createChannel(log);
  const [first, second] = [createSubscriber(3), createSubscriber(3)];
  channel.join(first);
  await log.let("now");
  await log.let("now");
  await pause(5);
  log.length = 5;
  channel.notify(5);
  channel.leave(first);
  channel.join(second);
  await settle();
  log.pass("now", "newest");
  await settle();
  expect(second.seen).toEqual([4, 5]);
  await log.let("now");
  await log.let("now");
  expect(second.seen).toEqual([4, 5]);
  expect(first.seen).toEqual([]);
});

it("[F1] a subscriber that starts after the tail, because a hint was lost, receives nothing twice", async () => {
  const log = heldLog(2);
  const channel = createChannel(log);
  const [first, second] = [createSubscriber(), createSubscriber(3)];
  channel.join(first);
  await log.let("now");
  await log.let("now");
  log.length = 4;
  log.held = false;
  channel.join(second);
  await until("both", () => first.seen.length === 4 && second.seen.length > 0);
  await pause(10);
  expect(first.seen).toEqual([1, 2, 3, 4]);
  expect(second.seen).toEqual([4]);
  log.length = 5;
  channel.notify(5);
  await until("live", () => [first, second].every((one) => one.seen.at(-1) === 5));
  expect(second.seen).toEqual([4, 5]);
});

it("[F4] a socket that is not empty gets events but no deltas", async () => {
  const log = heldLog(1);
  log.held = false;
  const channel = createChannel(log);
  const [free, busy] = [createSubscriber(), createSubscriber()];
  busy.bytes = 100 * 1024;
  for (const one of [free, busy]) channel.join(one);
  await until("the head", () => [free, busy].every((one) => one.seen.length === 1));
  channel.publishDelta("m1", "Hel");
  channel.publishDelta("m1", "lo ");
  channel.publishDelta("m2", "you");
  await until("deltas", () => free.deltas === "Hello you");
  log.length = 2;
  channel.notify(2);
  await until("events", () => [free, busy].every((one) => one.seen.length === 2));
  expect(busy.deltas).toBe("");
});

it("[F3] a full socket delays no other subscriber, and continues from its cursor", async () => {
  const log = heldLog(1);
  log.held = false;
  const channel = createChannel(log);
  const [free, full] = [createSubscriber(), createSubscriber()];
  for (const one of [free, full]) channel.join(one);
  await until("the head", () => [free, full].every((one) => one.seen.length === 1));
  log.length = 2;
  channel.notify(2);
  await until("the flush", () => full.seen.length === 2);
  full.bytes = 2 * 1024 * 1024;
  for (log.length = 3; log.length < 50; log.length++) {
    channel.notify(log.length);
    await until("the free one", () => free.seen.at(-1) === log.length);
  }
  expect(full.seen).toEqual([1, 2]);
  full.bytes = 0;
  await until("the full one", () => full.seen.at(-1) === 49);
  expect(full.seen).toEqual(upTo(49));
  expect(full.frames).toBeLessThan(5);
});

it("[F1] for any order of reads, hints, joins and full sockets, each subscriber receives every item once and in order", async () => {
  const step = fc.oneof(
    fc.record({ do: fc.constant("grow" as const), by: fc.integer({ min: 1, max: 5 }), told: fc.boolean() }),
    fc.record({ do: fc.constant("join" as const), from: fc.double({ min: 0, max: 1, noNaN: true }) }),
    fc.record({ do: fc.constant("leave" as const), who: fc.nat(9) }),
    fc.record({ do: fc.constant("fill" as const), who: fc.nat(9), bytes: fc.constantFrom(0, 2 * 1024 * 1024) }),
    fc.record({ do: fc.constant("hold" as const), held: fc.boolean() }),
    fc.record({
      do: fc.constant("read" as const),
      sees: fc.constantFrom("then", "now"),
      which: fc.constantFrom("oldest", "newest"),
    }),
    fc.record({ do: fc.constant("rest" as const), ms: fc.constantFrom(0, 0, 3) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), async (steps) => {
      const log = heldLog(2);
      const channel = createChannel(log);
      log.held = false;
      const here: { one: TestSubscriber; from: number }[] = [];
      const left: TestSubscriber[] = [];
      for (const now of steps) {
        const entry = "who" in now ? here[now.who % Math.max(1, here.length)] : undefined;
        if (now.do === "grow") {
          log.length += now.by;
          if (now.told) channel.notify(log.length);
        } else if (now.do === "join") {
          const from = Math.floor(now.from * log.length);
          here.push({ one: createSubscriber(from), from });
          channel.join(here.at(-1)!.one);
        } else if (now.do === "leave" && entry !== undefined) {
          channel.leave(entry.one);
          left.push(entry.one);
          here.splice(here.indexOf(entry), 1);
        } else if (now.do === "fill" && entry !== undefined) entry.one.bytes = now.bytes;
        else if (now.do === "hold") log.held = now.held;
        else if (now.do === "read") log.pass(now.sees, now.which);
        else if (now.do === "rest") await pause(now.ms);
      }
      log.held = false;
      for (const { one } of here) one.bytes = 0;
      // Reads that are still held are let through, old as they are.
      const end = setInterval(() => log.pass("then"), 2);
      await until("everyone", () => {
        channel.notify();
        return here.every(({ one, from }) => one.seen.length >= log.length - from);
      }).finally(() => clearInterval(end));
      await pause(3);
      expect(left.map((one) => one.late)).toEqual(left.map(() => 0));
      for (const { one, from } of here) expect(one.seen).toEqual(upTo(log.length, from + 1));
      stopped.pop()?.abort();
    }),
    { numRuns: 300 },
  );
});

it("[F4] for any order of reads, a delta comes after the events before it, and never after the event that ends its message", async () => {
  const step = fc.oneof(
    { weight: 3, arbitrary: fc.record({ do: fc.constant("delta" as const), of: fc.nat(2) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("event" as const) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("end" as const), of: fc.nat(2) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("hold" as const), held: fc.boolean() }) },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant("read" as const), sees: fc.constantFrom("then", "now") }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("rest" as const), ms: fc.constantFrom(0, 0, 3) }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
      const log = heldLog(1);
      log.held = false;
      const channel = createChannel(log);
      const one = createSubscriber();
      channel.join(one);
      await until("the head", () => one.seen.length === 1);
      const messages = ["m0", "m1", "m2"];
      /** By text of a delta: the events before it, and its message. */
      const published = new Map<string, { after: number; id: string }>();
      for (const now of steps) {
        if (now.do === "delta") {
          const id = messages[now.of] ?? "";
          const text = `${id}/${published.size}`;
          published.set(text, { after: log.length, id });
          channel.publishDelta(id, `${text} `);
        } else if (now.do === "event" || now.do === "end") {
          log.length++;
          if (now.do === "end") {
            log.ends.set(log.length, messages[now.of] ?? "");
            messages[now.of] = `m${now.of}:${log.length}`;
          }
          channel.notify(log.length);
        } else if (now.do === "hold") log.held = now.held;
        else if (now.do === "read") {
          log.pass(now.sees);
          await settle();
        } else await pause(now.ms);
      }
      log.held = false;
      const end = setInterval(() => log.pass("then"), 2);
      const endedAt = new Map([...log.ends].map(([seq, id]) => [id, seq]));
      const open = [...published].flatMap(([text, { id }]) => (endedAt.has(id) ? [] : [text]));
      await until(
        "every event, and each text that no event ends",
        () => one.seen.length >= log.length && open.every((text) => one.all.includes(text)),
      ).finally(() => clearInterval(end));
      await pause(3);
      const places = new Map(one.all.map((what, place) => [what, place]));
      for (const [text, { after, id }] of published) {
        const place = places.get(text);
        if (place === undefined) continue;
        expect(place, `${text} before event ${after}`).toBeGreaterThan(places.get(after) ?? -1);
        const ended = endedAt.get(id);
        if (ended !== undefined) expect(place, `${text} after its end`).toBeLessThan(places.get(ended) ?? Infinity);
      }
      expect(one.seen).toEqual(upTo(log.length));
      stopped.pop()?.abort();
    }),
    { numRuns: 300 },
  );
});
