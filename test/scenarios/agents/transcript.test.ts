/** Which transcript a new task inherits. */
import { afterEach, beforeEach, expect, it } from "vitest";
import { checkpointRef } from "../../../src/core/ports/repositories.ts";
import type { Task } from "../../../src/core/task.ts";
import { ALICE, openHarness, type Harness } from "../../support/coordinator/harness.ts";

let harness: Harness;
beforeEach(async () => {
  harness = await openHarness({ settings: { agents: ["scripted", "program"] } });
});
afterEach(async () => {
  await harness.close();
});

/** A failed task whose agent wrote two records. */
async function parent(checkpoint?: { readonly cursor: string }): Promise<Task> {
  const { id } = await harness.submit();
  await harness.until(id, "provisioning");
  await harness.untilWorker(id);
  await harness.fakeWorkers.send(harness.coordinator.workerApi, id, ["ready", {}]);
  for (const n of [1, 2]) await harness.coordinator.workerApi.append(id, { n, attempt: 1, record: { n } });
  if (checkpoint !== undefined) {
    const sha = await harness.repos.commit(id, checkpointRef(1), "work");
    const size = { files: 1, additions: 1, deletions: 0 };
    await harness.fakeWorkers.send(harness.coordinator.workerApi, id, ["checkpoint", { sha, ...checkpoint, ...size }]);
  }
  await harness.fakeWorkers.send(harness.coordinator.workerApi, id, [
    "failed",
    { code: "refused", message: "No.", evidence: null },
  ]);
  return await harness.until(id, "failed");
}

it("[X2] a retry from the checkpoint and a follow-up inherit the transcript, a retry from the start does not", async () => {
  const { id } = await parent();
  const { tasks } = harness.coordinator;
  const again = await tasks.retry(ALICE, id, { from: "checkpoint" });
  const anew = await tasks.retry(ALICE, id, { from: "start" });
  const sent = await tasks.message(ALICE, id, { text: "Go on." }, null);
  const next = "task" in sent ? sent.task : null;
  const lengths = await Promise.all([again.id, anew.id, next?.id ?? ""].map((one) => harness.store.lastRecord(one)));
  expect(lengths).toEqual([2, 0, 2]);
  const records = await harness.store.records(again.id, 0, 1e6);
  expect(records.map(({ attempt, json }) => [attempt, json])).toEqual([
    [0, '{"n":1}'],
    [0, '{"n":2}'],
  ]);
});

it("[X2] another agent gets the saved work, and neither the transcript nor the place that the first one was at", async () => {
  const { id } = await parent({ cursor: "step 7" });
  const { tasks } = harness.coordinator;
  const same = await tasks.retry(ALICE, id, { from: "checkpoint" });
  const other = await tasks.retry(ALICE, id, { from: "checkpoint", agent: "program" });
  const saved = ({ snapshot }: Task) => snapshot.context.checkpoint;
  expect([saved(same)?.cursor, saved(other)?.cursor]).toEqual(["step 7", null]);
  expect(saved(other)?.sha).toBe(saved(same)?.sha);
  expect(await Promise.all([same.id, other.id].map((one) => harness.store.lastRecord(one)))).toEqual([2, 0]);
});

it("[X2] a stale worker may not write, and the next one reads the whole transcript", async () => {
  const { id } = await parent();
  const late = harness.coordinator.workerApi.append(id, { n: 3, attempt: 1, record: {} });
  await expect(late).rejects.toMatchObject({ code: "stale_attempt" });
  await expect(harness.coordinator.workerApi.transcript(id, 1, 0)).rejects.toMatchObject({ code: "stale_attempt" });
  expect(await harness.store.lastRecord(id)).toBe(2);
});
