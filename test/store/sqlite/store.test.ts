import { existsSync, mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import Database from "../../../src/store/sqlite/driver.ts";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Store } from "../../../src/core/ports/store.ts";
import { openSqliteReader, openSqliteStore, type SqliteStore } from "../../../src/store/sqlite/store.ts";
import { connect, createWriter } from "../../../src/store/sqlite/writer/writer.ts";
import { cancel, claim, commitOf, create, move, newTask, notice, ready, retried } from "../../contract/tasks.ts";
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

describe("the file", () => {
  it("[R1] everything is there after the store was closed and opened again", async () => {
    const { store, accounts } = open();
    const user = { id: "user_a", email: "a@example.org", role: "admin" as const, createdAt: 1, passwordHash: "h" };
    await accounts.createUser(user);
    const task = await move(store, await create(store, { key: "k" }), claim, notice("x"), ready);
    const waiting = await create(store, { userId: "user_b" });
    await store.setSetting("queue.paused", "1");
    const log = (await store.events(task.id, 0, 10)).items;
    await store.close();

    const again = open();
    expect(await again.store.task(task.id)).toEqual(task);
    expect((await again.store.events(task.id, 0, 10)).items).toEqual(log);
    expect(await again.store.attempts(task.id)).toHaveLength(1);
    expect((await again.store.changes(null, 0, 9)).items.map(({ id }) => id)).toEqual([task.id, waiting.id]);
    expect(await again.store.claimable(9, null)).toEqual([waiting.id]);
    expect(await again.store.slotsHeld("user_a")).toBe(1);
    expect(await again.store.setting("queue.paused")).toBe("1");
    expect(await again.accounts.login("a@example.org")).toEqual(user);
    expect(await again.store.create(newTask({ key: "k" }))).toEqual({ kind: "replayed", task });
    expect((await create(again.store)).rev).toBe(waiting.rev + 1);
  });

  it("[D8] the virtual time is there after a restart: a newcomer does not go before those who waited", async () => {
    const { store } = open();
    for (let i = 0; i < 5; i++) {
      const task = await create(store, { userId: "a" });
      await move(store, await move(store, task, claim), cancel);
    }
    const old = await create(store, { userId: "b" });
    await store.close();
    const again = open().store;
    const late = await create(again, { userId: "c" });
    expect(await again.claimable(9, null)).toEqual([old.id, late.id]);
  });

  it("[S1] the folder and its files are for their owner only", async () => {
    const data = join(dir, "data");
    mkdirSync(data, { mode: 0o755 });
    const { store } = openSqliteStore({ dir: data, migrations: MIGRATIONS });
    stores.push(store);
    await create(store);
    const mode = (name: string): number => statSync(join(data, name)).mode & 0o777;
    expect(mode(".")).toBe(0o700);
    for (const name of ["slipway.db", "slipway.db-wal", "slipway.lock"]) expect(mode(name)).toBe(0o600);
  });

  it("is in write-ahead mode: readers never wait for the writer", async () => {
    await open().store.close();
    const db = new Database(join(dir, "slipway.db"));
    expect(db.pragma("journal_mode", { simple: true })).toBe("wal");
    db.close();
  });
});

describe("group commit", () => {
  it("[R2] what is written in one turn of the event loop shares one transaction, in order", async () => {
    const { store } = open();
    const task = await create(store);
    const reader = new Database(join(dir, "slipway.db"), { readonly: true });
    const count = reader.prepare<[], number>("SELECT count(*) FROM tasks").pluck();
    const others = Array.from({ length: 50 }, () => store.create(newTask()));
    const commit = store.commit(commitOf(task, claim));
    const setting = store.setSetting("a", "b");
    expect(count.get()).toBe(1);
    await new Promise(setImmediate);
    // The loop stands still here while the other thread writes: all of it is there at once, before
    // anybody is told.
    while (count.get() === 1);
    expect(count.get()).toBe(51);
    expect(reader.prepare("SELECT value FROM settings WHERE key = 'a'").pluck().get()).toBe("b");
    reader.close();
    const results = await Promise.all(others);
    expect((await commit)?.state).toBe("provisioning");
    await setting;
    const revs = results.map((result) => (result.kind === "created" ? result.task.rev : 0));
    expect(revs).toEqual(Array.from({ length: 50 }, (_, i) => task.rev + 1 + i));
  });

  it("[R2] an answer is given after the commit: another connection sees the data then, and not before", async () => {
    await open().store.close();
    const path = join(dir, "slipway.db");
    const seen: [string, unknown][] = [];
    const reader = new Database(path, { readonly: true });
    const count = reader.prepare("SELECT count(*) FROM tasks").pluck();
    const writer = createWriter(connect({ path, synchronous: "FULL" }), (name) => seen.push([name, count.get()]));
    expect(writer.run([["create", newTask()]])).toMatchObject([{ kind: "done", value: { kind: "created", rev: 1 } }]);
    seen.push(["answered", count.get()]);
    writer.close();
    reader.close();
    expect(seen).toEqual([
      ["store.before", 0],
      ["store.inside", 0],
      ["store.after", 1],
      ["answered", 1],
    ]);
  });

  it("[R2] answers come in the order of the calls, also across transactions", async () => {
    const { store } = open();
    const order: number[] = [];
    const calls = Array.from({ length: 300 }, (_, i) =>
      store.setSetting(`key${i % 7}`, String(i)).then(() => order.push(i)),
    );
    await new Promise(setImmediate);
    calls.push(
      ...Array.from({ length: 300 }, (_, i) => store.setSetting("late", String(i)).then(() => order.push(300 + i))),
    );
    await Promise.all(calls);
    expect(order).toEqual(Array.from({ length: 600 }, (_, i) => i));
    expect(await store.setting("late")).toBe("299");
  });

  it("[R1] closing writes what was asked for before, tells everybody, and refuses what comes after", async () => {
    const { store } = open();
    const asked = Array.from({ length: 700 }, () => store.create(newTask()));
    const closed = store.close();
    await expect(store.setSetting("a", "b")).rejects.toMatchObject({ code: "unavailable" });
    await closed;
    await store.close();
    expect((await Promise.all(asked)).every(({ kind }) => kind === "created")).toBe(true);
    expect(await open().store.openIds()).toHaveLength(700);
  });

  it("the event loop goes on while the disk is waited for", async () => {
    const { store } = open();
    await create(store);
    const other = new Database(join(dir, "slipway.db"));
    other.exec("BEGIN IMMEDIATE");
    let settled = false;
    const waiting = store.setSetting("a", "b").then(() => (settled = true));
    const begun = performance.now();
    let turns = 0;
    while (performance.now() - begun < 300) {
      await new Promise(setImmediate);
      turns += 1;
    }
    expect([settled, turns > 100]).toEqual([false, true]);
    expect(await store.setting("a")).toBeNull();
    other.exec("COMMIT");
    other.close();
    await waiting;
    expect(await store.setting("a")).toBe("b");
  });

  it("a process that cannot write any more ends, and says why", async () => {
    const child = runChild(
      `const { rmSync } = await import("node:fs");
       sqlite.openSqliteStore({ dir: args.dir, migrations: args.migrations });
       rmSync(args.dir, { recursive: true });
       await new Promise((resolve) => setTimeout(resolve, 20_000));`,
      { dir: join(dir, "gone"), migrations: MIGRATIONS },
    );
    children.push(child);
    const { code, stderr } = await child.ended();
    expect(code).toBe(1);
    expect(stderr).toContain("Cannot open database");
  });

  it("[R2] a poisoned task takes nothing with it, neither its key nor its neighbours", async () => {
    const { store, accounts } = open();
    const taken = await create(store);
    const results = await Promise.allSettled([
      store.create(newTask({ key: "one" })),
      store.create(newTask({ id: taken.id, key: "two" })),
      store.setSetting("a", "b"),
      accounts.createToken({
        id: "t",
        userId: "nobody",
        name: "",
        hash: "h",
        createdAt: 0,
        expiresAt: null,
        lastUsedAt: null,
      }),
      store.create(newTask({ key: "three" })),
    ]);
    expect(results.map(({ status }) => status)).toEqual([
      "fulfilled",
      "rejected",
      "fulfilled",
      "rejected",
      "fulfilled",
    ]);
    expect(await store.setting("a")).toBe("b");
    expect((await store.create(newTask({ key: "two" }))).kind).toBe("created");
    expect((await store.create(newTask({ key: "one" }))).kind).toBe("replayed");
  });

  it("more than one transaction can hold is written all the same, in order", async () => {
    const { store } = open();
    const results = await Promise.all(Array.from({ length: 700 }, () => store.create(newTask())));
    const revs = results.map((result) => (result.kind === "created" ? result.task.rev : 0));
    expect(revs).toEqual(Array.from({ length: 700 }, (_, i) => i + 1));
  });

  it.each([
    ["store.inside", 0],
    ["store.after", 2],
  ])("[R1] a process that is killed at %s leaves all or nothing of a turn", async (point, expected) => {
    const child = runChild(
      `const { store } = sqlite.openSqliteStore(args.options);
       await Promise.all(args.tasks.map((task) => store.create(task)));`,
      {
        options: { dir, migrations: MIGRATIONS, crash: `${point}:1` },
        tasks: [newTask({ key: "a" }), newTask({ key: "b" })],
      },
    );
    children.push(child);
    expect((await child.ended()).signal).toBe("SIGKILL");
    const { store } = open();
    expect((await store.tasks({ userId: null, limit: 10 })).items).toHaveLength(expected);
    expect((await store.create(newTask({ key: "a" }))).kind).toBe(expected === 0 ? "created" : "replayed");
  });
});

describe("triggers", () => {
  it("[T2] the database refuses a settled task's row and events, but takes its exit", async () => {
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

  it("[W1] the database refuses a worker's event that it has already", async () => {
    const { store } = open();
    const task = await move(store, await create(store), claim, ready, { ...notice("one"), workerSeq: 1 });
    await expect(store.commit(commitOf(task, { ...notice("one"), workerSeq: 1 }))).rejects.toThrow(/UNIQUE/);
    expect(await store.task(task.id)).toEqual(task);
    const next = await move(store, task, ...retried, claim, ready, { ...notice("one"), workerSeq: 1 });
    expect(next.snapshot.context).toMatchObject({ attempt: 2, workerSeq: 1 });
  });

  it("a state that is not a word of the product is refused", async () => {
    const { store } = open();
    const task = await create(store);
    const db = new Database(join(dir, "slipway.db"));
    expect(() => db.prepare("UPDATE tasks SET state = 'paused' WHERE id = ?").run(task.id)).toThrow(/CHECK/);
    expect(() => db.prepare("UPDATE tasks SET slot = 2 WHERE id = ?").run(task.id)).toThrow(/CHECK/);
    db.close();
  });

  it("removing a task removes everything of it", async () => {
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

describe("one writer", () => {
  const hold = `const { store } = sqlite.openSqliteStore(args); print("open"); await heard(); await store.close(); print("closed"); await heard();`;

  it("a second store of this process gets `locked`, until the first is closed", async () => {
    const first = open().store;
    expect(() => open()).toThrow(expect.objectContaining({ code: "locked" }));
    await create(first);
    await first.close();
    await create(open().store);
  });

  it("a second process gets `locked`; after SIGKILL of the holder the folder opens", async () => {
    const child = runChild(hold, { dir, migrations: MIGRATIONS });
    children.push(child);
    expect(await child.line()).toBe("open");
    expect(() => open()).toThrow(expect.objectContaining({ code: "locked" }));
    expect(() => open()).toThrow(expect.objectContaining({ code: "locked" }));
    await child.kill();
    await create(open().store);
  });

  it("a holder that closes lets go while it lives on", async () => {
    const child = runChild(hold, { dir, migrations: MIGRATIONS });
    children.push(child);
    expect(await child.line()).toBe("open");
    expect(() => open()).toThrow(expect.objectContaining({ code: "locked" }));
    child.say("close");
    expect(await child.line()).toBe("closed");
    const { store } = open();
    await create(store);
    const second = runChild(hold, { dir, migrations: MIGRATIONS });
    children.push(second);
    expect(await second.line()).toBeNull();
    expect((await second.ended()).stderr).toContain("Another coordinator uses");
  });

  it("a reader reads beside the writer and when nobody writes, and writes nothing", async () => {
    expect(() => openSqliteReader({ dir, migrations: MIGRATIONS })).toThrow(
      expect.objectContaining({ code: "unavailable" }),
    );
    expect(existsSync(join(dir, "slipway.db"))).toBe(false);
    const { store } = open();
    const reader = openSqliteReader({ dir, migrations: MIGRATIONS });
    const task = await create(store);
    expect(await reader.task(task.id)).toEqual(task);
    const moved = await move(store, task, claim);
    expect(await reader.task(task.id)).toEqual(moved);
    await reader.ping();
    await store.close();
    expect(await reader.openIds()).toEqual([task.id]);
    await reader.close();
    const alone = openSqliteReader({ dir, migrations: MIGRATIONS });
    expect(await alone.counts()).toMatchObject({ byState: { provisioning: 1 } });
    await alone.close();
  });
});

describe("transcripts in the file", () => {
  it("[X1] [R1] every record that was acknowledged before a SIGKILL is there, without hole", async () => {
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

  it("[X1] [X2] triggers refuse what the code would never do: a change, a hole, a removal, another attempt, a settled task", async () => {
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
