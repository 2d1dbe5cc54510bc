/** Model test: whatever is continued, dropped or deleted, both stores have the same transcripts. */
import { statSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { expect, it } from "vitest";
import type { Store } from "../../src/core/ports/store.ts";
import { isSettledState, type Task } from "../../src/core/task.ts";
import { openMemoryStore } from "../../src/store/memory/store.ts";
import { openInspection } from "../../src/store/sqlite/inspection/inspection.ts";
import { openSqliteStore } from "../../src/store/sqlite/store.ts";
import { claim, create, fail, move, nextId, ready } from "../contract/tasks.ts";
import { dropFolder, makeFolder, MIGRATIONS } from "./data-folder.ts";

const ACTIONS = ["append", "append", "follow", "follow", "settle", "delete", "purge", "drop"] as const;
interface Action {
  readonly do: (typeof ACTIONS)[number];
  readonly pick: number;
}
const anyAction = fc.record({ do: fc.constantFrom(...ACTIONS), pick: fc.nat(1_000) });
const LATER = 9e12;
/** Five of these are handed over in two writes. */
const LARGE = "x".repeat(900_000);

/** A task is dropped while the one that inherited from it is deleted, but not purged. */
const HEIR_IN_DELETION: Action[] = [
  { do: "append", pick: 0 },
  { do: "append", pick: 1 },
  { do: "follow", pick: 0 },
  { do: "settle", pick: 1 },
  { do: "delete", pick: 1 },
  { do: "settle", pick: 0 },
  { do: "drop", pick: 0 },
];

/** The same decisions for both stores: they follow from what the test knows. */
class Family {
  readonly ids: string[] = [];
  readonly #open = new Set<string>();
  readonly #deleted = new Set<string>();

  async act(stores: readonly Store[], { do: what, pick }: Action): Promise<void> {
    const known = this.ids.filter((id) => !this.#deleted.has(id));
    const chosen = known[pick % Math.max(1, known.length)];
    if (what === "follow" || chosen === undefined) {
      const id = nextId();
      const inherits = chosen === undefined ? {} : { inherits: chosen };
      for (const store of stores) await move(store, await create(store, { id, ...inherits }), claim, ready);
      this.ids.push(id);
      this.#open.add(id);
      return;
    }
    if (what === "delete" && !this.#open.has(chosen)) this.#deleted.add(chosen);
    if (what === "settle") this.#open.delete(chosen);
    for (const store of stores) await this.#apply(store, what, chosen, pick);
  }

  async #apply(store: Store, what: Action["do"], id: string, pick: number): Promise<void> {
    const task = (await store.task(id)) as Task | null;
    if (what === "append") {
      const n = (await store.lastRecord(id)) + 1;
      const json = JSON.stringify({ n, by: id, text: pick % 8 === 0 ? LARGE : "" });
      await store.appendRecord({ taskId: id, attempt: 1, n, json });
    } else if (what === "settle" && task !== null && !isSettledState(task.state))
      await move(store, task, fail("refused"));
    else if (what === "delete") await store.beginDeletion({ taskId: id, at: 1, by: null });
    else if (what === "drop" && !this.#open.has(id)) await store.dropTranscript(id);
    else if (what === "purge")
      // One part of each: the next action comes in between.
      for (const { id: deleted } of await store.openDeletions(100)) await store.purgeDeletion(deleted, 2);
  }

  async view(store: Store): Promise<unknown> {
    const known = this.ids.filter((id) => !this.#deleted.has(id));
    const transcripts = known.map(async (id) => {
      const records = await store.records(id, 0, 1e9);
      const page = await store.records(id, 1, 1_000);
      return [
        id,
        await store.lastRecord(id),
        records.map(({ n, attempt, json }) => [n, attempt, json.length]),
        page[0],
      ];
    });
    return await Promise.all(transcripts);
  }
}

async function purgeAll(store: Store): Promise<void> {
  let left = await store.openDeletions(100);
  for (; left.length > 0; left = await store.openDeletions(100))
    for (const { id } of left) await store.purgeDeletion(id, 2);
}

const old = async (store: Store) =>
  (await store.oldTranscripts(LATER)).toSorted((a, b) => (a.taskId < b.taskId ? -1 : 1));

it("[M1] [X1] [X2] memory and SQLite have the same transcripts after any history, and the checker finds no fault", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(anyAction, { minLength: 5, maxLength: 40 }), async (actions) => {
      const dir = makeFolder();
      const memory = openMemoryStore().store;
      const sqlite = openSqliteStore({ dir, migrations: MIGRATIONS, synchronous: "NORMAL" }).store;
      const family = new Family();
      try {
        for (const action of actions) {
          await family.act([memory, sqlite], action);
          expect(await family.view(sqlite)).toEqual(await family.view(memory));
        }
        for (const store of [memory, sqlite]) await purgeAll(store);
        expect(await family.view(sqlite)).toEqual(await family.view(memory));
        expect(await old(sqlite)).toEqual(await old(memory));
      } finally {
        await sqlite.close();
      }
      try {
        const inspection = openInspection(dir, MIGRATIONS);
        expect(inspection.transcriptFaults()).toEqual([]);
        inspection.close();
      } finally {
        dropFolder(dir);
      }
    }),
    { numRuns: 25, examples: [[HEIR_IN_DELETION]] },
  );
});

it("[X2] [S14] follow-ups of a long conversation take no room of their own", async () => {
  const dir = makeFolder();
  const { store } = openSqliteStore({ dir, migrations: MIGRATIONS, synchronous: "NORMAL" });
  const bytes = (): number =>
    ["slipway.db", "slipway.db-wal"].reduce((sum, name) => sum + statSync(join(dir, name)).size, 0);
  try {
    const parent = await move(store, await create(store), claim, ready);
    for (let n = 1; n <= 8; n++)
      await store.appendRecord({ taskId: parent.id, attempt: 1, n, json: JSON.stringify({ n, text: LARGE }) });
    const before = bytes();
    for (let n = 0; n < 12; n++) {
      const child = await create(store, { inherits: parent.id });
      expect(await store.lastRecord(child.id)).toBe(8);
    }
    expect(bytes() - before).toBeLessThan(1e7);
  } finally {
    await store.close();
    dropFolder(dir);
  }
});
