/**
 * Every path of the chart, replayed against the real coordinator, ends in the same states.
 */
import { afterEach, describe, expect, it } from "vitest";
import { checkInvariants } from "../../../src/coordinator/invariants.ts";
import { failureProposal } from "../../../src/coordinator/effects/failure-proposal.ts";
import { TaskFailure } from "../../../src/core/failure.ts";
import { sandboxName } from "../../../src/core/task.ts";
import { taskPaths, type PathEvent } from "../../machines/paths.ts";
import type { SubmitRequest } from "../../../src/core/protocol/rest.ts";
import { ALICE, openHarness, valueOf, type Harness } from "../../support/coordinator/harness.ts";
import { WORK_REF } from "../../../src/core/ports/repositories.ts";

let harness: Harness;
afterEach(() => harness.close());

const BASE_SHA = "0".repeat(39) + "1";

/** How each move is triggered on the harness. */
async function make(id: string, event: PathEvent): Promise<void> {
  const { coordinator, latches, fakeWorkers, sandbox, repos, clock } = harness;
  const task = await harness.task(id);
  const attempt = task.snapshot.context.attempt;
  const send = (...events: Parameters<typeof fakeWorkers.send>[2][]): Promise<unknown> =>
    fakeWorkers.send(coordinator.workerApi, id, ...events);
  const record = (code: Parameters<typeof failureProposal>[0]): Promise<unknown> =>
    coordinator.taskLog.record(id, () => [failureProposal(code, 0.5)]);
  const crash = (exitCode: number, outOfMemory: boolean): void =>
    sandbox.crash(sandboxName(id, attempt), { exitCode, outOfMemory, tail: "" });
  const pushing = task.state === "pushing";
  const { dueAt, wallAt, question } = task.snapshot.context;
  const jumpTo = (at: number | null): Promise<void> => clock.jump(Math.max(0, (at ?? clock.now()) - clock.now()) + 200);
  const questionId = question?.id ?? "";
  switch (event.move) {
    case "claim":
      await coordinator.scheduler.setMode("open");
      await harness.until(id, "provisioning");
      await coordinator.scheduler.setMode("paused");
      await harness.untilWorker(id);
      return;
    case "step_started":
      return void (await send(["task.step", { name: "clone", status: "started", detail: null }]));
    case "step_ended":
      return void (await send(["task.step", { name: "clone", status: "ended", detail: null }]));
    case "ready":
      return void (await send(["ready", {}]));
    case "user_message":
    case "notice":
      return void (await coordinator.tasks.message(ALICE, id, { text: "hello" }, null));
    case "delivered":
    case "says":
      return void (await send([
        "message",
        { id: "a1", role: "assistant", content: [{ type: "text", text: "working" }] },
      ]));
    case "tool":
      return void (await send(["tool.started", { id: "t1", name: "bash", input: {} }]));
    case "adopted":
      return await harness.restart();
    case "time_lost":
      return void (await coordinator.taskLog.record(id, () => [{ type: "notice", data: event.data }]));
    case "usage":
      return void (await send([
        "usage",
        { inputTokens: 1, outputTokens: 1, cacheReadTokens: 0, cacheWriteTokens: 0, usd: 0, turns: 1 },
      ]));
    case "checkpoint": {
      const sha = await repos.commit(id, `refs/slipway/checkpoints/${attempt}`, "half");
      return void (await send(["checkpoint", { sha, cursor: "1", files: 1, additions: 1, deletions: 0 }]));
    }
    case "question":
      return void (await send(["question", { id: `q${attempt}`, question: "Which?", options: null }]));
    case "time_reported":
      // Before its time is used up, a worker's report alone opens no question.
      for (let minutes = 0; minutes < 32; minutes += 8) {
        await clock.jump(8 * 60_000);
        await send(["tool.started", { id: `t${minutes}`, name: "bash", input: {} }]);
      }
      return void (await send(["failed", { code: "deadline_exceeded", message: "", evidence: null }]));
    case "time_up":
      return await jumpTo(wallAt);
    case "answer":
      return void (await coordinator.tasks.answer(ALICE, id, {
        questionId,
        text: questionId.startsWith("q") ? "a" : "yes",
      }));
    case "time_near":
    case "hold": {
      const data = event.move === "hold" ? { ...event.data, id: `q${attempt}` } : event.data;
      return void (await coordinator.taskLog.record(id, () => [{ type: "question", data }]));
    }
    case "answer_more":
    case "answer_push":
    case "answer_time":
    case "answer_stop": {
      const data = { ...event.data, questionId };
      return void (await coordinator.taskLog.record(id, () => [{ type: "answer", data }]));
    }
    case "finished": {
      const sha = await repos.commit(id, WORK_REF, `work ${attempt}`);
      return void (await send(["finished", { sha, title: "A title", summary: "Done." }]));
    }
    case "finished_unchanged":
      return void (await send([
        "finished",
        { sha: task.snapshot.context.baseSha ?? BASE_SHA, title: "", summary: "" },
      ]));
    case "fail_infra":
      return void (await record("sandbox_unavailable"));
    case "fail_transient":
      if (pushing) {
        const stage =
          event.value === "pushing.pull_request" || valueOf(task) === "pushing.pull_request"
            ? latches.forge
            : latches.push;
        return stage.fail(new TaskFailure("remote_unreachable"));
      }
      return crash(7, false);
    case "fail_resource":
      return pushing ? void (await record("disk_full")) : crash(137, true);
    case "fail_agent":
      return void (pushing
        ? await record("agent_error")
        : await send(["failed", { code: "agent_error", message: "no", evidence: null }]));
    case "fail_terminal":
      return void (await record("budget_exceeded"));
    case "push":
      return latches.push.let();
    case "pull_request":
      return latches.forge.let();
    case "cancel":
      return void (await coordinator.tasks.cancel(ALICE, id, false));
    case "cancel_force":
      return void (await coordinator.tasks.cancel(ALICE, id, true));
    case "stopped":
      return latches.stop.let();
    case "timed_out":
      return await jumpTo(dueAt);
    case "yielded":
      return void (await coordinator.taskLog.record(id, () => [{ type: "task.state", data: event.data }]));
    case "answer_other":
    case "time_up_early":
    case "timed_out_early":
      throw new Error(`${event.move} is never accepted`);
  }
}

/** A retry of the push alone needs a parent whose finished work was refused upstream. */
async function failedPush(request: Partial<SubmitRequest>): Promise<string> {
  const parent = await harness.submit(request);
  await harness.until(parent.id, "provisioning");
  await harness.untilWorker(parent.id);
  const sha = await harness.repos.commit(parent.id, WORK_REF, "work");
  harness.latches.push.fail(new TaskFailure("push_rejected"));
  await harness.fakeWorkers.send(
    harness.coordinator.workerApi,
    parent.id,
    ["ready", {}],
    ["finished", { sha, title: "t", summary: "s" }],
  );
  await harness.until(parent.id, "failed");
  return parent.id;
}

async function begin(submitted: Readonly<Record<string, unknown>>): Promise<string> {
  harness = await openHarness({ settings: { breakerLimit: 1_000 } });
  const { coordinator, latches } = harness;
  const request = {
    pullRequest: submitted["pullRequest"] as "none" | "draft",
    maxAttempts: submitted["maxAttempts"] as number,
  };
  const parentId = submitted["from"] === "push" ? await failedPush(request) : null;
  await coordinator.scheduler.setMode("paused");
  latches.push.closed = latches.forge.closed = latches.stop.closed = true;
  if (parentId !== null) return (await coordinator.tasks.retry(ALICE, parentId, { from: "push" })).id;
  return (await harness.submit(request)).id;
}

describe("each path of the chart", () => {
  for (const path of taskPaths()) {
    it(`[D2] ${path.name}`, async () => {
      const id = await begin(path.submitted);
      for (const event of path.events) {
        await make(id, event);
        await harness.until(id, event.value);
      }
      const { violations } = await checkInvariants({ store: harness.store, sandbox: null, maxConcurrent: 4 });
      expect(violations).toEqual([]);
    });
  }
});
