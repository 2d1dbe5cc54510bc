/** The contract suite of deletions (rules M1, R7). */
import { expect, it } from "vitest";
import type { Notifications } from "../../../src/core/ports/notifications.ts";
import type { Store } from "../../../src/core/ports/store.ts";
import type { UsageLedger } from "../../../src/core/ports/records/usage-ledger.ts";
import type { Task } from "../../../src/core/task.ts";
import { cancel, claim, create, fail, move, notice, ready, T0 } from "../tasks.ts";

export function deletionsContract(
  get: () => { readonly store: Store; readonly ledger: UsageLedger; readonly notifications: Notifications },
): void {
  const begin = (taskId: string, by: string | null = "user_a") => get().store.beginDeletion({ taskId, at: T0 + 9, by });
  const sweep = async (id: string): Promise<void> => {
    while (!(await get().store.purgeDeletion(id, T0 + 10)));
  };
  const settled = async (options: Parameters<typeof create>[1] = {}): Promise<Task> => {
    const { store } = get();
    const task = await move(store, await create(store, options), claim, ready, notice("one"));
    await store.appendRecord({ taskId: task.id, attempt: 1, n: 1, json: '{"kind":"start"}' });
    return move(store, task, fail("refused"));
  };

  it("[M1] [R7] a deleted task is gone from every read at once, and a row without content stays", async () => {
    const { store } = get();
    const kept = await settled();
    const task = await settled({ spec: { prompt: "a secret plan" }, key: "k1", userId: "user_b" });
    expect(await begin(task.id)).toBe(true);
    const gone = await store.deletedTask(task.id);
    expect(gone).toMatchObject({ userId: "user_b", threadId: task.threadId, state: "failed", deletedAt: T0 + 9 });
    expect(gone).toMatchObject({ deletedBy: "user_a", purgedAt: null, createdAt: T0 });
    for (const swept of [false, true]) {
      if (swept) await sweep(task.id);
      expect(await store.task(task.id)).toBeNull();
      const lists = [
        await store.tasks({ userId: null, limit: 50 }),
        await store.tasks({ userId: null, states: ["failed"], limit: 50 }),
        await store.tasks({ userId: null, repo: task.spec.repo, limit: 50 }),
        await store.changes(null, 0, 50),
      ];
      for (const { items } of lists) expect(items.map(({ id }) => id)).toEqual([kept.id]);
      expect((await store.tasks({ userId: "user_b", text: "secret", limit: 9 })).items).toEqual([]);
      expect((await store.changes("user_b", 0, 50)).items).toEqual([]);
      expect(await store.recentRepositories("user_b", 10)).toEqual([]);
      const said = { userId: null, threadId: task.threadId, direction: "up", limit: 9 } as const;
      expect((await store.conversation(said)).items).toEqual([]);
    }
    expect(await store.openDeletions(9)).toEqual([]);
    expect(await store.deletedTask(task.id)).toMatchObject({ purgedAt: T0 + 10 });
    expect((await store.events(task.id, 0, 9)).items).toEqual([]);
    expect(await store.lastRecord(task.id)).toBe(0);
    expect(await store.attempts(task.id)).toEqual([]);
    expect(await store.hasIdempotencyKey("user_b", "k1")).toBe(false);
    expect((await store.counts()).byState.failed).toBe(1);
    expect((await store.tally({ userId: "user_b" })).byState.failed).toBe(0);
  });

  it("[M1] [R7] what it cost and how many tasks the person began stay", async () => {
    const { store, ledger } = get();
    const task = await settled({ userId: "user_c" });
    const tokens = { inputTokens: 1, outputTokens: 1, cacheReadTokens: 0, cacheWriteTokens: 0 };
    const row = { id: "req_1", taskId: task.id, userId: "user_c", attempt: 1, at: T0, model: "m", usd: 2 };
    await ledger.record({ ...row, ...tokens, estimated: false });
    expect(await begin(task.id)).toBe(true);
    const load = { open: 0, since: 1 };
    expect(await store.taskLoad("user_c", T0 - 1)).toEqual(load);
    expect(await store.newestTaskAt("user_c", 1)).toBe(T0);
    await sweep(task.id);
    expect(await store.taskLoad("user_c", T0 - 1)).toEqual(load);
    expect(await store.newestTaskAt("user_c", 1)).toBe(T0);
    expect(await store.newestTaskAt("user_c", 2)).toBeNull();
    expect(await ledger.spentBy(task.id)).toEqual({ usd: 2, requests: 1 });
    expect(await ledger.spentSince(T0, "user_c")).toEqual({ usd: 2, requests: 1 });
  });

  it("[M1] [R7] an open task, one whose thread is open, an unknown and a deleted one are not deleted", async () => {
    const { store } = get();
    const first = await settled();
    const follower = await create(store, { threadId: first.threadId, parentId: first.id, inherits: first.id });
    expect([await begin(follower.id), await begin(first.id), await begin("task_unknown")]).toEqual([
      false,
      false,
      false,
    ]);
    expect(await store.openDeletions(9)).toEqual([]);
    const ended = await move(store, await move(store, follower, claim), cancel, {
      type: "task.state",
      data: { reason: "stopped" },
    });
    expect(ended.state).toBe("cancelled");
    expect([await begin(first.id), await begin(first.id)]).toEqual([true, false]);
    await sweep(first.id);
    expect(await store.purgeDeletion(first.id, T0 + 11)).toBe(true);
    // A task that continued it keeps what it took over.
    expect(await store.task(ended.id)).toEqual(ended);
    expect(await store.lastRecord(ended.id)).toBe(1);
  });

  it("[M1] [M5] a deletion has a revision of its own, after all before and before all later ones", async () => {
    const { store } = get();
    const task = await settled();
    await begin(task.id, null);
    const gone = await store.deletedTask(task.id);
    expect(gone?.rev).toBeGreaterThan(task.rev);
    await sweep(task.id);
    const later = await create(store);
    expect(later.rev).toBeGreaterThan(gone?.rev ?? Infinity);
    expect((await store.deletedSince(null, task.rev, 9)).map(({ id }) => id)).toEqual([task.id]);
    expect(await store.deletedSince("user_other", 0, 9)).toEqual([]);
    expect(await store.deletedSince(null, gone?.rev ?? 0, 9)).toEqual([]);
  });

  it("[M1] [R7] notifications about it go with it", async () => {
    const { notifications } = get();
    const task = await settled();
    const device = { id: "dev_1", userId: "user_a", sessionId: null, endpoint: "https://p.example/1", p256dh: "k" };
    const more = { via: "web_push", sealed: null, auth: "a", kinds: ["done"], createdAt: T0, seenAt: T0 } as const;
    await notifications.putDevice({ ...device, ...more, label: "Phone" });
    const times = { dueAt: T0, acceptedAt: null, shownAt: null, openedAt: null, actedAt: null, nextAt: T0 };
    const row = { id: "ntf_1", deviceId: "dev_1", userId: "user_a", taskId: task.id, subject: "end", seq: 1 };
    const rest = { kind: "failed", title: "Fix", ended: null, problem: null, tries: 0, passedAt: null } as const;
    expect(await notifications.addNotification({ ...row, ...times, ...rest })).toBe(true);
    await begin(task.id);
    await sweep(task.id);
    expect(await notifications.notification("ntf_1")).toBeNull();
  });

  it("[M1] [R8] tasks that settled before a time are found, the oldest first, unless their thread is open", async () => {
    const { store } = get();
    const [first, second] = [await settled(), await settled()];
    const open = await create(store);
    const end = second.snapshot.context.settledAt ?? 0;
    expect(await store.tasksToExpire(end + 1, 9)).toEqual([first.id, second.id]);
    expect(await store.tasksToExpire(end + 1, 1)).toEqual([first.id]);
    expect(await store.tasksToExpire(0, 9)).toEqual([]);
    await create(store, { threadId: first.threadId, parentId: first.id });
    expect(await store.tasksToExpire(end + 1, 9)).toEqual([second.id]);
    await begin(second.id);
    expect(await store.tasksToExpire(end + 1, 9)).toEqual([]);
    expect((await store.task(open.id))?.state).toBe("queued");
  });

  it("[M1] [R8] a kept task does not expire, until it is no longer kept", async () => {
    const { store } = get();
    const [first, second] = [await settled(), await settled()];
    const end = (second.snapshot.context.settledAt ?? 0) + 1;
    await store.setKept(first.id, T0);
    await store.setKept(first.id, T0 + 1);
    await store.setKept("task_none", T0);
    expect(await Promise.all([first.id, second.id, "task_none"].map((id) => store.isKept(id)))).toEqual([
      true,
      false,
      false,
    ]);
    expect(await store.tasksToExpire(end, 9)).toEqual([second.id]);
    await store.setKept(first.id, null);
    await store.setKept(second.id, T0);
    expect(await store.tasksToExpire(end, 9)).toEqual([first.id]);
    // Who asks for a deletion gets it.
    expect(await begin(second.id)).toBe(true);
    await sweep(second.id);
    expect(await store.isKept(second.id)).toBe(false);
  });
}
