/**
 * Random sequences of events: the log folds to the stored snapshot, and every task settles.
 */
import fc from "fast-check";
import { expect, it } from "vitest";
import { checkInvariants } from "../../../src/coordinator/invariants.ts";
import { SlipwayError } from "../../../src/core/error.ts";
import { TaskFailure } from "../../../src/core/failure.ts";
import { isSettledState, sandboxName, type Task } from "../../../src/core/task.ts";
import { settle } from "../../support/manual-clock.ts";
import { ALICE, BOB, openHarness, type Harness } from "../../support/coordinator/harness.ts";
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
const steps = fc.array(fc.record({ kind: fc.constantFrom(...KINDS), pick: fc.nat(1_000) }), {
  minLength: 5,
  maxLength: 40,
});

/** Refusals are expected: only an error that is not a SlipwayError fails a run. */
async function mayRefuse(work: Promise<unknown>): Promise<void> {
  await work.catch((error: unknown) => {
    if (!(error instanceof SlipwayError)) throw error;
  });
}

async function take(harness: Harness, ids: string[], { kind, pick }: Step): Promise<void> {
  const { coordinator, fakeWorkers, repos, sandbox, latches, clock } = harness;
  const id = ids[pick % Math.max(1, ids.length)];
  const person = pick % 3 === 0 ? BOB : ALICE;
  if (kind === "submit" || id === undefined) {
    const task = await harness.submit({ maxAttempts: 1 + (pick % 3), priority: (pick % 5) - 2 }, person);
    ids.push(task.id);
    return;
  }
  const task = await harness.task(id);
  const owner = { userId: task.userId, role: "user" } as const;
  const { attempt, baseSha, question } = task.snapshot.context;
  const send = (...events: Parameters<typeof fakeWorkers.send>[2][]): Promise<void> =>
    fakeWorkers.has(id) ? mayRefuse(fakeWorkers.send(coordinator.workerApi, id, ...events)) : Promise.resolve();
  const crash = (exitCode: number | null, outOfMemory: boolean): void =>
    sandbox.crash(sandboxName(id, attempt), { exitCode, outOfMemory, tail: "" });
  switch (kind) {
    case "cancel":
      return mayRefuse(coordinator.tasks.cancel(owner, id, false));
    case "kill":
      return mayRefuse(coordinator.tasks.cancel(owner, id, true));
    case "retry":
      return mayRefuse(
        coordinator.tasks
          .retry(owner, id, { from: (["start", "checkpoint", "push"] as const)[pick % 3] ?? "start" }, null)
          .then((made) => ids.push(made.id)),
      );
    case "message":
      return mayRefuse(
        coordinator.tasks
          .message(owner, id, { text: "hello" }, `key-${pick % 4}`)
          .then((made) => "task" in made && ids.push(made.task.id)),
      );
    case "ready":
      return send(["ready", {}]);
    case "finish": {
      const sha = baseSha === null ? "" : await repos.commit(id, WORK_REF, `work ${pick}`);
      return send(["finished", { sha: sha || "f".repeat(40), title: "t", summary: "s" }]);
    }
    case "finishNothing":
      return send(["finished", { sha: baseSha ?? "f".repeat(40), title: "", summary: "" }]);
    case "checkpoint": {
      if (baseSha === null) return;
      const sha = await repos.commit(id, checkpointRef(attempt), `half ${pick}`);
      return send(["checkpoint", { sha, cursor: String(pick), files: 1, additions: 1, deletions: 0 }]);
    }
    case "ask":
      return send(["question", { id: `q${pick}`, question: "Which?", options: null }]);
    case "answer":
      return mayRefuse(coordinator.tasks.answer(owner, id, { questionId: question?.id ?? "q0", text: "this" }));
    case "agentFails":
      return send(["failed", { code: pick % 2 ? "agent_error" : "nonsense", message: "no", evidence: null }]);
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
      return harness.restart();
    case "jump":
      return clock.jump(pick * 10);
    case "longJump":
      return clock.jump(pick * 60_000);
    case "pause":
      return coordinator.scheduler.setMode("paused");
    case "resume":
      return coordinator.scheduler.setMode("open");
    case "stale":
      return mayRefuse(
        coordinator.workerApi.accept(
          id,
          {
            attempt: Math.max(1, attempt - 1),
            events: [{ seq: 1, at: new Date().toISOString(), type: "ready", data: {} }],
          },
          0,
        ),
      );
  }
}

async function checkRules(harness: Harness): Promise<void> {
  const { violations } = await checkInvariants({ store: harness.store, sandbox: null, maxConcurrent: MAX });
  expect(violations).toEqual([]);
  const running = (await harness.sandbox.list()).filter((info) => info.state === "running");
  expect(new Set(running.map((info) => info.taskId)).size).toBe(running.length);
  expect(running.length).toBeLessThanOrEqual(MAX);
  expect(new Set(harness.sandbox.created).size).toBe(harness.sandbox.created.length);
}

/**
 * [D5] At rest the scheduler counts exactly the tasks whose row holds a slot: none is given back
 * late or early.
 */
async function slotsAgree(harness: Harness): Promise<void> {
  await settle();
  expect(harness.coordinator.scheduler.slotsUsed()).toBe(await harness.store.slotsHeld());
}

/** Nothing may hang: after every task is cancelled, all slots and sandboxes are free. */
async function comesToAnEnd(harness: Harness): Promise<readonly Task[]> {
  await harness.coordinator.scheduler.setMode("open");
  // Also follow-up tasks, which begin when a task settles. A cancelled task begins none.
  for (const id of await harness.store.openIds())
    await mayRefuse(harness.coordinator.tasks.cancel({ userId: "user_op", role: "operator" }, id, true));
  await settle(50);
  await harness.clock.jump(1_000);
  await settle(50);
  const tasks = (await harness.store.tasks({ userId: null, limit: 200 })).items;
  expect(tasks.filter((task) => !isSettledState(task.state)).map((task) => task.state)).toEqual([]);
  expect(await harness.store.slotsHeld()).toBe(0);
  expect(harness.coordinator.scheduler.slotsUsed()).toBe(0);
  expect(await harness.sandbox.list()).toEqual([]);
  return tasks;
}

it("[T1] [T4] [T5] [D4] [D5] random sequences of everything that can happen keep every rule", async () => {
  await fc.assert(
    fc.asyncProperty(steps, async (sequence) => {
      const harness = await openHarness({ settings: { maxConcurrent: MAX, breakerRestMs: 500 } });
      try {
        const ids: string[] = [];
        for (const step of sequence) {
          await take(harness, ids, step);
          await settle(3);
          if (step.pick % 4 === 0) await slotsAgree(harness);
        }
        await slotsAgree(harness);
        await checkRules(harness);
        await comesToAnEnd(harness);
        await checkRules(harness);
      } finally {
        await harness.close();
      }
    }),
    { numRuns: Number(process.env["SLIPWAY_PROPERTY_RUNS"] ?? 150) },
  );
});
