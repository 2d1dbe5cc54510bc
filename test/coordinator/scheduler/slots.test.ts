/** The queue limits the slots: a job per slot, from the claim until the slot is given back. */
import PQueue from "p-queue";
import { describe, expect, it } from "vitest";
import { Slots } from "../../../src/coordinator/scheduler/slots.ts";
import { UNBOUNDED } from "../../../src/coordinator/scheduler/workspace-admission.ts";
import { createScheduler } from "../../../src/coordinator/scheduler/scheduler.ts";
import { openHarness, quiet } from "../../support/coordinator/harness.ts";
import { settle } from "../../support/manual-clock.ts";

const claimed = (): Promise<boolean> => Promise.resolve(true);

function openSlots(concurrency: number): { slots: Slots; queue: PQueue; freed: () => number } {
  const queue = new PQueue({ concurrency });
  let count = 0;
  return { slots: new Slots(queue, () => (count += 1)), queue, freed: () => count };
}

describe("slots", () => {
  it("[D4] a claim beyond the concurrency does not begin before a slot is given back", async () => {
    const { slots } = openSlots(1);
    await slots.take("a", claimed);
    const begun: string[] = [];
    const second = slots.take("b", () => claimed().finally(() => begun.push("b")));
    await settle();
    expect(begun).toEqual([]);
    slots.release("a");
    await second;
    expect(begun).toEqual(["b"]);
    expect(slots.used).toBe(1);
  });

  it("[D5] a slot is free again when its claim is refused, and when it is given back, once", async () => {
    const { slots, freed } = openSlots(2);
    await slots.take("refused", () => Promise.resolve(false));
    await slots.take("a", claimed);
    await settle();
    expect([slots.used, slots.free, freed()]).toEqual([1, 1, 1]);
    slots.release("a");
    slots.release("a");
    await settle();
    expect([slots.used, slots.free, freed()]).toEqual([0, 2, 2]);
  });

  it("[D4] adopted tasks beyond the concurrency keep claims out until enough slots are given back", async () => {
    const { slots } = openSlots(2);
    for (const taskId of ["a", "b", "c"]) slots.adopt(taskId);
    slots.adopt("c");
    expect([slots.used, slots.free]).toEqual([3, 0]);
    slots.release("c");
    await settle();
    expect([slots.used, slots.free]).toEqual([2, 0]);
    slots.release("a");
    await settle();
    expect([slots.used, slots.free]).toEqual([1, 1]);
  });

  it("an adopted task goes before a claim that waits", async () => {
    const { slots, queue } = openSlots(1);
    slots.adopt("a");
    let isClaimed = false;
    void slots.take("b", async () => (isClaimed = await claimed()));
    slots.adopt("c");
    slots.release("a");
    await settle();
    expect([isClaimed, queue.pending, queue.size]).toEqual([false, 1, 1]);
  });
});

it("[D4] the queue limits the claims, even if the store counts no slot as held", async () => {
  const harness = await openHarness();
  try {
    await harness.coordinator.scheduler.setMode("paused");
    const ids: string[] = [];
    for (let i = 0; i < 6; i += 1) ids.push((await harness.submit()).id);
    const queue = new PQueue({ concurrency: 2 });
    const { store, clock, sandbox, coordinator } = harness;
    const scheduler = await createScheduler(
      {
        taskLog: coordinator.taskLog,
        store: {
          claimable: (limit, userLimit) => store.claimable(limit, userLimit),
          positions: () => Promise.resolve(new Map()),
          slotsHeld: () => Promise.resolve(0),
          threadAhead: () => Promise.resolve(null),
          tasks: (query) => store.tasks(query),
          task: (taskId) => store.task(taskId),
          setting: () => Promise.resolve(null),
          setSetting: () => Promise.resolve(),
        },
        sandbox,
        clock,
        log: quiet,
        maxConcurrent: 100,
        userLimit: null,
        getDeferral: null,
        shortage: () => Promise.resolve(null),
        admission: { promises: () => Promise.resolve(UNBOUNDED) },
        breakerLimit: 5,
        breakerWindowMs: 60_000,
        breakerRestMs: 15_000,
        engineMs: 3_000,
      },
      queue,
    );
    const countClaimed = async (): Promise<number> => {
      await settle();
      return (await Promise.all(ids.map((id) => harness.task(id)))).filter((task) => task.state !== "queued").length;
    };
    scheduler.start();
    expect(await countClaimed()).toBe(2);
    expect([queue.pending, queue.size]).toEqual([2, 0]);
    scheduler.release(ids[0] ?? "");
    expect(await countClaimed()).toBe(3);
    queue.concurrency = 4;
    scheduler.schedule();
    expect(await countClaimed()).toBe(5);
    await scheduler.stop();
  } finally {
    await harness.close();
  }
});
