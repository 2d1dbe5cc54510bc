import { join } from "node:path";
import Database from "../../../src/store/sqlite/driver.ts";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Store } from "../../../src/core/ports/store.ts";
import { openSqliteStore, type SqliteStore } from "../../../src/store/sqlite/store.ts";
import { cancel, claim, createCommit, create, move, notice, ready, retried } from "../../contract/tasks.ts";
import { runChild, type Child } from "./child-process.ts";
import { dropFolder, makeFolder, MIGRATIONS } from "../data-folder.ts";

let dir: string;
const stores: Store[] = [];
const children: Child[] = [];

function open(): SqliteStore {
  const opened = openSqliteStore({ dir, migrations: MIGRATIONS });
  stores.push(opened.store);
  return opened;
}

beforeEach(() => {
  dir = makeFolder();
});
afterEach(async () => {
  await Promise.all(stores.splice(0).map((store) => store.close()));
  await Promise.all(children.splice(0).map((child) => child.kill()));
  dropFolder(dir);
});

describe("triggers", () => {
  it("[T2] the database refuses changes and events of a settled task, but accepts its exit code", async () => {
    const { store } = open();
    const settled = await move(store, await move(store, await create(store), claim), cancel, {
      type: "task.state",
      data: { reason: "stopped" },
    });
    const db = new Database(join(dir, "slipway.db"));
    const add = db.prepare(
      "INSERT INTO task_events (task_id, seq, at, attempt, type, to_state, data) VALUES (?, ?, 1, 0, 'notice', 'cancelled', '{}')",
    );
    expect(() => db.prepare("UPDATE tasks SET state = 'queued' WHERE id = ?").run(settled.id)).toThrow(
      /settled task never changes/,
    );
    expect(() => db.prepare("UPDATE tasks SET rev = rev + 1 WHERE id = ?").run(settled.id)).toThrow(
      /settled task never changes/,
    );
    expect(() => add.run(settled.id, settled.seq + 1)).toThrow(/grows only with its row/);
    expect(() => add.run("task_none", 1)).toThrow(/grows only with its row/);
    expect(() => db.prepare("UPDATE task_events SET data = '{}' WHERE task_id = ?").run(settled.id)).toThrow(
      /append-only/,
    );
    db.close();
    await store.recordExit(settled.id, 1, 0);
    expect(await store.attempts(settled.id)).toMatchObject([{ exitCode: 0 }]);
    expect(await store.task(settled.id)).toEqual(settled);
  });

  it("[W1] the database refuses a worker event that is already stored", async () => {
    const { store } = open();
    const task = await move(store, await create(store), claim, ready, { ...notice("one"), workerSeq: 1 });
    await expect(store.commit(createCommit(task, { ...notice("one"), workerSeq: 1 }))).rejects.toThrow(/UNIQUE/);
    expect(await store.task(task.id)).toEqual(task);
    const next = await move(store, task, ...retried, claim, ready, { ...notice("one"), workerSeq: 1 });
    expect(next.snapshot.context).toMatchObject({ attempt: 2, workerSeq: 1 });
  });

  it("an unknown state or slot value is refused", async () => {
    const { store } = open();
    const task = await create(store);
    const db = new Database(join(dir, "slipway.db"));
    expect(() => db.prepare("UPDATE tasks SET state = 'paused' WHERE id = ?").run(task.id)).toThrow(/CHECK/);
    expect(() => db.prepare("UPDATE tasks SET slot = 2 WHERE id = ?").run(task.id)).toThrow(/CHECK/);
    db.close();
  });

  it("deleting a task deletes all of its rows", async () => {
    const { store } = open();
    const tool = { type: "tool.started" as const, data: { id: "t", name: "bash", input: {} } };
    const task = await move(store, await create(store, { key: "k" }), claim, ready, tool);
    await store.close();
    const db = new Database(join(dir, "slipway.db"));
    db.pragma("foreign_keys = ON");
    db.prepare("DELETE FROM tasks WHERE id = ?").run(task.id);
    for (const table of ["task_events", "task_specs", "tool_calls", "attempts", "idempotency_keys"]) {
      expect([table, db.prepare(`SELECT count(*) FROM ${table}`).pluck().get()]).toEqual([table, 0]);
    }
    db.close();
  });
});

describe("stored transcripts", () => {
  it("[X1] [R1] every record acknowledged before a SIGKILL is stored, without gaps", async () => {
    const { store } = open();
    const task = await move(store, await create(store), claim, ready);
    await store.close();
    const child = runChild(
      `const { store } = sqlite.openSqliteStore(args.options);
       for (let n = 1; ; n += 1) {
         await store.appendRecord({ taskId: args.id, attempt: 1, n, json: JSON.stringify({ n, text: "x".repeat(n * 50) }) });
         print(String(n));
       }`,
      { id: task.id, options: { dir, migrations: MIGRATIONS } },
    );
    children.push(child);
    let acknowledged = 0;
    while (acknowledged < 60) acknowledged = Number(await child.line());
    await child.kill();
    const again = open().store;
    const records = await again.records(task.id, 0, 1e9);
    expect(records.length).toBeGreaterThanOrEqual(acknowledged);
    expect(records.map(({ n, json }) => [n, (JSON.parse(json) as { n: number }).n])).toEqual(
      records.map((_, i) => [i + 1, i + 1]),
    );
  });

  it("[X1] [X2] triggers refuse a change, a gap, a deletion, another attempt and a settled task", async () => {
    const { store } = open();
    const task = await move(store, await create(store), claim, ready);
    await store.appendRecord({ taskId: task.id, attempt: 1, n: 1, json: "{}" });
    const settled = await move(store, await create(store), cancel);
    const db = new Database(join(dir, "slipway.db"));
    try {
      const insert = "INSERT INTO transcripts (task_id, n, attempt, total, record) VALUES";
      expect(() => db.exec(`UPDATE transcripts SET record = '{"a":1}'`)).toThrow(/append-only/);
      expect(() => db.exec("DELETE FROM transcripts")).toThrow(/append-only/);
      expect(() => db.exec(`${insert} ('${task.id}', 3, 1, 4, '{}')`)).toThrow(/one record/);
      expect(() => db.exec(`${insert} ('${task.id}', 2, 2, 4, '{}')`)).toThrow(/one record/);
      expect(() => db.exec(`${insert} ('${settled.id}', 1, 0, 2, '{}')`)).toThrow(/one record/);
      db.exec(`PRAGMA foreign_keys = ON; DELETE FROM tasks WHERE id = '${task.id}'`);
      expect(db.prepare("SELECT count(*) FROM transcripts").pluck().get()).toBe(0);
    } finally {
      db.close();
    }
  });
});
