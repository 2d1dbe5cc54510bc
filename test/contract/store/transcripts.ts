/** The contract suite of transcripts (rules M1, X1 to X3). */
import { expect, it } from "vitest";
import type { Store } from "../../../src/core/ports/store.ts";
import type { Task } from "../../../src/core/task.ts";
import { TRANSCRIPT_BYTES } from "../../../src/core/ports/records/transcripts.ts";
import { claim, create, fail, move, ready, retried } from "../tasks.ts";

const text = (value: unknown): string => JSON.stringify({ value });

export function transcriptContract(get: () => Store): void {
  const claimed = async (): Promise<Task> => move(get(), await create(get()), claim, ready);
  const append = (task: Task, n: number, json: string, attempt = task.snapshot.context.attempt) =>
    get().appendRecord({ taskId: task.id, attempt, n, json });

  it("[M1] [X1] records are numbered without gaps and read back unchanged, in pages", async () => {
    const task = await claimed();
    const all = ["naïve ☃", "x".repeat(500), { deep: [1, null] }].map(text);
    for (const [i, json] of all.entries()) expect(await append(task, i + 1, json)).toEqual({ kind: "appended" });
    expect(await get().records(task.id, 0, 1e6)).toEqual(all.map((json, i) => ({ n: i + 1, attempt: 1, json })));
    expect((await get().records(task.id, 0, 100)).map(({ n }) => n)).toEqual([1]);
    expect((await get().records(task.id, 1, 100)).map(({ n }) => n)).toEqual([2]);
    expect((await get().records(task.id, 1, 1_000)).map(({ n }) => n)).toEqual([2, 3]);
    expect(await get().records(task.id, 3, 1e6)).toEqual([]);
    expect(await get().lastRecord(task.id)).toBe(3);
    expect([await get().lastRecord("task_unknown"), await get().records("task_unknown", 0, 1e6)]).toEqual([0, []]);
  });

  it("[X1] [X3] the same record is stored once; another one with its number, or one after a gap, gets the last number", async () => {
    const task = await claimed();
    await append(task, 1, text("a"));
    await append(task, 2, text("b"));
    expect(await append(task, 1, text("a"))).toEqual({ kind: "known" });
    expect(await append(task, 2, text("other"))).toEqual({ kind: "elsewhere", last: 2 });
    expect(await append(task, 4, text("d"))).toEqual({ kind: "elsewhere", last: 2 });
    expect(await get().lastRecord(task.id)).toBe(2);
  });

  it("[X1] one of several concurrent records with the same number is stored", async () => {
    const task = await claimed();
    const results = await Promise.all(Array.from({ length: 12 }, (_, i) => append(task, 1, text(i))));
    expect(results.filter(({ kind }) => kind === "appended")).toHaveLength(1);
    expect(results.filter(({ kind }) => kind === "elsewhere")).toHaveLength(11);
  });

  it("[X2] only the attempt that holds the slot writes, and the next attempt reads its records", async () => {
    const queued = await create(get());
    expect(await append(queued, 1, text("early"), 0)).toEqual({ kind: "stale" });
    const first = await move(get(), queued, claim, ready);
    await append(first, 1, text("one"));
    const again = await move(get(), first, ...retried);
    expect(await append(again, 2, text("late"), 1)).toEqual({ kind: "stale" });
    const second = await move(get(), again, claim, ready);
    expect(await append(second, 2, text("stale"), 1)).toEqual({ kind: "stale" });
    expect(await append(second, 2, text("two"))).toEqual({ kind: "appended" });
    expect((await get().records(second.id, 0, 1e6)).map(({ attempt }) => attempt)).toEqual([1, 2]);
    const settled = await move(get(), second, fail("refused"));
    expect(settled.state).toBe("failed");
    expect(await append(settled, 3, text("after"))).toEqual({ kind: "stale" });
    expect(await append(settled, 2, text("two"))).toEqual({ kind: "stale" });
    expect(await get().lastRecord(settled.id)).toBe(2);
  });

  it("[X2] a task that inherits a transcript starts with its records and does not change the parent's", async () => {
    const parent = await claimed();
    await append(parent, 1, text("one"));
    await append(parent, 2, text("two"));
    const child = await move(get(), await create(get(), { inherits: parent.id, parentId: parent.id }), claim, ready);
    expect(await get().records(child.id, 0, 1e6)).toEqual([
      { n: 1, attempt: 0, json: text("one") },
      { n: 2, attempt: 0, json: text("two") },
    ]);
    expect(await append(child, 3, text("three"))).toEqual({ kind: "appended" });
    expect(await get().lastRecord(parent.id)).toBe(2);
  });

  it("[X2] a follow-up reads all inherited records, also after the tasks that wrote them are deleted", async () => {
    const settle = async (task: Task): Promise<Task> => move(get(), task, fail("refused"));
    const follow = async (parent: Task): Promise<Task> =>
      move(get(), await create(get(), { inherits: parent.id, threadId: `thread_${n++}` }), claim, ready);
    let n = 1;
    const first = await claimed();
    await append(first, 1, text("one"));
    await append(first, 2, text("two"));
    const second = await follow(first);
    await append(second, 3, text("three"));
    const aside = await follow(first);
    const third = await follow(second);
    const all = ["one", "two", "three"].map((value, i) => ({ n: i + 1, attempt: 0, json: text(value) }));
    const read = (task: Task) => get().records(task.id, 0, 1e6);
    expect(await read(third)).toEqual(all);
    expect(await append(third, 2, text("two"), 1)).toEqual({ kind: "elsewhere", last: 3 });
    expect(await append(third, 4, text("four"))).toEqual({ kind: "appended" });
    expect(await get().records(third.id, 1, 25)).toEqual(all.slice(1, 2));
    expect(await append(aside, 3, text("other"))).toEqual({ kind: "appended" });
    const tasks = [first, second, aside, third].map(({ id }) => id).toSorted();
    const { items } = await get().transcriptSizes(first.userId, null);
    const sizes = new Map(items.map(({ taskId, bytes }) => [taskId, bytes]));
    const one = (value: string): number => text(value).length;
    const two = one("one") + one("two");
    // What several have counts for the one that wrote it.
    expect(tasks.map((id) => sizes.get(id))).toEqual(
      tasks.map(
        (id) => ({ [first.id]: two, [second.id]: one("three"), [aside.id]: one("other"), [third.id]: one("four") })[id],
      ),
    );
    const rest = await get().transcriptSizes(first.userId, tasks[0] ?? "");
    expect(rest.items.map(({ taskId }) => taskId)).toEqual(expect.arrayContaining(tasks.slice(1)));
    expect(rest.items.map(({ taskId }) => taskId)).not.toContain(tasks[0]);
    expect(await get().transcriptSizes("user_nobody", null)).toEqual({ items: [], more: false });
    expect(await get().taskOwners([...tasks, "task_unknown"])).toEqual(new Map(tasks.map((id) => [id, first.userId])));
    const at = Math.max(...(await Promise.all([first, second].map(settle))).map(({ updatedAt }) => updatedAt)) + 1;
    // Others have what these wrote.
    expect(await get().oldTranscripts(at)).toEqual([]);
    await get().dropTranscript(first.id);
    expect(await read(aside)).toEqual([...all.slice(0, 2), { n: 3, attempt: 1, json: text("other") }]);
    for (const { id } of [first, second]) {
      expect(await get().beginDeletion({ taskId: id, at, by: null })).toBe(true);
      expect(await read(third)).toEqual([...all, { n: 4, attempt: 1, json: text("four") }]);
      while (!(await get().purgeDeletion(id, at)));
      expect(await read(third)).toEqual([...all, { n: 4, attempt: 1, json: text("four") }]);
      expect(await read(aside)).toEqual([...all.slice(0, 2), { n: 3, attempt: 1, json: text("other") }]);
      expect(await get().lastRecord(id)).toBe(0);
    }
    const last = await follow(third);
    expect((await read(last)).map(({ json }) => json)).toEqual(["one", "two", "three", "four"].map(text));
    for (const task of [third, aside, last]) await settle(task);
    for (let left = 3; left > 0;) {
      const old = await get().oldTranscripts(at + 1e9);
      expect(old.length).toBeGreaterThan(0);
      for (const { taskId } of old) await get().dropTranscript(taskId);
      left -= old.length;
    }
    expect(await get().oldTranscripts(at + 1e9)).toEqual([]);
    expect(await read(last)).toEqual([]);
  });

  it("the transcript of a settled task can be dropped, that of an open task cannot", async () => {
    const settled = await claimed();
    await append(settled, 1, text("one"));
    const end = await move(get(), settled, fail("refused"));
    const open = await claimed();
    await append(open, 1, text("two"));
    const at = end.snapshot.context.settledAt ?? 0;
    expect(await get().oldTranscripts(at)).toEqual([]);
    expect(await get().oldTranscripts(at + 1)).toEqual([{ taskId: settled.id, bytes: text("one").length }]);
    await expect(get().dropTranscript(open.id)).rejects.toThrow();
    await get().dropTranscript(settled.id);
    await get().dropTranscript(settled.id);
    expect([await get().lastRecord(settled.id), await get().lastRecord(open.id)]).toEqual([0, 1]);
    expect(await get().oldTranscripts(at + 1)).toEqual([]);
  });

  it("[X1] a full transcript accepts no more records, also when it was inherited", async () => {
    const parent = await claimed();
    const big = text("x".repeat(TRANSCRIPT_BYTES / 2 - 12));
    await append(parent, 1, big);
    expect(await append(parent, 2, big)).toEqual({ kind: "appended" });
    expect(await append(parent, 3, "{}")).toEqual({ kind: "full" });
    expect(await append(parent, 2, big)).toEqual({ kind: "known" });
    const child = await move(get(), await create(get(), { inherits: parent.id }), claim, ready);
    expect(await append(child, 3, "{}")).toEqual({ kind: "full" });
  });
}
