/** The rules of the verbs, each on a whole kernel: real store, simulated engine and repositories, time in the hand. */
import { afterEach, describe, expect, it } from "vitest";
import { checkUp } from "../../../src/coordinator/invariants.ts";
import { TaskFailure } from "../../../src/core/failure.ts";
import { openMemoryStore } from "../../../src/store/memory/store.ts";
import { DEFAULT_POLICY, OPEN_STATES, sandboxName, type Limits } from "../../../src/core/task.ts";
import { DELIVERED } from "../../../src/core/protocol/worker.ts";
import { settle } from "../../support/manual-clock.ts";
import { ALICE, BOB, openWorld, type World, type WorldOptions } from "../../support/coordinator/harness.ts";
import type { SandboxSpec } from "../../../src/core/ports/sandbox.ts";
import { checkpointRef, WORK_REF } from "../../../src/core/ports/repositories.ts";

let world: World;
let slots = 4;
async function open(options: WorldOptions = {}): Promise<World> {
  slots = options.settings?.maxConcurrent ?? 4;
  world = await openWorld(options);
  return world;
}
afterEach(async () => {
  const { findings } = await checkUp({ store: world.store, sandbox: null, maxConcurrent: slots });
  await world.close();
  expect(findings).toEqual([]);
});

async function boxed(id: string): Promise<void> {
  for (let i = 0; i < 100 && !world.puppets.has(id); i += 1) await settle();
}
async function running(request = {}, person = ALICE): Promise<string> {
  const { id } = await world.submit(request, person);
  await world.until(id, "provisioning");
  await boxed(id);
  await world.puppets.say(world.kernel.desk, id, ["ready", {}]);
  await world.until(id, "running");
  return id;
}
async function finish(id: string, content = "work"): Promise<string> {
  const sha = await world.repos.commit(id, WORK_REF, content);
  await world.puppets.say(world.kernel.desk, id, ["finished", { sha, title: "A title", summary: "What was done." }]);
  return sha;
}
const code = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => "no error",
    (error: { code: string }) => error.code,
  );

describe("submit to done", () => {
  it("[D3] goes through every state, pushes once and leaves nothing behind", async () => {
    await open();
    const id = await running();
    const sha = await finish(id);
    const task = await world.until(id, "done");
    expect(task.snapshot.context).toMatchObject({ outcome: "pushed", headSha: sha, attempt: 1, dueAt: null });
    await settle();
    expect(await world.sandbox.list()).toEqual([]);
    expect(await world.store.slotsHeld()).toBe(0);
    const states = (await world.store.events(id, 0, 100)).items.filter((event) => event.from !== event.to).map((event) => event.to);
    expect(states).toEqual(["queued", "provisioning", "running", "pushing", "done"]);
  });

  it("[D3] a sandbox that no task needs is gone after one tick, one that is needed stays", async () => {
    await open();
    const id = await running();
    const stray = { taskId: "task_unknown", attempt: 1, socketDir: "/nowhere", token: "att_test", limits: {} };
    await world.sandbox.ensure({ ...stray, name: sandboxName(stray.taskId, 1) }, new AbortController().signal);
    expect(await world.sandbox.list()).toHaveLength(2);
    await world.clock.advance(10_000);
    await settle();
    expect((await world.sandbox.list()).map((one) => one.taskId)).toEqual([id]);
  });

  it("no change ends in done without a push", async () => {
    await open();
    const id = await running();
    const { baseSha } = (await world.task(id)).snapshot.context;
    await world.puppets.say(world.kernel.desk, id, ["finished", { sha: baseSha, title: "", summary: "" }]);
    const task = await world.until(id, "done");
    expect(task.snapshot.context.outcome).toBe("no_changes");
  });

  it("a commit that is not in the task repository is not believed", async () => {
    await open();
    const id = await running({ maxAttempts: 1 });
    await world.puppets.say(world.kernel.desk, id, ["finished", { sha: "f".repeat(40), title: "", summary: "" }]);
    expect((await world.until(id, "failed")).snapshot.context.failure?.evidence ?? "").toBe("");
  });

  it("a refused credential fails before any sandbox starts", async () => {
    await open();
    world.latches.prepare.fail(new TaskFailure("repo_auth", { detail: "401" }));
    const { id } = await world.submit();
    const task = await world.until(id, "failed");
    expect(task.snapshot.context.failure).toMatchObject({ code: "repo_auth", stage: "provisioning", retryable: false });
    expect(task.snapshot.context.failure?.advice).toMatch(/credential/);
    expect(world.sandbox.created).toEqual([]);
  });
});

describe("slots", () => {
  it("[D4] caps hold at every event, also over restarts", async () => {
    await open({ settings: { maxConcurrent: 3 } });
    let most = 0;
    const count = async (): Promise<void> => {
      const boxes = (await world.sandbox.list()).filter((box) => box.state === "running").length;
      most = Math.max(most, boxes, await world.store.slotsHeld());
    };
    const ids = await Promise.all(Array.from({ length: 12 }, () => world.submit().then((task) => task.id)));
    for (let round = 0; round < 40; round += 1) {
      await settle();
      await count();
      for (const id of ids) {
        const task = await world.task(id);
        if (task.state === "provisioning" && world.puppets.has(id)) await world.puppets.say(world.kernel.desk, id, ["ready", {}]);
        else if (task.state === "running") await finish(id);
        await count();
      }
      if (round % 5 === 4) await world.restart();
      await count();
    }
    for (const id of ids) await world.until(id, "done");
    expect(most).toBe(3);
    expect(world.sandbox.created.length).toBe(new Set(world.sandbox.created).size);
  });

  it("[D5] every kind of end gives the slot back", async () => {
    await open({ settings: { maxConcurrent: 1, clearMs: 1_000 } });
    const faults = ["exits", "out_of_memory", "boot_hangs", "resists_kill", "engine_down", "silent"] as const;
    for (const fault of faults) {
      const { id } = await world.submit({ maxAttempts: 1 });
      world.faults.set(id, fault);
      for (let i = 0; i < 60 && (await world.task(id)).state !== "failed"; i += 1) {
        if ((await world.task(id)).state === "retrying" && fault === "engine_down") break;
        await world.clock.jump(60_000);
      }
      if (fault === "engine_down") {
        world.faults.delete(id);
        await world.kernel.service.cancel(ALICE, id, true);
        await world.until(id, "cancelled");
      } else await world.until(id, "failed");
      await world.clock.advance(2_000);
      expect([fault, await world.store.slotsHeld()]).toEqual([fault, 0]);
    }
    const next = await running();
    await finish(next);
    await world.until(next, "done");
  });

  it("[D5] the slot is free as soon as the sandbox is gone: a push under way holds none", async () => {
    await open({ settings: { maxConcurrent: 1 } });
    world.latches.push.closed = true;
    const pushing = await running();
    await finish(pushing);
    await world.until(pushing, "pushing");
    const next = await running();
    expect((await world.task(pushing)).state).toBe("pushing");
    world.latches.push.let();
    await world.until(pushing, "done");
    world.latches.push.closed = false;
    await finish(next);
    await world.until(next, "done");
  });

  it("[D8] users take turns, whoever submitted more", async () => {
    await open({ settings: { maxConcurrent: 1 } });
    await world.kernel.gate.pause(true);
    const mine = await Promise.all(Array.from({ length: 4 }, () => world.submit({}, ALICE)));
    const other = await world.submit({}, BOB);
    await world.kernel.gate.pause(false);
    const order: string[] = [];
    for (let i = 0; i < 5; i += 1) {
      await settle();
      const now = (await world.store.tasks({ userId: null, states: ["provisioning"], limit: 10 })).items[0];
      order.push(now?.userId ?? "nobody");
      if (now) {
        await boxed(now.id);
        await world.puppets.say(world.kernel.desk, now.id, ["ready", {}]);
        await finish(now.id);
        await world.until(now.id, "done");
      }
    }
    expect(order.slice(0, 2).sort()).toEqual([ALICE.userId, BOB.userId]);
    expect(order.filter((user) => user === ALICE.userId)).toHaveLength(4);
    expect(mine).toHaveLength(4);
    expect((await world.task(other.id)).state).toBe("done");
  });

  it("a user's limit leaves slots to others, and the wait says so", async () => {
    await open({ settings: { maxConcurrent: 3, userLimit: 1 } });
    await running();
    const second = await world.submit();
    await settle();
    expect(await world.kernel.operations.wait(await world.task(second.id))).toEqual({ reason: "user_limit", position: 0 });
    await running({}, BOB);
  });
});

describe("deadlines", () => {
  it("[D6] never early, once, and after downtime", async () => {
    await open({ policy: { queueMs: 60_000 } });
    await world.kernel.gate.pause(true);
    const { id } = await world.submit();
    await world.clock.advance(59_000);
    expect((await world.task(id)).state).toBe("queued");
    await world.kernel.close();
    await world.clock.jump(3_600_000);
    await world.restart();
    const task = await world.until(id, "failed");
    expect(task.snapshot.context.failure?.code).toBe("queue_expired");
    const fired = (await world.store.events(id, 0, 100)).items.filter((event) => event.data["reason"] === "timed_out");
    expect(fired).toHaveLength(1);
  });

  it("[D6] a running task's silence is not counted while nobody listened", async () => {
    await open();
    const id = await running();
    await world.kernel.close();
    await world.clock.jump(DEFAULT_POLICY.silenceMs + 60_000);
    await world.restart();
    await settle();
    expect((await world.task(id)).state).toBe("running");
    await world.clock.jump(DEFAULT_POLICY.silenceMs + 1_000);
    expect((await world.until(id, "retrying")).snapshot.context.failure?.code).toBe("stalled");
  });

  it("[T5] [D6] a boot that was under way goes on after downtime and uses up no attempt", async () => {
    await open();
    const { id } = await world.submit();
    await world.until(id, "provisioning");
    await world.kernel.close();
    await world.clock.jump(DEFAULT_POLICY.progressMs + 60_000);
    await world.restart();
    await settle();
    expect(await world.task(id)).toMatchObject({ state: "provisioning", snapshot: { context: { attempt: 1 } } });
    await world.clock.jump(DEFAULT_POLICY.progressMs + 1_000);
    expect((await world.until(id, "retrying")).snapshot.context.failure?.code).toBe("boot_timeout");
  });

  it("a worker without a sign of life is lost", async () => {
    await open({ settings: { livenessMs: 90_000 } });
    const id = await running();
    await world.clock.advance(89_000);
    expect((await world.task(id)).state).toBe("running");
    await world.clock.advance(10_000);
    expect((await world.task(id)).snapshot.context.failure?.code).toBe("worker_lost");
  });
});

describe("[D7] cancel", () => {
  it("works from every open state and twice is fine", async () => {
    await open({ settings: { maxConcurrent: 8 } });
    world.latches.push.closed = true;
    const seen = new Set<string>();
    const cancel = async (id: string): Promise<void> => {
      seen.add((await world.task(id)).state);
      await world.kernel.service.cancel(ALICE, id, false);
      await code(world.kernel.service.cancel(ALICE, id, false));
      await world.until(id, "cancelled");
      expect(await code(world.kernel.service.cancel(ALICE, id, false))).toBe("task_settled");
    };
    await world.kernel.gate.pause(true);
    await cancel((await world.submit()).id);
    await world.kernel.gate.pause(false);
    const booting = await world.submit();
    await world.until(booting.id, "provisioning");
    await cancel(booting.id);
    await cancel(await running());
    const pushing = await running();
    await finish(pushing);
    await world.until(pushing, "pushing");
    await cancel(pushing);
    const retrying = await running();
    world.sandbox.crash(sandboxName(retrying, 1), { exitCode: 7, outOfMemory: false, tail: "" });
    await world.until(retrying, "retrying");
    await cancel(retrying);
    const cancelling = await running();
    world.latches.stop.closed = true;
    await world.kernel.service.cancel(ALICE, cancelling, false);
    await world.until(cancelling, "cancelling");
    world.latches.stop.let();
    seen.add("cancelling");
    await world.until(cancelling, "cancelled");
    expect([...seen].sort()).toEqual([...OPEN_STATES].sort());
    await settle();
    expect(await world.sandbox.list()).toEqual([]);
  });

  it("ends within its bound when the container ignores every signal", async () => {
    await open({ settings: { clearMs: 5_000 } });
    const id = await running();
    world.faults.set(id, "resists_kill");
    await world.kernel.service.cancel(ALICE, id, false);
    await world.clock.advance(DEFAULT_POLICY.cancelMs - 1_000);
    expect((await world.task(id)).state).toBe("cancelling");
    await world.clock.advance(2_000);
    await world.until(id, "cancelled");
    await world.clock.advance(6_000);
    expect(world.kernel.gate.used()).toBe(0);
    world.faults.delete(id);
    expect(await world.kernel.janitor.orphans()).toBe(1);
    expect(await world.sandbox.list()).toEqual([]);
  });

  it("work that was checkpointed before stays", async () => {
    await open();
    const id = await running();
    const sha = await world.repos.commit(id, checkpointRef(1), "half done");
    await world.puppets.say(world.kernel.desk, id, ["checkpoint", { sha, cursor: "3", files: 1, additions: 1, deletions: 0 }]);
    await world.kernel.service.cancel(ALICE, id, false);
    const task = await world.until(id, "cancelled");
    expect(task.snapshot.context.checkpoint).toEqual({ sha, cursor: "3" });
    expect(await world.repos.resolve(id, checkpointRef(1))).toBe(sha);
  });
});

describe("disk space", () => {
  it("[D10] with too little of it nothing is claimed and nothing fails; what runs goes on, and the rest when there is room", async () => {
    await open({ settings: { maxConcurrent: 4 } });
    const before = await running();
    world.disks.shortage = "Too little disk space.";
    await world.clock.advance(2_000);
    const { id } = await world.submit();
    await world.clock.advance(60_000);
    expect(await world.kernel.operations.wait(await world.task(id))).toEqual({ reason: "disk_low", position: 0 });
    expect(world.kernel.gate.state()).toMatchObject({ disk: "low", breaker: "closed", reason: "Too little disk space." });
    expect((await world.task(id)).snapshot.context).toMatchObject({ attempt: 0, failure: null });
    expect((await world.task(before)).state).toBe("running");
    await world.restart();
    await world.clock.advance(2_000);
    expect((await world.task(id)).state).toBe("queued");
    world.disks.shortage = null;
    await world.clock.advance(2_000);
    await world.until(id, "provisioning");
    expect(world.kernel.gate.state()).toMatchObject({ disk: "ok", reason: null });
  });

  it("a workspace that is full fails the attempt by that name, and once more at most", async () => {
    await open();
    const id = await running();
    for (const attempt of [1, 2]) {
      if (attempt === 2) await world.until(id, "provisioning");
      await boxed(id);
      world.sandbox.crash(sandboxName(id, attempt), { exitCode: 1, outOfMemory: false, diskFull: true, tail: "ENOSPC" });
      await world.until(id, attempt === 1 ? "retrying" : "failed");
      await world.clock.advance(10_000);
    }
    const rows = await world.store.attempts(id);
    expect(rows.map(({ failure }) => failure)).toEqual(["disk_full", "disk_full"]);
    expect((await world.task(id)).snapshot.context.failure).toMatchObject({ evidence: "ENOSPC" });
  });

  it("a maximum that was lowered since counts for what was submitted before", async () => {
    const { store } = openMemoryStore();
    await open({ store });
    await world.kernel.gate.pause(true);
    const { id } = await world.submit({ limits: { memoryMb: 4_000, diskMb: 8_000, cpus: 1 } });
    await world.close();
    const asked: Limits[] = [];
    const run = ({ limits }: SandboxSpec): Promise<number> => (asked.push(limits), new Promise(() => undefined));
    await open({ store, run, settings: { maxLimits: { memoryMb: 512, cpus: 2, diskMb: 100 } } });
    await expect(world.submit({ limits: { diskMb: 101 } })).rejects.toMatchObject({ code: "limits_unavailable" });
    await world.kernel.gate.pause(false);
    await world.until(id, "provisioning");
    await settle(50);
    expect(asked).toEqual([{ memoryMb: 512, cpus: 1, diskMb: 100 }]);
  });
});

describe("failures", () => {
  it("[D9] a storm of engine failures pauses claiming until the engine answers", async () => {
    await open({ settings: { maxConcurrent: 8, breakerRestMs: 1_000 } });
    const ids = await Promise.all(Array.from({ length: 8 }, () => world.submit().then((task) => task.id)));
    for (const id of ids) world.faults.set(id, "engine_down");
    await world.clock.advance(400);
    expect(world.kernel.gate.state()).toMatchObject({ breaker: "open" });
    const { id } = await world.submit();
    await settle();
    expect(await world.kernel.operations.wait(await world.task(id))).toMatchObject({ reason: "sandbox_unavailable" });
    world.faults.clear();
    await world.clock.advance(10_000);
    expect(world.kernel.gate.state()).toMatchObject({ breaker: "closed" });
    await world.until(id, "provisioning");
    for (const one of ids) {
      const { attempt, excused } = (await world.task(one)).snapshot.context;
      expect(attempt - excused).toBeLessThanOrEqual(1);
    }
  });

  it("[D2] a coordinator that goes away in any state ends in the same kind of end", async () => {
    await open();
    world.latches.push.closed = true;
    const { id } = await world.submit();
    await world.restart();
    await world.until(id, "provisioning");
    await world.restart();
    await boxed(id);
    await world.puppets.say(world.kernel.desk, id, ["ready", {}]);
    await world.restart();
    await finish(id);
    await world.until(id, "pushing");
    await world.restart();
    world.latches.push.let();
    await world.until(id, "done");
    expect(world.sandbox.created).toEqual([sandboxName(id, 1)]);
  });

  it("[D1] a stale worker's words change nothing", async () => {
    await open();
    const id = await running();
    world.sandbox.crash(sandboxName(id, 1), { exitCode: 7, outOfMemory: false, tail: "boom" });
    await world.until(id, "retrying");
    expect(await code(world.puppets.say(world.kernel.desk, id, ["ready", {}]))).toBe("stale_attempt");
    await world.clock.advance(10_000);
    const task = await world.until(id, "provisioning");
    expect(task.snapshot.context.attempt).toBe(2);
    const old = { attempt: 1, events: [] };
    expect(await code(world.kernel.desk.accept(id, old))).toBe("stale_attempt");
  });

  it("out of memory is tried once more with double memory", async () => {
    await open({ settings: { maxLimits: { memoryMb: 3_000, cpus: 4, diskMb: 8_192 } } });
    const id = await running({ limits: { memoryMb: 2_000 } });
    world.sandbox.crash(sandboxName(id, 1), { exitCode: 137, outOfMemory: true, tail: "" });
    await world.until(id, "retrying");
    await world.clock.advance(10_000);
    expect((await world.until(id, "provisioning")).snapshot.context.memoryFactor).toBe(2);
  });
});

describe("people in the loop", () => {
  it("a question parks after its time, frees the slot, and the answer resumes without using up an attempt", async () => {
    await open({ settings: { maxConcurrent: 1 } });
    const id = await running();
    await world.puppets.say(world.kernel.desk, id, ["question", { id: "q1", question: "Which?", options: ["a"] }]);
    await world.until(id, "running.awaiting_input");
    await world.clock.jump(DEFAULT_POLICY.parkMs + 200);
    await world.until(id, "running.parked");
    await settle();
    expect(await world.store.slotsHeld()).toBe(0);
    expect(await world.sandbox.list()).toEqual([]);
    const other = await running();
    await finish(other);
    await world.until(other, "done");
    await world.kernel.service.answer(ALICE, id, { questionId: "q1", text: "a" });
    expect(await code(world.kernel.service.answer(ALICE, id, { questionId: "q1", text: "b" }))).toBe("already_answered");
    expect(await code(world.kernel.service.answer(ALICE, id, { questionId: "q9", text: "b" }))).toBe("not_found");
    const task = await world.until(id, "provisioning");
    expect(task.snapshot.context).toMatchObject({ attempt: 2, excused: 1 });
    expect((await world.kernel.desk.spec(id, 2, AbortSignal.timeout(5_000))).answers).toEqual({ q1: "a" });
  });

  it("a message is delivered once, can be taken back before and not after", async () => {
    await open();
    const id = await running();
    const { service, desk } = world.kernel;
    const send = (text: string): Promise<string> =>
      service.message(ALICE, id, { text }, null).then((made) => ("message" in made ? made.message.id : "none"));
    const first = await send("one");
    const second = await send("two");
    await service.withdraw(ALICE, id, first);
    const commands = await desk.commands(id, 1, 0, 0, new AbortController().signal);
    expect(commands.map((command) => [command.type, "messageId" in command ? command.messageId : ""])).toEqual([
      ["message", second],
      ["withdraw", first],
    ]);
    await world.puppets.say(
      desk,
      id,
      ["message.status", { id: second, status: "delivered" }],
      ["message.status", { id: first, status: "delivered" }],
    );
    expect(await code(service.withdraw(ALICE, id, second))).toBe("message_delivered");
    const rows = (await world.store.messages(id, 0, 100)).items;
    expect(rows.map((row) => [row.id, row.status])).toEqual([
      [first, "withdrawn"],
      [second, "delivered"],
    ]);
    // Whoever starts after a worker that was shown it is told again: it may have ended before it wrote it down.
    expect((await desk.spec(id, 1, AbortSignal.timeout(5_000))).delivered).toEqual([{ id: second, text: "two" }]);
    expect(await desk.commands(id, 1, (await world.task(id)).seq, 0, new AbortController().signal)).toEqual([]);
  });

  it("[F6] more messages than fit into an answer come with the polls that follow, each once", async () => {
    await open();
    const id = await running();
    const { service, desk } = world.kernel;
    const text = "x".repeat(60_000);
    const sent: string[] = [];
    for (let i = 0; i < 80; i++) {
      const made = await service.message(ALICE, id, { text }, null);
      sent.push("message" in made ? made.message.id : "none");
    }
    const polls: string[][] = [];
    for (let after = 0; polls.at(-1)?.length !== 0;) {
      const commands = await desk.commands(id, 1, after, 0, new AbortController().signal);
      polls.push(commands.map((command) => ("messageId" in command ? command.messageId : command.type)));
      after = commands.at(-1)?.id ?? after;
    }
    expect(polls.flat()).toEqual(sent);
    // 2 MiB and the message that reached over.
    expect(Math.max(...polls.map(({ length }) => length))).toBe(35);
    await world.puppets.say(desk, id, ...sent.map((one) => ["message.status", { id: one, status: "delivered" }] as const));
    const { delivered } = await desk.spec(id, 1, AbortSignal.timeout(5_000));
    expect(delivered.map((one) => one.id)).toEqual(sent.slice(-DELIVERED));
  });

  it("[R5] a message sent again with its key is one message", async () => {
    await open();
    const id = await running();
    const send = (text: string): Promise<unknown> => world.kernel.service.message(ALICE, id, { text }, "key-1");
    await send("hello");
    await send("hello");
    expect(await code(send("other"))).toBe("idempotency_mismatch");
    expect((await world.store.messages(id, 0, 100)).items).toHaveLength(1);
  });

  it("[S2] another person's task is not found, by any verb", async () => {
    await open();
    const id = await running();
    const { service } = world.kernel;
    expect(await code(service.task(BOB, id))).toBe("not_found");
    expect(await code(service.cancel(BOB, id, false))).toBe("not_found");
    expect(await code(service.retry(BOB, id, {}))).toBe("not_found");
    expect(await code(service.message(BOB, id, { text: "x" }, null))).toBe("not_found");
    expect(await code(service.withdraw(BOB, id, "m"))).toBe("not_found");
    expect(await code(service.answer(BOB, id, { questionId: "q", text: "x" }))).toBe("not_found");
    expect(await code(service.diff(BOB, id))).toBe("not_found");
  });
});

describe("threads", () => {
  it("[W4] a rejected push is retried from `push` without the agent", async () => {
    await open();
    const id = await running();
    world.latches.push.fail(new TaskFailure("push_rejected", { evidence: "protected branch" }));
    const sha = await finish(id);
    await world.until(id, "failed");
    const boxes = world.sandbox.created.length;
    const child = await world.kernel.service.retry(ALICE, id, { from: "push" });
    const done = await world.until(child.id, "done");
    expect(done.snapshot.context).toMatchObject({ headSha: sha, outcome: "pushed", attempt: 0 });
    expect(done.threadId).toBe((await world.task(id)).threadId);
    expect(world.sandbox.created.length).toBe(boxes);
  });

  it("a retry from the checkpoint begins where the agent stood", async () => {
    await open();
    const id = await running();
    const sha = await world.repos.commit(id, checkpointRef(1), "half");
    await world.puppets.say(world.kernel.desk, id, ["checkpoint", { sha, cursor: "5", files: 1, additions: 1, deletions: 0 }]);
    expect(await code(world.kernel.service.retry(ALICE, id, {}))).toBe("task_open");
    await world.kernel.service.cancel(ALICE, id, false);
    await world.until(id, "cancelled");
    expect(await code(world.kernel.service.retry(ALICE, id, { from: "push" }))).toBe("nothing_to_push");
    const child = await world.kernel.service.retry(ALICE, id, { from: "checkpoint" });
    await world.until(child.id, "provisioning");
    await boxed(child.id);
    expect((await world.kernel.desk.spec(child.id, 1, AbortSignal.timeout(5_000))).resume).toEqual({ sha, cursor: "5" });
  });

  it("a retry may have other bounds; what is not named stays, and no bound is above the server's", async () => {
    await open({ settings: { maxLimits: { memoryMb: 1_000, cpus: 2, diskMb: 1_000 } } });
    const { id } = await world.submit({ budget: { usd: 1, turns: 5 }, limits: { memoryMb: 500, cpus: 1 } });
    await world.kernel.service.cancel(ALICE, id, false);
    await world.until(id, "cancelled");
    expect(await code(world.kernel.service.retry(ALICE, id, { limits: { memoryMb: 2_000 } }))).toBe("limits_unavailable");
    const child = await world.kernel.service.retry(ALICE, id, { budget: { usd: 3 }, limits: { memoryMb: 900 } });
    expect(child.spec).toMatchObject({ budget: { usd: 3, turns: 5 }, limits: { memoryMb: 900, cpus: 1 } });
  });

  it("a follow-up on a settled task continues its branch with a lease on what was pushed", async () => {
    await open();
    const id = await running();
    const sha = await finish(id);
    await world.until(id, "done");
    const made = await world.kernel.service.message(ALICE, id, { text: "And the docs, please." }, null);
    if (!("task" in made)) throw new Error("expected a task");
    expect(made.task).toMatchObject({ parentId: id, spec: { prompt: "And the docs, please.", expectSha: sha } });
    await world.until(made.task.id, "provisioning");
    await boxed(made.task.id);
    expect((await world.kernel.desk.spec(made.task.id, 1, AbortSignal.timeout(5_000))).resume).toEqual({ sha, cursor: null });
    await world.puppets.say(world.kernel.desk, made.task.id, ["ready", {}]);
    await finish(made.task.id, "more work");
    await world.until(made.task.id, "done");
  });
});
