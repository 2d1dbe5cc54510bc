import { beforeEach, expect, it } from "vitest";
import {
  PullRequestReader,
  type PullRequestView,
} from "../../../src/coordinator/services/tasks/pull-request-reader.ts";
import { TaskFailure } from "../../../src/core/failure.ts";
import type { Forge } from "../../../src/core/ports/repositories.ts";
import type { Task } from "../../../src/core/task.ts";
import { latch, openHarness, REPO, type Latch } from "../../support/coordinator/harness.ts";
import { createManualClock, type ManualClock } from "../../support/manual-clock.ts";

let clock: ManualClock;
let door: Latch;
let asked: number;
let reader: PullRequestReader;
const opened = { url: `${REPO}/pull/1`, number: 1, state: "open" };
let task: Task;

beforeEach(async () => {
  clock = createManualClock();
  door = latch();
  asked = 0;
  const forge: Forge = {
    name: "Test forge",
    host: "git.example.com",
    serves: () => true,
    readToken: () => Promise.resolve({ kind: "unreadable" }),
    openPullRequest: () => Promise.reject(new Error("not here")),
    async readPullRequest(_request, signal) {
      asked += 1;
      await door.pass(signal);
      return { state: "merged", checks: null };
    },
  };
  reader = new PullRequestReader({ forges: [forge], authFor: () => Promise.resolve(null), clock });
  const harness = await openHarness();
  const plain = await harness.submit();
  await harness.close();
  const context = { ...plain.snapshot.context, pullRequest: opened };
  task = { ...plain, snapshot: { ...plain.snapshot, context } };
});
const merged = (): PullRequestView => ({
  ...opened,
  state: "merged",
  checks: null,
  readAt: clock.now(),
  problem: null,
});

it("many who look at once, and within half a minute, are one question to the forge", async () => {
  door.closed = true;
  const looks = [reader.read(task), reader.read(task), reader.read(task)];
  await expect.poll(() => asked).toBe(1);
  door.let();
  expect(await Promise.all(looks)).toEqual([merged(), merged(), merged()]);
  const first = merged();
  await clock.advance(29_000);
  expect(await reader.read(task)).toEqual(first);
  await clock.advance(2_000);
  door.closed = false;
  expect(await reader.read(task)).toEqual(merged());
  expect(asked).toBe(2);
});

it("what the forge does not tell is what it was at the opening, with the reason; a pause is kept", async () => {
  door.fail(new TaskFailure("forge_rate_limited", { detail: "Too many.", retryAfterMs: 120_000 }));
  const unknown = { ...opened, checks: null, readAt: null, problem: "Too many." };
  expect(await reader.read(task)).toEqual(unknown);
  await clock.advance(100_000);
  expect(await reader.read(task)).toEqual(unknown);
  expect(asked).toBe(1);
  await clock.advance(21_000);
  expect(await reader.read(task)).toEqual(merged());
});

it("a task without a pull request has none to read", async () => {
  const context = { ...task.snapshot.context, pullRequest: null };
  const none = { ...task, snapshot: { ...task.snapshot, context } };
  await expect(reader.read(none)).rejects.toMatchObject({ code: "not_found" });
  expect(asked).toBe(0);
});
