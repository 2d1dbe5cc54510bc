/**
 * Salvage, retention and garbage collection on a whole coordinator: real store, real artifacts on
 * disk, simulated engine and repositories.
 */
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { TaskFailure } from "../../../src/core/failure.ts";
import { sandboxName } from "../../../src/core/task.ts";
import { settle } from "../../support/manual-clock.ts";
import { eventually } from "../../support/process/server.ts";
import { ALICE, BOB, openHarness, type Harness, type HarnessOptions } from "../../support/coordinator/harness.ts";
import { checkpointRef, WORK_REF } from "../../../src/core/ports/repositories.ts";
import type { Artifact } from "../../../src/core/values/artifact.ts";

const DAY = 24 * 3_600_000;
const never = new AbortController().signal;
let harness: Harness;
afterEach(() => harness.close());

async function open(options: HarnessOptions = {}): Promise<Harness> {
  harness = await openHarness({ files: true, ...options });
  return harness;
}

const send = (id: string, ...events: Parameters<Harness["fakeWorkers"]["send"]>[2][]) =>
  harness.fakeWorkers.send(harness.coordinator.workerApi, id, ...events);
const toolStarts = ["tool.started", { id: "t1", name: "bash", input: {} }] as const;
const toolEnds = [
  "tool.finished",
  { id: "t1", name: "bash", output: "", exitCode: 0, ms: 1, truncated: false },
] as const;

async function running(request = {}): Promise<string> {
  const { id } = await harness.submit(request);
  await harness.untilWorker(id);
  await send(id, ["ready", {}]);
  await harness.until(id, "running");
  const workspace = join(harness.dir, "sandboxes", sandboxName(id, 1), "workspace");
  mkdirSync(workspace, { recursive: true });
  writeFileSync(join(workspace, "work.txt"), "an hour of work");
  return id;
}

async function saves(id: string): Promise<void> {
  const sha = await harness.repos.commit(id, checkpointRef(1), "saved");
  await send(id, ["checkpoint", { sha, cursor: "1", files: 1, additions: 1, deletions: 0 }]);
}

/** Real files take real time, which the manual clock does not advance. */
const ends = (id: string, state: string): Promise<true> =>
  eventually(async () => ((await harness.task(id)).state === state ? true : null), `task ${id} is ${state}`);
const gone = (id: string): Promise<true> =>
  eventually(async () => {
    await settle();
    return (await harness.sandbox.list()).some((one) => one.taskId === id) ? null : true;
  }, "the sandbox is gone");
const vanished = (path: string): Promise<true> =>
  eventually(async () => {
    await settle();
    return existsSync(path) ? null : true;
  }, `${path} is gone`);
const crash = (id: string, outOfMemory = false): void =>
  harness.sandbox.crash(sandboxName(id, 1), { exitCode: 137, outOfMemory, tail: "killed" });
const readNotices = async (id: string): Promise<unknown[]> =>
  (await harness.store.events(id, 0, 1_000)).items
    .filter((event) => event.type === "notice")
    .map((event) => event.data["code"]);
const kept = (id: string): Promise<Artifact[]> => harness.artifacts.list(id);

describe("[W6] salvage", () => {
  for (const [what, outOfMemory] of [
    ["was killed", false],
    ["ran out of memory", true],
  ] as const)
    it(`a worker that ${what} in the middle of a tool: its workspace becomes an artifact, and the log names the command to get it`, async () => {
      await open();
      const id = await running({ maxAttempts: 1 });
      await saves(id);
      await send(id, toolStarts);
      crash(id, outOfMemory);
      await gone(id);
      expect(await kept(id)).toMatchObject([{ name: "a1-workspace.tar.gz", attempt: 1, files: 1, note: null }]);
      const notice = (await harness.store.events(id, 0, 1_000)).items.find(
        (event) => event.data["code"] === "salvaged",
      );
      expect(notice?.data).toMatchObject({ level: "info", artifact: { name: "a1-workspace.tar.gz" } });
      expect(notice?.data["text"]).toContain(`slipway artifacts ${id} --out a1-workspace.tar.gz`);
      expect(await harness.store.slotsHeld()).toBe(0);
    });

  it("[S15] a worker that says it was salvaged already is salvaged all the same", async () => {
    await open();
    const id = await running({ maxAttempts: 1 });
    await send(id, ["notice", { level: "info", code: "salvaged", text: "It is safe." }], toolStarts);
    crash(id);
    await gone(id);
    expect([(await kept(id)).length, await readNotices(id)]).toEqual([1, ["worker_notice", "salvaged"]]);
  });

  it("a worker that ended in order with a checkpoint after its last tool is not salvaged", async () => {
    await open();
    const id = await running({ maxAttempts: 1 });
    await send(id, toolStarts, toolEnds);
    await saves(id);
    harness.sandbox.crash(sandboxName(id, 1), { exitCode: 0, outOfMemory: false, tail: "" });
    await harness.coordinator.tasks.cancel(ALICE, id, false);
    await gone(id);
    expect([await kept(id), await readNotices(id)]).toEqual([[], []]);
  });

  it("a worker whose last event is its report is not salvaged; without a report it is", async () => {
    await open();
    const notices = await running({ maxAttempts: 1 });
    await send(notices, toolStarts, toolEnds);
    await saves(notices);
    await send(notices, ["failed", { code: "agent_error", message: "no", evidence: null }]);
    await gone(notices);
    const mute = await running({ maxAttempts: 1 });
    await saves(mute);
    crash(mute);
    await gone(mute);
    expect([(await kept(notices)).length, (await kept(mute)).length]).toEqual([0, 1]);
  });

  it("an attempt that finished or was never ready is not salvaged", async () => {
    await open();
    const done = await running();
    await send(done, toolStarts, toolEnds);
    const sha = await harness.repos.commit(done, WORK_REF, "work");
    await send(done, ["finished", { sha, title: "T", summary: "S" }]);
    await ends(done, "done");
    await gone(done);
    const { id: early } = await harness.submit({ maxAttempts: 1 });
    await harness.untilWorker(early);
    crash(early);
    await gone(early);
    expect([await kept(done), await kept(early)]).toEqual([[], []]);
  });

  it("a worker that the coordinator ends (kill, deadline, silence) is stopped and then salvaged", async () => {
    await open({ settings: { livenessMs: 90_000 } });
    const killed = await running();
    await send(killed, toolStarts);
    await harness.coordinator.tasks.cancel(ALICE, killed, true);
    await gone(killed);
    expect([(await kept(killed)).length, await readNotices(killed)]).toEqual([1, ["salvaged"]]);
    const silent = await running();
    await send(silent, toolStarts);
    await harness.clock.jump(95_000);
    await gone(silent);
    expect([(await kept(silent)).length, await readNotices(silent)]).toEqual([1, ["salvaged"]]);
    await harness.coordinator.tasks.cancel(ALICE, silent, true);
    const late = await running({ budget: { minutes: 1 }, maxAttempts: 1 });
    await send(late, toolStarts);
    await harness.clock.jump(61_000);
    await gone(late);
    expect([(await harness.task(late)).snapshot.value, (await kept(late)).length]).toEqual([{ running: "parked" }, 1]);
  });

  it("[D2] a restart before the salvage: the next coordinator salvages once", async () => {
    await open();
    const id = await running({ maxAttempts: 1 });
    await send(id, toolStarts);
    await harness.coordinator.close();
    crash(id);
    await harness.restart();
    await gone(id);
    expect(await kept(id)).toHaveLength(1);
    await harness.restart();
    expect(await readNotices(id)).toEqual(expect.arrayContaining(["salvaged"]));
    expect((await readNotices(id)).filter((code) => code === "salvaged")).toHaveLength(1);
  });

  it("[D5] a workspace that cannot be read leads to a notice, and the slot is given back", async () => {
    await open({ settings: { clearMs: 1_500, maxConcurrent: 1 } });
    const id = await running({ maxAttempts: 1 });
    await send(id, toolStarts);
    rmSync(join(harness.dir, "artifacts"), { recursive: true, force: true });
    writeFileSync(join(harness.dir, "artifacts"), "a file stands in the way");
    crash(id);
    await gone(id);
    expect(await readNotices(id)).toEqual(["salvage_failed"]);
    expect(await harness.store.slotsHeld()).toBe(0);
  });

  it("[S2] only the owner and operators read artifacts", async () => {
    await open();
    const id = await running({ maxAttempts: 1 });
    await send(id, toolStarts);
    crash(id);
    await gone(id);
    const { tasks } = harness.coordinator;
    expect(await tasks.artifacts(ALICE, id)).toHaveLength(1);
    await expect(tasks.artifacts(BOB, id)).rejects.toMatchObject({ code: "not_found" });
    await expect(tasks.artifact(BOB, id, "a1-workspace.tar.gz")).rejects.toMatchObject({ code: "not_found" });
    await expect(tasks.artifact(ALICE, id, "a2-workspace.tar.gz")).rejects.toMatchObject({ code: "not_found" });
  });
});

describe("garbage collection", () => {
  it("a dry run changes nothing; a collection removes old repositories, artifacts and folders, and keeps those in use", async () => {
    await open({ settings: { retentionMs: 600_000 }, policy: { silenceMs: DAY, wallMs: DAY } });
    const old = await running({ maxAttempts: 1 });
    await send(old, toolStarts);
    crash(old);
    await gone(old);
    await ends(old, "failed");
    const open_ = await running();
    const collect = (mode: "dry-run" | "remove") => harness.coordinator.operations.collect(mode, never);
    const lost = join(harness.dir, "sandboxes", "slipway-task_unknown-a1");
    const folder = { kind: "folder", name: "slipway-task_unknown-a1", error: null };
    mkdirSync(lost);
    // The folder is removed a moment later.
    await vanished(join(harness.dir, "sandboxes", sandboxName(old, 1)));
    expect(await collect("dry-run")).toMatchObject([folder]);
    // Less than the time between two collections of the coordinator.
    await harness.clock.jump(1_800_000);
    // The orphan tick removes it.
    await vanished(lost);
    mkdirSync(lost);
    const wanted = [
      folder,
      { kind: "repository", name: old, error: null },
      { kind: "artifacts", name: old, error: null },
    ];
    expect(await collect("dry-run")).toMatchObject(wanted);
    expect(await collect("dry-run")).toMatchObject(wanted);
    expect((await collect("remove")).filter((one) => one.kind !== "sandbox")).toMatchObject(wanted);
    expect(await collect("dry-run")).toEqual([]);
    expect([await kept(old), await harness.repos.list()]).toEqual([[], [open_]]);
  });

  it("a resource kind that cannot be listed does not hide the others", async () => {
    await open({ settings: { retentionMs: DAY } });
    harness.sandbox.reclaim = () => Promise.reject(new TaskFailure("sandbox_unavailable", { detail: "Down." }));
    mkdirSync(join(harness.dir, "sandboxes"), { recursive: true });
    expect(await harness.coordinator.operations.collect("remove", never)).toMatchObject([{ error: "Down." }]);
  });
});

describe("[D9] an engine outage", () => {
  it("after the first infrastructure failure the engine is checked before the next claim, so an outage uses up no attempts", async () => {
    await open({ settings: { maxConcurrent: 1 } });
    const { id } = await harness.submit();
    harness.faults.set(id, "engine_down");
    harness.engine.check = true;
    await harness.clock.advance(3_600_000);
    const task = await harness.task(id);
    expect([task.state, task.snapshot.context.attempt]).toEqual(["queued", 1]);
    expect(await harness.coordinator.operations.wait(task)).toMatchObject({ reason: "sandbox_unavailable" });
    harness.faults.clear();
    harness.engine.check = false;
    await harness.clock.advance(1_100);
    await harness.until(id, "provisioning");
    expect((await harness.task(id)).snapshot.context.attempt).toBe(2);
  });

  it("an engine that does not answer is noticed before any attempt fails", async () => {
    await open({ settings: { maxConcurrent: 1 } });
    harness.engine.check = true;
    await harness.clock.advance(6_100);
    expect(harness.coordinator.scheduler.state()).toMatchObject({
      breaker: "open",
      reason: "The sandbox engine does not answer (Down.).",
    });
    const { id } = await harness.submit();
    await harness.clock.advance(60_000);
    const task = await harness.task(id);
    expect([task.state, task.snapshot.context.attempt]).toEqual(["queued", 0]);
    expect(await harness.coordinator.operations.wait(task)).toMatchObject({ reason: "sandbox_unavailable" });
    harness.engine.check = false;
    await harness.clock.advance(1_100);
    await harness.until(id, "provisioning");
  });

  it("[T5] a start during the outage ends no attempt: running workers go on", async () => {
    await open({ policy: { silenceMs: 60_000 } });
    const id = await running();
    await harness.clock.advance(40_000);
    harness.engine.check = true;
    harness.sandbox.list = () => Promise.reject(new TaskFailure("sandbox_unavailable", { detail: "Down." }));
    await harness.restart();
    // Downtime does not count as silence.
    await harness.clock.advance(40_000);
    expect(await harness.task(id)).toMatchObject({
      state: "running",
      snapshot: { context: { attempt: 1, failure: null } },
    });
  });

  it("[D1] a sandbox that could not be removed is gone before the next attempt of its task starts", async () => {
    await open({ policy: { backoffMs: 100, backoffCapMs: 100 } });
    const id = await running({ maxAttempts: 2 });
    const { remove } = harness.sandbox;
    harness.sandbox.remove = () => Promise.reject(new TaskFailure("sandbox_unavailable", { detail: "Down." }));
    crash(id);
    await ends(id, "retrying");
    harness.sandbox.remove = remove;
    await harness.clock.advance(1_000);
    await harness.until(id, "provisioning");
    const names = await eventually(async () => {
      await settle();
      const found = (await harness.sandbox.list()).map(({ name }) => name);
      return found.includes(sandboxName(id, 2)) ? found : null;
    }, "the next one begins");
    expect(names).toEqual([sandboxName(id, 2)]);
  });

  it("failing attempts pause claiming although the engine answers", async () => {
    await open({ settings: { maxConcurrent: 8, breakerRestMs: 15_000 } });
    await harness.coordinator.scheduler.setMode("paused");
    const ids = await Promise.all(Array.from({ length: 8 }, () => harness.submit().then((task) => task.id)));
    for (const id of ids) harness.faults.set(id, "engine_down");
    await harness.coordinator.scheduler.setMode("open");
    await harness.untilBreakerOpens();
    await harness.clock.advance(13_000);
    expect(harness.coordinator.scheduler.state()).toMatchObject({ breaker: "open" });
    harness.faults.clear();
    await harness.clock.advance(3_000);
    expect(harness.coordinator.scheduler.state()).toMatchObject({ breaker: "closed" });
  });
});

it("[W7] each hour, and when it is asked for, the packs of repositories are merged; a dry run merges none", async () => {
  await open();
  let merges = 0;
  Object.assign(harness.repos, {
    mergePacks: async () => {
      merges += 1;
      return [
        { kind: "mirror", name: "a", packs: 9, error: null },
        { kind: "task", name: "task_b", packs: 0, error: "no space left on device" },
      ];
    },
  });
  await harness.coordinator.garbageCollector.collect("dry-run", never);
  expect(merges).toBe(0);
  expect(await harness.coordinator.garbageCollector.collect("remove", never)).toEqual([]);
  expect(merges).toBe(1);
  expect(harness.logged.map(({ fields }) => fields)).toContainEqual({
    kind: "task",
    name: "task_b",
    error: "no space left on device",
  });
  await harness.clock.advance(3_600_000);
  await expect.poll(() => merges).toBe(2);
});
