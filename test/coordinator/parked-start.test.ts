/** A start with many tasks that need no sandbox. */
import { afterEach, expect, it } from "vitest";
import type { SimulatedSandbox } from "../../src/sandbox/simulated.ts";
import { openMemoryStore } from "../../src/store/memory/store.ts";
import { openHarness, type Harness } from "../support/coordinator/harness.ts";
import { settle } from "../support/manual-clock.ts";

let harness: Harness;
afterEach(() => harness.close());

async function park(id: string): Promise<void> {
  await harness.until(id, "provisioning");
  await expect.poll(async () => (await harness.sandbox.list()).some((info) => info.taskId === id)).toBe(true);
  const question = { id: "q1", question: "Which?", options: null };
  await harness.fakeWorkers.send(harness.coordinator.workerApi, id, ["ready", {}], ["question", question]);
  await harness.until(id, "running.awaiting_input");
}

async function openParked(
  tasks: number,
  change: (sandbox: SimulatedSandbox) => void = () => undefined,
): Promise<{ ids: string[]; reads: string[] }> {
  const { store } = openMemoryStore();
  const reads: string[] = [];
  const events = store.events.bind(store);
  Object.assign(store, {
    events: (...args: Parameters<typeof events>) => {
      reads.push(args[0]);
      return events(...args);
    },
  });
  harness = await openHarness({
    store,
    policy: { parkMs: 1_000 },
    settings: { maxConcurrent: tasks, clearMs: 1_000 },
  });
  change(harness.sandbox);
  const ids: string[] = [];
  for (let i = 0; i < tasks; i += 1) ids.push((await harness.submit()).id);
  for (const id of ids) await park(id);
  await harness.clock.advance(2_000);
  for (const id of ids) await harness.until(id, "running.parked");
  return { ids, reads };
}

it("[D2] [D13] a start does not read the logs of parked tasks again whose sandboxes are gone", async () => {
  const { ids, reads } = await openParked(30);
  await expect.poll(async () => await harness.sandbox.list()).toEqual([]);
  await harness.clock.advance(60_000);
  reads.length = 0;
  await harness.restart();
  await settle();
  expect(reads).toEqual([]);
  expect(harness.coordinator.supervisor.size()).toBe(ids.length);
});

it("[D3] [D13] a start clears parked tasks that still have a sandbox eight at a time", async () => {
  let calls = 0;
  await openParked(30, (sandbox) => {
    sandbox.remove = async () => {
      calls += 1;
      await new Promise<never>(() => undefined);
    };
  });
  await harness.clock.advance(10_000);
  calls = 0;
  await harness.restart();
  await settle();
  // Eight effects, and eight of the removal of sandboxes that no task needs.
  expect(calls).toBe(16);
  await harness.clock.advance(10_000);
});
