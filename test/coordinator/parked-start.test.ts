/** A start with many tasks that need no sandbox: what it reads and writes, counted. */
import { afterEach, expect, it } from "vitest";
import type { Store } from "../../src/core/ports/store.ts";
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

interface Reads {
  /** Of logs, and of single tasks. */
  readonly logs: string[];
  readonly tasks: string[];
}

function openCountedStore(): { store: Store; reads: Reads } {
  const { store } = openMemoryStore();
  const reads: Reads = { logs: [], tasks: [] };
  const [events, task] = [store.events.bind(store), store.task.bind(store)];
  Object.assign(store, {
    events: (...args: Parameters<typeof events>) => {
      reads.logs.push(args[0]);
      return events(...args);
    },
    task: (id: string) => {
      reads.tasks.push(id);
      return task(id);
    },
  });
  return { store, reads };
}

async function openParked(
  tasks: number,
  change: (sandbox: SimulatedSandbox) => void = () => undefined,
): Promise<{ ids: string[]; reads: Reads }> {
  const { store, reads } = openCountedStore();
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

it.each([
  ["answers", true],
  ["does not answer", false],
] as const)("[D2] [D13] a start reads parked tasks from the list alone while the engine %s", async (_, isUp) => {
  const { ids, reads } = await openParked(30);
  await expect.poll(async () => await harness.sandbox.list()).toEqual([]);
  await harness.clock.advance(60_000);
  harness.engine.check = !isUp;
  [reads.logs.length, reads.tasks.length] = [0, 0];
  await harness.restart();
  await settle();
  expect(reads).toEqual({ logs: [], tasks: [] });
  expect(harness.coordinator.supervisor.size()).toBe(ids.length);
});

it("[D11] [D13] the time that open tasks lost is recorded in commits that they share", async () => {
  const { store } = openMemoryStore();
  harness = await openHarness({ store, settings: { maxConcurrent: 30, livenessMs: 1_000 } });
  const ids: string[] = [];
  for (let i = 0; i < 30; i += 1) ids.push((await harness.submit()).id);
  for (const id of ids) {
    await harness.until(id, "provisioning");
    await harness.fakeWorkers.send(harness.coordinator.workerApi, id, ["ready", {}]);
  }
  await harness.coordinator.close();
  await harness.clock.advance(60_000);
  const commit = store.commit.bind(store);
  let [underWay, most] = [0, 0];
  store.commit = async (write) => {
    underWay += 1;
    most = Math.max(most, underWay);
    await settle();
    underWay -= 1;
    return await commit(write);
  };
  await harness.restart();
  expect(most).toBe(ids.length);
});

it("[D3] [D13] a start removes the sandboxes of parked tasks once each, eight at a time", async () => {
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
  expect(calls).toBe(8);
  await harness.clock.advance(10_000);
});
