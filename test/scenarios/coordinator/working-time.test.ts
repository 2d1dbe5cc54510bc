/** Downtime, pauses and changed clocks on a whole coordinator with a manual clock. */
import { afterEach, describe, expect } from "vitest";
import { checkInvariants } from "../../../src/coordinator/invariants.ts";
import { WORK_REF } from "../../../src/core/ports/repositories.ts";
import { DEFAULT_POLICY, sandboxName } from "../../../src/core/task.ts";
import { ALICE, openHarness, type Harness, type HarnessOptions } from "../../support/coordinator/harness.ts";
import { openMemoryStore } from "../../../src/store/memory/store.ts";
import { settle } from "../../support/manual-clock.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(3);

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const LIVENESS = 60 * SECOND;
const { wallMs, silenceMs, pushMs, cancelMs, queueMs, answerMs } = DEFAULT_POLICY;

let harness: Harness;
afterEach(async () => {
  const { violations } = await checkInvariants({ store: harness.store, sandbox: null, maxConcurrent: 8 });
  await harness.close();
  expect(violations).toEqual([]);
});

async function open(options: HarnessOptions = {}): Promise<void> {
  harness = await openHarness({
    ...options,
    settings: { livenessMs: LIVENESS, pauseMs: 5 * SECOND, maxConcurrent: 8, ...options.settings },
  });
}

const WRITES = new Set(["commit", "create", "setSetting"]);

/** The memory store, which rejects every write while `fails.now`. */
function openFailingStore(): { options: HarnessOptions; fails: { now: boolean } } {
  const { store, ledger } = openMemoryStore();
  const fails = { now: false };
  const failing = new Proxy(store, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== "function") return value;
      if (WRITES.has(String(name)) && fails.now) return () => Promise.reject(new Error("disk I/O error"));
      return value.bind(target) as unknown;
    },
  });
  return { options: { store: failing, ledger }, fails };
}

async function running(request = {}): Promise<string> {
  const { id } = await harness.submit(request);
  await harness.until(id, "provisioning");
  await harness.untilWorker(id);
  await harness.fakeWorkers.send(harness.coordinator.workerApi, id, ["ready", {}]);
  await harness.until(id, "running");
  return id;
}

async function finish(id: string): Promise<void> {
  const sha = await harness.repos.commit(id, WORK_REF, "work");
  await send(id, ["finished", { sha, title: "A title", summary: "Done." }]);
}

const send = (id: string, ...events: Parameters<Harness["fakeWorkers"]["send"]>[2][]): Promise<unknown> =>
  harness.fakeWorkers.send(harness.coordinator.workerApi, id, ...events);
const says = (id: string): Promise<unknown> =>
  send(id, ["message", { id: "m1", role: "assistant", content: [{ type: "text", text: "working" }] }]);

async function downFor(ms: number, meanwhile: () => Promise<unknown> = settle): Promise<void> {
  await harness.coordinator.close();
  await meanwhile();
  await harness.clock.jump(ms);
  await harness.restart();
}

/** Advances in steps below the pause, with a sign of life of each worker. */
async function workFor(ms: number, ...ids: string[]): Promise<void> {
  for (let passed = 0; passed < ms; passed += 30 * SECOND) {
    await harness.clock.advance(30 * SECOND);
    for (const id of ids) await says(id);
  }
}

const times = async (id: string) => {
  const { dueAt, wallAt } = (await harness.task(id)).snapshot.context;
  return { due: (dueAt ?? 0) - harness.clock.now(), wall: (wallAt ?? 0) - harness.clock.now() };
};
const failure = async (id: string) => (await harness.task(id)).snapshot.context.failure?.code;
const notices = async (id: string, code: string) =>
  (await harness.store.events(id, 0, 1_000)).items.filter((event) => event.data["code"] === code);

describe("downtime", () => {
  it("[D2] [D11] [D12] a worker that finished while nobody listened is believed, however long that was", async () => {
    await open();
    const id = await running({ maxAttempts: 1 });
    await downFor(3 * wallMs);
    await harness.clock.advance(5 * SECOND);
    await finish(id);
    expect((await harness.until(id, "done")).snapshot.context).toMatchObject({ attempt: 1, outcome: "pushed" });
  });

  it.each([
    ["the silence", silenceMs + MINUTE],
    ["the wall clock", wallMs + MINUTE],
  ])(
    "[T5] [D12] a worker that died in a downtime longer than %s was interrupted and costs no attempt",
    async (_, ms) => {
      await open();
      const id = await running({ maxAttempts: 1 });
      await downFor(ms, () => harness.sandbox.remove(sandboxName(id, 1)));
      expect((await harness.until(id, "retrying")).snapshot.context).toMatchObject({ excused: 1 });
      expect(await failure(id)).toBe("interrupted");
    },
  );

  it("[D12] a push that was cut off is tried before it is given up", async () => {
    await open();
    const id = await running({ maxAttempts: 1 });
    harness.latches.push.closed = true;
    await finish(id);
    await harness.until(id, "pushing");
    await harness.clock.advance(pushMs - 3 * SECOND);
    await downFor(10 * pushMs);
    expect((await times(id)).due).toBe(LIVENESS);
    harness.latches.push.let();
    await harness.until(id, "done");
  });

  it("[D11] keeps what was left of each deadline of work, but not less than the grace", async () => {
    await open();
    const id = await running();
    await workFor(20 * MINUTE, id);
    await downFor(5 * HOUR);
    expect(await times(id)).toEqual({ due: silenceMs, wall: wallMs - 20 * MINUTE });
    await workFor(39 * MINUTE, id);
    await downFor(HOUR);
    expect((await times(id)).wall).toBe(MINUTE);
    await harness.clock.advance(30 * SECOND);
    await says(id);
    await downFor(HOUR);
    expect((await times(id)).wall).toBe(LIVENESS);
    await workFor(MINUTE, id).catch(() => undefined);
    const { question } = (await harness.until(id, "running.parked")).snapshot.context;
    expect(question?.id).toBe(`budget_minutes_${wallMs}`);
  });

  it("[D11] moves the deadlines of retrying, cancelling and the queue, and not that of a person", async () => {
    await open({ settings: { livenessMs: HOUR } });
    const parked = await running();
    await send(parked, ["question", { id: "q1", question: "Which?", options: null }]);
    await workFor(DEFAULT_POLICY.parkMs + MINUTE);
    await harness.until(parked, "running.parked");
    const parkedBefore = await times(parked);
    const retrying = await running();
    await harness.coordinator.scheduler.setMode("paused");
    harness.sandbox.crash(sandboxName(retrying, 1), { exitCode: 7, outOfMemory: false, tail: "" });
    await harness.until(retrying, "retrying");
    const retryBefore = await times(retrying);
    const queued = (await harness.submit()).id;
    await downFor(3 * queueMs);
    expect((await times(retrying)).due).toBe(retryBefore.due);
    expect((await times(parked)).due).toBe(parkedBefore.due - 3 * queueMs);
    await harness.clock.advance(2 * SECOND);
    expect((await times(queued)).due).toBe(queueMs - 2 * SECOND);
    await downFor(answerMs);
    expect(await failure(parked)).toBe("deadline_exceeded");
  });

  it("[D7] [D11] a cancel that was under way keeps its bound", async () => {
    await open();
    const id = await running();
    harness.latches.stop.closed = true;
    await harness.coordinator.tasks.cancel(ALICE, id, false);
    await harness.until(id, "cancelling");
    await downFor(HOUR);
    expect((await harness.task(id)).state).toBe("cancelling");
    await harness.clock.advance(cancelMs + SECOND);
    expect((await harness.task(id)).state).toBe("cancelled");
  });

  it("[D11] a second crash in the boot does not count the same downtime twice", async () => {
    await open();
    const id = await running();
    await workFor(10 * MINUTE, id);
    await harness.coordinator.close();
    await harness.clock.jump(HOUR);
    // The first boot ends before the ticks begin, and so before the heartbeat.
    await harness.restart();
    await harness.restart();
    await downFor(HOUR);
    expect(await times(id)).toEqual({ due: silenceMs, wall: wallMs - 10 * MINUTE });
  });

  it("[D11] what a worker sends before the boot has come to its task counts after the downtime", async () => {
    await open();
    const id = await running();
    await workFor(10 * MINUTE, id);
    await harness.coordinator.close();
    await harness.clock.jump(2 * HOUR);
    harness.engine.check = true;
    const restarting = harness.restart();
    await settle(1);
    await says(id).catch(() => undefined);
    harness.engine.check = false;
    await restarting;
    expect((await times(id)).wall).toBe(wallMs - 10 * MINUTE);
  });
});

describe("a pause of the process", () => {
  it.each([
    ["the liveness period", 95 * SECOND],
    ["the silence", silenceMs + MINUTE],
    ["the wall clock", wallMs + MINUTE],
  ])("[D11] [D12] longer than %s costs no running task anything", async (_, ms) => {
    await open();
    const ids = [await running({ maxAttempts: 1 }), await running({ maxAttempts: 1 }), await running()];
    await workFor(2 * MINUTE, ...ids);
    await harness.clock.jump(ms);
    await harness.clock.advance(2 * SECOND);
    for (const id of ids) {
      expect(await times(id)).toEqual({ due: silenceMs - 2 * SECOND, wall: wallMs - 2 * MINUTE - 2 * SECOND });
      await finish(id);
      expect((await harness.until(id, "done")).snapshot.context.attempt).toBe(1);
    }
  });

  it("[D12] a worker that died in it is found after one liveness period", async () => {
    await open();
    const id = await running();
    await harness.clock.jump(2 * wallMs);
    await harness.clock.advance(LIVENESS - SECOND);
    expect((await harness.task(id)).state).toBe("running");
    await harness.clock.advance(3 * SECOND);
    expect(await failure(id)).toBe("worker_lost");
  });

  it("is not seen in a coordinator that is only busy", async () => {
    await open();
    const id = await running();
    for (let i = 0; i < 10; i += 1) await harness.clock.jump(3 * SECOND);
    expect(await notices(id, "resumed")).toHaveLength(0);
  });
});

describe("a wall clock that is set", () => {
  it.each([
    ["forward by two minutes", 2 * MINUTE],
    ["forward by 61 minutes", 61 * MINUTE],
    ["back by five minutes", -5 * MINUTE],
    ["back by 61 minutes", -61 * MINUTE],
    ["back by ten days", -240 * HOUR],
  ])("[D11] %s leaves a running task what was left of its deadlines", async (_, ms) => {
    await open({ settings: { livenessMs: HOUR } });
    const [talks, hangs] = [await running(), await running()];
    await workFor(10 * MINUTE, talks, hangs);
    harness.clock.setWall(ms);
    // Talks at once, before any tick has compared the clocks.
    await says(talks);
    await harness.clock.advance(2 * SECOND);
    expect(await times(talks)).toEqual({ due: silenceMs - 2 * SECOND, wall: wallMs - 10 * MINUTE - 2 * SECOND });
    expect((await times(hangs)).wall).toBe((await times(talks)).wall);
    // The grace, from the tick that found the change.
    expect((await times(hangs)).due - (await times(talks)).due).toBeLessThanOrEqual(SECOND);
    expect(await notices(hangs, "resumed")).toHaveLength(1);
    for (let passed = 0; passed < silenceMs - MINUTE; passed += 30 * SECOND) {
      await harness.clock.advance(30 * SECOND);
      await says(talks);
    }
    expect((await harness.task(hangs)).state).toBe("running");
    for (let passed = 0; passed < MINUTE + 10 * SECOND; passed += 10 * SECOND) {
      await harness.clock.advance(10 * SECOND);
      await says(talks);
    }
    expect(await failure(hangs)).toBe("stalled");
    expect((await harness.task(talks)).state).toBe("running");
  });

  it("[D11] [T4] back, while the coordinator is away, delays no deadline, and times in the log do not decrease", async () => {
    await open();
    const id = await running();
    await workFor(10 * MINUTE, id);
    await harness.coordinator.close();
    harness.clock.setWall(-2 * HOUR);
    await harness.restart();
    expect(await times(id)).toEqual({ due: silenceMs, wall: wallMs - 10 * MINUTE });
    await workFor(5 * MINUTE, id);
    expect(await times(id)).toEqual({ due: silenceMs, wall: wallMs - 15 * MINUTE });
    const at = (await harness.store.events(id, 0, 1_000)).items.map((event) => event.at);
    expect(at).toEqual(at.toSorted((a, b) => a - b));
    harness.clock.setWall(2 * HOUR);
    await workFor(5 * MINUTE, id);
    expect(await times(id)).toEqual({ due: silenceMs, wall: wallMs - 20 * MINUTE });
    expect((await harness.task(id)).updatedAt).toBeLessThanOrEqual(harness.clock.now());
  });

  it("[D11] back, does not make a question or its answer wait longer", async () => {
    await open({ settings: { livenessMs: HOUR } });
    const id = await running();
    await workFor(10 * MINUTE, id);
    await send(id, ["question", { id: "q1", question: "Which?", options: null }]);
    harness.clock.setWall(-3 * HOUR);
    await harness.clock.advance(4 * MINUTE).catch(() => undefined);
    await harness.coordinator.tasks.answer(ALICE, id, { questionId: "q1", text: "a" });
    expect((await times(id)).wall).toBe(wallMs - 10 * MINUTE);
    expect((await times(id)).due).toBe(silenceMs);
  });

  it.each([
    ["too many failures", () => Array.from({ length: 6 }, () => harness.coordinator.scheduler.noteInfraFailure())],
    ["too little disk space", () => (harness.disks.shortage = "Full.")],
  ])("[D9] [D10] back, during a pause of claiming for %s, does not prolong the pause", async (_, pause) => {
    await open();
    pause();
    await harness.clock.advance(2 * SECOND);
    const { id } = await harness.submit();
    await harness.clock.advance(5 * SECOND);
    expect((await harness.task(id)).state).toBe("queued");
    harness.clock.setWall(-HOUR);
    harness.disks.shortage = null;
    await harness.clock.advance(20 * SECOND);
    expect((await harness.task(id)).state).toBe("provisioning");
  });

  it("a new task after a set-back has the time of the wall clock", async () => {
    await open();
    const before = await running();
    harness.clock.setWall(-3 * HOUR);
    await harness.clock.advance(2 * SECOND);
    const after = await running();
    expect((await harness.task(after)).createdAt).toBe(harness.clock.now());
    expect((await harness.task(before)).updatedAt).toBeGreaterThan(harness.clock.now());
  });
});

describe("a store that rejects every write", () => {
  it("[D11] [W4] for longer than the task has left, moves its deadline, and the report that waited counts", async () => {
    const { options, fails } = openFailingStore();
    await open(options);
    const id = await running({ maxAttempts: 1 });
    await workFor(wallMs - 5 * MINUTE, id);
    fails.now = true;
    await expect(harness.submit()).rejects.toThrow("disk I/O error");
    for (let passed = 0; passed < 20 * MINUTE; passed += MINUTE)
      await harness.clock.advance(MINUTE).catch(() => undefined);
    fails.now = false;
    await harness.clock.advance(2 * SECOND);
    expect((await harness.task(id)).state).toBe("running");
    expect(await notices(id, "resumed")).toHaveLength(1);
    await finish(id);
    expect((await harness.until(id, "done")).snapshot.context).toMatchObject({ attempt: 1, outcome: "pushed" });
  });

  it("[D11] for a moment, is no loss: a worker that fell silent is found in time", async () => {
    const { options, fails } = openFailingStore();
    await open(options);
    const id = await running();
    const before = await times(id);
    fails.now = true;
    await expect(harness.submit()).rejects.toThrow("disk I/O error");
    fails.now = false;
    await harness.clock.advance(3 * SECOND);
    expect(await notices(id, "resumed")).toEqual([]);
    expect((await times(id)).wall).toBe(before.wall - 3 * SECOND);
    await harness.clock.advance(LIVENESS);
    expect(await failure(id)).toBe("worker_lost");
  });
});
