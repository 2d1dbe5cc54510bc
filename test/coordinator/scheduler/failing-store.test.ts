/** Claims that the store cannot read or write: nothing spins, and claiming goes on by itself. */
import { expect, it } from "vitest";
import { UNBOUNDED } from "../../../src/coordinator/scheduler/workspace-admission.ts";
import { createScheduler } from "../../../src/coordinator/scheduler/scheduler.ts";
import type { Log } from "../../../src/core/ports/runtime.ts";
import type { Store } from "../../../src/core/ports/store.ts";
import { openHarness, quiet } from "../../support/coordinator/harness.ts";
import { settle } from "../../support/manual-clock.ts";

/** A second scheduler on the queue of the harness; its store fails on demand. */
async function openFailing(fails: (call: "claimable" | "record") => boolean) {
  const harness = await openHarness({ settings: { maxConcurrent: 2 } });
  await harness.coordinator.scheduler.setMode("paused");
  for (let i = 0; i < 4; i += 1) await harness.submit();
  await harness.store.setSetting("queue.paused", null);
  const errors: string[] = [];
  let calls = 0;
  const check = (call: "claimable" | "record"): void => {
    calls += 1;
    // A loop of promises never ends by itself: the test ends it.
    if (calls > 1_000) throw new Error("it does not stop");
    if (fails(call)) throw new Error("disk I/O error");
  };
  const store: Store = {
    ...harness.store,
    claimable: async (...args) => {
      check("claimable");
      return await harness.store.claimable(...args);
    },
    setting: (key) => harness.store.setting(key),
    slotsHeld: (userId) => harness.store.slotsHeld(userId),
    task: (id) => harness.store.task(id),
    positions: (ids) => harness.store.positions(ids),
    threadAhead: (id) => harness.store.threadAhead(id),
    tasks: (query) => harness.store.tasks(query),
  };
  const log: Log = { ...quiet, error: (_fields, text) => void errors.push(text) };
  const { taskLog } = harness.coordinator;
  const scheduler = await createScheduler({
    store,
    taskLog: {
      ...taskLog,
      onCommit: (listener) => taskLog.onCommit(listener),
      record: async (...args) => {
        check("record");
        return await taskLog.record(...args);
      },
    },
    sandbox: harness.sandbox,
    clock: harness.clock,
    log,
    maxConcurrent: 2,
    userLimit: null,
    getDeferral: null,
    shortage: () => Promise.resolve(null),
    admission: { promises: () => Promise.resolve(UNBOUNDED) },
    breakerLimit: 5,
    breakerWindowMs: 1_000,
    breakerRestMs: 1_000,
    engineMs: 1_000,
  });
  return { harness, scheduler, errors, calls: () => calls };
}

it.each(["claimable", "record"] as const)(
  "[D4] [D5] a claim whose %s fails is tried again after a pause, not at once, and says why",
  async (failing) => {
    let isBroken = true;
    const { harness, scheduler, errors, calls } = await openFailing((call) => isBroken && call === failing);
    scheduler.start();
    await settle();
    expect(calls()).toBeLessThan(10);
    expect(errors.length).toBeLessThan(10);
    expect(scheduler.state().reason).toContain("disk I/O error");
    await harness.clock.advance(5_000);
    expect(calls()).toBeLessThan(50);
    isBroken = false;
    await harness.clock.advance(1_000);
    expect(await harness.store.slotsHeld()).toBe(2);
    expect(scheduler.state().reason).toBeNull();
    await scheduler.stop();
    await harness.close();
  },
);
