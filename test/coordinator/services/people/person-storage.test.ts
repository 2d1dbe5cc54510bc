/** What is stored for people: when it is measured, and when that refuses. */
import { expect, it } from "vitest";
import { PersonStorage } from "../../../../src/coordinator/services/people/person-storage.ts";
import type { StoredRepository } from "../../../../src/core/ports/repositories.ts";
import { NO_QUOTAS } from "../../../../src/core/quotas.ts";
import { openMemoryStore } from "../../../../src/store/memory/store.ts";
import { openSimulatedRepositories } from "../../../../src/git/simulated.ts";
import { quiet } from "../../../support/coordinator/harness.ts";
import { createManualClock } from "../../../support/manual-clock.ts";

const MIB = 2 ** 20;
const REPO = "https://git.example.com/team/app";

/** One person with this many MiB in mirrors. */
function open(storageMb: number) {
  const clock = createManualClock();
  const others: StoredRepository[] = [];
  const disk = { mb: 0, others, isBroken: false, measured: 0, done: Promise.resolve() };
  const storage = new PersonStorage({
    store: openMemoryStore().store,
    repos: {
      ...openSimulatedRepositories(),
      async usage() {
        disk.measured += 1;
        await disk.done;
        if (disk.isBroken) throw new Error("EIO");
        return [{ kind: "mirror", owner: "user_a", repo: REPO, bytes: disk.mb * MIB }, ...disk.others];
      },
    },
    artifacts: { usage: async () => [] },
    clock,
    log: quiet,
    quotas: { ...NO_QUOTAS, storageMb },
    userDayUsd: null,
  });
  return { storage, disk, clock };
}

it("[S14] no submission waits for a measurement, and only what was measured just now refuses", async () => {
  const { storage, disk, clock } = open(10);
  let end = (): void => undefined;
  disk.done = new Promise((resolve) => (end = resolve));
  disk.mb = 12;
  // Not measured yet: admitted, and measured beside.
  expect(await storage.excess("user_a")).toBeNull();
  expect(await storage.excess("user_a")).toBeNull();
  expect(disk.measured).toBe(1);
  end();
  expect((await storage.of("user_a")).mirrors).toBe(12 * MIB);
  expect(await storage.excess("user_a")).toMatchObject({ limitMb: 10, stored: { mirrors: 12 * MIB } });
  expect(disk.measured).toBe(1);
  // A refusal looks again when it is older than a second.
  disk.mb = 5;
  await clock.jump(1_001);
  expect(await storage.excess("user_a")).toBeNull();
  expect(disk.measured).toBe(2);
  // Below the quota the last one is good enough for half a minute.
  disk.mb = 12;
  await clock.jump(29_000);
  expect(await storage.excess("user_a")).toBeNull();
  expect(disk.measured).toBe(2);
  await clock.jump(2_000);
  expect(await storage.excess("user_a")).toBeNull();
  await expect.poll(() => storage.excess("user_a")).toMatchObject({ limitMb: 10 });
});

it("[S14] what may be fetched is what is left, and never nothing; a disk that cannot be read refuses nobody", async () => {
  const { storage, disk, clock } = open(100);
  disk.mb = 20;
  expect(await storage.allowance("user_a")).toBe(80 * MIB);
  expect(await storage.allowance("user_b")).toBe(100 * MIB);
  disk.mb = 120;
  await clock.jump(1_001);
  expect(await storage.allowance("user_a")).toBe(64 * MIB);
  disk.isBroken = true;
  await clock.jump(60_000);
  expect(await storage.allowance("user_a")).toBeNull();
  expect(await storage.excess("user_a")).toBeNull();
  disk.isBroken = false;
  expect(await storage.excess("user_a")).toMatchObject({ limitMb: 100 });
});

it("[S14] operators see the largest repositories of all people, as they were measured last, and wait for nothing", async () => {
  const { storage, disk, clock } = open(0);
  let end = (): void => undefined;
  disk.done = new Promise((resolve) => (end = resolve));
  disk.mb = 3;
  for (const [i, mb] of [9, 1, 8, 7, 6].entries())
    disk.others.push({ kind: "task", owner: `task_${i}`, repo: null, bytes: mb * MIB });
  expect(storage.largest()).toBeNull();
  end();
  await storage.of("user_a");
  expect(storage.largest()?.map(({ owner, bytes }) => [owner, bytes / MIB])).toEqual([
    ["task_0", 9],
    ["task_2", 8],
    ["task_3", 7],
    ["task_4", 6],
    ["user_a", 3],
  ]);
  // While it is broken, and older than half a minute, the last one stands.
  disk.isBroken = true;
  await clock.jump(60_000);
  expect(storage.largest()).toHaveLength(5);
  await expect.poll(() => disk.measured).toBe(2);
});
