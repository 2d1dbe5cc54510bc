import { copyFileSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import Database, { type Connection } from "../../../src/store/sqlite/driver.ts";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { migrate } from "../../../src/store/sqlite/migrate.ts";
import { openSqliteReader, openSqliteStore } from "../../../src/store/sqlite/store.ts";
import { toProgress, type ProgressRow } from "../../../src/store/sqlite/tables/rows.ts";
import { runChild, type Child } from "./child-process.ts";
import { dropFolder, makeFolder, MIGRATIONS } from "../data-folder.ts";

let dir: string;
let folder: string;
let file: string;
const open: Connection[] = [];
const children: Child[] = [];

function connect(): Connection {
  const db = new Database(file);
  open.push(db);
  return db;
}
const write = (name: string, sql: string): void => writeFileSync(join(folder, name), sql);
const dump = (db: Connection): unknown[] =>
  db.prepare("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").all();
const applied = (db: Connection): unknown[] =>
  db.prepare("SELECT number FROM migrations ORDER BY number").pluck().all();

beforeEach(() => {
  dir = makeFolder();
  folder = join(dir, "sql");
  file = join(dir, "x.db");
  mkdirSync(folder);
  write("0001_one.sql", "CREATE TABLE one (n INTEGER) STRICT; INSERT INTO one VALUES (1);");
});
afterEach(async () => {
  for (const db of open.splice(0)) db.close();
  await Promise.all(children.splice(0).map((child) => child.kill()));
  dropFolder(dir);
});

describe("migrations", () => {
  it("each migration is applied once, in order", () => {
    write("0002_two.sql", "INSERT INTO one SELECT n + 1 FROM one;");
    expect(migrate(connect(), folder)).toEqual([1, 2]);
    expect(migrate(connect(), folder)).toEqual([]);
    write("0003_three.sql", "INSERT INTO one VALUES (3);");
    expect(migrate(connect(), folder)).toEqual([3]);
    expect(connect().prepare("SELECT n FROM one ORDER BY n").pluck().all()).toEqual([1, 2, 3]);
  });

  it("[M2] a migration that fails changes nothing, and runs again after it is corrected", () => {
    const db = connect();
    migrate(db, folder);
    const before = dump(db);
    write("0002_bad.sql", "CREATE TABLE two (n INTEGER); INSERT INTO one VALUES (2); INSERT INTO nowhere VALUES (1);");
    expect(() => migrate(db, folder)).toThrow(/Migration 2 \(bad\) failed: no such table: nowhere/);
    expect(db.inTransaction).toBe(false);
    expect(dump(db)).toEqual(before);
    expect(db.prepare("SELECT count(*) FROM one").pluck().get()).toBe(1);
    expect(applied(db)).toEqual([1]);
    write("0002_bad.sql", "CREATE TABLE two (n INTEGER);");
    expect(migrate(db, folder)).toEqual([2]);
  });

  it("[M2] a process killed inside a migration has changed nothing", async () => {
    write("0002_two.sql", "CREATE TABLE two (n INTEGER); INSERT INTO two VALUES (1);");
    const child = runChild(
      `let hits = 0;
       migrate(new Database(args.file), args.folder, (name) => { if (name === "migration" && ++hits === 2) process.kill(process.pid, "SIGKILL"); });`,
      { file, folder },
    );
    children.push(child);
    expect((await child.ended()).signal).toBe("SIGKILL");
    const db = connect();
    expect(applied(db)).toEqual([1]);
    expect(dump(db)).not.toContainEqual(expect.objectContaining({ name: "two" }));
    expect(migrate(db, folder)).toEqual([2]);
    expect(db.prepare("SELECT n FROM two").pluck().all()).toEqual([1]);
  });

  it("[M2] a database of a newer version is refused unchanged", () => {
    write("0002_two.sql", "CREATE TABLE two (n INTEGER);");
    const db = connect();
    migrate(db, folder);
    const before = dump(db);
    const older = join(dir, "older");
    mkdirSync(older);
    writeFileSync(join(older, "0001_one.sql"), "CREATE TABLE one (n INTEGER) STRICT;");
    expect(() => migrate(db, older)).toThrow(expect.objectContaining({ code: "newer_schema" }));
    expect(dump(db)).toEqual(before);
  });

  it("[M2] the store and its reader refuse a newer schema, and the folder's lock is released", async () => {
    const data = join(dir, "data");
    await openSqliteStore({ dir: data, migrations: MIGRATIONS }).store.close();
    const db = new Database(join(data, "slipway.db"));
    db.prepare("INSERT INTO migrations (number, name) VALUES (999, 'future')").run();
    expect(() => openSqliteReader({ dir: data, migrations: MIGRATIONS })).toThrow(
      expect.objectContaining({ code: "newer_schema" }),
    );
    expect(() => openSqliteStore({ dir: data, migrations: MIGRATIONS })).toThrow(
      expect.objectContaining({ code: "newer_schema" }),
    );
    db.prepare("DELETE FROM migrations WHERE number = 999").run();
    db.close();
    await openSqliteStore({ dir: data, migrations: MIGRATIONS }).store.close();
  });

  it("[M2] a database that is in use is copied before it is changed, and the version from before opens the copy", async () => {
    const [data, newer, back] = [join(dir, "data"), join(dir, "newer"), join(dir, "back")];
    mkdirSync(newer);
    const names = readdirSync(MIGRATIONS);
    for (const name of names) copyFileSync(join(MIGRATIONS, name), join(newer, name));
    writeFileSync(
      join(newer, `${String(names.length + 1).padStart(4, "0")}_next.sql`),
      "CREATE TABLE next (n INTEGER);",
    );
    const first = openSqliteStore({ dir: data, migrations: MIGRATIONS });
    await first.store.setSetting("mark", "before");
    expect(first.copy).toBe(null);
    await first.store.close();
    // The folder of backups cannot be created: nothing is migrated.
    writeFileSync(join(data, "backups"), "a file");
    expect(() => openSqliteStore({ dir: data, migrations: newer })).toThrow(
      expect.objectContaining({
        code: "unavailable",
        message: expect.stringMatching(/could not be copied.*Make room/),
      }),
    );
    rmSync(join(data, "backups"));
    const second = openSqliteStore({ dir: data, migrations: newer });
    expect(second.migrated).toEqual([names.length + 1]);
    await second.store.setSetting("mark", "after");
    await second.store.close();
    const copy = join(data, "backups", `slipway-schema-${names.length}.db`);
    expect([second.copy, readdirSync(join(data, "backups"))]).toEqual([copy, [basename(copy)]]);
    expect([statSync(copy).mode & 0o777, statSync(join(data, "backups")).mode & 0o777]).toEqual([0o600, 0o700]);
    mkdirSync(back);
    copyFileSync(copy, join(back, "slipway.db"));
    const restored = openSqliteStore({ dir: back, migrations: MIGRATIONS });
    expect(await restored.store.setting("mark")).toBe("before");
    await restored.store.close();
    const again = openSqliteStore({ dir: data, migrations: newer });
    expect([again.migrated, again.copy]).toEqual([[], null]);
    await again.store.close();
  });

  it("two concurrent migrators apply each migration once, and neither fails", async () => {
    for (let n = 2; n <= 60; n++) {
      write(`${String(n).padStart(4, "0")}_more.sql`, `CREATE TABLE t${n} (n INTEGER); INSERT INTO one VALUES (${n});`);
    }
    const body = `const db = new Database(args.file, { timeout: 20000 }); print("there"); await nextLine(); print(JSON.stringify(migrate(db, args.folder)));`;
    const both = [1, 2].map(() => runChild(body, { file, folder }));
    children.push(...both);
    await Promise.all(both.map((child) => child.line()));
    for (const child of both) child.send("go");
    const numbers = await Promise.all(
      both.map(async (child) => JSON.parse((await child.line()) ?? "null") as number[]),
    );
    const ends = await Promise.all(both.map((child) => child.ended()));
    expect(ends.map(({ code, stderr }) => [code, stderr])).toEqual([
      [0, ""],
      [0, ""],
    ]);
    const all = Array.from({ length: 60 }, (_, i) => i + 1);
    expect(numbers.flat().toSorted((a, b) => a - b)).toEqual(all);
    const db = connect();
    expect(applied(db)).toEqual(all);
    expect(db.prepare("SELECT n FROM one ORDER BY n").pluck().all()).toEqual(all);
  });

  it("a migrator with a stale list finds the number taken and continues", () => {
    write("0002_two.sql", "CREATE TABLE two (n INTEGER);");
    const late = connect();
    late.exec("CREATE TABLE migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT");
    // The other one is done with 2 before this one has done 1.
    const other = connect();
    let first = true;
    const numbers = migrate(late, folder, () => {
      if (!first) throw new Error("2 ran twice");
      first = false;
      late.prepare("INSERT INTO migrations (number, name) VALUES (2, 'two')").run();
      late.exec("CREATE TABLE two (n INTEGER)");
    });
    expect(numbers).toEqual([1]);
    expect(applied(other)).toEqual([1, 2]);
  });

  it("gaps, invalid names and migrations that end their transaction are refused", () => {
    write("0003_three.sql", "SELECT 1;");
    expect(() => migrate(connect(), folder)).toThrow(/has number 3, expected 2/);
    write("0002_two.sql", "CREATE TABLE two (n INTEGER); COMMIT;");
    expect(() => migrate(connect(), folder)).toThrow(/must not end its own transaction/);
    write("2-two.sql", "SELECT 1;");
    expect(() => migrate(connect(), folder)).toThrow(/not named like/);
  });
});

describe("0004", () => {
  it("[R5] a database that has messages and running calls twice keeps the first of each, and its whole log", () => {
    const old = join(dir, "old");
    mkdirSync(old);
    for (const name of readdirSync(MIGRATIONS).filter((one) => one < "0004"))
      copyFileSync(join(MIGRATIONS, name), join(old, name));
    const db = connect();
    db.pragma("foreign_keys = ON");
    migrate(db, old);
    db.exec(`
      INSERT INTO tasks VALUES ('t', 'u', 't', NULL, 1, 0, 0, 0, 0, 'running', 1, 1, 0, 9, 1, NULL, 0, 0, NULL, '{}');
      INSERT INTO task_events (task_id, seq, at, attempt, type, to_state, data) VALUES
        ('t', 4, 0, 1, 'message', 'running', '{}'), ('t', 5, 0, 1, 'message', 'running', '{}');
      INSERT INTO messages VALUES
        ('t', 3, 'm1', 0, 'assistant', NULL, NULL, '[]'), ('t', 4, 'm1', 0, 'user', 'steer', 'queued', '[]'),
        ('t', 5, 'm1', 0, 'user', 'steer', 'queued', '[]'), ('t', 6, 'm1', 0, 'assistant', NULL, NULL, '[]'),
        ('t', 7, 'm2', 0, 'user', 'steer', 'withdrawn', '[]');
      INSERT INTO tool_calls VALUES
        ('t', 1, 1, 'c', 'bash', '{}', 0, 1, '', 0, 0), ('t', 2, 1, 'c', 'bash', '{}', 0, NULL, NULL, NULL, 0),
        ('t', 8, 1, 'c', 'bash', '{}', 0, NULL, NULL, NULL, 0), ('t', 9, 2, 'c', 'bash', '{}', 0, NULL, NULL, NULL, 0);
    `);
    expect(migrate(db, MIGRATIONS)[0]).toBe(4);
    const seqs = (table: string): unknown[] => db.prepare(`SELECT seq FROM ${table} ORDER BY seq`).pluck().all();
    expect(seqs("messages")).toEqual([3, 4, 6, 7]);
    expect(seqs("tool_calls")).toEqual([1, 2, 9]);
    expect(seqs("task_events")).toEqual([4, 5]);
    expect(() =>
      db.exec(
        "INSERT INTO messages SELECT task_id, 10, id, at, role, mode, status, content FROM messages WHERE seq = 4",
      ),
    ).toThrow(/UNIQUE/);
    expect(db.pragma("foreign_key_check")).toEqual([]);
    db.exec("DELETE FROM tasks");
    expect(seqs("messages")).toEqual([]);
  });
});

describe("0006", () => {
  it("[M4] tasks of earlier versions get the progress of their logs, also settled ones", () => {
    const old = join(dir, "old");
    mkdirSync(old);
    for (const name of readdirSync(MIGRATIONS).filter((one) => one < "0006"))
      copyFileSync(join(MIGRATIONS, name), join(old, name));
    const db = connect();
    migrate(db, old);
    const item = (text: string, status: string) => ({ text, status });
    const current = 'say "hä?"\tto the 🐙 </b>';
    const todos = [
      [item("early", "in_progress")],
      [item("a", "completed"), item("b", "completed"), item(current, "in_progress"), item("c", "in_progress")],
    ];
    const size = (files: number) => ({ sha: "a", cursor: null, files, additions: 2 * files, deletions: 0 });
    const log = [
      ["todo", { items: todos[0] }],
      ["checkpoint", size(1)],
      ["todo", { items: todos[1] }],
      ["checkpoint", size(7)],
    ] as const;
    const task = db.prepare(
      "INSERT INTO tasks VALUES (?, 'u', 't', NULL, 1, 0, 0, 0, 0, ?, 0, 1, 0, 9, ?, NULL, 0, 0, NULL, '{}')",
    );
    const event = db.prepare(
      "INSERT INTO task_events (task_id, seq, at, attempt, type, to_state, data) VALUES (?, ?, 0, 1, ?, 'running', ?)",
    );
    for (const [rev, [id, state]] of [
      ["t1", "done"],
      ["t2", "running"],
      ["t3", "queued"],
    ].entries())
      task.run(id, state, rev + 1);
    for (const id of ["t1", "t2"])
      for (const [i, [type, data]] of log.entries()) event.run(id, i + 1, type, JSON.stringify(data));
    db.exec(
      "INSERT INTO task_events (task_id, seq, at, attempt, type, to_state, data) VALUES ('t3', 1, 0, 0, 'todo', 'queued', '{\"items\":[]}')",
    );
    expect(migrate(db, MIGRATIONS)[0]).toBe(6);
    const rows = db
      .prepare<[], ProgressRow>("SELECT todo, changes, activity FROM tasks ORDER BY id")
      .all()
      .map((row) => toProgress(row));
    const whole = { todo: { done: 2, total: 4, current }, changes: { files: 7, additions: 14, deletions: 0 } };
    expect(rows).toEqual([
      { ...whole, activity: null },
      { ...whole, activity: null },
      { todo: { done: 0, total: 0, current: null }, changes: null, activity: null },
    ]);
    // Tasks from before read marks existed count as read, and appear in no list of changes.
    expect(
      db
        .prepare(
          "SELECT r.seq - t.seq, r.rev, t.notable FROM task_reads AS r JOIN tasks AS t USING (user_id) WHERE t.id = r.task_id",
        )
        .raw()
        .all(),
    ).toEqual(Array.from({ length: 3 }, () => [0, 0, null]));
    expect(() => db.exec("UPDATE tasks SET seq = 1 WHERE id = 't1'")).toThrow(/never changes/);
  });
});

describe("the schema", () => {
  it("[M1] equals schema.sql", async () => {
    const data = join(dir, "data");
    await openSqliteStore({ dir: data, migrations: MIGRATIONS }).store.close();
    const db = new Database(join(data, "slipway.db"), { readonly: true });
    const rows = db.prepare("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type, name").pluck().all();
    expect(applied(db)).toHaveLength(readdirSync(MIGRATIONS).length);
    db.close();
    await expect(`${rows.map((sql) => `${String(sql)};`).join("\n\n")}\n`).toMatchFileSnapshot("schema.sql");
  });
});
