import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterEach, expect, it } from "vitest";
import { SUBSCRIPTIONS_PER_CONNECTION } from "../../../src/http/live/hub.ts";
import { taskSchema, type WireTask } from "../../../src/core/protocol/rest.ts";
import { ALICE, BOB, OPERATOR, openLiveServer, until, type LiveServer, type LiveServerOptions } from "./live-server.ts";
import { seededRandom } from "./seeded-random.ts";
import { connectClient, upTo } from "./stream-client.ts";
import { PATIENCE_MS } from "../../support/vitest/patience.ts";

const alice = `token-${ALICE.userId}`;
const bob = `token-${BOB.userId}`;
const operator = `token-${OPERATOR.userId}`;
/** Printed when a test fails; SLIPWAY_HUB_SEED repeats the run with the same numbers. */
const seed = Number(process.env["SLIPWAY_HUB_SEED"] ?? Date.now() % 1_000_000);
const random = seededRandom(seed);
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const servers: LiveServer[] = [];
async function openServer(options: LiveServerOptions = {}): Promise<LiveServer> {
  const server = await openLiveServer(options);
  servers.push(server);
  return server;
}
afterEach(async ({ task }) => {
  if (task.result?.state === "fail") process.stderr.write(`SLIPWAY_HUB_SEED=${seed}\n`);
  await Promise.all(servers.splice(0).map((server) => server.close()));
});

it("[F1] a client that reconnects fifty times receives every seq once, in order", async () => {
  const server = await openServer();
  const { id } = await server.writer.create(ALICE.userId);
  const topic = `task:${id}`;
  const total = 1_500;
  const seen: number[] = [];
  let cursor = 0;
  let writing = true;
  let drops = 0;
  const written = (async () => {
    for (let seq = 1; seq < total - 1;) {
      seq = await server.writer.growAtOnce(id, Math.min(total - 1 - seq, 1 + Math.floor(random() * 3)));
      await pause(random() * 4);
    }
    await until("the last drop", () => drops === 50);
    await server.writer.growAtOnce(id, 1);
    writing = false;
  })();
  while (cursor < total) {
    const client = await connectClient(server.url, alice, {
      onFrame(frame) {
        if (frame.type !== "events") return;
        seen.push(...frame.items.map((item) => item.seq));
        cursor = frame.cursor;
      },
    });
    client.subscribe(topic, cursor);
    if (drops < 50) {
      await pause(random() * 40);
      drops++;
    } else {
      await until("the rest", () => cursor >= total);
    }
    client.ws.removeAllListeners("message");
    client.drop();
    if (drops === 25) await server.restart();
  }
  await written;
  expect(writing).toBe(false);
  expect(drops).toBe(50);
  expect(seen).toEqual(upTo(total));
});

it("[F1] many subscribers to a fast growing log miss no event and receive none twice", async () => {
  const server = await openServer();
  const { id } = await server.writer.create(ALICE.userId);
  const topic = `task:${id}`;
  await server.writer.growAtOnce(id, 2_500);
  let stop = false;
  const writing = (async () => {
    while (!stop) {
      await server.writer.grow(id, 3);
      await pause(0);
    }
  })();
  const clients = await Promise.all(upTo(15).map(() => connectClient(server.url, alice)));
  const starts = clients.map((_, i) => [0, 1, 700, 1_999, 2_400][i % 5]!);
  for (const [i, client] of clients.entries()) {
    client.subscribe(topic, starts[i]!);
    await pause(7);
  }
  await pause(200);
  stop = true;
  await writing;
  const last = (await server.store.task(id))!.seq;
  for (const [i, client] of clients.entries()) {
    await until(`client ${i}`, () => client.seqs(topic).at(-1) === last);
    expect(client.seqs(topic)).toEqual(upTo(last, starts[i]! + 1));
  }
});

it("[F1] a new subscription to the same topic starts again at its cursor, unsubscribe ends it", async () => {
  const server = await openServer();
  const { id } = await server.writer.create(ALICE.userId);
  const topic = `task:${id}`;
  await server.writer.growAtOnce(id, 9);
  const client = await connectClient(server.url, alice);
  client.subscribe(topic, 0);
  await until("first", () => client.seqs(topic).length === 10);
  client.subscribe(topic, 7);
  await until("again", () => client.seqs(topic).length === 13);
  expect(client.seqs(topic).slice(10)).toEqual([8, 9, 10]);
  client.say({ type: "unsubscribe", topic });
  client.say({ type: "ping" });
  await until("pong", () => client.frames.some((frame) => frame.type === "pong"));
  await server.writer.grow(id, 3);
  await pause(100);
  expect(client.seqs(topic)).toHaveLength(13);
  expect(server.hub.channels()).toBe(0);
});

it("[F2] [R3] a frame contains only stored events, also after a hint ahead of the commit", async () => {
  const server = await openServer();
  const { id } = await server.writer.create(ALICE.userId);
  const topic = `task:${id}`;
  const early: number[] = [];
  const checks: Promise<void>[] = [];
  const client = await connectClient(server.url, alice, {
    onFrame(frame) {
      if (frame.type !== "events") return;
      checks.push(server.store.task(id).then((task) => void (task!.seq < frame.cursor && early.push(frame.cursor))));
    },
  });
  client.subscribe(topic);
  await until("the first event", () => client.seqs(topic).length === 1);
  server.bus.publishHint({ taskId: id, userId: ALICE.userId, seq: 1_000 });
  await pause(60);
  expect(client.seqs(topic)).toEqual([1]);
  for (let n = 0; n < 40; n++) {
    const commit = server.writer.grow(id, 1);
    // Ahead of the commit: there is nothing to show yet.
    server.bus.publishHint({ taskId: id, userId: ALICE.userId, seq: n + 2 });
    await commit;
  }
  await until("all", () => client.seqs(topic).at(-1) === 41);
  await Promise.all(checks);
  expect(early).toEqual([]);
  expect(client.seqs(topic)).toEqual(upTo(41));
});

it("[F3] a client that never reads is closed with 4408, others receive everything, memory stays bounded", async () => {
  const server = await openServer({ hubTiming: { stallMs: 1_500 }, webSocketTiming: { closeMs: PATIENCE_MS } });
  const { id } = await server.writer.create(ALICE.userId);
  const topic = `task:${id}`;
  const deaf = await connectClient(server.url, alice);
  deaf.subscribe(topic);
  await until("subscribed", () => deaf.seqs(topic).length === 1);
  deaf.ws.pause();
  const others = await Promise.all(upTo(20).map((n) => connectClient(server.url, [alice, operator][n % 2]!)));
  for (const client of others) client.subscribe(topic);
  const slowest: number[] = [];
  const heapBefore = heap();
  let total = 1;
  const cut = (): boolean => server.logLines.some(({ fields }) => fields["code"] === 4408);
  for (let round = 0; round < 400 && !cut(); round++) {
    total = await server.writer.growAtOnce(id, 5, 30_000);
    const sent = performance.now();
    await until("the others", () => others.every((client) => client.batches(topic).at(-1)?.cursor === total));
    slowest.push(performance.now() - sent);
    for (const client of others) trim(client.frames);
    await pause(10);
  }
  expect(cut()).toBe(true);
  // 20 readers of what was written: only what one socket may hold stays.
  await expect.poll(() => heap() - heapBefore).toBeLessThan(30 * 1024 * 1024);
  slowest.sort((a, b) => a - b);
  expect(slowest[Math.floor(slowest.length / 2)]).toBeLessThan(1_000);
  deaf.ws.resume();
  await until("the close frame", () => deaf.closed() !== null);
  expect(deaf.closed()).toBe(4408);
  const got = deaf.batches(topic).at(-1)!.cursor;
  expect(deaf.seqs(topic)).toEqual(upTo(got));
  // It resumes by its cursor.
  const again = await connectClient(server.url, alice);
  again.subscribe(topic, got);
  await until("the rest", () => again.batches(topic).at(-1)?.cursor === total);
  expect(again.seqs(topic)).toEqual(upTo(total, got + 1));
});

it("[F3] a client that pauses receives nothing during the pause and then the rest, once and in order", async () => {
  const server = await openServer({ hubTiming: { stallMs: PATIENCE_MS } });
  const { id } = await server.writer.create(ALICE.userId);
  const topic = `task:${id}`;
  const client = await connectClient(server.url, alice);
  client.subscribe(topic);
  await until("subscribed", () => client.seqs(topic).length === 1);
  client.ws.pause();
  let total = 1;
  for (let round = 0; round < 60; round++) total = await server.writer.growAtOnce(id, 10, 30_000);
  await pause(300);
  const ahead = client.seqs(topic).length;
  expect(ahead).toBeLessThan(total);
  client.ws.resume();
  await until("everything", () => client.batches(topic).at(-1)?.cursor === total);
  expect(client.seqs(topic)).toEqual(upTo(total));
  await server.writer.grow(id, 1);
  await until("live again", () => client.batches(topic).at(-1)?.cursor === total + 1);
});

it("[F4] deltas reach subscribers at the tail, are never stored, and are not sent to a full socket", async () => {
  const server = await openServer({ hubTiming: { stallMs: PATIENCE_MS } });
  const { id } = await server.writer.create(ALICE.userId);
  const topic = `task:${id}`;
  const [reader, slow] = await Promise.all([connectClient(server.url, alice), connectClient(server.url, alice)]);
  for (const client of [reader, slow]) client.subscribe(topic);
  await until("subscribed", () => [reader, slow].every((client) => client.seqs(topic).length === 1));
  slow.ws.pause();
  // Up to where the socket holds more than deltas may join, and less than what makes it a laggard.
  for (let n = 0; n < 300; n++) await server.writer.growAtOnce(id, 1, 30_000);
  await until("the reader is at the head", () => reader.seqs(topic).at(-1) === 301);
  const before = (await server.store.task(id))!.seq;
  const sent = upTo(2_000).map((n) => `t${n} `);
  for (const [n, text] of sent.entries()) {
    server.bus.publishDelta({ taskId: id, userId: ALICE.userId, messageId: "m1", text });
    if (n % 100 === 0) await pause(5);
  }
  await until("the last delta", () => deltas(reader.frames).endsWith("t2000 "));
  expect(deltas(reader.frames)).toBe(sent.join(""));
  expect(reader.frames.filter((frame) => frame.type === "delta").length).toBeLessThan(200);
  expect((await server.store.task(id))!.seq).toBe(before);
  expect((await server.store.events(id, 0, 1_000)).items.some((event) => JSON.stringify(event).includes("t2000"))).toBe(
    false,
  );
  slow.ws.resume();
  await until("the slow one", () => slow.seqs(topic).at(-1) === before);
  expect(slow.seqs(topic)).toEqual(upTo(before));
  expect(slow.frames.some((frame) => frame.type === "delta")).toBe(false);
});

it("[F5] 1,000 missed events arrive in one frame, large ones in frames of bounded size", async () => {
  const server = await openServer();
  const { id } = await server.writer.create(ALICE.userId);
  const topic = `task:${id}`;
  await server.writer.growAtOnce(id, 1_999);
  const client = await connectClient(server.url, alice);
  client.subscribe(topic, 1_000);
  await until("caught up", () => client.seqs(topic).at(-1) === 2_000);
  expect(client.seqs(topic)).toEqual(upTo(2_000, 1_001));
  expect(client.batches(topic).length).toBeLessThanOrEqual(2);

  const big = await server.writer.create(ALICE.userId);
  await server.writer.growAtOnce(big.id, 300, 60_000);
  client.subscribe(`task:${big.id}`, 0);
  await until("the large ones", () => client.seqs(`task:${big.id}`).at(-1) === 301);
  expect(client.seqs(`task:${big.id}`)).toEqual(upTo(301));
  for (const batch of client.batches(`task:${big.id}`)) expect(JSON.stringify(batch).length).toBeLessThan(512 * 1024);
});

it("[F1] a bus that loses hints costs latency, never data", async () => {
  let n = 0;
  const server = await openServer({
    hubTiming: { pollMs: 300 },
    hubBus: (bus) => ({
      onDelta: (l) => bus.onDelta(l),
      onDeleted: (l) => bus.onDeleted(l),
      onRead: (l) => bus.onRead(l),
      onHint: (listener) => bus.onHint((hint) => void (n++ % 2 === 0 && listener(hint))),
    }),
  });
  const { id } = await server.writer.create(ALICE.userId);
  const topic = `task:${id}`;
  const client = await connectClient(server.url, alice);
  client.subscribe(topic);
  client.subscribe("tasks", null);
  for (let i = 0; i < 30; i++) {
    await server.writer.grow(id, 1);
    await pause(random() * 30);
  }
  await until("everything", () => client.seqs(topic).at(-1) === 31 && client.seqs("tasks").at(-1) === 31);
  expect(client.seqs(topic)).toEqual(upTo(31));

  const mute = await openServer({
    hubTiming: { pollMs: 300 },
    hubBus: () => {
      const listen = () => () => false;
      return { onHint: listen, onDeleted: listen, onRead: listen, onDelta: listen };
    },
  });
  const task = await mute.writer.create(ALICE.userId);
  const other = await connectClient(mute.url, alice);
  other.subscribe(`task:${task.id}`);
  await until("first", () => other.seqs(`task:${task.id}`).length === 1);
  await mute.writer.grow(task.id, 5);
  await until("by the poll", () => other.seqs(`task:${task.id}`).at(-1) === 6);
});

it("[R7] a deleted task ends its watchers with a word and leaves the lists, also of a client that was away", async () => {
  const server = await openServer();
  const kept = await server.writer.create(ALICE.userId);
  const { id } = await server.writer.create(ALICE.userId);
  const settled = await server.writer.settle(id);
  const [client, all] = [await connectClient(server.url, alice), await connectClient(server.url, operator)];
  client.subscribe(`task:${id}`);
  client.subscribe("tasks", null);
  all.subscribe("tasks:all", null);
  await until("lists", () => idsIn(client, "tasks").length === 2 && idsIn(all, "tasks:all").length === 2);
  expect(await server.store.beginDeletion({ taskId: id, at: 9, by: null })).toBe(true);
  server.bus.publishDeleted({ taskId: id, userId: ALICE.userId });
  const gone = (topic: string) => ({ type: "deleted", topic, ids: [id] });
  await until("the words", () => client.frames.length > 0 && client.frames.some(({ type }) => type === "deleted"));
  await until("the operator's", () => all.frames.some(({ type }) => type === "deleted"));
  expect(client.frames).toContainEqual({ type: "error", code: "not_found", topic: `task:${id}` });
  expect(client.frames).toContainEqual(gone("tasks"));
  expect(all.frames).toContainEqual(gone("tasks:all"));

  const back = await connectClient(server.url, alice);
  back.subscribe("tasks", settled.rev);
  back.subscribe(`task:${id}`);
  await until("all of it", () => back.frames.some(({ type }) => type === "error"));
  expect(back.frames).toContainEqual(gone("tasks"));
  await server.writer.grow(kept.id, 1);
  await until("the other one", () => idsIn(back, "tasks").includes(kept.id));
  expect(idsIn(back, "tasks")).not.toContain(id);
});

it("[F1] `tasks` sends the user's tasks in their newest form after a cursor, `tasks:all` those of all users to operators", async () => {
  const server = await openServer();
  const mine = [];
  for (let n = 0; n < 5; n++) mine.push(await server.writer.create(ALICE.userId));
  const theirs = await server.writer.create(BOB.userId);
  const client = await connectClient(server.url, alice);
  const operatorClient = await connectClient(server.url, operator);
  client.subscribe("tasks", null);
  operatorClient.subscribe("tasks", null);
  operatorClient.subscribe("tasks:all", null);
  await until("lists", () => idsIn(client, "tasks").length === 5 && idsIn(operatorClient, "tasks:all").length === 6);
  expect(idsIn(client, "tasks")).toEqual(mine.map((task) => task.id));
  expect(idsIn(operatorClient, "tasks")).toEqual([]);
  for (const batch of client.batches("tasks")) for (const item of batch.items) taskSchema.parse(item);
  const cursor = client.batches("tasks").at(-1)!.cursor;

  await server.writer.growAtOnce(mine[2]!.id, 7);
  await server.writer.growAtOnce(theirs.id, 3);
  await until(
    "changes",
    () => idsIn(client, "tasks").length === 6 && idsIn(operatorClient, "tasks:all").includes(theirs.id),
  );
  expect(
    client
      .batches("tasks")
      .at(-1)!
      .items.map((item) => [(item as WireTask).id, item.seq]),
  ).toEqual([[mine[2]!.id, 8]]);

  const back = await connectClient(server.url, alice);
  back.subscribe("tasks", cursor);
  await until("only what changed", () => idsIn(back, "tasks").length > 0);
  expect(idsIn(back, "tasks")).toEqual([mine[2]!.id]);
  back.subscribe("tasks", back.batches("tasks").at(-1)!.cursor);
  await pause(100);
  expect(back.errors()).toEqual([]);
  expect(idsIn(back, "tasks")).toHaveLength(1);
});

it("[F1] a cursor beyond the end is rejected; the connection stays usable", async () => {
  const server = await openServer();
  const { id } = await server.writer.create(ALICE.userId);
  const client = await connectClient(server.url, alice);
  client.subscribe(`task:${id}`, 2);
  client.subscribe("tasks", 1_000);
  await until("errors", () => client.errors().length === 2);
  expect(client.errors()).toEqual(["invalid_cursor", "invalid_cursor"]);
  client.subscribe(`task:${id}`, 1);
  await server.writer.grow(id, 1);
  await until("live", () => client.seqs(`task:${id}`).length === 1);
  expect(client.seqs(`task:${id}`)).toEqual([2]);
});

it("[S2] another user's task, an unknown task and an invalid topic get the same error (item 59)", async () => {
  const server = await openServer();
  const { id } = await server.writer.create(ALICE.userId);
  const thief = await connectClient(server.url, bob);
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
  await server.writer.grow(id, 5);
  server.bus.publishDelta({ taskId: id, userId: ALICE.userId, messageId: "m", text: "secret" });
  await pause(100);
  expect(thief.frames.some((frame) => frame.type === "events" || frame.type === "delta")).toBe(false);
  const operatorClient = await connectClient(server.url, operator);
  operatorClient.subscribe(`task:${id}`);
  await until("operators see it", () => operatorClient.seqs(`task:${id}`).length === 6);
});

it("[F3] a connection has a limited number of subscriptions", async () => {
  const server = await openServer();
  const { id } = await server.writer.create(ALICE.userId);
  const client = await connectClient(server.url, alice);
  const others = await Promise.all(upTo(SUBSCRIPTIONS_PER_CONNECTION).map(() => server.writer.create(ALICE.userId)));
  for (const task of others) client.subscribe(`task:${task.id}`);
  client.subscribe(`task:${id}`);
  await until("the answer", () => client.errors().length === 1);
  expect(client.errors()).toEqual(["too_many_subscriptions"]);
  client.say({ type: "unsubscribe", topic: `task:${others[0]!.id}` });
  client.subscribe(`task:${id}`);
  await until("room again", () => client.seqs(`task:${id}`).length === 1);
  client.drop();
  await until("empty rooms are gone", () => server.hub.channels() === 0);
});

it("[F1] a store that fails temporarily delays events and loses none", async () => {
  const server = await openServer({ hubTiming: { pollMs: 200 } });
  const { id } = await server.writer.create(ALICE.userId);
  const topic = `task:${id}`;
  const client = await connectClient(server.url, alice);
  client.subscribe(topic);
  await until("first", () => client.seqs(topic).length === 1);
  const { eventRows } = server.store;
  const broken = server.store as { eventRows: typeof eventRows };
  broken.eventRows = () => Promise.reject(new Error("disk on fire"));
  await server.writer.grow(id, 4);
  await until("it was noticed", () => server.logLines.some(({ level }) => level === "warn"));
  broken.eventRows = eventRows;
  await until("the rest", () => client.seqs(topic).at(-1) === 5);
  expect(client.seqs(topic)).toEqual(upTo(5));
});

type Frames = Awaited<ReturnType<typeof connectClient>>["frames"];
const deltas = (frames: Frames): string => frames.map((frame) => (frame.type === "delta" ? frame.text : "")).join("");
const idsIn = (client: Awaited<ReturnType<typeof connectClient>>, topic: string): string[] =>
  client.batches(topic).flatMap((batch) => batch.items.map((item) => (item as WireTask).id));
/** Only the last frame is needed: the rest would be the test's own memory. */
const trim = (frames: Frames): void => void frames.splice(0, frames.length - 1);
/** Bytes in use after everything that can be collected has been. */
function heap(): number {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

it("[F7] fifty subscriptions to one list that arrive together read the list about once, not fifty times", async () => {
  const server = await openServer();
  for (let n = 0; n < 100; n++) await server.writer.create(ALICE.userId);
  const client = await connectClient(server.url, alice);
  for (let n = 0; n < 50; n++) client.subscribe("tasks", null);
  await until("all are answered", () => client.frames.filter(({ type }) => type === "subscribed").length === 50);
  const items = (): number => client.batches("tasks").reduce((sum, frame) => sum + frame.items.length, 0);
  await until("the list", () => items() >= 100);
  const last = await server.writer.create(ALICE.userId);
  await until("the newest", () =>
    client.batches("tasks").some((frame) => frame.items.some((item) => (item as unknown as WireTask).id === last.id)),
  );
  // The frames may arrive in several parts.
  expect(items()).toBeLessThan(1_000);
});
