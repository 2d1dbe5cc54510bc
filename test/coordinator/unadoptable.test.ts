/** A task that cannot be adopted at a start: the others go on, and it does when it can. */
import { expect, it } from "vitest";
import { openHarness } from "../support/coordinator/harness.ts";

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
