/** The contract suite of the usage ledger (rule M1). */
import { expect, it } from "vitest";
import type { Store } from "../../src/core/ports/store.ts";
import type { UsageLedger, ModelUsage } from "../../src/core/ports/records/usage-ledger.ts";
import { claim, create, createCommit, move, notice } from "./tasks.ts";

const ROW: ModelUsage = {
  id: "req_1",
  taskId: "task_1",
  userId: "user_a",
  attempt: 1,
  at: 1_000,
  model: "claude-opus-5-5",
  inputTokens: 1,
  outputTokens: 2,
  cacheReadTokens: 3,
  cacheWriteTokens: 4,
  usd: 0.25,
  estimated: true,
};

export function ledgerContract(get: () => UsageLedger, getStore: () => Store): void {
  it("[M1] [G3] a row that comes with a commit is recorded with it, or not at all", async () => {
    const store = getStore();
    const queued = await create(store);
    const task = await move(store, queued, claim);
    const usage: ModelUsage = { ...ROW, taskId: task.id, usd: 0.5 };
    await get().record({ ...usage, usd: 0.1 });
    expect(await store.commit({ ...createCommit(queued, claim), usage })).toBeNull();
    expect((await get().spentBy(task.id)).usd).toBe(0.1);
    expect(await store.commit({ ...createCommit(task, notice("used")), usage })).not.toBeNull();
    expect(await get().spentBy(task.id)).toEqual({ usd: 0.5, requests: 1 });
  });

  it("[M1] [G3] a request that is recorded again counts once, with its last figures", async () => {
    await get().record(ROW);
    await get().record({ ...ROW, usd: 0.5, estimated: false });
    expect(await get().spentBy("task_1")).toEqual({ usd: 0.5, requests: 1 });
  });

  it("[M1] totals are per task, per user and overall from a given time, without requests that cost nothing", async () => {
    const record = (part: Partial<ModelUsage>): Promise<void> => get().record({ ...ROW, ...part });
    await Promise.all([
      record({ id: "a", at: 1_000, usd: 1 }),
      record({ id: "b", at: 2_000, usd: 2, taskId: "task_2" }),
      record({ id: "c", at: 2_000, usd: 4, userId: "user_b", taskId: "task_3" }),
      record({ id: "d", at: 2_000, usd: 0 }),
    ]);
    expect(await get().spentBy("task_1")).toEqual({ usd: 1, requests: 1 });
    expect(await get().spentBy("task_unknown")).toEqual({ usd: 0, requests: 0 });
    expect(await get().spentSince(1_000, null)).toEqual({ usd: 7, requests: 3 });
    expect(await get().spentSince(1_001, "user_a")).toEqual({ usd: 2, requests: 1 });
    expect(await get().spentSince(2_001, null)).toEqual({ usd: 0, requests: 0 });
  });
}
