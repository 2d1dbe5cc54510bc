/** A list of changes in which almost every task is passed over, because its mark came later. */
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import Database from "../../../src/store/sqlite/driver.ts";
import { openSqliteStore } from "../../../src/store/sqlite/store.ts";
import { claim, create, fail, move, ready } from "../../contract/tasks.ts";
import { dropFolder, makeFolder, MIGRATIONS } from "../data-folder.ts";

const READ = 9_000;
let dir: string;
beforeEach(() => {
  dir = makeFolder();
});
afterEach(() => dropFolder(dir));

it("[F7] [V11] thousands of tasks that were read later are looked at in parts, and each comes once", async () => {
  const { store } = openSqliteStore({ dir, migrations: MIGRATIONS });
  try {
    const model = await move(store, await create(store), claim, ready, fail("refused"));
    const db = new Database(join(dir, "slipway.db"));
    const columns = db.prepare<[], string>("SELECT name FROM pragma_table_info('tasks')").pluck().all();
    const copied = columns.map((name) => (name === "id" ? "'copy_' || n" : name === "rev" ? "rev + n" : name));
    const numbers = `WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ${READ})`;
    db.exec(`
      ${numbers} INSERT INTO tasks (${columns.join(", ")}) SELECT ${copied.join(", ")} FROM tasks, numbers;
      INSERT INTO task_specs (task_id, spec, search)
        SELECT t.id, s.spec, '' FROM tasks AS t, task_specs AS s WHERE t.id <> s.task_id;
      INSERT INTO task_reads SELECT id, user_id, seq, ${2 * READ} + rev FROM tasks WHERE id LIKE 'copy%';
    `);
    db.close();
    for (const userId of [model.userId, null]) {
      const found: string[] = [];
      let turns = 0;
      const count = (): void => {
        turns += 1;
        counting = setImmediate(count);
      };
      let counting = setImmediate(count);
      const first = await store.changes(userId, model.rev, 1, model.userId);
      clearImmediate(counting);
      expect(turns).toBeGreaterThan(3);
      expect(first.items).toMatchObject([{ id: "copy_1", rev: 2 * READ + model.rev + 1 }]);
      for (let after = 0; ;) {
        const { items, more } = await store.changes(userId, after, 500, model.userId);
        found.push(...items.map(({ id }) => id));
        after = items.at(-1)?.rev ?? after;
        if (!more) break;
      }
      expect(found).toEqual([model.id, ...Array.from({ length: READ }, (_, i) => `copy_${i + 1}`)]);
    }
  } finally {
    await store.close();
  }
});
