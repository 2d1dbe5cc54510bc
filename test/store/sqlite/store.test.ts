import { existsSync, mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import Database from "../../../src/store/sqlite/driver.ts";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Store } from "../../../src/core/ports/store.ts";
import { openSqliteReader, openSqliteStore, type SqliteStore } from "../../../src/store/sqlite/store.ts";
import { toNewTaskRow } from "../../../src/store/sqlite/tables/rows.ts";
import { connect, createWriter } from "../../../src/store/sqlite/writer/writer.ts";
import { cancel, claim, createCommit, create, move, newTask, notice, ready, stopped } from "../../contract/tasks.ts";
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
  it("[R1] a closed store reopens with all of its data", async () => {
    const { store, accounts } = open();
    const user = {
      id: "user_a",
      email: "a@example.org",
      role: "admin" as const,
      createdAt: 1,
      disabledAt: null,
      passwordHash: "h",
    };
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

  it("[D8] the virtual time survives a restart: a new owner does not overtake waiting tasks", async () => {
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

  it("[S1] the folder and its files are accessible to their owner only", async () => {
    const data = join(dir, "data");
    mkdirSync(data, { mode: 0o755 });
    const { store } = openSqliteStore({ dir: data, migrations: MIGRATIONS });
    stores.push(store);
    await create(store);
    const mode = (name: string): number => statSync(join(data, name)).mode & 0o777;
    expect(mode(".")).toBe(0o700);
    for (const name of ["slipway.db", "slipway.db-wal", "slipway.lock"]) expect(mode(name)).toBe(0o600);
  });

  it("is in WAL mode, so readers never wait for the writer", async () => {
    await open().store.close();
    const db = new Database(join(dir, "slipway.db"));
    expect(db.pragma("journal_mode", { simple: true })).toBe("wal");
    db.close();
  });
});

describe("group commit", () => {
  it("[R2] writes of one turn of the event loop share one transaction, in order", async () => {
    const { store } = open();
    const task = await create(store);
    const reader = new Database(join(dir, "slipway.db"), { readonly: true });
    const count = reader.prepare<[], number>("SELECT count(*) FROM tasks").pluck();
    const others = Array.from({ length: 50 }, () => store.create(newTask()));
    const commit = store.commit(createCommit(task, claim));
    const setting = store.setSetting("a", "b");
    expect(count.get()).toBe(1);
    await new Promise(setImmediate);
    // The busy loop blocks this thread while the writer commits: all writes become visible at once,
    // before any promise resolves.
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

  it("[R2] a write is acknowledged after its commit, when other connections see it", async () => {
    await open().store.close();
    const path = join(dir, "slipway.db");
    const seen: [string, unknown][] = [];
    const reader = new Database(path, { readonly: true });
    const count = reader.prepare("SELECT count(*) FROM tasks").pluck();
    const writer = createWriter(connect({ path, synchronous: "FULL" }), (name) => seen.push([name, count.get()]));
    expect(writer.run([["create", toNewTaskRow(newTask())]])).toMatchObject([
      { kind: "done", value: { kind: "created", rev: 1 } },
    ]);
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

  it("[R2] promises resolve in the order of the calls, across transactions as well", async () => {
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

  it("[R1] closing completes earlier writes and refuses later ones", async () => {
    const { store } = open();
    const pending = Array.from({ length: 700 }, () => store.create(newTask()));
    const closed = store.close();
    await expect(store.setSetting("a", "b")).rejects.toMatchObject({ code: "unavailable" });
    await closed;
    await store.close();
    expect((await Promise.all(pending)).every(({ kind }) => kind === "created")).toBe(true);
    expect(await open().store.openIds()).toHaveLength(700);
  });

  it("the event loop is not blocked while a write waits", async () => {
    const { store } = open();
    await create(store);
    const other = new Database(join(dir, "slipway.db"));
    other.exec("BEGIN IMMEDIATE");
    let settled = false;
    const waiting = store.setSetting("a", "b").then(() => (settled = true));
    const begun = performance.now();
    let turns = 0;
    // The write gives up after 5 s, which a loop that is blocked would not take 100 turns in.
    while (turns <= 100 || performance.now() - begun < 300) {
      await new Promise(setImmediate);
      turns += 1;
    }
    expect(settled).toBe(false);
    expect(await store.setting("a")).toBeNull();
    other.exec("COMMIT");
    other.close();
    await waiting;
    expect(await store.setting("a")).toBe("b");
  });

  it("a process whose writer thread fails exits with the reason", async () => {
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

  it("[R2] a refused task leaves no idempotency key and does not affect the other writes of its turn", async () => {
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
        scopes: null,
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

  it("more writes than one transaction holds are all written, in order", async () => {
    const { store } = open();
    const results = await Promise.all(Array.from({ length: 700 }, () => store.create(newTask())));
    const revs = results.map((result) => (result.kind === "created" ? result.task.rev : 0));
    expect(revs).toEqual(Array.from({ length: 700 }, (_, i) => i + 1));
  });

  it.each([
    ["store.inside", 0],
    ["store.after", 2],
  ])("[R1] a process killed at %s has written all or nothing of a turn", async (point, expected) => {
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

  it.each([
    ["store.inside", "cancelling", 1],
    ["store.after", "cancelled", 2],
  ])(
    "[R6] a process killed at %s has settled a task with its follow-up task, or neither",
    async (point, state, tasks) => {
      const before = open().store;
      const first = await move(before, await create(before), claim, ready, cancel);
      await before.close();
      const child = runChild(
        `const { store } = sqlite.openSqliteStore(args.options); await store.commit(args.commit);`,
        {
          options: { dir, migrations: MIGRATIONS, crash: `${point}:1` },
          commit: { ...createCommit(first, stopped), followUp: newTask({ key: "follow" }) },
        },
      );
      children.push(child);
      expect((await child.ended()).signal).toBe("SIGKILL");
      const { store } = open();
      expect((await store.task(first.id))?.state).toBe(state);
      expect((await store.tasks({ userId: null, limit: 10 })).items).toHaveLength(tasks);
    },
  );
});

describe("[G3] a process that is killed at a commit with usage", () => {
  const usage = {
    id: "req_1",
    userId: "user_a",
    attempt: 1,
    at: 1,
    model: "m",
    inputTokens: 0,
    outputTokens: 0,
    cacheReadTokens: 0,
    cacheWriteTokens: 0,
    usd: 2,
    estimated: false,
  };

  it.each([
    ["store.inside", 0],
    ["store.after", 1],
  ])("at %s has written the event and the row, or neither", async (point, expected) => {
    const before = open().store;
    const task = await create(before);
    await before.close();
    const child = runChild(
      `const { store } = sqlite.openSqliteStore(args.options);
       await store.commit(args.commit);`,
      {
        options: { dir, migrations: MIGRATIONS, crash: `${point}:1` },
        commit: { ...createCommit(task, notice("used")), usage: { ...usage, taskId: task.id } },
      },
    );
    children.push(child);
    expect((await child.ended()).signal).toBe("SIGKILL");
    const { store, ledger } = open();
    const notices = (await store.events(task.id, 1, 10)).items.length;
    expect([notices, (await ledger.spentBy(task.id)).requests]).toEqual([expected, expected]);
  });
});

describe("one writer", () => {
  const hold = `const { store } = sqlite.openSqliteStore(args); print("open"); await nextLine(); await store.close(); print("closed"); await nextLine();`;

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

  it("closing the store releases the lock while the process continues", async () => {
    const child = runChild(hold, { dir, migrations: MIGRATIONS });
    children.push(child);
    expect(await child.line()).toBe("open");
    expect(() => open()).toThrow(expect.objectContaining({ code: "locked" }));
    child.send("close");
    expect(await child.line()).toBe("closed");
    const { store } = open();
    await create(store);
    const second = runChild(hold, { dir, migrations: MIGRATIONS });
    children.push(second);
    expect(await second.line()).toBeNull();
    expect((await second.ended()).stderr).toContain("Another coordinator uses");
  });

  it("a reader works with and without a running writer, and writes nothing", async () => {
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
