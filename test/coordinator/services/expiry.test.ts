import { expect, it } from "vitest";
import { memoryBus } from "../../../src/app/memory-bus.ts";
import { TaskDeletions } from "../../../src/coordinator/services/tasks/deletions.ts";
import { noCrash } from "../../../src/core/lib/runtime/crashpoint.ts";
import { systemClock } from "../../../src/core/lib/runtime/system-clock.ts";
import { openMemoryStore } from "../../../src/store/memory/store.ts";
import { claim, create, fail, move, ready } from "../../contract/tasks.ts";
import { quiet } from "../../support/coordinator/harness.ts";

const DAY = 24 * 3_600_000;

it("[R8] a task is deleted the configured number of days after its end, and kept until then", async () => {
  const { store, audit } = openMemoryStore();
  const task = await move(store, await create(store), claim, ready, fail("refused"));
  const kept = await move(store, await create(store), claim, ready, fail("refused"));
  const end = task.snapshot.context.settledAt ?? 0;
  const removed: string[] = [];
  let now = end + 6 * DAY;
  const files = { remove: async (id: string) => void removed.push(id) };
  const parts = { store, audit, repos: files, artifacts: files, bus: memoryBus(), log: quiet, crashpoint: noCrash };
  const deletions = new TaskDeletions({ ...parts, clock: { ...systemClock, now: () => now }, tasksExpireDays: 7 });
  const { signal } = new AbortController();
  expect(await deletions.keep({ userId: kept.userId, role: "user" }, kept.id, true)).toBe(true);
  await expect(deletions.keep({ userId: "stranger", role: "user" }, task.id, true)).rejects.toMatchObject({
    code: "not_found",
  });
  await deletions.resume(signal);
  expect((await store.task(task.id))?.state).toBe("failed");
  // The next look is an hour later.
  now = end + 7 * DAY + 1;
  await deletions.resume(signal);
  expect(await store.deletedTask(task.id)).toMatchObject({ deletedBy: null, purgedAt: now });
  expect(removed).toEqual([task.id, task.id]);
  expect(await store.task(task.id)).toBeNull();
  expect((await store.task(kept.id))?.state).toBe("failed");
  expect(await audit.rows({ limit: 10 })).toMatchObject([
    { at: now, actor: null, via: "server", action: "expireTask", target: task.id, outcome: "ok", detail: { days: 7 } },
  ]);
});
