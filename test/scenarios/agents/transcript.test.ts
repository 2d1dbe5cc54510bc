/** Whose memory a new task begins with. */
import { afterEach, beforeEach, expect, it } from "vitest";
import type { Task } from "../../../src/core/task.ts";
import { ALICE, openWorld, type World } from "../../support/coordinator/harness.ts";

let world: World;
beforeEach(async () => {
  world = await openWorld();
});
afterEach(async () => {
  await world.close();
});

/** A failed task whose agent wrote two records. */
async function parent(): Promise<Task> {
  const { id } = await world.submit();
  await world.until(id, "provisioning");
  await expect.poll(() => world.puppets.has(id)).toBe(true);
  await world.puppets.say(world.kernel.desk, id, ["ready", {}]);
  for (const n of [1, 2]) await world.kernel.desk.append(id, { n, attempt: 1, json: JSON.stringify({ n }) });
  await world.puppets.say(world.kernel.desk, id, ["failed", { code: "refused", message: "No.", evidence: null }]);
  return await world.until(id, "failed");
}

it("[X2] a retry from the checkpoint and a follow-up begin with it, a retry from the start does not", async () => {
  const { id } = await parent();
  const { service } = world.kernel;
  const again = await service.retry(ALICE, id, { from: "checkpoint" });
  const anew = await service.retry(ALICE, id, { from: "start" });
  const said = await service.message(ALICE, id, { text: "Go on." }, null);
  const next = "task" in said ? said.task : null;
  const lengths = await Promise.all([again.id, anew.id, next?.id ?? ""].map((one) => world.store.lastRecord(one)));
  expect(lengths).toEqual([2, 0, 2]);
  const records = await world.store.records(again.id, 0, 1e6);
  expect(records.map(({ attempt, json }) => [attempt, json])).toEqual([
    [0, '{"n":1}'],
    [0, '{"n":2}'],
  ]);
});

it("[X2] a worker that is over may not write, and the one after it reads on", async () => {
  const { id } = await parent();
  const late = world.kernel.desk.append(id, { n: 3, attempt: 1, json: "{}" });
  await expect(late).rejects.toMatchObject({ code: "stale_attempt" });
  await expect(world.kernel.desk.transcript(id, 1, 0)).rejects.toMatchObject({ code: "stale_attempt" });
  expect(await world.store.lastRecord(id)).toBe(2);
});
