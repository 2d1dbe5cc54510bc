/** What repositories, credentials and the machine can make an effect throw; a whole coordinator. */
import { afterEach, describe, expect, it } from "vitest";
import { SlipwayError } from "../../../src/core/error.ts";
import { FAILURE_CODES, TaskFailure } from "../../../src/core/failure.ts";
import { GitError } from "../../../src/core/lib/git/git-error.ts";
import { ProcessStartError } from "../../../src/core/lib/runtime/process-group.ts";
import { WORK_REF } from "../../../src/core/ports/repositories.ts";
import { settle } from "../../support/manual-clock.ts";
import { ALICE, BOB, openHarness, type Harness } from "../../support/coordinator/harness.ts";

let harness: Harness;
afterEach(() => harness.close());

const system = (code: string): Error => Object.assign(new Error(`${code}: it failed`), { code, errno: -1 });

/** Each error, and the code of the failure that it becomes. */
const FORESEEN: readonly (readonly [string, Error, string])[] = [
  [
    "git that refuses a name",
    new GitError("fatal: invalid initial branch name: 'm..n'", undefined, 128),
    "repo_incomplete",
  ],
  ["a host without room", new GitError("remote: fatal: No space left on device", undefined, 128), "repo_incomplete"],
  ["git without words", new GitError("", undefined, null), "repo_incomplete"],
  ["git that was killed", new GitError("\ngit exceeded the idle timeout"), "repo_incomplete"],
  ["an error that nobody foresaw", new TypeError("x is not a function"), "internal"],
  ["a thrown SlipwayError", new SlipwayError("internal", "A sealed secret was modified."), "internal"],
  ["an error of git's package", Object.assign(new Error("spawn E2BIG"), { code: "E2BIG", errno: -7 }), "internal"],
];
const EXCUSED: readonly (readonly [string, Error])[] = [
  ["no descriptor for a process", new ProcessStartError("git", system("EMFILE"))],
  ["no room for a file", system("ENOSPC")],
  ["no room for git", new GitError("error: copy-fd: write returned: No space left on device", undefined, 128)],
  ["no memory", system("ENOMEM")],
  ["a store that is locked", new SlipwayError("unavailable", "The database is locked.")],
];

/** Lets the task fail that way each time it is tried, until it rests or is settled. */
async function failAlways(stage: "prepare" | "push", error: Error, tries: number): Promise<string> {
  harness = await openHarness({ settings: { maxConcurrent: 4, breakerLimit: 2 }, policy: { backoffMs: 1 } });
  const latch = harness.latches[stage];
  if (stage === "push") harness.latches.push.closed = true;
  for (let i = 0; i < tries; i += 1) if (stage === "prepare") latch.fail(error);
  const { id } = await harness.submit({ maxAttempts: 3 });
  if (stage === "push") {
    await harness.until(id, "provisioning");
    await harness.untilWorker(id);
    const api = harness.coordinator.workerApi;
    await harness.fakeWorkers.send(api, id, ["ready", {}]);
    const sha = await harness.repos.commit(id, WORK_REF, "work");
    await harness.fakeWorkers.send(api, id, ["finished", { sha, title: "T", summary: "S" }]);
    await harness.until(id, "pushing");
    for (let i = 0; i < tries; i += 1) latch.fail(error);
  }
  for (let i = 0; i < 30 && (await harness.task(id)).snapshot.context.settledAt === null; i += 1) {
    await harness.clock.advance(1_000);
    await settle(20);
  }
  return id;
}

describe.each(["prepare", "push"] as const)("an error in %s", (stage) => {
  it.each(FORESEEN)("[D9] [T5] %s uses up attempts and pauses nobody", async (_, error, code) => {
    const id = await failAlways(stage, error, 8);
    const { state, snapshot } = await harness.task(id);
    expect(state).toBe("failed");
    expect(snapshot.context.failure).toMatchObject({ code: "attempts_exhausted" });
    expect(snapshot.context.failure?.message).toContain(`The last one: ${code}.`);
    expect(harness.coordinator.scheduler.state()).toMatchObject({ breaker: "closed", reason: null });
  });

  it.each(EXCUSED)("[D9] %s is excused, and pauses nobody", async (_, error) => {
    const id = await failAlways(stage, error, 8);
    const { snapshot } = await harness.task(id);
    expect(snapshot.context.failure?.code ?? "interrupted").toBe("interrupted");
    expect(snapshot.context.attempt - snapshot.context.excused).toBeLessThanOrEqual(1);
    expect(snapshot.context.pushTries).toBe(0);
    expect(harness.coordinator.scheduler.state()).toMatchObject({ breaker: "closed", reason: null });
  });
});

it("[D9] the log names the defect, the task and the attempt", async () => {
  const id = await failAlways("prepare", new TypeError("x is not a function"), 1);
  expect(harness.logged.filter(({ level }) => level === "error")).toMatchObject([
    { fields: { task: id, attempt: 1, err: expect.objectContaining({ message: "x is not a function" }) } },
  ]);
});

it("[D9] of all codes only one opens the breaker, however often the others come", async () => {
  harness = await openHarness({ settings: { maxConcurrent: 4, breakerLimit: 2 } });
  for (const code of FAILURE_CODES.filter((one) => one !== "sandbox_unavailable")) {
    for (let i = 0; i < 3; i += 1) {
      harness.latches.prepare.fail(new TaskFailure(code));
      const { id } = await harness.submit();
      await expect.poll(async () => (await harness.task(id)).snapshot.context.failure?.code).toBeDefined();
      await harness.coordinator.tasks.cancel(ALICE, id, false).catch(() => undefined);
    }
    expect(harness.coordinator.scheduler.state()).toMatchObject({ breaker: "closed" });
  }
  const { id } = await harness.submit({}, BOB);
  await harness.until(id, "provisioning");
});
