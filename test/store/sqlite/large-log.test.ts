/** A log of 300,000 events does not hold up the event loop. */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readLog, readLogWithoutWorker } from "../../../src/coordinator/read-lists.ts";
import type { Store } from "../../../src/core/ports/store.ts";
import Database from "../../../src/store/sqlite/driver.ts";
import { openSqliteStore } from "../../../src/store/sqlite/store.ts";
import { claim, create, move, notice } from "../../contract/tasks.ts";
import { dropFolder, makeFolder, MIGRATIONS } from "../data-folder.ts";

const EVENTS = 300_000;
let dir: string;
let store: Store;
let taskId: string;
/** Has the same log. */
let otherId: string;

beforeAll(async () => {
  dir = makeFolder();
  const first = openSqliteStore({ dir, migrations: MIGRATIONS }).store;
  const tasks = [];
  for (let n = 0; n < 2; n += 1) tasks.push(await move(first, await create(first), claim, notice("first")));
  [taskId = "", otherId = ""] = tasks.map(({ id }) => id);
  await first.close();
  // A worker's events, as the store writes them; through the chart they take minutes.
  const db = new Database(join(dir, "slipway.db"));
  for (const task of tasks) {
    db.prepare("UPDATE tasks SET seq = seq + ? WHERE id = ?").run(EVENTS, task.id);
    db.prepare(
      `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
       INSERT INTO task_events (task_id, seq, at, attempt, type, from_state, to_state, worker_seq, data)
       SELECT ?, ? + i, ?, 1, 'output', 'running', 'running', i, '{"text":"' || hex(randomblob(50)) || '"}' FROM n`,
    ).run(EVENTS, task.id, task.seq, task.updatedAt);
  }
  db.close();
  store = openSqliteStore({ dir, migrations: MIGRATIONS }).store;
});
afterAll(async () => {
  await store.close();
  dropFolder(dir);
});

/** Counts the turns that the loop takes meanwhile. */
async function countTurns(work: () => Promise<void>): Promise<number> {
  let turns = 0;
  let isOn = true;
  const turn = (): void => {
    turns += 1;
    if (isOn) setImmediate(turn);
  };
  setImmediate(turn);
  await work();
  isOn = false;
  return turns;
}

describe("[F7] the event loop goes on", () => {
  it("while the whole log is read", async () => {
    let read = 0;
    const turns = await countTurns(async () => {
      for await (const event of readLog(store, taskId)) read = event.seq;
    });
    expect(read).toBeGreaterThan(EVENTS);
    // One per page of 1,000 events.
    expect(turns).toBeGreaterThanOrEqual(EVENTS / 1_000);
  });

  it("while the events of others are searched between a worker's", async () => {
    const types: string[] = [];
    const turns = await countTurns(async () => {
      for await (const event of readLogWithoutWorker(store, taskId, 0)) types.push(event.type);
    });
    expect(types).toEqual(["task.submitted", "task.state", "notice"]);
    expect(turns).toBeGreaterThanOrEqual(EVENTS / 5_000);
  });
});

it("[R7] [F7] while it is deleted, others write in between, and no part takes long", async () => {
  const db = new Database(join(dir, "slipway.db"));
  db.prepare("UPDATE tasks SET state = 'cancelled', slot = 0, due_at = NULL WHERE id IN (?, ?)").run(taskId, otherId);
  db.close();
  const [first, second] = [await deleteAmidWrites(taskId), await deleteAmidWrites(otherId)];
  expect(second).toHaveLength(first.length);
  // A machine that stands still delays a part of one task, not the same part of both.
  const durations = first.map((ms, i) => Math.min(ms, second[i] ?? Infinity));
  // A share of the whole, which holds on a busy machine too.
  expect(Math.max(...durations)).toBeLessThan(durations.reduce((sum, ms) => sum + ms, 0) / 3);
  expect((await store.counts()).byState).toMatchObject({ cancelled: 0, queued: first.length + second.length });
});

/** @returns how long each part took, ms. */
async function deleteAmidWrites(id: string): Promise<number[]> {
  expect(await store.beginDeletion({ taskId: id, at: 1, by: null })).toBe(true);
  const durations: number[] = [];
  const turns = await countTurns(async () => {
    for (let isOver = false; !isOver;) {
      const from = performance.now();
      [isOver] = await Promise.all([store.purgeDeletion(id, 2), create(store)]);
      durations.push(performance.now() - from);
    }
  });
  expect(durations.length).toBeGreaterThanOrEqual(EVENTS / 1_000);
  expect(turns).toBeGreaterThanOrEqual(durations.length);
  return durations;
}
