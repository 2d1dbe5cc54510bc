/** What the coordinator keeps of tasks that have settled: nothing, however their calls end. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { queryObjects } from "node:v8";
import { expect, it } from "vitest";
import { packageRoot } from "../../src/core/lib/runtime/package-root.ts";
import { openSqliteStore } from "../../src/store/sqlite/store.ts";
import { ALICE, openHarness, type Harness } from "../support/coordinator/harness.ts";
import { settle } from "../support/manual-clock.ts";

/** At once, in as many slots. */
const TASKS = 8;

/** Settles a task while a request of its model is open and its sandbox asks for an endpoint. */
async function live(harness: Harness): Promise<void> {
  const { budget, egress, tasks, workerApi } = harness.coordinator;
  const { id } = await harness.submit();
  await harness.until(id, "provisioning");
  await expect.poll(async () => (await harness.sandbox.list()).some((info) => info.taskId === id)).toBe(true);
  await harness.fakeWorkers.send(workerApi, id, ["ready", {}]);
  const ended = await budget.admit(id, 1, "model", 0.01);
  const late = await budget.admit(id, 1, "model", 0.01);
  const cost = {
    model: "model",
    inputTokens: 1,
    outputTokens: 1,
    cacheReadTokens: 0,
    cacheWriteTokens: 0,
    usd: 0.01,
    estimated: false,
  };
  await ended.settle(cost);
  egress.reportRefusal(id, 1, "a.example.com:443", "It is not listed.");
  await tasks.cancel(ALICE, id, true);
  await harness.until(id, "cancelled");
  await late.settle(cost);
  egress.reportRefusal(id, 1, "b.example.com:443", "It is not listed.");
  await harness.repos.remove(id);
  await settle(50);
}

/** Objects that live, by kind, after a collection. */
const count = (): number[] => [Map, Set].map((kind) => queryObjects(kind, { format: "count" }));

it("[F8] a settled task leaves no map and no set behind, also when its calls end after it", async () => {
  const dir = mkdtempSync(join(tmpdir(), "slipway-stays-"));
  const opened = openSqliteStore({ dir, migrations: join(packageRoot(), "migrations", "sqlite") });
  const harness = await openHarness({ ...opened, settings: { maxConcurrent: TASKS } });
  const liveAll = (): Promise<unknown> => Promise.all(Array.from({ length: TASKS }, () => live(harness)));
  try {
    await liveAll();
    const before = count();
    await liveAll();
    await liveAll();
    const mostGrown = (): number => Math.max(...count().map((objects, i) => objects - (before[i] ?? 0)));
    // Less than one of a kind for each task; what pools and queues hold differs from time to time.
    await expect.poll(mostGrown, { interval: 500 }).toBeLessThan(TASKS);
  } finally {
    await harness.close();
    await opened.store.close();
    rmSync(dir, { recursive: true, force: true });
  }
});
