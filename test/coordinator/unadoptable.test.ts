/**
 * Tasks that are hard to adopt at a start: one that cannot be read, and ones that people end in
 * that very moment. The others go on.
 */
import { expect, it } from "vitest";
import { WORK_REF } from "../../src/core/ports/repositories.ts";
import { openMemoryStore } from "../../src/store/memory/store.ts";
import { openHarness, type Harness } from "../support/coordinator/harness.ts";
import { settle } from "../support/manual-clock.ts";

it("[D2] [D13] one task that cannot be adopted stops neither the others nor new ones", async () => {
  const harness = await openHarness();
  try {
    const stubborn = await harness.submit();
    await harness.until(stubborn.id, "provisioning");
    const { store } = harness;
    const task = store.task.bind(store);
    let isBroken = true;
    store.task = async (id) => {
      if (isBroken && id === stubborn.id) throw new Error("disk I/O error");
      return await task(id);
    };
    const starting = harness.restart();
    const other = await harness.submit();
    expect((await harness.until(other.id, "provisioning")).state).toBe("provisioning");
    isBroken = false;
    await harness.clock.advance(10_000);
    await starting;
    expect(harness.coordinator.supervisor.size()).toBe(2);
  } finally {
    await harness.close();
  }
});

/**
 * A store of which a read of one task, alone or in a list, can be held: it is made at once and
 * answered later.
 */
function openHeldStore() {
  const { store, ledger } = openMemoryStore();
  const [read, list] = [store.task.bind(store), store.tasks.bind(store)];
  let plan: { readonly id: string; skip: number; readonly begun: () => void } | null = null;
  let answer = (): void => undefined;
  const answerWhenLet = async (ids: readonly string[]): Promise<void> => {
    if (plan === null || !ids.includes(plan.id) || plan.skip-- > 0) return;
    const { begun } = plan;
    plan = null;
    await new Promise<void>((resolve) => {
      answer = resolve;
      begun();
    });
  };
  store.task = async (id) => {
    const task = await read(id);
    await answerWhenLet([id]);
    return task;
  };
  store.tasks = async (query) => {
    const page = await list(query);
    await answerWhenLet(page.items.map(({ id }) => id));
    return page;
  };
  return {
    store,
    ledger,
    /** Is never held. */
    read,
    /** Holds a read of the task after `skip` others. Resolves when the read has been made. */
    hold: (id: string, skip: number) => new Promise<void>((begun) => (plan = { id, skip, begun })),
    answer: () => {
      plan = null;
      answer();
    },
  };
}

type HeldStore = ReturnType<typeof openHeldStore>;

async function start(harness: Harness): Promise<string> {
  const { id } = await harness.submit();
  await harness.until(id, "provisioning");
  await expect.poll(async () => (await harness.sandbox.list()).some((info) => info.taskId === id)).toBe(true);
  await harness.fakeWorkers.send(harness.coordinator.workerApi, id, ["ready", {}]);
  await harness.until(id, "running");
  return id;
}

async function startToPush(harness: Harness): Promise<string> {
  harness.latches.push.closed = true;
  const id = await start(harness);
  const sha = await harness.repos.commit(id, WORK_REF, "work");
  const finished = { sha, title: "A title", summary: "What was done." };
  await harness.fakeWorkers.send(harness.coordinator.workerApi, id, ["finished", finished]);
  await harness.until(id, "pushing");
  return id;
}

/** Starts again, and cancels the task between a read of it in the boot and its answer. */
async function cancelInBoot(harness: Harness, held: HeldStore, id: string, skip: number): Promise<void> {
  const isHeld = held.hold(id, skip);
  const starting = harness.restart();
  await Promise.race([isHeld, starting]);
  const cancelling = harness.coordinator.tasks.cancel({ userId: "user_op", role: "operator" }, id, true);
  // Until it is cancelled and cleared; or until the cancel waits for the held read.
  await settle(50);
  held.answer();
  await starting;
  await cancelling;
  await harness.until(id, "cancelled");
  await settle(50);
}

/** Parked tasks begin to be cleared, and are. */
async function startToPark(harness: Harness): Promise<string> {
  const id = await start(harness);
  const question = { id: "q1", question: "Which?", options: null };
  await harness.fakeWorkers.send(harness.coordinator.workerApi, id, ["question", question]);
  await harness.clock.advance(2_000);
  await harness.until(id, "running.parked");
  await expect.poll(() => harness.sandbox.list()).toEqual([]);
  return id;
}

/** More reads of one task than a boot makes. */
const READS = 5;

it.each([
  ["runs", start],
  ["is parked", startToPark],
  ["is pushed", startToPush],
] as const)("[D2] [D5] [D7] a task that %s and is cancelled while a boot reads it leaves nothing", async (_, begin) => {
  for (let skip = 0; skip < READS; skip += 1) {
    const held = openHeldStore();
    const harness = await openHarness({ ...held, policy: { parkMs: 1_000 }, settings: { maxConcurrent: 1 } });
    try {
      const id = await begin(harness);
      const pushedWhen: unknown[] = [];
      harness.latches.push.pass = async (signal) => {
        signal?.throwIfAborted();
        pushedWhen.push((await held.read(id))?.state);
        await new Promise((_resolve, reject) => signal?.addEventListener("abort", reject));
      };
      await cancelInBoot(harness, held, id, skip);
      await harness.clock.advance(5_000);
      const { scheduler, supervisor } = harness.coordinator;
      expect([skip, scheduler.slotsUsed(), supervisor.size()]).toEqual([skip, 0, 0]);
      expect(pushedWhen).not.toContain("cancelled");
    } finally {
      await harness.close();
    }
  }
});
