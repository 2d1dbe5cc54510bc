/** Model test: for any sequence of actions, both stores report the same queue. */
import fc from "fast-check";
import { expect, it } from "vitest";
import type { Store } from "../../src/core/ports/store.ts";
import type { Task } from "../../src/core/task.ts";
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
