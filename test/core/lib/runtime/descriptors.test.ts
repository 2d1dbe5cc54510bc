/** How the file descriptors are divided. */
import fc from "fast-check";
import { expect, it } from "vitest";
import {
  describeReduction,
  planDescriptors,
  readDescriptorLimit,
  sufficientDescriptors,
} from "../../../../src/core/lib/runtime/descriptors.ts";
import { hasPrlimit, withDescriptors } from "../../../support/process/descriptors.ts";

it("[Y3] whatever the limit and the slots, connections and workers together stay below it", () => {
  fc.assert(
    fc.property(fc.integer({ min: 160, max: 100_000 }), fc.integer({ min: 1, max: 1_000 }), (limit, wanted) => {
      const plan = planDescriptors(limit, wanted);
      const used = plan.httpConnections + plan.slots * (plan.workerConnections + plan.tunnels);
      expect(used).toBeLessThan(limit);
      expect([plan.slots >= 1, plan.slots <= wanted, plan.tunnels >= 10]).toEqual([true, true, true]);
    }),
  );
});

it("[Y3] a sufficient limit and an unknown one reduce nothing", () => {
  const full = { slots: 4, httpConnections: 2_500, workerConnections: 256, tunnels: 128 };
  for (const limit of [sufficientDescriptors(4), Infinity, null]) {
    expect(planDescriptors(limit, 4)).toMatchObject(full);
    expect(describeReduction(planDescriptors(limit, 4), 4)).toBeNull();
  }
});

it("[Y3] a low limit names what it reduces and how to raise it", () => {
  expect(describeReduction(planDescriptors(300, 10), 10)).toBe(
    "at most 300 open files: 4 of 10 tasks at once, 68 connections, 22 per worker. To raise it: `ulimit -n 7596`, or LimitNOFILE=7596 in the systemd unit",
  );
});

it.runIf(hasPrlimit)("the limit is the one that is in force", async () => {
  const before = readDescriptorLimit();
  await withDescriptors(4, async () => expect(readDescriptorLimit()).toBeLessThan(before ?? 0));
  expect(readDescriptorLimit()).toBe(before);
  expect(readDescriptorLimit(2 ** 30)).toBeNull();
});
