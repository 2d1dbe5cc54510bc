/** The contract suite of the store port (rule M1). */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { fold } from "../../machines/fold.ts";
import type { Accounts, KeyStore } from "../../src/core/ports/accounts.ts";
import type { Notifications } from "../../src/core/ports/notifications.ts";
import type { UsageLedger } from "../../src/core/ports/records/usage-ledger.ts";
import type { Store } from "../../src/core/ports/store.ts";
import { TASK_STATES, type Task } from "../../src/core/task.ts";
import type { AuditLog } from "../../src/core/ports/records/audit.ts";
import { deletionsContract } from "./store/deletions.ts";
import { readMarksContract } from "./store/read-marks.ts";
import { keysContract } from "./people/keys.ts";
import { auditSuite } from "./people/people.ts";
import { personDeletionsContract } from "./store/person-deletions.ts";
import { accountsContract } from "./accounts.ts";
import { ledgerContract } from "./usage-ledger.ts";
import { notificationsContract } from "./notifications.ts";
import { listsContract, pagesContract } from "./pages.ts";
import { projectionContract } from "./projections.ts";
import { queueContract } from "./queue.ts";
import { cancel, claim, createCommit, create, move, newTask, notice, ready, stopped, T0 } from "./tasks.ts";
import { transcriptContract } from "./store/transcripts.ts";

export interface Opened {
  readonly store: Store;
  readonly accounts: Accounts;
  readonly audit: AuditLog;
  readonly keys: KeyStore;
  readonly ledger: UsageLedger;
  readonly notifications: Notifications;
  /** Removes what `open` created; called after the store is closed. */
  clear?(): void;
}

/** @param open creates a new, empty store. */
export function storeContract(name: string, open: () => Opened): void {
  describe(`${name}: the store contract`, () => {
    let opened: Opened;
    const get = (): Store => opened.store;
    beforeEach(() => {
      opened = open();
    });
    afterEach(async () => {
      await opened.store.close();
      opened.clear?.();
    });

    describe("create", () => createSuite(get));
    describe("commit", () => commitSuite(get));
    describe("repositories", () => repositoriesSuite(get));
    describe("projections of the log", () => projectionContract(get));
    describe("reads", () => readSuite(get));
    describe("pages", () => pagesContract(get));
    describe("lists", () => listsContract(get));
    describe("deletions", () => deletionsContract(() => opened));
    describe("read marks", () => readMarksContract(get));
    describe("deletions of people", () => personDeletionsContract(() => opened));
    queueContract(get);
    accountsContract(() => opened.accounts);
    auditSuite(() => opened);
    describe("keys", () => keysContract(() => opened));
    describe("transcripts", () => transcriptContract(get));
    describe("notifications", () => notificationsContract(() => opened.notifications));
    describe("usage ledger", () => ledgerContract(() => opened.ledger, get));
  });
}

const ids = (tasks: readonly Task[]): string[] => tasks.map(({ id }) => id);

function createSuite(get: () => Store): void {
  it("[M1] a new task is stored with its first event and read back unchanged", async () => {
    const wanted = newTask({ userId: "user_z", spec: { prompt: "naïve ☃ 'quoted'", script: [{ say: "hi" }] } });
    const result = await get().create(wanted);
    expect(result).toMatchObject({
      kind: "created",
      task: { id: wanted.id, userId: "user_z", seq: 1, state: "queued", createdAt: T0, updatedAt: T0 },
    });
    const task = await get().task(wanted.id);
    expect(task).toEqual(result.kind === "created" ? result.task : null);
    expect(task?.spec).toEqual(wanted.spec);
    expect(task?.snapshot).toEqual(wanted.snapshot);
    expect((await get().events(wanted.id, 0, 10)).items).toEqual([wanted.event]);
  });

  it("a second task with the same id is refused and changes nothing", async () => {
    const task = await create(get());
    await expect(get().create(newTask({ id: task.id, userId: "user_b" }))).rejects.toThrow();
    expect(await get().task(task.id)).toEqual(task);
    expect((await get().events(task.id, 0, 10)).items).toHaveLength(1);
  });

  it("[R5] concurrent submissions with one user and key create one task", async () => {
    const results = await Promise.all(Array.from({ length: 20 }, () => get().create(newTask({ key: "k" }))));
    expect(results.filter(({ kind }) => kind === "created")).toHaveLength(1);
    expect(results.filter(({ kind }) => kind === "replayed")).toHaveLength(19);
    expect(new Set(results.map((result) => (result.kind === "mismatch" ? "" : result.task.id))).size).toBe(1);
    expect((await get().tasks({ userId: null, limit: 200 })).items).toHaveLength(1);
  });

  it("[R5] a replay returns the task in its current state", async () => {
    const task = await move(get(), await create(get(), { key: "k" }), claim);
    expect(await get().create(newTask({ key: "k" }))).toEqual({ kind: "replayed", task });
  });

  it("[R5] the same key with another body is a mismatch", async () => {
    await create(get(), { key: "k", fingerprint: "one" });
    expect(await get().create(newTask({ key: "k", fingerprint: "two" }))).toEqual({ kind: "mismatch" });
    expect((await get().tasks({ userId: null, limit: 200 })).items).toHaveLength(1);
  });

  it("[R5] the same key of another user creates another task", async () => {
    const first = await create(get(), { key: "k", userId: "user_a" });
    const other = await create(get(), { key: "k", userId: "user_b" });
    expect(other.id).not.toBe(first.id);
  });
}

function repositoriesSuite(get: () => Store): void {
  it("[V7] the repositories of a person are those of their newest tasks, the last used first", async () => {
    const [a, b, c] = ["https://x.example/a", "https://x.example/b.git", "https://x.example/c"];
    const add = (repo = a, userId = "user_a") => create(get(), { userId, spec: { repo } });
    await add();
    await add(b);
    await add(c, "user_b");
    const last = await add(`${a}.git`);
    const second = (await get().recentRepositories("user_a", 500))[1];
    expect(await get().recentRepositories("user_a", 500)).toEqual([
      { repo: `${a}.git`, tasks: 2, taskId: last.id },
      { repo: b, tasks: 1, taskId: second?.taskId },
    ]);
    expect(await get().recentRepositories("user_a", 1)).toEqual([{ repo: `${a}.git`, tasks: 1, taskId: last.id }]);
    expect(await get().recentRepositories("user_z", 500)).toEqual([]);
  });
}

function commitSuite(get: () => Store): void {
  it("[R6] a task that settles and its follow-up task are one commit", async () => {
    const first = await move(get(), await create(get()), claim, ready, cancel);
    const followUp = newTask({ key: "follow", parentId: first.id });
    const settled = await get().commit({ ...createCommit(first, stopped), followUp });
    expect(settled?.state).toBe("cancelled");
    const child = await get().task(followUp.id);
    expect(child).toMatchObject({ parentId: first.id, state: "queued" });
    expect(child?.rev).toBeGreaterThan(settled?.rev ?? Infinity);
    expect(await get().create(newTask({ key: "follow" }))).toEqual({ kind: "replayed", task: child });
    // A key that is known begins nothing, and an id that is taken leaves the task as it was.
    const second = await move(get(), await create(get()), claim, ready, cancel);
    await expect(
      get().commit({ ...createCommit(second, stopped), followUp: newTask({ id: child?.id ?? "" }) }),
    ).rejects.toThrow();
    expect(await get().task(second.id)).toEqual(second);
    expect((await get().events(second.id, 0, 100)).items).toHaveLength(second.seq);
    await get().commit({ ...createCommit(second, stopped), followUp: newTask({ key: "follow" }) });
    expect((await get().tasks({ userId: null, limit: 200 })).items).toHaveLength(3);
  });

  it("[R2] a commit writes events, snapshot and state together", async () => {
    const first = await create(get());
    const commit = createCommit(first, claim, notice("hello"), ready);
    const task = await get().commit(commit);
    expect(task).toMatchObject({ seq: 4, state: "running", updatedAt: commit.events[2]?.at, createdAt: T0 });
    expect(await get().task(first.id)).toEqual(task);
    const log = (await get().events(first.id, 0, 100)).items;
    expect(log.slice(1)).toEqual(commit.events);
    expect(fold(log)).toEqual(task?.snapshot);
  });

  it("events that workers sent can be left out of the log", async () => {
    const { id } = await move(
      get(),
      await create(get()),
      claim,
      ready,
      { ...notice("from the worker"), workerSeq: 1 },
      notice("first"),
      notice("second"),
    );
    const seqs = async (after: number, limit: number) =>
      (await get().eventsOfOthers(id, after, limit)).items.map(({ seq }) => seq);
    expect(await seqs(0, 10)).toEqual([1, 2, 3, 5, 6]);
    expect(await seqs(3, 1)).toEqual([5]);
    expect(await seqs(6, 10)).toEqual([]);
  });

  it("the outline of a log is what changes the state, and what runs", async () => {
    const started = (id: string) => ({
      type: "tool.started" as const,
      data: { id, name: "bash", input: { command: "true" } },
    });
    const { id } = await move(
      get(),
      await create(get()),
      claim,
      ready,
      notice("not of it"),
      started("a"),
      started("b"),
      { type: "tool.finished", data: { id: "a", name: "bash", output: "", exitCode: 0, ms: 1, truncated: false } },
      { type: "todo", data: { items: [{ text: "x", status: "pending" }] } },
      notice("neither"),
      cancel,
    );
    const seqs = async (after: number, limit: number) => {
      const { items, more } = await get().outline(id, after, limit);
      return { seqs: items.map(({ seq }) => seq), more };
    };
    expect(await seqs(0, 10)).toEqual({ seqs: [1, 2, 3, 6, 8, 10], more: false });
    expect(await seqs(2, 2)).toEqual({ seqs: [3, 6], more: true });
    expect(await seqs(10, 10)).toEqual({ seqs: [], more: false });
  });

  it("[T4] one of several commits with the same expected seq wins, and the others write nothing", async () => {
    const first = await create(get());
    const commits = Array.from({ length: 16 }, (_, i) => createCommit(first, claim, notice(`commit ${i}`)));
    const results = await Promise.all(commits.map((commit) => get().commit(commit)));
    expect(results.filter((task) => task !== null)).toHaveLength(1);
    const winner = results.findIndex((task) => task !== null);
    const log = (await get().events(first.id, 0, 100)).items;
    expect(log.map(({ seq }) => seq)).toEqual([1, 2, 3]);
    expect(log[2]?.data).toMatchObject({ text: `commit ${winner}` });
    expect(await get().attempts(first.id)).toHaveLength(1);
    expect((await get().task(first.id))?.rev).toBe(first.rev + 1);
  });

  it("[T4] racing writers that reload after null produce one log without gaps", async () => {
    const { id } = await move(get(), await create(get()), claim, ready);
    await Promise.all(
      Array.from({ length: 8 }, async (_, writer) => {
        for (let i = 0; i < 10;) {
          const task = (await get().task(id)) as Task;
          if ((await get().commit(createCommit(task, notice(`${writer}:${i}`)))) !== null) i++;
        }
      }),
    );
    const log = (await get().events(id, 0, 1_000)).items;
    expect(log.map(({ seq }) => seq)).toEqual(Array.from({ length: 83 }, (_, i) => i + 1));
    const texts = log.slice(3).map(({ data }) => String(data["text"]));
    expect(new Set(texts).size).toBe(80);
    for (let writer = 0; writer < 8; writer++) {
      expect(texts.filter((text) => text.startsWith(`${writer}:`))).toEqual(
        Array.from({ length: 10 }, (_, i) => `${writer}:${i}`),
      );
    }
  });

  it("[T2] a settled task refuses every commit", async () => {
    const open = await create(get());
    const settled = await move(get(), open, cancel);
    const late = { ...createCommit(open, notice("late")), expectedSeq: settled.seq };
    const events = late.events.map((event) => ({ ...event, seq: settled.seq + 1 }));
    expect(await get().commit({ ...late, events })).toBeNull();
    expect(await get().task(open.id)).toEqual(settled);
    expect((await get().events(open.id, settled.seq, 10)).items).toEqual([]);
  });

  it("[T4] a commit that expects a future seq returns null", async () => {
    const first = await create(get());
    const second = { ...first, seq: 2, snapshot: createCommit(first, claim).snapshot, state: "provisioning" as const };
    expect(await get().commit(createCommit(second, ready))).toBeNull();
    expect(await get().task(first.id)).toEqual(first);
    expect((await get().events(first.id, 0, 10)).items).toHaveLength(1);
  });

  it("a commit of an unknown task returns null", async () => {
    expect(await get().commit(createCommit({ ...(await create(get())), id: "task_none" }, claim))).toBeNull();
  });

  it("[R2] an invalid commit rejects alone; the others of the same turn are written completely", async () => {
    const tasks = await Promise.all(Array.from({ length: 6 }, () => create(get())));
    const commits = tasks.map((task) => createCommit(task, claim, notice("x")));
    const [a, ...rest] = commits[3]!.events;
    commits[3] = { ...commits[3]!, events: [a!, ...rest.map((event) => ({ ...event, seq: event.seq + 7 }))] };
    const results = await Promise.allSettled(commits.map((commit) => get().commit(commit)));
    expect(results.map(({ status }) => status)).toEqual(tasks.map((_, i) => (i === 3 ? "rejected" : "fulfilled")));
    for (const [i, task] of tasks.entries()) {
      expect(await get().task(task.id)).toMatchObject({
        seq: i === 3 ? 1 : 3,
        state: i === 3 ? "queued" : "provisioning",
      });
      expect((await get().events(task.id, 0, 10)).items).toHaveLength(i === 3 ? 1 : 3);
      expect(await get().attempts(task.id)).toHaveLength(i === 3 ? 0 : 1);
    }
    const revs = results.flatMap((result) => (result.status === "fulfilled" ? [result.value!.rev] : []));
    expect(revs).toEqual([7, 8, 9, 10, 11]);
    await move(get(), tasks[3]!, claim);
  });

  it("rev increases by one with each write of any task", async () => {
    const a = await create(get());
    const b = await create(get());
    const c = await move(get(), a, claim);
    expect([b.rev, c.rev]).toEqual([a.rev + 1, a.rev + 2]);
    expect(await get().commit(createCommit(a, cancel))).toBeNull();
    expect((await create(get())).rev).toBe(a.rev + 3);
  });
}

function readSuite(get: () => Store): void {
  it("reads of an unknown task return null or an empty list", async () => {
    const store = get();
    expect(await store.task("x")).toBeNull();
    expect(await store.message("x", "y")).toBeNull();
    expect(await store.attempts("x")).toEqual([]);
    for (const read of [
      store.events("x", 0, 9),
      store.messages("x", 0, 9),
      store.toolCalls("x", 0, 9),
      store.changes("x", 0, 9),
    ]) {
      expect(await read).toEqual({ items: [], more: false });
    }
    expect(await store.positions(["x"])).toEqual(new Map());
    expect(await store.nextDue()).toBeNull();
    expect(await store.slotsHeld()).toBe(0);
    expect((await store.counts()).oldestOpenAt).toBeNull();
  });

  it("tasks are filtered by owner, state, thread and text, newest first, in pages", async () => {
    const a = await create(get(), {
      userId: "user_a",
      spec: { title: "Überholen", prompt: "Paint 100% of the _hull_" },
    });
    const b = await create(get(), { userId: "user_b", spec: { repo: "https://git.example/Dock/Yard.git" } });
    const c = await create(get(), { userId: "user_a", threadId: a.threadId, parentId: a.id });
    const done = await move(get(), await create(get(), { userId: "user_a" }), cancel);
    const query = async (more: object): Promise<string[]> =>
      ids((await get().tasks({ userId: null, limit: 50, ...more })).items);
    expect(await query({})).toEqual([done.id, c.id, b.id, a.id]);
    expect(await query({ userId: "user_a" })).toEqual([done.id, c.id, a.id]);
    expect(await query({ userId: "user_a", states: ["queued", "running"] })).toEqual([c.id, a.id]);
    expect(await query({ userId: "user_a", states: ["queued", "cancelled"] })).toEqual([done.id, c.id, a.id]);
    expect(await query({ states: ["cancelled"] })).toEqual([done.id]);
    expect(await query({ states: [] })).toEqual([]);
    expect(await query({ threadId: a.threadId })).toEqual([c.id, a.id]);
    expect(await query({ userId: "user_b", threadId: a.threadId })).toEqual([]);
    expect(await query({ text: "üBERHOLEN" })).toEqual([a.id]);
    expect(await query({ text: "0% of the _H" })).toEqual([a.id]);
    expect(await query({ text: "dock/yard" })).toEqual([b.id]);
    expect(await query({ text: "dock/yard", userId: "user_a" })).toEqual([]);
    const sizes = { '"': 0, "fix the": 3, "fix and": 0, "*": 0, "fix* thing": 0, "100%": 1, ü: 1, "\n": 4 };
    for (const [text, size] of Object.entries(sizes)) expect(await query({ text })).toHaveLength(size);
    expect(await query({ text: "fix", states: ["queued"], repo: "https://git.example/octo/cat" })).toEqual([c.id]);
    expect(await query({ text: "the", threadId: a.threadId, states: ["queued"], limit: 1 })).toEqual([c.id]);
    expect(await query({ limit: 2 })).toEqual([done.id, c.id]);
    expect(await query({ limit: 2, before: c.id })).toEqual([b.id, a.id]);
    expect(await query({ userId: "user_a", states: ["queued"], text: "hull", before: c.id })).toEqual([a.id]);
  });

  it("[F1] changes after a cursor list each changed task once, oldest change first", async () => {
    const a = await create(get(), { userId: "user_a" });
    const b = await create(get(), { userId: "user_b" });
    const moved = await move(get(), a, claim);
    expect((await get().changes(null, 0, 10)).items).toEqual([b, moved]);
    expect((await get().changes("user_a", 0, 10)).items).toEqual([moved]);
    expect((await get().changes(null, b.rev, 10)).items).toEqual([moved]);
    expect((await get().changes(null, 0, 1)).items).toEqual([b]);
    expect((await get().changes(null, moved.rev, 10)).items).toEqual([]);
  });

  it("open tasks are listed oldest first, and all tasks are counted by state", async () => {
    const late = await create(get(), { at: T0 + 10 });
    const early = await create(get(), { at: T0 - 10 });
    await move(get(), await create(get(), { at: T0 - 50 }), cancel);
    expect(await get().openIds()).toEqual([early.id, late.id]);
    await move(get(), early, claim);
    const { byState, oldestOpenAt } = await get().counts();
    expect(Object.keys(byState).toSorted()).toEqual([...TASK_STATES].toSorted());
    expect(byState).toMatchObject({ queued: 1, provisioning: 1, cancelled: 1, running: 0, done: 0 });
    expect(oldestOpenAt).toBe(T0 - 10);
  });

  it("[D6] due tasks are listed most overdue first, settled ones never", async () => {
    const day = 24 * 3_600_000;
    const b = await create(get(), { at: T0 + 2 });
    const a = await create(get(), { at: T0 + 1 });
    const gone = await create(get(), { at: T0 });
    expect(await get().nextDue()).toBe(T0 + day);
    await move(get(), gone, cancel);
    expect(await get().nextDue()).toBe(T0 + 1 + day);
    expect(await get().due(T0 + day, 10)).toEqual([]);
    expect(await get().due(T0 + 1 + day, 10)).toEqual([a.id]);
    expect(await get().due(T0 + 9 + day, 10)).toEqual([a.id, b.id]);
    expect(await get().due(T0 + 9 + day, 1)).toEqual([a.id]);
    await move(get(), a, { ...claim, at: T0 + 5 });
    expect(await get().nextDue()).toBe(T0 + 5 + 120_000);
  });

  it("a setting is written, replaced and deleted", async () => {
    expect(await get().setting("queue.paused")).toBeNull();
    await get().setSetting("queue.paused", "yes");
    await get().setSetting("queue.paused", "1");
    expect(await get().setting("queue.paused")).toBe("1");
    await get().setSetting("queue.paused", null);
    await get().setSetting("queue.paused", null);
    expect(await get().setting("queue.paused")).toBeNull();
  });

  it("closing completes pending writes, refuses later ones, and is idempotent", async () => {
    const task = await create(get());
    await get().ping();
    const last = get().commit(createCommit(task, claim));
    await get().close();
    expect(await last).toMatchObject({ state: "provisioning" });
    await get().close();
    await expect(get().create(newTask())).rejects.toMatchObject({ code: "unavailable" });
    await expect(get().ping()).rejects.toMatchObject({ code: "unavailable" });
  });
}
