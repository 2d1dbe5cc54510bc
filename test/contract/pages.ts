/** The contract suite of pages, which are bounded in items and in characters. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { every, PAGE_BYTES, type Page } from "../../src/core/lib/pagination.ts";
import type { Store } from "../../src/core/ports/store.ts";
import type { Task, TaskState } from "../../src/core/task.ts";
import { EVENT_TYPES, type TaskEvent } from "../../src/core/event.ts";
import { toWireEvent, toWireEventJson } from "../../src/core/protocol/mapping.ts";
import { cancel, claim, create, createCommit, move, nextId, notice, ready, type Move } from "./tasks.ts";

const LARGE = "x".repeat(100_000);
/** Number of large items of each kind; they fill more than two pages. */
const MANY = 60;
/** Number of large items on a full page; the last one exceeds its limit. */
const FULL = Math.ceil(PAGE_BYTES / LARGE.length);

/** Reads all pages and checks that each except the last has exactly `full` items. */
async function readPages<T>(read: (last: T | null) => Promise<Page<T>>, full: number): Promise<T[]> {
  const sizes: number[] = [];
  const found: T[] = [];
  const readAndCount = async (last: T | null): Promise<Page<T>> => {
    const page = await read(last);
    sizes.push(page.items.length);
    return page;
  };
  for await (const item of every(readAndCount)) found.push(item);
  expect(sizes.length).toBeGreaterThan(1);
  expect(sizes.slice(0, -1)).toEqual(sizes.slice(0, -1).map(() => full));
  expect(sizes.at(-1)).toBeGreaterThan(0);
  expect(sizes.at(-1)).toBeLessThanOrEqual(full);
  return found;
}

/** Finishes the agent's work; the summary stays in the snapshot. */
const finished = (summary: string): Move => ({
  type: "task.state",
  data: { reason: "finished", sha: "a".repeat(40), changed: true, title: "Done", summary },
});

const largeMoves = (i: number): Move[] => [
  {
    type: "message",
    data: { id: `m${i}`, role: "assistant", content: [{ type: "text", text: LARGE }] },
    workerSeq: 2 * i + 1,
  },
  { type: "tool.started", data: { id: `t${i}`, name: "bash", input: { command: LARGE } }, workerSeq: 2 * i + 2 },
  notice(LARGE),
];

export function pagesContract(get: () => Store): void {
  it("[F1] events after a cursor are read up to the limit", async () => {
    const task = await move(get(), await create(get()), claim, ready, notice("1"), notice("2"));
    const seqs = async (after: number, limit: number): Promise<[number[], boolean]> => {
      const { items, more } = await get().events(task.id, after, limit);
      return [items.map(({ seq }) => seq), more];
    };
    expect(await seqs(0, 2)).toEqual([[1, 2], true]);
    expect(await seqs(2, 2)).toEqual([[3, 4], true]);
    expect(await seqs(3, 2)).toEqual([[4, 5], false]);
    expect(await seqs(2, 100)).toEqual([[3, 4, 5], false]);
    expect(await seqs(5, 100)).toEqual([[], false]);
  });

  it("[F2] the JSON of an event row is the event's JSON, for every type, with unicode, escapes and large data", async () => {
    const texts = [
      "naïve ☃ 👩‍🚀 𝒳",
      'quote " backslash \\ / slash',
      "\0\u0001\u001f\n\r\t\u2028\u2029",
      "\ud800 lone",
      LARGE,
    ];
    const task = await create(get());
    const commit = createCommit(task, claim, ready, ...EVENT_TYPES.map((type) => notice(type)));
    const types = EVENT_TYPES.filter((type) => type !== "task.submitted" && type !== "task.state");
    const events = commit.events.map((event, i): TaskEvent => {
      if (event.type !== "notice") return event;
      const text = texts[i % texts.length];
      const nested = { __proto__x: [null, true, -0.5, 1e21, {}, []], "": texts[(i + 1) % texts.length] };
      // The fields that the projections of messages and tool calls read.
      const projected = { id: `id${i}`, role: "assistant", content: [{ type: "text", text }], name: "bash", input: {} };
      return { ...event, type: types[i % types.length]!, workerSeq: i, data: { ...projected, text, nested } };
    });
    expect(new Set(events.map(({ type }) => type)).size).toBe(EVENT_TYPES.length - 1);
    expect(await get().commit({ ...commit, events })).not.toBeNull();
    const read = await get().events(task.id, 0, 100);
    const rows = await get().eventRows(task.id, 0, 100);
    expect(rows.more).toBe(read.more);
    expect(rows.items.map(toWireEventJson)).toEqual(read.items.map((event) => JSON.stringify(toWireEvent(event))));
    for (const row of rows.items) expect(row.dataBytes).toBe(Buffer.byteLength(row.data));
    expect((await get().eventRows(task.id, 3, 2)).items.map(({ seq }) => seq)).toEqual([4, 5]);
    expect(await get().eventRows("task_none", 0, 10)).toEqual({ items: [], more: false });
  });

  it("[F6] large events, messages and tool calls of a task are read in bounded pages", async () => {
    const { id, seq } = await move(
      get(),
      await create(get()),
      claim,
      ready,
      ...Array.from({ length: MANY }, (_, i) => largeMoves(i)).flat(),
    );
    const afterSeq = (last: { readonly seq: number } | null): number => last?.seq ?? 0;
    const wanted = Array.from({ length: MANY }, (_, i) => 4 + 3 * i);
    const log = [];
    for await (const event of every<{ seq: number }>((last) => get().events(id, afterSeq(last), 1_000)))
      log.push(event.seq);
    expect(log).toEqual(Array.from({ length: seq }, (_, i) => i + 1));
    // The first page has three small events too.
    expect((await get().events(id, 0, 1_000)).items).toHaveLength(3 + FULL);
    expect((await get().eventRows(id, 0, 1_000)).items).toHaveLength(3 + FULL);
    const messages = await readPages((last: { seq: number } | null) => get().messages(id, afterSeq(last), 1_000), FULL);
    expect(messages.map((row) => row.seq)).toEqual(wanted);
    const calls = await readPages((last: { seq: number } | null) => get().toolCalls(id, afterSeq(last), 1_000), FULL);
    expect(calls.map((row) => row.seq)).toEqual(wanted.map((n) => n + 1));
    const others = await readPages(
      (last: { seq: number } | null) => get().eventsOfOthers(id, last?.seq ?? 3, 1_000),
      FULL,
    );
    expect(others.map((event) => event.seq)).toEqual(wanted.map((n) => n + 2));
  });

  it("[F6] tasks with long prompts are read in bounded pages", async () => {
    const created: Task[] = [];
    for (let i = 0; i < MANY; i++) created.push(await create(get(), { spec: { prompt: LARGE } }));
    const revs = await readPages((last: Task | null) => get().changes("user_a", last?.rev ?? 0, 1_000), FULL);
    expect(revs.map(({ id }) => id)).toEqual(created.map(({ id }) => id));
    const found = await readPages(
      (last: Task | null) => get().tasks({ userId: "user_a", limit: 200, ...(last && { before: last.id }) }),
      FULL,
    );
    expect(found.map(({ id }) => id)).toEqual(created.map(({ id }) => id).toReversed());
  });

  it("[F6] pages over several states skip no task, for any combination of sizes", async () => {
    const moves: Partial<Record<TaskState, readonly Move[]>> = {
      queued: [],
      running: [claim, ready],
      pushing: [claim, ready, finished(LARGE.repeat(5))],
      cancelled: [cancel],
    };
    const states = Object.keys(moves) as TaskState[];
    const kind = fc.record({ state: fc.constantFrom(...states, "pushing" as const), large: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(
        fc.array(kind, { minLength: 1, maxLength: 50, size: "max" }),
        fc.integer({ min: 1, max: 30 }),
        async (kinds, limit) => {
          const threadId = nextId("thread");
          const tasks: Task[] = [];
          for (const { state, large } of kinds) {
            const task = await create(get(), { threadId, spec: large ? { prompt: LARGE.repeat(4) } : {} });
            const path = moves[state] ?? [];
            tasks.push(path.length === 0 ? task : await move(get(), task, ...path));
          }
          const wanted = tasks.filter(({ state }) => state !== "queued").toReversed();
          const queried = states.filter((state) => state !== "queued");
          const oldest = tasks[0]?.id ?? "";
          const found: string[] = [];
          const read = (last: Task | null) =>
            get().tasks({ userId: null, states: queried, limit, ...(last && { before: last.id }) });
          for await (const { id } of every(read)) {
            if (id < oldest) break;
            found.push(id);
          }
          expect(found).toEqual(wanted.map(({ id }) => id));
        },
      ),
      { numRuns: 15 },
    );
  });
}

const question: Move = { type: "question", data: { id: "q1", question: "Which?", options: null }, workerSeq: 99 };
const said = (i: number): Move => ({
  type: "message",
  data: { id: `m${i}`, role: "assistant", content: [{ type: "text", text: `${i}` }] },
  workerSeq: i,
});

/** Lists with filters, and lists that are read from the end. */
export function listsContract(get: () => Store): void {
  const [here, there] = ["https://x.example/a", "https://x.example/b"];
  const add = (userId: string, repo: string, threadId = nextId("thread")): Promise<Task> =>
    create(get(), { userId, threadId, spec: { repo } });

  it("[V8] tasks are found by repository with each other filter, and counted by state", async () => {
    const found: Task[] = [];
    for (const userId of ["user_a", "user_b"])
      for (const repo of [here, `${here}.git`, there]) {
        found.push(await add(userId, repo));
        found.push(await move(get(), await add(userId, repo), claim, ready, question));
        found.push(await move(get(), await add(userId, repo), claim, ready));
      }
    const isHere = ({ spec }: Task): boolean => spec.repo.startsWith(here);
    const isAsking = ({ snapshot }: Task): boolean => snapshot.context.question !== null;
    for (const userId of [null, "user_a"]) {
      const own = found.filter((task) => userId === null || task.userId === userId).toReversed();
      const read = async (query: object) =>
        (await get().tasks({ userId, limit: 200, ...query })).items.map(({ id }) => id);
      const idsOf = (tasks: readonly Task[]): string[] => tasks.map(({ id }) => id);
      expect(await read({ repo: here })).toEqual(idsOf(own.filter(isHere)));
      expect(await read({ repo: `${there}.git` })).toEqual(idsOf(own.filter((task) => !isHere(task))));
      expect(await read({ asking: true })).toEqual(idsOf(own.filter(isAsking)));
      expect(await read({ asking: true, repo: here, states: ["running", "queued"] })).toEqual(
        idsOf(own.filter((task) => isAsking(task) && isHere(task))),
      );
      const third = own.filter(isHere)[2];
      expect(await read({ repo: here, before: third?.id, limit: 2 })).toEqual(idsOf(own.filter(isHere).slice(3, 5)));
      expect(await read({ repo: here, text: "FIX", states: ["queued"] })).toHaveLength(own.filter(isHere).length / 3);
      for (const repo of [undefined, here]) {
        const counted = own.filter((task) => repo === undefined || isHere(task)).length / 3;
        const tally = await get().tally({ userId, ...(repo === undefined ? {} : { repo }) });
        expect([tally.byState.queued, tally.byState.running, tally.asking]).toEqual([counted, 2 * counted, counted]);
      }
    }
  });

  it("[V8] events, messages and tool calls are read from the end too", async () => {
    const moves = [1, 2, 3].flatMap((i): Move[] => [
      { ...said(2 * i) },
      { type: "tool.started", data: { id: `t${i}`, name: "bash", input: {} }, workerSeq: 2 * i + 1 },
    ]);
    const task = await move(get(), await create(get()), claim, ready, ...moves);
    const end = Number.MAX_SAFE_INTEGER;
    const seqs = async (read: Promise<Page<{ seq: number }>>): Promise<[number[], boolean]> => {
      const { items, more } = await read;
      return [items.map(({ seq }) => seq), more];
    };
    expect(await seqs(get().events(task.id, end, 3, "down"))).toEqual([[9, 8, 7], true]);
    expect(await seqs(get().events(task.id, 3, 9, "down"))).toEqual([[2, 1], false]);
    expect(await seqs(get().messages(task.id, end, 2, "down"))).toEqual([[8, 6], true]);
    expect(await seqs(get().toolCalls(task.id, 9, 2, "down"))).toEqual([[7, 5], false]);
    expect(await get().toolCall(task.id, 7)).toMatchObject({ id: "t2", seq: 7 });
    expect(await get().toolCall(task.id, 8)).toBeNull();
  });

  it("[V8] the conversation of a thread is read over its tasks, from either end", async () => {
    const news = [notice("people pushed", "branch_updated"), notice('says "code":"branch_updated"')];
    const first = await move(get(), await add("user_a", here, "thread_x"), claim, ready, notice("n"), said(1));
    const second = await move(get(), await add("user_a", here, "thread_x"), claim, ready, ...news, said(1), question);
    await add("user_b", here, "thread_x");
    await add("user_a", here, "thread_y");
    const places: string[] = [first, first, first, first, second, second, second, second, second, second].map(
      ({ id }) => id,
    );
    const query = { userId: "user_a", threadId: "thread_x" };
    for (const direction of ["up", "down"] as const) {
      const found: TaskEvent[] = [];
      const read = async (last: TaskEvent | null): Promise<Page<TaskEvent>> => {
        const from = last === null ? {} : { from: { taskId: last.taskId, seq: last.seq } };
        return await get().conversation({ ...query, ...from, direction, limit: 2 });
      };
      for await (const event of every(read)) found.push(event);
      const inOrder = direction === "up" ? found : found.toReversed();
      expect(inOrder.map(({ taskId }) => taskId)).toEqual(places);
      const notices = inOrder.filter(({ type }) => type === "notice");
      expect(notices.map(({ data }) => data["text"])).toEqual(["people pushed"]);
      expect(inOrder.at(-1)?.type).toBe("question");
    }
    const ofAll = await get().conversation({ ...query, userId: null, direction: "up", limit: 100 });
    expect([ofAll.items.length, ofAll.more]).toEqual([11, false]);
  });
}
