import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterEach, expect, test } from "vitest";
import { SUBSCRIPTIONS_PER_CONNECTION } from "../../../src/http/live/hub.ts";
import { taskSchema, type WireTask } from "../../../src/core/protocol/rest.ts";
import { ALICE, BOB, OPERATOR, openLiveServer, until, type LiveServer, type LiveServerOptions } from "./live-server.ts";
import { connectClient, upTo } from "./stream-client.ts";

const ann = `token-${ALICE.userId}`;
const bob = `token-${BOB.userId}`;
const opa = `token-${OPERATOR.userId}`;
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const stages: LiveServer[] = [];
async function stageWith(options: LiveServerOptions = {}): Promise<LiveServer> {
  const stage = await openLiveServer(options);
  stages.push(stage);
  return stage;
}
afterEach(async () => {
  await Promise.all(stages.splice(0).map((stage) => stage.close()));
});

test("[F1] a phone that loses its socket fifty times sees every seq once, in order", async () => {
  const stage = await stageWith();
  const { id } = await stage.writer.create(ALICE.userId);
  const topic = `task:${id}`;
  const total = 1_500;
  const seen: number[] = [];
  let cursor = 0;
  let writing = true;
  const written = (async () => {
    for (let seq = 1; seq < total;) {
      seq = await stage.writer.growAtOnce(id, Math.min(total - seq, 1 + Math.floor(Math.random() * 3)));
      await pause(Math.random() * 4);
    }
    writing = false;
  })();
  let drops = 0;
  while (cursor < total) {
    const phone = await connectClient(stage.url, ann, {
      onFrame(frame) {
        if (frame.type !== "events") return;
        seen.push(...frame.items.map((item) => item.seq));
        cursor = frame.cursor;
      },
    });
    phone.subscribe(topic, cursor);
    if (drops < 50) {
      await pause(Math.random() * 40);
      drops++;
    } else {
      await until("the rest", () => cursor >= total);
    }
    phone.ws.removeAllListeners("message");
    phone.drop();
    if (drops === 25) await stage.restart();
  }
  await written;
  expect(writing).toBe(false);
  expect(drops).toBe(50);
  expect(seen).toEqual(upTo(total));
});

test("[F1] subscribing while the log grows fast neither misses nor doubles, for many at once", async () => {
  const stage = await stageWith();
  const { id } = await stage.writer.create(ALICE.userId);
  const topic = `task:${id}`;
  await stage.writer.growAtOnce(id, 2_500);
  let stop = false;
  const writing = (async () => {
    while (!stop) {
      await stage.writer.grow(id, 3);
      await pause(0);
    }
  })();
  const phones = await Promise.all(upTo(15).map(() => connectClient(stage.url, ann)));
  const starts = phones.map((_, i) => [0, 1, 700, 1_999, 2_400][i % 5]!);
  for (const [i, phone] of phones.entries()) {
    phone.subscribe(topic, starts[i]!);
    await pause(7);
  }
  await pause(200);
  stop = true;
  await writing;
  const last = (await stage.store.task(id))!.seq;
  for (const [i, phone] of phones.entries()) {
    await until(`phone ${i}`, () => phone.seqs(topic).at(-1) === last);
    expect(phone.seqs(topic)).toEqual(upTo(last, starts[i]! + 1));
  }
});

test("[F1] a new subscription to the same topic starts again at its cursor, unsubscribe ends it", async () => {
  const stage = await stageWith();
  const { id } = await stage.writer.create(ALICE.userId);
  const topic = `task:${id}`;
  await stage.writer.growAtOnce(id, 9);
  const phone = await connectClient(stage.url, ann);
  phone.subscribe(topic, 0);
  await until("first", () => phone.seqs(topic).length === 10);
  phone.subscribe(topic, 7);
  await until("again", () => phone.seqs(topic).length === 13);
  expect(phone.seqs(topic).slice(10)).toEqual([8, 9, 10]);
  phone.say({ type: "unsubscribe", topic });
  phone.say({ type: "ping" });
  await until("pong", () => phone.frames.some((frame) => frame.type === "pong"));
  await stage.writer.grow(id, 3);
  await pause(100);
  expect(phone.seqs(topic)).toHaveLength(13);
  expect(stage.hub.channels()).toBe(0);
});

test("[F2] [R3] a frame shows only what the store holds, whatever a hint says", async () => {
  const stage = await stageWith();
  const { id } = await stage.writer.create(ALICE.userId);
  const topic = `task:${id}`;
  const early: number[] = [];
  const checks: Promise<void>[] = [];
  const phone = await connectClient(stage.url, ann, {
    onFrame(frame) {
      if (frame.type !== "events") return;
      checks.push(stage.store.task(id).then((task) => void (task!.seq < frame.cursor && early.push(frame.cursor))));
    },
  });
  phone.subscribe(topic);
  await until("the first event", () => phone.seqs(topic).length === 1);
  stage.bus.publishHint({ taskId: id, userId: ALICE.userId, seq: 1_000 });
  await pause(60);
  expect(phone.seqs(topic)).toEqual([1]);
  for (let n = 0; n < 40; n++) {
    const commit = stage.writer.grow(id, 1);
    // Ahead of the commit: there is nothing to show yet.
    stage.bus.publishHint({ taskId: id, userId: ALICE.userId, seq: n + 2 });
    await commit;
  }
  await until("all", () => phone.seqs(topic).at(-1) === 41);
  await Promise.all(checks);
  expect(early).toEqual([]);
  expect(phone.seqs(topic)).toEqual(upTo(41));
});

test("[F3] a reader that never reads is cut with 4408, the others get everything, and memory stays flat", async () => {
  const stage = await stageWith({ hubTiming: { stallMs: 1_500 } });
  const { id } = await stage.writer.create(ALICE.userId);
  const topic = `task:${id}`;
  const deaf = await connectClient(stage.url, ann);
  deaf.subscribe(topic);
  await until("subscribed", () => deaf.seqs(topic).length === 1);
  deaf.ws.pause();
  const others = await Promise.all(upTo(20).map((n) => connectClient(stage.url, [ann, opa][n % 2]!)));
  for (const phone of others) phone.subscribe(topic);
  const slowest: number[] = [];
  const heapBefore = heap();
  let total = 1;
  const cut = (): boolean => stage.diary.some(({ fields }) => fields["code"] === 4408);
  for (let round = 0; round < 400 && !cut(); round++) {
    total = await stage.writer.growAtOnce(id, 5, 30_000);
    const sent = performance.now();
    await until("the others", () => others.every((phone) => phone.batches(topic).at(-1)?.cursor === total));
    slowest.push(performance.now() - sent);
    for (const phone of others) trim(phone.frames);
    await pause(10);
  }
  expect(cut()).toBe(true);
  // 20 readers of what was written: only what one socket may hold has stayed.
  expect(heap() - heapBefore).toBeLessThan(30 * 1024 * 1024);
  slowest.sort((a, b) => a - b);
  expect(slowest[Math.floor(slowest.length / 2)]).toBeLessThan(1_000);
  deaf.ws.resume();
  await until("the close frame", () => deaf.closed() !== null);
  expect(deaf.closed()).toBe(4408);
  const got = deaf.batches(topic).at(-1)!.cursor;
  expect(deaf.seqs(topic)).toEqual(upTo(got));
  // It resumes by its cursor.
  const again = await connectClient(stage.url, ann);
  again.subscribe(topic, got);
  await until("the rest", () => again.batches(topic).at(-1)?.cursor === total);
  expect(again.seqs(topic)).toEqual(upTo(total, got + 1));
}, 60_000);

test("[F3] a reader that pauses for a while is not fed meanwhile and then gets the rest, once and in order", async () => {
  const stage = await stageWith({ hubTiming: { stallMs: 20_000 } });
  const { id } = await stage.writer.create(ALICE.userId);
  const topic = `task:${id}`;
  const phone = await connectClient(stage.url, ann);
  phone.subscribe(topic);
  await until("subscribed", () => phone.seqs(topic).length === 1);
  phone.ws.pause();
  let total = 1;
  for (let round = 0; round < 60; round++) total = await stage.writer.growAtOnce(id, 10, 30_000);
  await pause(300);
  const ahead = phone.seqs(topic).length;
  expect(ahead).toBeLessThan(total);
  phone.ws.resume();
  await until("everything", () => phone.batches(topic).at(-1)?.cursor === total);
  expect(phone.seqs(topic)).toEqual(upTo(total));
  await stage.writer.grow(id, 1);
  await until("live again", () => phone.batches(topic).at(-1)?.cursor === total + 1);
});

test("[F4] deltas reach those at the head, are never stored, and a full socket gets none", async () => {
  const stage = await stageWith();
  const { id } = await stage.writer.create(ALICE.userId);
  const topic = `task:${id}`;
  const [reader, slow] = await Promise.all([connectClient(stage.url, ann), connectClient(stage.url, ann)]);
  for (const phone of [reader, slow]) phone.subscribe(topic);
  await until("subscribed", () => [reader, slow].every((phone) => phone.seqs(topic).length === 1));
  slow.ws.pause();
  // Up to where the socket holds more than deltas may join, and less than what makes it a laggard.
  for (let n = 0; n < 300; n++) await stage.writer.growAtOnce(id, 1, 30_000);
  await until("the reader is at the head", () => reader.seqs(topic).at(-1) === 301);
  const before = (await stage.store.task(id))!.seq;
  const sent = upTo(2_000).map((n) => `t${n} `);
  for (const [n, text] of sent.entries()) {
    stage.bus.publishDelta({ taskId: id, userId: ALICE.userId, messageId: "m1", text });
    if (n % 100 === 0) await pause(5);
  }
  await until("the last delta", () => deltas(reader.frames).endsWith("t2000 "));
  expect(deltas(reader.frames)).toBe(sent.join(""));
  expect(reader.frames.filter((frame) => frame.type === "delta").length).toBeLessThan(200);
  expect((await stage.store.task(id))!.seq).toBe(before);
  expect((await stage.store.events(id, 0, 1_000)).items.some((event) => JSON.stringify(event).includes("t2000"))).toBe(
    false,
  );
  slow.ws.resume();
  await until("the slow one", () => slow.seqs(topic).at(-1) === before);
  expect(slow.seqs(topic)).toEqual(upTo(before));
  expect(slow.frames.some((frame) => frame.type === "delta")).toBe(false);
});

test("[F5] a phone that was away for 1,000 events gets them in one frame, and large ones in frames of bounded size", async () => {
  const stage = await stageWith();
  const { id } = await stage.writer.create(ALICE.userId);
  const topic = `task:${id}`;
  await stage.writer.growAtOnce(id, 1_999);
  const phone = await connectClient(stage.url, ann);
  phone.subscribe(topic, 1_000);
  await until("caught up", () => phone.seqs(topic).at(-1) === 2_000);
  expect(phone.seqs(topic)).toEqual(upTo(2_000, 1_001));
  expect(phone.batches(topic).length).toBeLessThanOrEqual(2);

  const big = await stage.writer.create(ALICE.userId);
  await stage.writer.growAtOnce(big.id, 300, 60_000);
  phone.subscribe(`task:${big.id}`, 0);
  await until("the large ones", () => phone.seqs(`task:${big.id}`).at(-1) === 301);
  expect(phone.seqs(`task:${big.id}`)).toEqual(upTo(301));
  for (const batch of phone.batches(`task:${big.id}`)) expect(JSON.stringify(batch).length).toBeLessThan(512 * 1024);
});

test("[F1] a bus that loses hints costs latency, never data", async () => {
  let n = 0;
  const stage = await stageWith({
    hubTiming: { pollMs: 300 },
    ears: (bus) => ({
      onDelta: (l) => bus.onDelta(l),
      onHint: (listener) => bus.onHint((hint) => void (n++ % 2 === 0 && listener(hint))),
    }),
  });
  const { id } = await stage.writer.create(ALICE.userId);
  const topic = `task:${id}`;
  const phone = await connectClient(stage.url, ann);
  phone.subscribe(topic);
  phone.subscribe("tasks", null);
  for (let i = 0; i < 30; i++) {
    await stage.writer.grow(id, 1);
    await pause(Math.random() * 30);
  }
  await until("everything", () => phone.seqs(topic).at(-1) === 31 && phone.seqs("tasks").at(-1) === 31, 5_000);
  expect(phone.seqs(topic)).toEqual(upTo(31));

  const mute = await stageWith({
    hubTiming: { pollMs: 300 },
    ears: () => ({ onHint: () => () => false, onDelta: () => () => false }),
  });
  const task = await mute.writer.create(ALICE.userId);
  const other = await connectClient(mute.url, ann);
  other.subscribe(`task:${task.id}`);
  await until("first", () => other.seqs(`task:${task.id}`).length === 1);
  await mute.writer.grow(task.id, 5);
  await until("by the poll", () => other.seqs(`task:${task.id}`).at(-1) === 6, 5_000);
});

test("[F1] `tasks` shows a person's own tasks in their newest form, from a cursor, and `tasks:all` everyone's to operators", async () => {
  const stage = await stageWith();
  const mine = [];
  for (let n = 0; n < 5; n++) mine.push(await stage.writer.create(ALICE.userId));
  const theirs = await stage.writer.create(BOB.userId);
  const phone = await connectClient(stage.url, ann);
  const workerApi = await connectClient(stage.url, opa);
  phone.subscribe("tasks", null);
  workerApi.subscribe("tasks", null);
  workerApi.subscribe("tasks:all", null);
  await until("lists", () => idsIn(phone, "tasks").length === 5 && idsIn(workerApi, "tasks:all").length === 6);
  expect(idsIn(phone, "tasks")).toEqual(mine.map((task) => task.id));
  expect(idsIn(workerApi, "tasks")).toEqual([]);
  for (const batch of phone.batches("tasks")) for (const item of batch.items) taskSchema.parse(item);
  const cursor = phone.batches("tasks").at(-1)!.cursor;

  await stage.writer.growAtOnce(mine[2]!.id, 7);
  await stage.writer.growAtOnce(theirs.id, 3);
  await until("changes", () => idsIn(phone, "tasks").length === 6 && idsIn(workerApi, "tasks:all").includes(theirs.id));
  expect(
    phone
      .batches("tasks")
      .at(-1)!
      .items.map((item) => [(item as WireTask).id, item.seq]),
  ).toEqual([[mine[2]!.id, 8]]);

  const back = await connectClient(stage.url, ann);
  back.subscribe("tasks", cursor);
  await until("only what changed", () => idsIn(back, "tasks").length > 0);
  expect(idsIn(back, "tasks")).toEqual([mine[2]!.id]);
  back.subscribe("tasks", back.batches("tasks").at(-1)!.cursor);
  await pause(100);
  expect(back.errors()).toEqual([]);
  expect(idsIn(back, "tasks")).toHaveLength(1);
});

test("[F1] a cursor beyond the head is refused, and nothing else of the connection suffers", async () => {
  const stage = await stageWith();
  const { id } = await stage.writer.create(ALICE.userId);
  const phone = await connectClient(stage.url, ann);
  phone.subscribe(`task:${id}`, 2);
  phone.subscribe("tasks", 1_000);
  await until("errors", () => phone.errors().length === 2);
  expect(phone.errors()).toEqual(["invalid_cursor", "invalid_cursor"]);
  phone.subscribe(`task:${id}`, 1);
  await stage.writer.grow(id, 1);
  await until("live", () => phone.seqs(`task:${id}`).length === 1);
  expect(phone.seqs(`task:${id}`)).toEqual([2]);
});

test("[S2] another's task, an unknown one and a made-up topic get the same answer (item 59)", async () => {
  const stage = await stageWith();
  const { id } = await stage.writer.create(ALICE.userId);
  const thief = await connectClient(stage.url, bob);
  const topics = [
    `task:${id}`,
    `task:${id.slice(0, -1)}0`,
    "task:",
    "task:' OR 1=1",
    "tasks:all",
    "tasks:user_ann",
    "own:user_ann",
    "",
  ];
  for (const topic of topics) thief.subscribe(topic, 0);
  await until("answers", () => thief.errors().length === topics.length);
  expect(thief.frames.filter((frame) => frame.type === "error")).toEqual(
    topics.map((topic) => ({ type: "error", code: "not_found", topic })),
  );
  await stage.writer.grow(id, 5);
  stage.bus.publishDelta({ taskId: id, userId: ALICE.userId, messageId: "m", text: "secret" });
  await pause(100);
  expect(thief.frames.some((frame) => frame.type === "events" || frame.type === "delta")).toBe(false);
  const workerApi = await connectClient(stage.url, opa);
  workerApi.subscribe(`task:${id}`);
  await until("operators see it", () => workerApi.seqs(`task:${id}`).length === 6);
});

test("[F3] a connection follows at most so many topics", async () => {
  const stage = await stageWith();
  const { id } = await stage.writer.create(ALICE.userId);
  const phone = await connectClient(stage.url, ann);
  const others = await Promise.all(upTo(SUBSCRIPTIONS_PER_CONNECTION).map(() => stage.writer.create(ALICE.userId)));
  for (const task of others) phone.subscribe(`task:${task.id}`);
  phone.subscribe(`task:${id}`);
  await until("the answer", () => phone.errors().length === 1);
  expect(phone.errors()).toEqual(["too_many_subscriptions"]);
  phone.say({ type: "unsubscribe", topic: `task:${others[0]!.id}` });
  phone.subscribe(`task:${id}`);
  await until("room again", () => phone.seqs(`task:${id}`).length === 1);
  phone.drop();
  await until("empty rooms are gone", () => stage.hub.channels() === 0);
});

test("[F1] a store that fails for a while delays, and nothing is missed", async () => {
  const stage = await stageWith({ hubTiming: { pollMs: 200 } });
  const { id } = await stage.writer.create(ALICE.userId);
  const topic = `task:${id}`;
  const phone = await connectClient(stage.url, ann);
  phone.subscribe(topic);
  await until("first", () => phone.seqs(topic).length === 1);
  const { eventRows } = stage.store;
  const broken = stage.store as { eventRows: typeof eventRows };
  broken.eventRows = () => Promise.reject(new Error("disk on fire"));
  await stage.writer.grow(id, 4);
  await until("it was noticed", () => stage.diary.some(({ level }) => level === "warn"));
  broken.eventRows = eventRows;
  await until("the rest", () => phone.seqs(topic).at(-1) === 5);
  expect(phone.seqs(topic)).toEqual(upTo(5));
});

type Frames = Awaited<ReturnType<typeof connectClient>>["frames"];
const deltas = (frames: Frames): string => frames.map((frame) => (frame.type === "delta" ? frame.text : "")).join("");
const idsIn = (phone: Awaited<ReturnType<typeof connectClient>>, topic: string): string[] =>
  phone.batches(topic).flatMap((batch) => batch.items.map((item) => (item as WireTask).id));
/** Only the last frame is needed: the rest would be the test's own memory. */
const trim = (frames: Frames): void => void frames.splice(0, frames.length - 1);
/** Bytes in use after everything that can be collected has been. */
function heap(): number {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
