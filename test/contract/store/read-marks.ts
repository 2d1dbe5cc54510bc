/** The contract suite of what people have read (rules M1, V11). */
import { expect, it } from "vitest";
import type { Store } from "../../../src/core/ports/store.ts";
import type { Task } from "../../../src/core/task.ts";
import { claim, create, fail, move, notice, ready, stopped, T0, type Move } from "../tasks.ts";

const OWNER = "user_a";
const ask = (id: string): Move => ({ type: "question", data: { id, question: "Tabs?", options: null }, workerSeq: 1 });
const answer = (id: string, by: string): Move => ({
  type: "answer",
  data: { questionId: id, text: "yes", decision: "continue", by },
});
const cancelBy = (by: string): Move => ({ type: "task.state", data: { reason: "cancel", by } });
const say = (role: "user" | "assistant", by?: string): Move => ({
  type: "message",
  data: { id: `m_${role}`, role, content: [{ type: "text", text: "x" }], ...(by === undefined ? {} : { by }) },
  ...(role === "assistant" ? { workerSeq: 9 } : {}),
});

export function readMarksContract(get: () => Store): void {
  const changed = async (userId: string | null, after: number, reader?: string) =>
    (await get().changes(userId, after, 50, reader)).items.map(({ id, rev }) => [id, rev]);
  const running = async (): Promise<Task> =>
    move(get(), await create(get(), { userId: OWNER, data: { by: OWNER } }), claim, ready);

  it("[M1] [V11] a question and an end are notable; progress and the person's own acts are not", async () => {
    const task = await running();
    const notableOf = ({ progress }: Task): number | null => progress.notable;
    expect(notableOf(task)).toBe(0);
    const worked = await move(get(), task, notice("one"), say("assistant"), say("user", "user_other"));
    expect(notableOf(worked)).toBe(0);
    const asked = await move(get(), worked, ask("q1"));
    expect(notableOf(asked)).toBe(asked.seq);
    // Somebody else answers: the owner has not seen the question. Their own message says they have.
    const answered = await move(get(), asked, answer("q1", "user_admin"), notice("two"));
    expect(notableOf(answered)).toBe(asked.seq);
    const spoke = await move(get(), answered, {
      ...say("user", OWNER),
      data: { ...say("user", OWNER).data, id: "m2" },
    });
    expect(notableOf(spoke)).toBe(0);
    const again = await move(get(), spoke, { ...ask("q2"), workerSeq: 2 }, answer("q2", OWNER));
    expect(notableOf(again)).toBe(0);
    const ended = await move(get(), again, fail("refused"));
    expect([ended.state, notableOf(ended)]).toEqual(["failed", ended.seq]);
    expect(await get().task(ended.id)).toEqual(ended);
  });

  it("[M1] [V11] a cancel, and a task that is begun in one's name, are notable when they are somebody else's", async () => {
    const cancelled = async (by: string): Promise<(number | null)[]> => {
      const asked = await move(get(), await running(), cancelBy(by));
      return [asked, await move(get(), asked, stopped)].map(({ progress }) => progress.notable);
    };
    expect(await cancelled(OWNER)).toEqual([0, 0]);
    expect(await cancelled("user_operator")).toEqual([4, 4]);
    const begun = async (by: string) => (await create(get(), { userId: OWNER, data: { by } })).progress.notable;
    expect([await begun(OWNER), await begun("user_admin")]).toEqual([0, 1]);
  });

  it("[M1] [V11] a worker that names a person in its data does not speak for them", async () => {
    const task = await move(get(), await running(), { ...ask("q1"), data: { ...ask("q1").data, by: OWNER } });
    expect(task.progress.notable).toBe(task.seq);
  });

  it("[M1] [V11] a mark only goes forward, not beyond the end of the log, and is written only when it changes something", async () => {
    const store = get();
    const task = await move(store, await running(), ask("q1"), notice("later"));
    const seqOf = async () => (await store.readSeqs([task.id, "task_none"])).get(task.id);
    const asked = task.seq - 1;
    const mark = (seq: number, by = OWNER, id = task.id) => store.markRead(by, id, seq);
    expect([await mark(asked - 1), await seqOf()]).toEqual([false, undefined]);
    expect([await mark(asked, "user_b"), await mark(asked, OWNER, "task_none")]).toEqual([false, false]);
    expect([await mark(9_000), await seqOf()]).toEqual([true, task.seq]);
    expect([await mark(9_000), await mark(asked), await seqOf()]).toEqual([false, false, task.seq]);
    const worked = await move(store, task, notice("more"));
    expect([await mark(worked.seq), await seqOf()]).toEqual([false, task.seq]);
    const ended = await move(store, worked, fail("refused"));
    expect([await mark(worked.seq), await mark(ended.seq), await seqOf()]).toEqual([false, true, ended.seq]);
    expect(await store.task(task.id)).toEqual(ended);
  });

  it("[M1] [M5] [V11] a mark is a change of the reader's lists alone, after all before and before all later ones", async () => {
    const store = get();
    const task = await move(store, await running(), ask("q1"));
    const other = await create(store, { userId: "user_b" });
    await store.markRead(OWNER, task.id, task.seq);
    const [own, all] = [await changed(OWNER, other.rev, OWNER), await changed(null, other.rev, OWNER)];
    const rev = Number(own[0]?.[1]);
    expect(rev).toBeGreaterThan(other.rev);
    expect([own, all]).toEqual([[[task.id, rev]], [[task.id, rev]]]);
    // Each task once, at its last change.
    expect(await changed(null, 0, OWNER)).toEqual([
      [other.id, other.rev],
      [task.id, rev],
    ]);
    expect(await changed(null, 0, "user_b")).toEqual([
      [task.id, task.rev],
      [other.id, other.rev],
    ]);
    for (const reader of [undefined, "user_b"]) expect(await changed(null, other.rev, reader)).toEqual([]);
    const later = await move(store, task, notice("later"));
    expect(later.rev).toBeGreaterThan(rev);
    expect(await changed(OWNER, 0, OWNER)).toEqual([[task.id, later.rev]]);
    expect(await changed(OWNER, later.rev, OWNER)).toEqual([]);
    expect((await store.changes(null, 0, 1, OWNER)).more).toBe(true);
  });

  it("[M1] [R7] a mark goes with its task, and revs go on after it", async () => {
    const store = get();
    const task = await move(store, await running(), fail("refused"));
    await store.markRead(OWNER, task.id, task.seq);
    const [, rev] = (await changed(OWNER, task.rev, OWNER))[0] ?? [];
    expect(await store.beginDeletion({ taskId: task.id, at: T0, by: OWNER })).toBe(true);
    expect((await store.deletedTask(task.id))?.rev).toBeGreaterThan(Number(rev));
    expect(await changed(OWNER, 0, OWNER)).toEqual([]);
    expect(await store.markRead(OWNER, task.id, task.seq)).toBe(false);
    while (!(await store.purgeDeletion(task.id, T0)));
    expect(await store.readSeqs([task.id])).toEqual(new Map());
  });
}
