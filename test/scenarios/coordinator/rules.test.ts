/**
 * The rules of the task service on a whole coordinator: real store, simulated engine and
 * repositories, manual clock.
 */
import { afterEach, describe, expect, it } from "vitest";
import { checkInvariants } from "../../../src/coordinator/invariants.ts";
import { TaskFailure } from "../../../src/core/failure.ts";
import { openMemoryStore } from "../../../src/store/memory/store.ts";
import { DEFAULT_POLICY, OPEN_STATES, sandboxName, type Limits } from "../../../src/core/task.ts";
import { DELIVERED } from "../../../src/core/protocol/worker.ts";
import { phaseOf } from "../../../machines/fold.ts";
import { settle } from "../../support/manual-clock.ts";
import { ALICE, BOB, openHarness, type Harness, type HarnessOptions } from "../../support/coordinator/harness.ts";
import type { SandboxSpec } from "../../../src/core/ports/sandbox.ts";
import { checkpointRef, WORK_REF } from "../../../src/core/ports/repositories.ts";

let harness: Harness;
let slots = 4;
async function open(options: HarnessOptions = {}): Promise<Harness> {
  slots = options.settings?.maxConcurrent ?? 4;
  harness = await openHarness(options);
  return harness;
}
afterEach(async () => {
  const { violations } = await checkInvariants({ store: harness.store, sandbox: null, maxConcurrent: slots });
  await harness.close();
  expect(violations).toEqual([]);
});

async function running(request = {}, person = ALICE): Promise<string> {
  const { id } = await harness.submit(request, person);
  await harness.until(id, "provisioning");
  await harness.untilWorker(id);
  await harness.fakeWorkers.send(harness.coordinator.workerApi, id, ["ready", {}]);
  await harness.until(id, "running");
  return id;
}
async function finish(id: string, content = "work"): Promise<string> {
  const sha = await harness.repos.commit(id, WORK_REF, content);
  await harness.fakeWorkers.send(harness.coordinator.workerApi, id, [
    "finished",
    { sha, title: "A title", summary: "What was done." },
  ]);
  return sha;
}
const code = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => "no error",
    (error: { code: string }) => error.code,
  );

describe("submit to done", () => {
  it("[D3] goes through every state, pushes once and leaves no sandbox behind", async () => {
    await open();
    const id = await running();
    const sha = await finish(id);
    const task = await harness.until(id, "done");
    expect(task.snapshot.context).toMatchObject({ outcome: "pushed", headSha: sha, attempt: 1, dueAt: null });
    await settle();
    expect(await harness.sandbox.list()).toEqual([]);
    expect(await harness.store.slotsHeld()).toBe(0);
    const states = (await harness.store.events(id, 0, 100)).items
      .filter((event) => event.from !== event.to)
      .map((event) => event.to);
    expect(states).toEqual(["queued", "provisioning", "running", "pushing", "done"]);
  });

  it("[D3] a sandbox that no task needs is removed by the next tick; a needed one stays", async () => {
    await open();
    const id = await running();
    const stray = { taskId: "task_unknown", attempt: 1, socketDir: "/nowhere", token: "att_test", limits: {} };
    await harness.sandbox.ensure({ ...stray, name: sandboxName(stray.taskId, 1) }, new AbortController().signal);
    expect(await harness.sandbox.list()).toHaveLength(2);
    await harness.clock.advance(10_000);
    await settle();
    expect((await harness.sandbox.list()).map((one) => one.taskId)).toEqual([id]);
  });

  it("a run without changes ends in done without a push", async () => {
    await open();
    const id = await running();
    const { baseSha } = (await harness.task(id)).snapshot.context;
    await harness.fakeWorkers.send(harness.coordinator.workerApi, id, [
      "finished",
      { sha: baseSha, title: "", summary: "" },
    ]);
    const task = await harness.until(id, "done");
    expect(task.snapshot.context.outcome).toBe("no_changes");
  });

  it("a reported commit that is not in the task repository fails the attempt", async () => {
    await open();
    const id = await running({ maxAttempts: 1 });
    await harness.fakeWorkers.send(harness.coordinator.workerApi, id, [
      "finished",
      { sha: "f".repeat(40), title: "", summary: "" },
    ]);
    expect((await harness.until(id, "failed")).snapshot.context.failure?.evidence ?? "").toBe("");
  });

  it("a refused credential fails before any sandbox starts", async () => {
    await open();
    harness.latches.prepare.fail(new TaskFailure("repo_auth", { detail: "401" }));
    const { id } = await harness.submit();
    const task = await harness.until(id, "failed");
    expect(task.snapshot.context.failure).toMatchObject({ code: "repo_auth", stage: "provisioning", retryable: false });
    expect(task.snapshot.context.failure?.advice).toMatch(/credential/);
    expect(harness.sandbox.created).toEqual([]);
  });
});

describe("slots", () => {
  it("[D4] caps hold at every event, also over restarts", async () => {
    await open({ settings: { maxConcurrent: 3 } });
    let most = 0;
    const count = async (): Promise<void> => {
      const boxes = (await harness.sandbox.list()).filter((info) => info.state === "running").length;
      most = Math.max(most, boxes, await harness.store.slotsHeld());
    };
    const ids = await Promise.all(Array.from({ length: 12 }, () => harness.submit().then((task) => task.id)));
    for (let round = 0; round < 40; round += 1) {
      await settle();
      await count();
      for (const id of ids) {
        const task = await harness.task(id);
        if (task.state === "provisioning" && harness.fakeWorkers.has(id))
          await harness.fakeWorkers.send(harness.coordinator.workerApi, id, ["ready", {}]);
        else if (task.state === "running") await finish(id);
        await count();
      }
      if (round % 5 === 4) await harness.restart();
      await count();
    }
    for (const id of ids) await harness.until(id, "done");
    expect(most).toBe(3);
    expect(harness.sandbox.created.length).toBe(new Set(harness.sandbox.created).size);
  });

  it("[D5] every kind of end gives the slot back", async () => {
    await open({ settings: { maxConcurrent: 1, clearMs: 1_000 } });
    const faults = ["exits", "out_of_memory", "boot_hangs", "resists_kill", "engine_down", "silent"] as const;
    for (const fault of faults) {
      const { id } = await harness.submit({ maxAttempts: 1 });
      harness.faults.set(id, fault);
      for (let i = 0; i < 60 && (await harness.task(id)).state !== "failed"; i += 1) {
        if ((await harness.task(id)).state === "retrying" && fault === "engine_down") break;
        await harness.clock.jump(60_000);
      }
      if (fault === "engine_down") {
        harness.faults.delete(id);
        await harness.coordinator.tasks.cancel(ALICE, id, true);
        await harness.until(id, "cancelled");
      } else await harness.until(id, "failed");
      await harness.clock.advance(2_000);
      expect([fault, await harness.store.slotsHeld()]).toEqual([fault, 0]);
    }
    const next = await running();
    await finish(next);
    await harness.until(next, "done");
  });

  it("[D5] the slot is free once the sandbox is removed: a push under way holds none", async () => {
    await open({ settings: { maxConcurrent: 1 } });
    harness.latches.push.closed = true;
    const pushing = await running();
    await finish(pushing);
    await harness.until(pushing, "pushing");
    const next = await running();
    expect((await harness.task(pushing)).state).toBe("pushing");
    harness.latches.push.let();
    await harness.until(pushing, "done");
    harness.latches.push.closed = false;
    await finish(next);
    await harness.until(next, "done");
  });

  it("[D8] users take turns, independent of how much each submitted", async () => {
    await open({ settings: { maxConcurrent: 1 } });
    await harness.coordinator.scheduler.setMode("paused");
    const own = await Promise.all(Array.from({ length: 4 }, () => harness.submit({}, ALICE)));
    const other = await harness.submit({}, BOB);
    await harness.coordinator.scheduler.setMode("open");
    const order: string[] = [];
    for (let i = 0; i < 5; i += 1) {
      await settle();
      const now = (await harness.store.tasks({ userId: null, states: ["provisioning"], limit: 10 })).items[0];
      order.push(now?.userId ?? "nobody");
      if (now) {
        await harness.untilWorker(now.id);
        await harness.fakeWorkers.send(harness.coordinator.workerApi, now.id, ["ready", {}]);
        await finish(now.id);
        await harness.until(now.id, "done");
      }
    }
    expect(order.slice(0, 2).sort()).toEqual([ALICE.userId, BOB.userId]);
    expect(order.filter((user) => user === ALICE.userId)).toHaveLength(4);
    expect(own).toHaveLength(4);
    expect((await harness.task(other.id)).state).toBe("done");
  });

  it("a user's limit leaves slots to others, and is the reason of the wait", async () => {
    await open({ settings: { maxConcurrent: 3, userLimit: 1 } });
    await running();
    const second = await harness.submit();
    await settle();
    expect(await harness.coordinator.operations.wait(await harness.task(second.id))).toEqual({
      reason: "user_limit",
      position: 0,
    });
    await running({}, BOB);
  });
});

describe("deadlines", () => {
  it("[D6] fire once, never early, and after downtime", async () => {
    await open({ policy: { queueMs: 60_000 } });
    await harness.coordinator.scheduler.setMode("paused");
    const { id } = await harness.submit();
    await harness.clock.advance(59_000);
    expect((await harness.task(id)).state).toBe("queued");
    await harness.coordinator.close();
    await harness.clock.jump(3_600_000);
    await harness.restart();
    await harness.clock.advance(500);
    expect((await harness.task(id)).state).toBe("queued");
    await harness.clock.advance(600);
    const task = await harness.until(id, "failed");
    expect(task.snapshot.context.failure?.code).toBe("queue_expired");
    const fired = (await harness.store.events(id, 0, 100)).items.filter(
      (event) => event.data["reason"] === "timed_out",
    );
    expect(fired).toHaveLength(1);
  });

  it("[D6] downtime does not count as a running task's silence", async () => {
    await open();
    const id = await running();
    await harness.coordinator.close();
    await harness.clock.jump(DEFAULT_POLICY.silenceMs + 60_000);
    await harness.restart();
    await settle();
    expect((await harness.task(id)).state).toBe("running");
    await harness.clock.jump(DEFAULT_POLICY.silenceMs + 1_000);
    expect((await harness.until(id, "retrying")).snapshot.context.failure?.code).toBe("stalled");
  });

  it("[T5] [D6] provisioning that was under way continues after downtime and uses up no attempt", async () => {
    await open();
    const { id } = await harness.submit();
    await harness.until(id, "provisioning");
    await harness.coordinator.close();
    await harness.clock.jump(DEFAULT_POLICY.progressMs + 60_000);
    await harness.restart();
    await settle();
    expect(await harness.task(id)).toMatchObject({ state: "provisioning", snapshot: { context: { attempt: 1 } } });
    await harness.clock.jump(DEFAULT_POLICY.progressMs + 1_000);
    expect((await harness.until(id, "retrying")).snapshot.context.failure?.code).toBe("boot_timeout");
  });

  it("a worker without a sign of life is lost", async () => {
    await open({ settings: { livenessMs: 90_000 } });
    const id = await running();
    await harness.clock.advance(89_000);
    expect((await harness.task(id)).state).toBe("running");
    await harness.clock.advance(10_000);
    expect((await harness.task(id)).snapshot.context.failure?.code).toBe("worker_lost");
  });
});

it("[W7] a push from a repository that lacks objects fetches them again, and costs no attempt", async () => {
  await open();
  const prepare = harness.repos.prepare.bind(harness.repos);
  const prepared: string[] = [];
  Object.assign(harness.repos, {
    prepare: async (...args: Parameters<typeof prepare>) => {
      prepared.push(args[0].taskId);
      return await prepare(...args);
    },
  });
  const id = await running();
  harness.latches.push.fail(new TaskFailure("repo_incomplete"));
  await finish(id);
  const { snapshot } = await harness.until(id, "done");
  expect(snapshot.context).toMatchObject({ outcome: "pushed", attempt: 1 });
  expect(prepared).toEqual([id, id]);
  const { items } = await harness.store.events(id, 0, 1_000);
  expect(items.filter(({ to }) => to === "retrying")).toEqual([]);
});

describe("[D7] cancel", () => {
  it("works from every open state and is idempotent", async () => {
    await open({ settings: { maxConcurrent: 8 } });
    harness.latches.push.closed = true;
    const seen = new Set<string>();
    const cancel = async (id: string): Promise<void> => {
      seen.add((await harness.task(id)).state);
      await harness.coordinator.tasks.cancel(ALICE, id, false);
      await code(harness.coordinator.tasks.cancel(ALICE, id, false));
      await harness.until(id, "cancelled");
      expect(await code(harness.coordinator.tasks.cancel(ALICE, id, false))).toBe("task_settled");
    };
    await harness.coordinator.scheduler.setMode("paused");
    await cancel((await harness.submit()).id);
    await harness.coordinator.scheduler.setMode("open");
    const booting = await harness.submit();
    await harness.until(booting.id, "provisioning");
    await cancel(booting.id);
    await cancel(await running());
    const pushing = await running();
    await finish(pushing);
    await harness.until(pushing, "pushing");
    await cancel(pushing);
    const retrying = await running();
    harness.sandbox.crash(sandboxName(retrying, 1), { exitCode: 7, outOfMemory: false, tail: "" });
    await harness.until(retrying, "retrying");
    await cancel(retrying);
    const cancelling = await running();
    harness.latches.stop.closed = true;
    await harness.coordinator.tasks.cancel(ALICE, cancelling, false);
    await harness.until(cancelling, "cancelling");
    harness.latches.stop.let();
    seen.add("cancelling");
    await harness.until(cancelling, "cancelled");
    expect([...seen].sort()).toEqual([...OPEN_STATES].sort());
    await settle();
    expect(await harness.sandbox.list()).toEqual([]);
  });

  it("ends within its time limit when the container ignores every signal", async () => {
    await open({ settings: { clearMs: 5_000 } });
    const id = await running();
    harness.faults.set(id, "resists_kill");
    await harness.coordinator.tasks.cancel(ALICE, id, false);
    await harness.clock.advance(DEFAULT_POLICY.cancelMs - 1_000);
    expect((await harness.task(id)).state).toBe("cancelling");
    await harness.clock.advance(2_000);
    await harness.until(id, "cancelled");
    await harness.clock.advance(6_000);
    expect(harness.coordinator.scheduler.slotsUsed()).toBe(0);
    harness.faults.delete(id);
    expect(await harness.coordinator.garbageCollector.removeOrphans(new AbortController().signal)).toBe(0);
    expect(await harness.sandbox.list()).toEqual([]);
  });

  it("keeps work that was checkpointed before", async () => {
    await open();
    const id = await running();
    const sha = await harness.repos.commit(id, checkpointRef(1), "half done");
    await harness.fakeWorkers.send(harness.coordinator.workerApi, id, [
      "checkpoint",
      { sha, cursor: "3", files: 1, additions: 1, deletions: 0 },
    ]);
    await harness.coordinator.tasks.cancel(ALICE, id, false);
    const task = await harness.until(id, "cancelled");
    expect(task.snapshot.context.checkpoint).toEqual({ sha, cursor: "3" });
    expect(await harness.repos.resolve(id, checkpointRef(1))).toBe(sha);
  });
});

describe("disk space", () => {
  it("[D10] with too little of it no task is claimed and none fails; running tasks go on, and claims resume when there is space", async () => {
    await open({ settings: { maxConcurrent: 4 } });
    const before = await running();
    harness.disks.shortage = "Too little disk space.";
    await harness.clock.advance(2_000);
    const { id } = await harness.submit();
    await harness.clock.advance(60_000);
    expect(await harness.coordinator.operations.wait(await harness.task(id))).toEqual({
      reason: "disk_low",
      position: 0,
    });
    expect(harness.coordinator.scheduler.state()).toMatchObject({
      disk: "low",
      breaker: "closed",
      reason: "Too little disk space.",
    });
    expect((await harness.task(id)).snapshot.context).toMatchObject({ attempt: 0, failure: null });
    expect((await harness.task(before)).state).toBe("running");
    await harness.restart();
    await harness.clock.advance(2_000);
    expect((await harness.task(id)).state).toBe("queued");
    harness.disks.shortage = null;
    await harness.clock.advance(2_000);
    await harness.until(id, "provisioning");
    expect(harness.coordinator.scheduler.state()).toMatchObject({ disk: "ok", reason: null });
  });

  it("[D10] a task starts only while the promises of all open workspaces can be kept; smaller ones pass, and a factor promises more", async () => {
    const workspaces = { defaultMb: 4_000, floorMb: 2_000, lowMb: 1_000, overcommit: 1 };
    await open({ settings: { maxConcurrent: 4, workspaces } });
    harness.disks.space = { freeMb: 9_000, usedMb: new Map() };
    const first = await running();
    const second = await harness.submit();
    const small = await harness.submit({ limits: { diskMb: 1_000 } });
    await harness.until(small.id, "provisioning");
    await harness.clock.advance(5_000);
    expect(await harness.coordinator.operations.wait(await harness.task(second.id))).toEqual({
      reason: "disk_low",
      position: 0,
    });
    expect((await harness.task(second.id)).snapshot.context).toMatchObject({ attempt: 0, failure: null });
    // What the first has written is no longer free, and no longer promised.
    harness.disks.space = { freeMb: 8_000, usedMb: new Map([[sandboxName(first, 1), 1_000]]) };
    await harness.clock.advance(2_000);
    expect((await harness.task(second.id)).state).toBe("queued");
    harness.disks.space = { freeMb: 10_000, usedMb: new Map([[sandboxName(first, 1), 1_000]]) };
    await harness.clock.advance(2_000);
    await harness.until(second.id, "provisioning");
    const third = await harness.submit();
    await harness.clock.advance(2_000);
    expect((await harness.task(third.id)).state).toBe("queued");
    await harness.close();
    await open({ store: harness.store, settings: { maxConcurrent: 4, workspaces: { ...workspaces, overcommit: 2 } } });
    harness.disks.space = { freeMb: 9_000, usedMb: new Map() };
    await harness.clock.advance(2_000);
    await harness.until(third.id, "provisioning");
  });

  it("[Y5] below the low mark the task with the largest workspace is ended, one at a time, and others go on", async () => {
    await open({
      settings: { maxConcurrent: 4, workspaces: { defaultMb: 100, floorMb: 20, lowMb: 10, overcommit: 1 } },
    });
    const [a, b, c] = [await running(), await running(), await running()];
    const use = (mb: Record<string, number>) =>
      new Map(Object.entries(mb).map(([id, size]) => [sandboxName(id, 1), size]));
    harness.disks.space = { freeMb: 5, usedMb: use({ [a]: 40, [b]: 70, [c]: 60 }) };
    await harness.clock.advance(3_000);
    const task = await harness.task(b);
    expect([task.state, await harness.coordinator.operations.wait(task)]).toMatchObject([
      "queued",
      { reason: "disk_low" },
    ]);
    const log = (await harness.store.events(b, 0, 100)).items;
    expect(log.findLast(({ data }) => data["code"] === "disk_full")?.data["detail"]).toBe(
      "The server's disk had 5 MB left, and no workspace took more of it (70 MB).",
    );
    // Its room is not free yet: nobody else is ended.
    await harness.clock.advance(3_000);
    expect([(await harness.task(a)).state, (await harness.task(c)).state]).toEqual(["running", "running"]);
    harness.disks.space = { freeMb: 5, usedMb: use({ [a]: 40, [c]: 60 }) };
    await harness.clock.advance(3_000);
    expect([(await harness.task(a)).state, (await harness.task(c)).state]).toEqual(["running", "queued"]);
    harness.disks.space = { freeMb: 500, usedMb: use({ [a]: 40 }) };
    await harness.clock.advance(120_000);
    expect((await harness.task(a)).state).toBe("running");
    await harness.until(b, "provisioning");
  });

  it("a full workspace fails the attempt with disk_full, and is retried at most once", async () => {
    await open();
    const id = await running();
    for (const attempt of [1, 2]) {
      if (attempt === 2) await harness.until(id, "provisioning");
      await harness.untilWorker(id);
      harness.sandbox.crash(sandboxName(id, attempt), {
        exitCode: 1,
        outOfMemory: false,
        diskFull: true,
        tail: "ENOSPC",
      });
      await harness.until(id, attempt === 1 ? "retrying" : "failed");
      await harness.clock.advance(10_000);
    }
    const rows = await harness.store.attempts(id);
    expect(rows.map(({ failure }) => failure)).toEqual(["disk_full", "disk_full"]);
    expect((await harness.task(id)).snapshot.context.failure).toMatchObject({ evidence: "ENOSPC" });
  });

  it("a lowered maximum applies to tasks that were submitted before", async () => {
    const { store } = openMemoryStore();
    await open({ store });
    await harness.coordinator.scheduler.setMode("paused");
    const { id } = await harness.submit({ limits: { memoryMb: 4_000, diskMb: 8_000, cpus: 1 } });
    await harness.close();
    const asked: Limits[] = [];
    const run = ({ limits }: SandboxSpec): Promise<number> => (asked.push(limits), new Promise(() => undefined));
    await open({ store, run, settings: { maxLimits: { memoryMb: 512, cpus: 2, diskMb: 100 } } });
    await expect(harness.submit({ limits: { diskMb: 101 } })).rejects.toMatchObject({ code: "limits_unavailable" });
    await harness.coordinator.scheduler.setMode("open");
    await harness.until(id, "provisioning");
    await settle(50);
    expect(asked).toEqual([{ memoryMb: 512, cpus: 1, diskMb: 100 }]);
  });
});

describe("failures", () => {
  it("[D9] many engine failures pause claiming until the engine answers", async () => {
    await open({ settings: { maxConcurrent: 8, breakerRestMs: 1_000 } });
    await harness.coordinator.scheduler.setMode("paused");
    const ids = await Promise.all(Array.from({ length: 8 }, () => harness.submit().then((task) => task.id)));
    for (const id of ids) harness.faults.set(id, "engine_down");
    await harness.coordinator.scheduler.setMode("open");
    await harness.untilBreakerOpens();
    const { id } = await harness.submit();
    await settle();
    expect(await harness.coordinator.operations.wait(await harness.task(id))).toMatchObject({
      reason: "sandbox_unavailable",
    });
    harness.faults.clear();
    await harness.clock.advance(10_000);
    expect(harness.coordinator.scheduler.state()).toMatchObject({ breaker: "closed" });
    await harness.until(id, "provisioning");
    for (const one of ids) {
      const { attempt, excused } = (await harness.task(one)).snapshot.context;
      expect(attempt - excused).toBeLessThanOrEqual(1);
    }
  });

  it("[D2] a restart in any state leads to the same final state", async () => {
    await open();
    harness.latches.push.closed = true;
    const { id } = await harness.submit();
    await harness.restart();
    await harness.until(id, "provisioning");
    await harness.restart();
    await harness.untilWorker(id);
    await harness.fakeWorkers.send(harness.coordinator.workerApi, id, ["ready", {}]);
    await harness.restart();
    await finish(id);
    await harness.until(id, "pushing");
    await harness.restart();
    harness.latches.push.let();
    await harness.until(id, "done");
    expect(harness.sandbox.created).toEqual([sandboxName(id, 1)]);
  });

  it("[D1] a stale worker's events change nothing", async () => {
    await open();
    const id = await running();
    harness.sandbox.crash(sandboxName(id, 1), { exitCode: 7, outOfMemory: false, tail: "boom" });
    await harness.until(id, "retrying");
    expect(await code(harness.fakeWorkers.send(harness.coordinator.workerApi, id, ["ready", {}]))).toBe(
      "stale_attempt",
    );
    await harness.clock.advance(10_000);
    const task = await harness.until(id, "provisioning");
    expect(task.snapshot.context.attempt).toBe(2);
    const old = { attempt: 1, events: [] };
    expect(await code(harness.coordinator.workerApi.accept(id, old, 0))).toBe("stale_attempt");
  });

  it("out_of_memory is retried once with double memory", async () => {
    await open({ settings: { maxLimits: { memoryMb: 3_000, cpus: 4, diskMb: 8_192 } } });
    const id = await running({ limits: { memoryMb: 2_000 } });
    harness.sandbox.crash(sandboxName(id, 1), { exitCode: 137, outOfMemory: true, tail: "" });
    await harness.until(id, "retrying");
    await harness.clock.advance(10_000);
    expect((await harness.until(id, "provisioning")).snapshot.context.memoryFactor).toBe(2);
  });
});

describe("people in the loop", () => {
  it("a question parks after parkMs and frees the slot; its answer resumes the task without using up an attempt", async () => {
    await open({ settings: { maxConcurrent: 1 } });
    const id = await running();
    await harness.fakeWorkers.send(harness.coordinator.workerApi, id, [
      "question",
      { id: "q1", question: "Which?", options: ["a"] },
    ]);
    await harness.until(id, "running.awaiting_input");
    await harness.clock.jump(DEFAULT_POLICY.parkMs + 200);
    await harness.until(id, "running.parked");
    await settle();
    expect(await harness.store.slotsHeld()).toBe(0);
    expect(await harness.sandbox.list()).toEqual([]);
    const other = await running();
    await finish(other);
    await harness.until(other, "done");
    await harness.coordinator.tasks.answer(ALICE, id, { questionId: "q1", text: "a" });
    expect(await code(harness.coordinator.tasks.answer(ALICE, id, { questionId: "q1", text: "b" }))).toBe(
      "already_answered",
    );
    expect(await code(harness.coordinator.tasks.answer(ALICE, id, { questionId: "q9", text: "b" }))).toBe("not_found");
    const task = await harness.until(id, "provisioning");
    expect(task.snapshot.context).toMatchObject({ attempt: 2, excused: 1 });
    expect((await harness.coordinator.workerApi.spec(id, 2, AbortSignal.timeout(5_000))).answers).toEqual({ q1: "a" });
  });

  it("[D14] a task that waits for an answer yields its slot to another that waits for one, the older question first", async () => {
    await open({ settings: { maxConcurrent: 2 } });
    const { workerApi, tasks } = harness.coordinator;
    const ask = async (): Promise<string> => {
      const id = await running();
      await harness.fakeWorkers.send(workerApi, id, ["question", { id: "q1", question: "Which?", options: ["a"] }]);
      await harness.until(id, "running.awaiting_input");
      return id;
    };
    const first = await ask();
    await harness.clock.advance(DEFAULT_POLICY.parkMs / 20);
    const second = await ask();
    const phases = async (): Promise<unknown[]> =>
      (await Promise.all([first, second].map((id) => harness.task(id)))).map(({ snapshot }) => phaseOf(snapshot));
    await harness.clock.advance(DEFAULT_POLICY.parkMs / 5);
    // Nobody waits for the slots.
    expect(await phases()).toEqual(["awaiting_input", "awaiting_input"]);
    const other = await harness.submit({}, BOB);
    await harness.clock.advance(2_000);
    await harness.until(first, "running.parked");
    await harness.until(other.id, "provisioning");
    await harness.clock.advance(DEFAULT_POLICY.parkMs / 5);
    expect(await phases()).toEqual(["parked", "awaiting_input"]);
    await tasks.answer(ALICE, second, { questionId: "q1", text: "a" });
    await harness.until(second, "running.working");
    await finish(second);
    await harness.until(second, "done");
    await tasks.answer(ALICE, first, { questionId: "q1", text: "a" });
    expect((await harness.until(first, "provisioning")).snapshot.context).toMatchObject({ attempt: 2, excused: 1 });
  });

  it("[D14] a slot that is being freed is counted: one task that waits parks one other", async () => {
    await open({ settings: { maxConcurrent: 2 } });
    const ids = [await running(), await running()];
    for (const id of ids) {
      const question = { id: "q1", question: "Which?", options: ["a"] };
      await harness.fakeWorkers.send(harness.coordinator.workerApi, id, ["question", question]);
      await harness.until(id, "running.awaiting_input");
    }
    let isHeld = true;
    const remove = harness.sandbox.remove.bind(harness.sandbox);
    harness.sandbox.remove = (name) => (isHeld ? new Promise(() => undefined) : remove(name));
    await harness.clock.advance(DEFAULT_POLICY.parkMs / 5);
    const other = await harness.submit({}, BOB);
    await harness.clock.advance(10_000);
    const parked = (await Promise.all(ids.map((id) => harness.task(id)))).filter(
      ({ snapshot }) => phaseOf(snapshot) === "parked",
    );
    expect(parked).toHaveLength(1);
    isHeld = false;
    await harness.clock.advance(60_000);
    await harness.until(other.id, "provisioning");
  });

  it("a message is delivered once, and can be withdrawn only before that", async () => {
    await open();
    const id = await running();
    const { tasks, workerApi } = harness.coordinator;
    const send = (text: string): Promise<string> =>
      tasks.message(ALICE, id, { text }, null).then((made) => ("message" in made ? made.message.id : "none"));
    const first = await send("one");
    const second = await send("two");
    await tasks.withdraw(ALICE, id, first);
    const commands = await workerApi.commands(id, 1, 0, 0, new AbortController().signal);
    expect(commands.map((command) => [command.type, "messageId" in command ? command.messageId : ""])).toEqual([
      ["message", second],
      ["withdraw", first],
    ]);
    await harness.fakeWorkers.send(
      workerApi,
      id,
      ["message.status", { id: second, status: "delivered" }],
      ["message.status", { id: first, status: "delivered" }],
    );
    expect(await code(tasks.withdraw(ALICE, id, second))).toBe("message_delivered");
    const rows = (await harness.store.messages(id, 0, 100)).items;
    expect(rows.map((row) => [row.id, row.status])).toEqual([
      [first, "withdrawn"],
      [second, "delivered"],
    ]);
    // The next worker gets the message again: the first may have ended before it recorded it.
    expect((await workerApi.spec(id, 1, AbortSignal.timeout(5_000))).delivered).toEqual([{ id: second, text: "two" }]);
    expect(await workerApi.commands(id, 1, (await harness.task(id)).seq, 0, new AbortController().signal)).toEqual([]);
  });

  it("[F6] messages beyond the size of one response are returned by the next polls, each once", async () => {
    await open();
    const id = await running();
    const { tasks, workerApi } = harness.coordinator;
    const text = "x".repeat(60_000);
    const sent: string[] = [];
    for (let i = 0; i < 80; i++) {
      const made = await tasks.message(ALICE, id, { text }, null);
      sent.push("message" in made ? made.message.id : "none");
    }
    const polls: string[][] = [];
    for (let after = 0; polls.at(-1)?.length !== 0;) {
      const commands = await workerApi.commands(id, 1, after, 0, new AbortController().signal);
      polls.push(commands.map((command) => ("messageId" in command ? command.messageId : command.type)));
      after = commands.at(-1)?.id ?? after;
    }
    expect(polls.flat()).toEqual(sent);
    // 2 MiB, plus the message that crosses the limit.
    expect(Math.max(...polls.map(({ length }) => length))).toBe(35);
    await harness.fakeWorkers.send(
      workerApi,
      id,
      ...sent.map((one) => ["message.status", { id: one, status: "delivered" }] as const),
    );
    const { delivered } = await workerApi.spec(id, 1, AbortSignal.timeout(5_000));
    expect(delivered.map((one) => one.id)).toEqual(sent.slice(-DELIVERED));
  });

  it("[R5] a message that is sent again with its key is stored once", async () => {
    await open();
    const id = await running();
    const send = (text: string): Promise<unknown> => harness.coordinator.tasks.message(ALICE, id, { text }, "key-1");
    await send("hello");
    await send("hello");
    expect(await code(send("other"))).toBe("idempotency_mismatch");
    expect((await harness.store.messages(id, 0, 100)).items).toHaveLength(1);
  });

  it("[S2] another user's task is not found, by any method", async () => {
    await open();
    const id = await running();
    const { tasks } = harness.coordinator;
    expect(await code(tasks.task(BOB, id))).toBe("not_found");
    expect(await code(tasks.cancel(BOB, id, false))).toBe("not_found");
    expect(await code(tasks.retry(BOB, id, {}))).toBe("not_found");
    expect(await code(tasks.message(BOB, id, { text: "x" }, null))).toBe("not_found");
    expect(await code(tasks.withdraw(BOB, id, "m"))).toBe("not_found");
    expect(await code(tasks.answer(BOB, id, { questionId: "q", text: "x" }))).toBe("not_found");
    expect(await code(tasks.diff(BOB, id))).toBe("not_found");
  });
});

describe("threads", () => {
  it("[W4] a rejected push is retried from `push` without the agent", async () => {
    await open();
    const id = await running();
    harness.latches.push.fail(new TaskFailure("push_rejected", { evidence: "protected branch" }));
    const sha = await finish(id);
    await harness.until(id, "failed");
    const boxes = harness.sandbox.created.length;
    const child = await harness.coordinator.tasks.retry(ALICE, id, { from: "push" });
    const done = await harness.until(child.id, "done");
    expect(done.snapshot.context).toMatchObject({ headSha: sha, outcome: "pushed", attempt: 0 });
    expect(done.threadId).toBe((await harness.task(id)).threadId);
    expect(harness.sandbox.created.length).toBe(boxes);
  });

  it("a retry from the checkpoint starts from the checkpoint", async () => {
    await open();
    const id = await running();
    const sha = await harness.repos.commit(id, checkpointRef(1), "half");
    await harness.fakeWorkers.send(harness.coordinator.workerApi, id, [
      "checkpoint",
      { sha, cursor: "5", files: 1, additions: 1, deletions: 0 },
    ]);
    expect(await code(harness.coordinator.tasks.retry(ALICE, id, {}))).toBe("task_open");
    await harness.coordinator.tasks.cancel(ALICE, id, false);
    await harness.until(id, "cancelled");
    expect(await code(harness.coordinator.tasks.retry(ALICE, id, { from: "push" }))).toBe("nothing_to_push");
    const child = await harness.coordinator.tasks.retry(ALICE, id, { from: "checkpoint" });
    await harness.until(child.id, "provisioning");
    await harness.untilWorker(child.id);
    expect((await harness.coordinator.workerApi.spec(child.id, 1, AbortSignal.timeout(5_000))).resume).toEqual({
      sha,
      cursor: "5",
    });
  });

  it("a retry may change budget and limits; the others are kept, and none may exceed the server's", async () => {
    await open({ settings: { maxLimits: { memoryMb: 1_000, cpus: 2, diskMb: 1_000 } } });
    const { id } = await harness.submit({ budget: { usd: 1, turns: 5 }, limits: { memoryMb: 500, cpus: 1 } });
    await harness.coordinator.tasks.cancel(ALICE, id, false);
    await harness.until(id, "cancelled");
    expect(await code(harness.coordinator.tasks.retry(ALICE, id, { limits: { memoryMb: 2_000 } }))).toBe(
      "limits_unavailable",
    );
    const child = await harness.coordinator.tasks.retry(ALICE, id, { budget: { usd: 3 }, limits: { memoryMb: 900 } });
    expect(child.spec).toMatchObject({ budget: { usd: 3, turns: 5 }, limits: { memoryMb: 900, cpus: 1 } });
  });

  it("a follow-up on a settled task continues its branch with a lease on the pushed commit", async () => {
    await open();
    const id = await running();
    const sha = await finish(id);
    await harness.until(id, "done");
    const made = await harness.coordinator.tasks.message(ALICE, id, { text: "And the docs, please." }, null);
    if (!("task" in made)) throw new Error("expected a task");
    expect(made.task).toMatchObject({ parentId: id, spec: { prompt: "And the docs, please.", expectSha: sha } });
    await harness.until(made.task.id, "provisioning");
    await harness.untilWorker(made.task.id);
    expect((await harness.coordinator.workerApi.spec(made.task.id, 1, AbortSignal.timeout(5_000))).resume).toEqual({
      sha,
      cursor: null,
    });
    await harness.fakeWorkers.send(harness.coordinator.workerApi, made.task.id, ["ready", {}]);
    await finish(made.task.id, "more work");
    await harness.until(made.task.id, "done");
  });
});
