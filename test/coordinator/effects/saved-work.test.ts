/** Where a retry takes the saved work from. */
import { expect, it } from "vitest";
import { TaskFailure } from "../../../src/core/failure.ts";
import { WORK_REF } from "../../../src/core/ports/repositories.ts";
import { ALICE, openHarness } from "../../support/coordinator/harness.ts";

it("[W4] a retry of a retry that ended before it had a repository pushes the work of the first task", async () => {
  const harness = await openHarness();
  const { coordinator, fakeWorkers, repos, latches } = harness;
  const first = await harness.submit();
  await harness.until(first.id, "provisioning");
  await harness.untilWorker(first.id);
  await fakeWorkers.send(coordinator.workerApi, first.id, ["ready", {}]);
  const sha = await repos.commit(first.id, WORK_REF, "work");
  await fakeWorkers.send(coordinator.workerApi, first.id, ["finished", { sha, title: "t", summary: "s" }]);
  await harness.until(first.id, "done");
  latches.prepare.fail(new TaskFailure("repo_auth"));
  const second = await coordinator.tasks.retry(ALICE, first.id, { from: "push" }, null);
  await harness.until(second.id, "failed");
  const third = await coordinator.tasks.retry(ALICE, second.id, { from: "push" }, null);
  expect((await harness.until(third.id, "done")).snapshot.context.headSha).toBe(sha);
  await harness.close();
});
