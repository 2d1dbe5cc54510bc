/**
 * The link over the real broker: order, duplicates, gaps, the fence, a coordinator that goes away.
 */
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { systemClock } from "../../../src/core/lib/runtime/system-clock.ts";
import { HttpLink } from "../../../worker/connection/http-link.ts";
import { Journal } from "../../../worker/connection/journal.ts";
import { StaleAttempt } from "../../../worker/connection/link.ts";
import { Rig } from "../rig.ts";
import type { Clock } from "../../../src/core/ports/runtime.ts";

let rig: Rig;
let links: HttpLink[] = [];
const never = new AbortController().signal;

beforeEach(async () => {
  rig = await Rig.open();
});
afterEach(async () => {
  await Promise.all(links.map(async (link) => await link.close()));
  links = [];
  await rig.close();
});

async function openLink(clock: Clock = systemClock, isOrphaned = (): boolean => false): Promise<HttpLink> {
  const { socketDir, token } = await rig.broker.open(rig.workerApi.taskId, rig.workerApi.attempt);
  const { attempt } = rig.workerApi;
  const link = new HttpLink({
    socketPath: join(socketDir, "b.sock"),
    token,
    attempt,
    journal: new Journal(rig.state, attempt),
    clock,
    isOrphaned,
  });
  links.push(link);
  return link;
}

/** The real clock, which notes its pauses and can be put forward. */
function createNotingClock() {
  const pauses: number[] = [];
  let ahead = 0;
  const clock: Clock = {
    ...systemClock,
    monotonic: () => systemClock.monotonic() + ahead,
    sleep(ms, signal) {
      pauses.push(ms);
      return systemClock.sleep(ms, signal);
    },
  };
  return { clock, pauses, jump: (ms: number): void => void (ahead += ms) };
}

const emitNumber = (link: HttpLink, n: number): void =>
  link.emit("notice", { level: "info", code: "n", text: String(n) });
const texts = (): number[] => rig.workerApi.of("notice").map((event) => Number(event.data["text"]));
const upTo = (n: number): number[] => Array.from({ length: n }, (_, index) => index + 1);

it("[W2] 20,000 events through a coordinator that goes away 7 times arrive once and in order", async () => {
  const link = await openLink();
  await link.spec(never);
  const emitting = (async () => {
    for (let n = 1; n <= 20_000; n += 1) {
      emitNumber(link, n);
      if (n % 100 === 0) await systemClock.sleep(8);
    }
  })();
  for (let kill = 0; kill < 7; kill += 1) {
    const seen = rig.workerApi.events.length;
    await rig.workerApi.until(() => rig.workerApi.events.length > seen + 500);
    await rig.broker.close();
    await systemClock.sleep(60);
    rig.newBroker();
    await rig.broker.open(rig.workerApi.taskId, 1);
  }
  await emitting;
  await link.flush(never);
  expect(texts()).toEqual(upTo(20_000));
  expect(rig.workerApi.events.map((event) => event.seq)).toEqual(upTo(20_000));
});

it("[F4] deltas come after all events that were emitted before them, and none of a message that has ended", async () => {
  const link = await openLink();
  await link.spec(never);
  await rig.broker.close();
  link.delta("ended", "hel");
  for (const n of upTo(500)) emitNumber(link, n);
  link.emit("message", { id: "ended", role: "assistant", content: [{ type: "text", text: "hello" }] });
  link.delta("begun", "wor");
  rig.newBroker();
  await rig.broker.open(rig.workerApi.taskId, 1);
  await rig.workerApi.until(() => rig.workerApi.deltas.length > 0);
  expect(rig.workerApi.deltas).toEqual([{ messageId: "begun", text: "wor", after: 501 }]);
});

it("[W1] a batch that was accepted but not acknowledged is sent again and changes nothing", async () => {
  const link = await openLink();
  await link.spec(never);
  const accept = rig.workerApi.accept.bind(rig.workerApi);
  let losses = 3;
  rig.workerApi.accept = async (taskId, batch) => {
    const ack = await accept(taskId, batch);
    if (losses-- > 0) throw new Error("died after the commit");
    return ack;
  };
  for (const n of upTo(50)) emitNumber(link, n);
  await link.flush(never);
  expect(losses).toBeLessThan(0);
  expect(texts()).toEqual(upTo(50));
});

it("after a gap it continues from the coordinator's number, reading the journal if necessary", async () => {
  const link = await openLink();
  await link.spec(never);
  for (const n of upTo(30)) emitNumber(link, n);
  await link.flush(never);
  rig.workerApi.events.splice(10);
  rig.workerApi.ack = 10;
  emitNumber(link, 31);
  await link.flush(never);
  expect(texts()).toEqual(upTo(31));
});

it("while nothing listens it tries every 200 ms, so that waiting events arrive soon", async () => {
  const { clock, pauses } = createNotingClock();
  const link = await openLink(clock);
  await link.spec(never);
  await rig.broker.close();
  emitNumber(link, 1);
  await expect.poll(() => pauses.filter((ms) => ms === 200).length).toBeGreaterThan(5);
  rig.newBroker();
  await rig.broker.open(rig.workerApi.taskId, 1);
  await link.flush(never);
  expect(Math.max(...pauses)).toBe(200);
  expect(texts()).toEqual([1]);
});

it("[W3] a stale attempt ends every wait", async () => {
  const link = await openLink();
  await link.spec(never);
  const answer = link.inbox.waitFor(() => true, link.over);
  emitNumber(link, 1);
  await link.flush(never);
  rig.workerApi.next();
  emitNumber(link, 2);
  await expect(link.flush(never)).rejects.toBeInstanceOf(StaleAttempt);
  await expect(answer).rejects.toBeInstanceOf(StaleAttempt);
  await expect(link.reach(never)).rejects.toBeInstanceOf(StaleAttempt);
  expect(texts()).toEqual([1]);
});

it("a restart of the same attempt continues from the journal and recovers its state", async () => {
  const first = await openLink();
  await first.spec(never);
  first.emit("ready", {});
  first.emit("tool.started", { id: "tool_1", name: "bash", input: {} });
  await first.flush(never);
  await rig.broker.close();
  emitNumber(first, 1);
  first.emit("question", { id: "q_1", question: "?", options: null });
  first.mark("3");
  await first.close();
  links = [];
  appendFileSync(join(rig.state, "journal.jsonl"), '{"seq":5,"at":"cut sho');

  rig.newBroker();
  const second = await openLink();
  await second.spec(never);
  expect(second.recovered).toMatchObject({
    ready: true,
    reported: false,
    cursor: "3",
    openTools: [{ id: "tool_1", name: "bash" }],
  });
  expect(second.recovered.asked.has("q_1")).toBe(true);
  emitNumber(second, 2);
  await second.flush(never);
  expect(rig.workerApi.events.map((event) => event.type)).toEqual([
    "ready",
    "tool.started",
    "notice",
    "question",
    "notice",
  ]);
  expect(rig.workerApi.events.map((event) => event.seq)).toEqual(upTo(5));
});

it("a lost journal does not reuse numbers; another attempt's journal is not read", async () => {
  rig.workerApi.ack = 7;
  mkdirSync(rig.state, { recursive: true });
  appendFileSync(
    join(rig.state, "journal.jsonl"),
    `{"attempt":9}\n{"seq":1,"at":"2026-01-01T00:00:00.000Z","type":"ready","data":{}}\n`,
  );
  const link = await openLink();
  await link.spec(never);
  expect(link.recovered.ready).toBe(false);
  emitNumber(link, 1);
  await link.flush(never);
  expect(rig.workerApi.events.map((event) => event.seq)).toEqual([8]);
  expect(readFileSync(join(rig.state, "journal.jsonl"), "utf8")).toMatch(/^\{"attempt":1\}\n/);
});

it("an event that is always refused does not block the rest", async () => {
  const link = await openLink();
  await link.spec(never);
  emitNumber(link, 1);
  link.emit("question", { id: "not an id!", question: "?", options: null });
  emitNumber(link, 2);
  await link.flush(never);
  expect(rig.workerApi.events.map((event) => event.type)).toEqual(["notice", "notice", "notice"]);
  expect(rig.workerApi.events[1]?.data).toMatchObject({ code: "event_refused" });
});

it("events of any size fit into batches", async () => {
  const link = await openLink();
  await link.spec(never);
  const text = "\u20ac".repeat(64 * 1024);
  for (let n = 0; n < 8; n += 1) {
    link.emit("message", {
      id: `m_${n}`,
      role: "assistant",
      content: Array.from({ length: 100 }, () => ({ type: "text" as const, text })),
    });
    link.emit("tool.started", {
      id: `t_${n}`,
      name: "write",
      input: { path: "p", content: text.repeat(10), deep: [[[[[[[[[[["x"]]]]]]]]]]] },
    });
  }
  await link.flush(never);
  expect(rig.workerApi.events).toHaveLength(16);
  expect(rig.workerApi.of("notice")).toEqual([]);
});

it("commands arrive once, in order, across restarts of the coordinator", async () => {
  const link = await openLink();
  await link.spec(never);
  const got: number[] = [];
  for (let n = 1; n <= 6; n += 1) {
    if (n % 2 === 0) {
      await rig.broker.close();
      rig.newBroker();
      await rig.broker.open(rig.workerApi.taskId, 1);
    }
    rig.workerApi.command({ type: "answer", questionId: "q", text: String(n) });
    const command = await link.inbox.waitFor(() => true, never);
    got.push(command.id);
  }
  rig.workerApi.command({ type: "withdraw", messageId: "m" });
  await Promise.all([link.catchUp(never), link.catchUp(never), link.catchUp(never)]);
  expect(got).toEqual(upTo(6));
  expect(link.inbox.take(() => true).map((command) => command.id)).toEqual([7]);
});

it("a wait ends when its signal is aborted, although the coordinator is away", async () => {
  const link = await openLink();
  await rig.broker.close();
  await expect(link.spec(AbortSignal.timeout(200))).rejects.toThrow();
});

it("an idle link sends a heartbeat every 20 s, until it is silenced", async () => {
  const asked: number[] = [];
  const fast: Clock = {
    ...systemClock,
    timer(ms, wake) {
      asked.push(ms);
      return systemClock.timer(ms / 400, wake);
    },
  };
  const link = await openLink(fast);
  await link.spec(never);
  const before = rig.workerApi.requestTimes.length;
  await rig.workerApi.until(() => rig.workerApi.requestTimes.length >= before + 4);
  expect(new Set(asked)).toEqual(new Set([20_000]));
  link.silence();
  // Ten heartbeats long.
  await rig.workerApi.until(() => Date.now() - (rig.workerApi.requestTimes.at(-1) ?? 0) > 500);
  emitNumber(link, 1);
  await link.flush(never);
  await link.close();
  links = [];
});

it("the link gives up on the coordinator after abandonMs without a response, and not before", async () => {
  const abandonMs = 600_000;
  rig.workerApi.overrides = { abandonMs };
  const { clock, pauses, jump } = createNotingClock();
  const tries = async (): Promise<void> => {
    const before = pauses.length;
    await expect.poll(() => link.over.aborted || pauses.length > before + 5).toBe(true);
  };
  const link = await openLink(clock);
  await link.spec(never);
  await rig.broker.close();
  jump(abandonMs - 60_000);
  await tries();
  expect(link.over.aborted).toBe(false);
  rig.newBroker();
  await rig.broker.open(rig.workerApi.taskId, 1);
  emitNumber(link, 1);
  await link.flush(never);
  // The answer has set the time back.
  await rig.broker.close();
  jump(abandonMs - 60_000);
  emitNumber(link, 2);
  await tries();
  expect(link.over.aborted).toBe(false);
  jump(60_000);
  await expect(link.flush(never)).rejects.toThrow("no coordinator came back");
  expect(link.over.aborted).toBe(true);
});

it("[W3] a worker whose folder was deleted ends when nobody answers, and only then", async () => {
  const link = await openLink(systemClock, () => !existsSync(rig.state));
  await link.spec(never);
  rmSync(rig.state, { recursive: true });
  emitNumber(link, 1);
  await link.flush(never);
  expect(link.over.aborted).toBe(false);
  await rig.broker.close();
  emitNumber(link, 2);
  await expect.poll(() => link.over.aborted).toBe(true);
  expect(String(link.over.reason)).toContain("folder is gone");
});
