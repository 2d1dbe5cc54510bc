/** A drain: nothing is claimed, and an operator sees when nothing runs any more. */
import { afterEach, expect, it } from "vitest";
import type { Drain } from "../../../src/coordinator/scheduler/drain.ts";
import { WORK_REF } from "../../../src/core/ports/repositories.ts";
import { DEFAULT_POLICY } from "../../../src/core/task.ts";
import { ALICE, openHarness, valueOf, type Harness } from "../../support/coordinator/harness.ts";
import { settle } from "../../support/manual-clock.ts";

let harness: Harness;
afterEach(() => harness.close());

function openGate(): { readonly passed: Promise<void>; readonly open: () => void } {
  let open = (): void => undefined;
  const passed = new Promise<void>((pass) => (open = pass));
  return { passed, open };
}

async function running(): Promise<string> {
  const { id } = await harness.submit();
  await harness.until(id, "provisioning");
  await harness.untilWorker(id);
  await send(id, ["ready", {}]);
  await harness.until(id, "running");
  return id;
}

const send = (id: string, ...events: Parameters<Harness["fakeWorkers"]["send"]>[2][]): Promise<unknown> =>
  harness.fakeWorkers.send(harness.coordinator.workerApi, id, ...events);

async function ask(id: string): Promise<void> {
  await send(id, ["question", { id: "q1", question: "Which?", options: ["a"] }]);
  await harness.until(id, "running.awaiting_input");
}

async function finish(id: string): Promise<void> {
  const sha = await harness.repos.commit(id, WORK_REF, "work");
  await send(id, ["finished", { sha, title: "A title", summary: "What was done." }]);
}

const drain = async (): Promise<Drain | null> => harness.coordinator.operations.drain();
/** What a drain waits for: ids of tasks, and the number of attempts that are cleared up. */
const left = async (): Promise<unknown> => {
  const found = await drain();
  return found && [found.running.map(({ id }) => id), found.clearing];
};
const begin = (): Promise<void> => harness.coordinator.operations.setQueueMode("draining");

it("[D15] no task starts, the oldest that runs is named first, and nothing is left once the last one has settled", async () => {
  harness = await openHarness();
  expect(await drain()).toBeNull();
  const first = await running();
  await harness.clock.advance(1_000);
  const second = await running();
  await begin();
  const waiting = await harness.submit();
  await harness.clock.advance(1_000);
  expect(await left()).toEqual([[first, second], 0]);
  expect(harness.coordinator.scheduler.state()).toMatchObject({
    paused: true,
    reason: expect.stringMatching(/drains/),
  });
  expect((await harness.coordinator.operations.wait(waiting))?.reason).toBe("paused");
  await finish(first);
  await harness.until(first, "done");
  await finish(second);
  await harness.until(second, "done");
  await expect.poll(left).toEqual([[], 0]);
  expect(valueOf(await harness.task(waiting.id))).toBe("queued");
  await harness.coordinator.operations.setQueueMode("open");
  expect(await drain()).toBeNull();
  await harness.until(waiting.id, "provisioning");
});

it("[D15] a task that waits for an answer parks without delay; its answer queues it, and it starts after the drain", async () => {
  harness = await openHarness();
  const id = await running();
  await ask(id);
  await harness.clock.advance(DEFAULT_POLICY.parkMs / 100);
  expect(valueOf(await harness.task(id))).toBe("running.awaiting_input");
  await begin();
  await harness.clock.advance(2_000);
  await harness.until(id, "running.parked");
  await expect.poll(left).toEqual([[], 0]);
  expect(await harness.sandbox.list()).toEqual([]);
  await harness.coordinator.tasks.answer(ALICE, id, { questionId: "q1", text: "a" });
  await harness.clock.advance(2_000);
  expect([valueOf(await harness.task(id)), await left()]).toEqual(["queued", [[], 0]]);
  await harness.coordinator.operations.setQueueMode("open");
  expect((await harness.until(id, "provisioning")).snapshot.context).toMatchObject({ attempt: 2, excused: 1 });
});

it("[D15] a question that is asked during the drain parks too, whatever else keeps tasks from starting", async () => {
  harness = await openHarness();
  const id = await running();
  await begin();
  harness.disks.shortage = "Too little disk space.";
  await harness.clock.advance(10_000);
  await ask(id);
  await harness.clock.advance(2_000);
  await harness.until(id, "running.parked");
});

it("[D15] a push is waited for, but not one that waits for a person", async () => {
  harness = await openHarness();
  const [id, held] = [await running(), await running()];
  await begin();
  harness.latches.push.closed = true;
  harness.repos.find(held, [{ kind: "secret", path: ".env", detail: "line 1", holds: true }]);
  for (const each of [id, held]) await finish(each);
  await expect.poll(async () => (await harness.task(held)).snapshot.context.question).not.toBeNull();
  await harness.until(id, "pushing");
  expect(valueOf(await harness.task(held))).toBe("pushing.branch");
  await expect.poll(left).toEqual([[id], 0]);
  harness.latches.push.let();
  await harness.until(id, "done");
  expect(await left()).toEqual([[], 0]);
});

it("[D15] a sandbox that is not removed yet is waited for", async () => {
  harness = await openHarness();
  const gate = openGate();
  const remove = harness.sandbox.remove.bind(harness.sandbox);
  harness.sandbox.remove = (name) => gate.passed.then(() => remove(name));
  try {
    const id = await running();
    await ask(id);
    await begin();
    await harness.clock.advance(2_000);
    await harness.until(id, "running.parked");
    expect(await left()).toEqual([[], 1]);
  } finally {
    gate.open();
  }
  await expect.poll(left).toEqual([[], 0]);
});

it("[D15] holds over a restart with the time at which it began; a pause ends it and starts nothing", async () => {
  harness = await openHarness();
  const id = await running();
  await begin();
  const since = (await drain())?.since;
  await harness.clock.advance(5_000);
  await begin();
  await harness.restart();
  expect(await drain()).toMatchObject({ since, running: [{ id }] });
  const waiting = await harness.submit();
  await finish(id);
  await harness.until(id, "done");
  await harness.coordinator.operations.setQueueMode("paused");
  await harness.clock.advance(10_000);
  expect(await drain()).toBeNull();
  expect(valueOf(await harness.task(waiting.id))).toBe("queued");
  await harness.restart();
  expect(harness.coordinator.scheduler.mode()).toEqual({ state: "paused" });
});

it("[D15] a claim that is under way belongs to what runs: the answer waits for it", async () => {
  harness = await openHarness();
  const gate = openGate();
  const { store } = harness;
  const claimable = store.claimable.bind(store);
  let isAsked = false;
  store.claimable = async (limit, userLimit) => {
    const found = await claimable(limit, userLimit);
    isAsked ||= found.length > 0;
    if (isAsked) await gate.passed;
    return found;
  };
  try {
    const { id } = await harness.submit();
    await expect.poll(() => isAsked).toBe(true);
    let isAnswered = false;
    const begun = begin().then(() => (isAnswered = true));
    await settle(20);
    expect(isAnswered).toBe(false);
    gate.open();
    await begun;
    expect(await left()).toEqual([[id], 0]);
  } finally {
    gate.open();
  }
});
