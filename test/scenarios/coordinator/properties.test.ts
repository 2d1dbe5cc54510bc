/** Random lives: whatever happens in whatever order, the log folds to what is stored, and everything comes to an end. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { checkUp } from "../../../src/coordinator/invariants.ts";
import { SlipwayError } from "../../../src/core/error.ts";
import { TaskFailure } from "../../../src/core/failure.ts";
import { isSettledState, sandboxName, type Task } from "../../../src/core/task.ts";
import { settle } from "../../support/manual-clock.ts";
import { ALICE, BOB, openWorld, type World } from "../../support/coordinator/harness.ts";
import { checkpointRef, WORK_REF } from "../../../src/core/ports/repositories.ts";

const MAX = 2;
const KINDS = [
  "submit",
  "cancel",
  "kill",
  "retry",
  "message",
  "ready",
  "finish",
  "finishNothing",
  "checkpoint",
  "ask",
  "answer",
  "agentFails",
  "exit",
  "outOfMemory",
  "gone",
  "pushFails",
  "prepareFails",
  "restart",
  "jump",
  "longJump",
  "pause",
  "resume",
  "stale",
] as const;
interface Step {
  readonly kind: (typeof KINDS)[number];
  readonly pick: number;
}
const steps = fc.array(fc.record({ kind: fc.constantFrom(...KINDS), pick: fc.nat(1_000) }), { minLength: 5, maxLength: 40 });

/** Refusals are part of life: only what is not one of ours may fail a run. */
async function mayRefuse(work: Promise<unknown>): Promise<void> {
  await work.catch((error: unknown) => {
    if (!(error instanceof SlipwayError)) throw error;
  });
}

async function take(world: World, ids: string[], { kind, pick }: Step): Promise<void> {
  const { kernel, puppets, repos, sandbox, latches, clock } = world;
  const id = ids[pick % Math.max(1, ids.length)];
  const person = pick % 3 === 0 ? BOB : ALICE;
  if (kind === "submit" || id === undefined) {
    const task = await world.submit({ maxAttempts: 1 + (pick % 3), priority: (pick % 5) - 2 }, person);
    ids.push(task.id);
    return;
  }
  const task = await world.task(id);
  const owner = { userId: task.userId, role: "user" } as const;
  const { attempt, baseSha, question } = task.snapshot.context;
  const say = (...events: Parameters<typeof puppets.say>[2][]): Promise<void> =>
    puppets.has(id) ? mayRefuse(puppets.say(kernel.desk, id, ...events)) : Promise.resolve();
  const crash = (exitCode: number | null, outOfMemory: boolean): void =>
    sandbox.crash(sandboxName(id, attempt), { exitCode, outOfMemory, tail: "" });
  switch (kind) {
    case "cancel":
      return mayRefuse(kernel.service.cancel(owner, id, false));
    case "kill":
      return mayRefuse(kernel.service.cancel(owner, id, true));
    case "retry":
      return mayRefuse(
        kernel.service
          .retry(owner, id, { from: (["start", "checkpoint", "push"] as const)[pick % 3] ?? "start" })
          .then((made) => ids.push(made.id)),
      );
    case "message":
      return mayRefuse(
        kernel.service.message(owner, id, { text: "hello" }, `key-${pick % 4}`).then((made) => "task" in made && ids.push(made.task.id)),
      );
    case "ready":
      return say(["ready", {}]);
    case "finish": {
      const sha = baseSha === null ? "" : await repos.commit(id, WORK_REF, `work ${pick}`);
      return say(["finished", { sha: sha || "f".repeat(40), title: "t", summary: "s" }]);
    }
    case "finishNothing":
      return say(["finished", { sha: baseSha ?? "f".repeat(40), title: "", summary: "" }]);
    case "checkpoint": {
      if (baseSha === null) return;
      const sha = await repos.commit(id, checkpointRef(attempt), `half ${pick}`);
      return say(["checkpoint", { sha, cursor: String(pick), files: 1, additions: 1, deletions: 0 }]);
    }
    case "ask":
      return say(["question", { id: `q${pick}`, question: "Which?", options: null }]);
    case "answer":
      return mayRefuse(kernel.service.answer(owner, id, { questionId: question?.id ?? "q0", text: "this" }));
    case "agentFails":
      return say(["failed", { code: pick % 2 ? "agent_error" : "nonsense", message: "no", evidence: null }]);
    case "exit":
      return crash(pick % 2 ? 7 : 0, false);
    case "outOfMemory":
      return crash(137, true);
    case "gone":
      return crash(null, false);
    case "pushFails":
      return latches.push.fail(new TaskFailure(pick % 2 ? "remote_unreachable" : "push_rejected"));
    case "prepareFails":
      return latches.prepare.fail(
        new TaskFailure((["repo_unreachable", "repo_auth", "sandbox_unavailable"] as const)[pick % 3] ?? "repo_auth"),
      );
    case "restart":
      return world.restart();
    case "jump":
      return clock.jump(pick * 10);
    case "longJump":
      return clock.jump(pick * 60_000);
    case "pause":
      return kernel.gate.pause(true);
    case "resume":
      return kernel.gate.pause(false);
    case "stale":
      return mayRefuse(
        kernel.desk.accept(id, {
          attempt: Math.max(1, attempt - 1),
          events: [{ seq: 1, at: new Date().toISOString(), type: "ready", data: {} }],
        }),
      );
  }
}

async function lawful(world: World): Promise<void> {
  const { findings } = await checkUp({ store: world.store, sandbox: null, maxConcurrent: MAX });
  expect(findings).toEqual([]);
  const running = (await world.sandbox.list()).filter((box) => box.state === "running");
  expect(new Set(running.map((box) => box.taskId)).size).toBe(running.length);
  expect(running.length).toBeLessThanOrEqual(MAX);
  expect(new Set(world.sandbox.created).size).toBe(world.sandbox.created.length);
}

/** [D5] With everything at rest, the gate counts exactly the tasks whose row holds a slot: none is given back late, none too early. */
async function slotsAgree(world: World): Promise<void> {
  await settle();
  expect(world.kernel.gate.used()).toBe(await world.store.slotsHeld());
}

/** Nothing may hang: with everyone cancelled, all slots and sandboxes come back. */
async function comesToAnEnd(world: World, ids: readonly string[]): Promise<Task[]> {
  await world.kernel.gate.pause(false);
  for (const id of ids) await mayRefuse(world.kernel.service.cancel({ userId: "user_op", role: "operator" }, id, true));
  await settle(50);
  await world.clock.jump(1_000);
  await settle(50);
  const tasks = await Promise.all(ids.map((id) => world.task(id)));
  expect(tasks.filter((task) => !isSettledState(task.state)).map((task) => task.state)).toEqual([]);
  expect(await world.store.slotsHeld()).toBe(0);
  expect(world.kernel.gate.used()).toBe(0);
  expect(await world.sandbox.list()).toEqual([]);
  return tasks;
}

it("[T1] [T4] [T5] [D4] [D5] random sequences of everything that can happen keep every rule", { timeout: 120_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(steps, async (sequence) => {
      const world = await openWorld({ settings: { maxConcurrent: MAX, breakerRestMs: 500 } });
      try {
        const ids: string[] = [];
        for (const step of sequence) {
          await take(world, ids, step);
          await settle(3);
          if (step.pick % 4 === 0) await slotsAgree(world);
        }
        await slotsAgree(world);
        await lawful(world);
        await comesToAnEnd(world, ids);
        await lawful(world);
      } finally {
        await world.close();
      }
    }),
    { numRuns: Number(process.env["SLIPWAY_PROPERTY_RUNS"] ?? 150) },
  );
});
