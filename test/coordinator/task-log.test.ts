/**
 * Hints and listeners come after the commit: a second connection to the same database shows what is
 * durable.
 */
import Database from "../../src/store/sqlite/driver.ts";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { memoryBus } from "../../src/app/memory-bus.ts";
import { createTaskLog, type TaskLog, noUnread } from "../../src/coordinator/task-log.ts";
import { noCrash } from "../../src/core/lib/runtime/crashpoint.ts";
import type { Store } from "../../src/core/ports/store.ts";
import { openSqliteStore } from "../../src/store/sqlite/store.ts";
import { systemClock } from "../../src/core/lib/runtime/system-clock.ts";
import { DEFAULT_POLICY } from "../../src/core/task.ts";
import { newTask } from "../contract/tasks.ts";
import { dropFolder, makeFolder, MIGRATIONS } from "../store/data-folder.ts";
import type { Bus } from "../../src/core/ports/runtime.ts";

const silent = { debug() {}, info() {}, warn() {}, error() {} };
let dir: string;
let store: Store;
let bus: Bus;
let taskLog: TaskLog;
let beside: InstanceType<typeof Database>;

beforeEach(() => {
  dir = makeFolder();
  store = openSqliteStore({ dir, migrations: MIGRATIONS }).store;
  bus = memoryBus();
  taskLog = createTaskLog({ store, bus, clock: systemClock, log: silent, crashpoint: noCrash, planUnread: noUnread });
  beside = new Database(join(dir, "slipway.db"));
});
afterEach(async () => {
  beside.close();
  await store.close();
  await bus.close();
  dropFolder(dir);
});

const ID = "task_01hzzzzzzzzzzzzzzzzzzzzzzz";
const create = () =>
  taskLog.create({
    id: ID,
    userId: "user_a",
    threadId: ID.replace("task", "thread"),
    parentId: null,
    spec: newTask().spec,
    data: { policy: DEFAULT_POLICY, maxAttempts: 3 },
    inherits: null,
    idempotency: null,
  });
const note = (text: string) =>
  taskLog.record(ID, () => [{ type: "notice", data: { level: "info", code: "test", text } }]);
const durable = (): number =>
  beside.prepare<[string], number>("SELECT coalesce(max(seq), 0) FROM task_events WHERE task_id = ?").pluck().get(ID)!;

it("[R3] [R2] an event is visible to another connection before its hint and its listeners", async () => {
  const heard: { from: string; says: number; stored: number }[] = [];
  bus.onHint(({ seq }) => heard.push({ from: "hint", says: seq, stored: durable() }));
  taskLog.onCommit((task) => heard.push({ from: "listener", says: task.seq, stored: durable() }));
  await create();
  expect(durable()).toBe(1);
  await Promise.all(Array.from({ length: 20 }, async (_, n) => note(`${n}`)));
  expect(durable()).toBe(21);
  expect(heard.filter(({ says, stored }) => stored < says)).toEqual([]);
  for (const from of ["hint", "listener"]) {
    const says = heard.filter((one) => one.from === from).map((one) => one.says);
    expect(says).toEqual(Array.from({ length: 21 }, (_, n) => n + 1));
  }
});

it("[R3] an event that is not committed causes no hint and no listener call", async () => {
  await create();
  const heard: number[] = [];
  bus.onHint(({ seq }) => heard.push(seq));
  taskLog.onCommit((task) => heard.push(task.seq));
  beside.exec(
    "CREATE TRIGGER refuse BEFORE INSERT ON task_events WHEN NEW.type = 'notice' BEGIN SELECT RAISE(ABORT, 'the disk is full'); END",
  );
  await expect(note("lost")).rejects.toThrow("the disk is full");
  expect([heard, durable()]).toEqual([[], 1]);
  beside.exec("DROP TRIGGER refuse");
  await note("kept");
  expect([heard, durable()]).toEqual([[2, 2], 2]);
});

/** A store whose commits are durable and reject all the same, as after an I/O error at the end. */
function withoutAnswers(given: Store, faults: { readonly isReadable: () => boolean }): Store {
  let hasFailed = false;
  return {
    ...given,
    async commit(request) {
      await given.commit(request);
      hasFailed = true;
      throw new Error("disk I/O error");
    },
    task: (id) => (hasFailed && !faults.isReadable() ? Promise.reject(new Error("disk I/O error")) : given.task(id)),
  };
}

it("[R3] [D5] a commit that is durable although the store reports an error is announced", async () => {
  const lossy = withoutAnswers(store, { isReadable: () => true });
  taskLog = createTaskLog({
    store: lossy,
    bus,
    clock: systemClock,
    log: silent,
    crashpoint: noCrash,
    planUnread: noUnread,
  });
  await create();
  const heard: number[] = [];
  taskLog.onCommit((task, events) => heard.push(...events.map(({ seq }) => seq), task.seq));
  const { task } = await note("kept");
  expect([task.seq, heard, durable()]).toEqual([2, [2, 2], 2]);
});

it("[R3] [D5] a commit with an unknown result is announced when the store can be read again", async () => {
  let isReadable = false;
  const lossy = withoutAnswers(store, { isReadable: () => isReadable });
  taskLog = createTaskLog({
    store: lossy,
    bus,
    clock: systemClock,
    log: silent,
    crashpoint: noCrash,
    planUnread: noUnread,
  });
  await create();
  const heard: number[] = [];
  taskLog.onCommit((_task, events) => heard.push(...events.map(({ seq }) => seq)));
  await expect(note("unknown")).rejects.toThrow("disk I/O error");
  await expect(taskLog.reconcile()).rejects.toThrow("disk I/O error");
  expect(heard).toEqual([]);
  isReadable = true;
  await taskLog.reconcile();
  await taskLog.reconcile();
  expect(heard).toEqual([2]);
});
