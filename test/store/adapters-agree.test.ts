/** Model test: for any sequence of actions, both stores report the same queue. */
import fc from "fast-check";
import { expect, it } from "vitest";
import type { Store, TaskQuery } from "../../src/core/ports/store.ts";
import { TASK_STATES, type Task, type TaskState } from "../../src/core/task.ts";
import { openMemoryStore } from "../../src/store/memory/store.ts";
import { openSqliteStore } from "../../src/store/sqlite/store.ts";
import { cancel, claim, create, move, nextId, retried } from "../contract/tasks.ts";
import { dropFolder, makeFolder, MIGRATIONS } from "./data-folder.ts";

type Action =
  | { readonly do: "submit"; readonly user: string; readonly priority: number }
  | { readonly do: "claim" | "requeue" | "cancel"; readonly pick: number };

const anyAction: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("submit" as const),
      user: fc.constantFrom("a", "b", "c"),
      priority: fc.constantFrom(-1, 0, 0, 0, 1),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constantFrom("claim" as const, "requeue" as const, "cancel" as const),
      pick: fc.nat(30),
    }),
  },
);

async function act(store: Store, id: string, action: Action): Promise<void> {
  if (action.do === "submit")
    return void (await create(store, { id, userId: action.user, spec: { priority: action.priority } }));
  const candidates = action.do === "claim" ? await store.claimable(1 + (action.pick % 3), 2) : await store.openIds();
  const chosen = candidates[action.pick % Math.max(1, candidates.length)];
  const task = chosen === undefined ? null : ((await store.task(chosen)) as Task);
  if (task === null) return;
  if (action.do === "claim") await move(store, task, claim);
  else if (action.do === "cancel" && task.state !== "cancelling") await move(store, task, cancel);
  else if (action.do === "requeue" && task.state === "provisioning" && task.snapshot.context.attempt < 3)
    await move(store, task, ...retried);
}

async function view(store: Store): Promise<object> {
  const order = await store.claimable(100, null);
  return {
    order,
    limited: [await store.claimable(100, 1), await store.claimable(3, 2)],
    positions: await store.positions(order),
    held: [await store.slotsHeld(), await store.slotsHeld("a"), await store.slotsHeld("b")],
    counts: await store.counts(),
    due: [await store.nextDue(), await store.due(Number.MAX_SAFE_INTEGER, 100)],
  };
}

/** Few letters, so that texts are often found; some have a meaning in queries of the index. */
const anyText = fc.string({
  unit: fc.constantFrom("a", "B", '"', "*", " ", "é", "😀", "-"),
  minLength: 1,
  maxLength: 12,
});
interface Search extends Pick<TaskQuery, "userId" | "states" | "limit"> {
  readonly text: string;
  /** How many of the newest tasks to leave out. */
  readonly skipped: number;
}

const anySearch: fc.Arbitrary<Search> = fc.record({
  text: fc.oneof(anyText, fc.constantFrom("git.example", "octo/cat", "\n")),
  userId: fc.constantFrom(null, "a"),
  limit: fc.constantFrom(1, 3, 50),
  states: fc.constantFrom<TaskState[][]>(["queued"], ["queued", "cancelled"], [...TASK_STATES]),
  skipped: fc.nat(40),
});

it("[M1] [V8] memory and SQLite find the same tasks by any text, and a search lets others have a turn", async () => {
  const memory = openMemoryStore().store;
  const dir = makeFolder();
  const sqlite = openSqliteStore({ dir, migrations: MIGRATIONS, synchronous: "NORMAL" }).store;
  const ids: string[] = [];
  const add = async (prompt: string): Promise<void> => {
    const id = nextId();
    for (const store of [memory, sqlite]) {
      const task = await create(store, {
        id,
        userId: ids.length % 2 === 0 ? "a" : "b",
        spec: { prompt, title: prompt },
      });
      if (ids.length % 3 === 0) await move(store, task, cancel);
    }
    ids.push(id);
  };
  try {
    // More of one text than the index lists one by one.
    for (let i = 0; i < 1_100; i += 1) await add(i % 100 === 0 ? "rare text" : "common text");
    const step = async (prompt: string, { skipped, ...query }: Search): Promise<void> => {
      await add(prompt);
      const before = skipped === 0 ? {} : { before: ids.at(-skipped) ?? "" };
      const find = async (store: Store): Promise<string[]> =>
        (await store.tasks({ ...query, ...before })).items.map(({ id }) => id);
      expect(await find(sqlite)).toEqual(await find(memory));
    };
    // Too short for the index, and in no text: every task is looked at.
    let turns = 0;
    const count = (): void => {
      turns += 1;
      counting = setImmediate(count);
    };
    let counting = setImmediate(count);
    expect((await sqlite.tasks({ userId: null, text: "zq", limit: 50 })).items).toEqual([]);
    clearImmediate(counting);
    expect(turns).toBeGreaterThan(2);
    const prompts = fc.sample(anyText, { seed: 61, numRuns: 150 });
    for (const [i, search] of fc.sample(anySearch, { seed: 62, numRuns: 150 }).entries())
      await step(prompts[i] ?? "", search);
    for (const text of ["rare", "common", "common text\nhttps", "text common"])
      for (const userId of ["a", null])
        for (const states of [["cancelled"], ["queued", "cancelled"]] satisfies TaskState[][])
          await step(text, { text, userId, states, limit: 50, skipped: 0 });
  } finally {
    await sqlite.close();
    dropFolder(dir);
  }
});

it("[M1] [D8] memory and SQLite agree on order, slots and deadlines after any history", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(anyAction, { minLength: 5, maxLength: 40 }), async (actions) => {
      const dir = makeFolder();
      const memory = openMemoryStore().store;
      const sqlite = openSqliteStore({ dir, migrations: MIGRATIONS, synchronous: "NORMAL" }).store;
      try {
        for (const action of actions) {
          const id = nextId();
          await act(memory, id, action);
          await act(sqlite, id, action);
          expect(await view(sqlite)).toEqual(await view(memory));
        }
      } finally {
        await sqlite.close();
        dropFolder(dir);
      }
    }),
    { numRuns: 25 },
  );
});
