/** Sandboxes that no task needs and that resist their removal: the boot does not wait for them. */
import { ORPHAN_GRACE_MS } from "../../src/coordinator/scheduler/claim-start.ts";
import { afterEach, expect, it } from "vitest";
import { openHarness, type Harness } from "../support/coordinator/harness.ts";
import { settle } from "../support/manual-clock.ts";

let harness: Harness;
afterEach(() => harness.close());

async function startWorker(id: string): Promise<void> {
  await harness.until(id, "provisioning");
  await expect.poll(async () => (await harness.sandbox.list()).some((info) => info.taskId === id)).toBe(true);
  await harness.fakeWorkers.send(harness.coordinator.workerApi, id, ["ready", {}]);
  await harness.until(id, "running");
}

/** Leaves sandboxes of tasks that are done, and one task that runs. */
async function openWithOrphans(orphans: number) {
  harness = await openHarness({ settings: { maxConcurrent: orphans + 2, clearMs: 1_000 } });
  const { sandbox } = harness;
  const remove = sandbox.remove.bind(sandbox);
  const removing = new Set<string>();
  const stuck = { remove: true, most: 0 };
  sandbox.remove = async (name) => {
    removing.add(name);
    stuck.most = Math.max(stuck.most, removing.size);
    try {
      if (stuck.remove) await new Promise<never>(() => undefined);
      await remove(name);
    } finally {
      removing.delete(name);
    }
  };
  const running = await harness.submit({ prompt: "Go on." });
  await startWorker(running.id);
  for (let i = 0; i < orphans; i += 1) {
    const { id } = await harness.submit();
    await startWorker(id);
    await harness.coordinator.tasks.cancel({ userId: "user_alice", role: "user" }, id, true);
    await harness.until(id, "cancelled");
  }
  // The effects that clear them give up.
  await harness.clock.advance(3_000);
  return { running: running.id, stuck, removing };
}

it("[D2] [D3] [D13] sandboxes that resist delay no adoption, and claims by a bounded time; they go when they can", async () => {
  const { running, stuck, removing } = await openWithOrphans(20);
  removing.clear();
  stuck.most = 0;
  await harness.restart();
  expect(harness.coordinator.scheduler.slotsUsed()).toBe(1);
  const next = await harness.submit();
  await settle();
  expect((await harness.task(next.id)).state).toBe("queued");
  expect(removing.size).toBe(8);
  await harness.clock.advance(ORPHAN_GRACE_MS);
  await startWorker(next.id);
  await settle();
  expect(harness.coordinator.operations.boot().map(({ part }) => part)).toEqual(["orphans"]);
  stuck.remove = false;
  await harness.clock.advance(20_000);
  await expect.poll(() => harness.coordinator.operations.boot()).toEqual([]);
  const names = (await harness.sandbox.list()).map((info) => info.taskId).sort();
  expect(names).toEqual([running, next.id].sort());
});

it("[D13] a close does not wait for a sandbox that resists, neither in the boot nor after it", async () => {
  const { stuck } = await openWithOrphans(3);
  await harness.restart();
  await settle();
  await harness.restart();
  stuck.remove = false;
});
