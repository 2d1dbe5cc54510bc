/**
 * Migrations: numbered SQL files, each applied once, in a separate transaction.
 *
 * G1 The number is inserted first: of two concurrent migrators, one finds it taken and continues.
 * G2 A migration that fails, or during which the process dies, changes nothing (rule M2).
 * G3 A database with an unknown, newer number is refused before anything is written.
 * G4 Before its first migration a database that is in use is copied, for the version from before.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import Database, { type Connection } from "./driver.ts";
import { errorMessage, SlipwayError } from "../../core/error.ts";
import { makePrivateFile } from "./lock.ts";

interface Migration {
  readonly number: number;
  readonly name: string;
  readonly sql: string;
}

const FILE = /^(\d{4})_([a-z0-9_]+)\.sql$/;

function readMigrations(folder: string): Migration[] {
  const found = readdirSync(folder)
    .filter((file) => file.endsWith(".sql"))
    .toSorted()
    .map((file) => {
      const match = FILE.exec(file);
      if (match === null) throw new Error(`${file} is not named like 0001_name.sql`);
      return { number: Number(match[1]), name: match[2] ?? "", sql: readFileSync(join(folder, file), "utf8") };
    });
  found.forEach(({ number, name }, i) => {
    if (number !== i + 1) throw new Error(`migration ${name} has number ${number}, expected ${i + 1}`);
  });
  return found;
}

function readApplied(db: Connection): number[] {
  const table = db.prepare("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'migrations'").get();
  if (table === undefined) return [];
  return db.prepare<[], number>("SELECT number FROM migrations ORDER BY number").pluck().all();
}

/** @returns the migrations to apply, in order. @throws SlipwayError `newer_schema`. */
export function pendingMigrations(db: Connection, folder: string): readonly Migration[] {
  const known = readMigrations(folder);
  const applied = readApplied(db);
  const newest = applied.at(-1) ?? 0;
  if (newest > known.length) {
    throw new SlipwayError(
      "newer_schema",
      `The database has schema ${newest}, this Slipway knows ${known.length}. Start the newer version, or restore a backup from before it.`,
    );
  }
  return known.filter(({ number }) => !applied.includes(number));
}

/**
 * Brings the schema up to date.
 * @param folder contains 0001_name.sql, 0002_name.sql, ... without gaps.
 * @param crashpoint called with `migration` inside each transaction, after its SQL.
 * @returns the numbers that this call applied.
 */
export function migrate(db: Connection, folder: string, crashpoint?: (name: string) => void): number[] {
  const pending = pendingMigrations(db, folder);
  if (pending.length === 0) return [];
  db.exec("CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT");
  return pending.filter((migration) => apply(db, migration, crashpoint)).map(({ number }) => number);
}

/**
 * G4. The caller holds the folder's lock. @param dir the data folder. @returns the copy; null for a
 * database that is new or up to date. @throws SlipwayError `unavailable`, and nothing is migrated.
 */
export function copyBefore(db: Connection, migrations: string, dir: string): string | null {
  const newest = readApplied(db).at(-1);
  if (newest === undefined || pendingMigrations(db, migrations).length === 0) return null;
  const path = join(dir, "backups", `slipway-schema-${newest}.db`);
  const draft = `${path}.new`;
  try {
    mkdirSync(join(dir, "backups"), { recursive: true, mode: 0o700 });
    rmSync(draft, { force: true });
    makePrivateFile(draft);
    db.prepare("VACUUM INTO ?").run(draft);
    const file = openSync(draft, "r+");
    fsyncSync(file);
    closeSync(file);
    renameSync(draft, path);
    return path;
  } catch (error) {
    removeDraft(draft);
    throw new SlipwayError(
      "unavailable",
      `The database could not be copied to ${path} before this version changes it: ${errorMessage(error)}. Make room there, then start again.`,
      { cause: error },
    );
  }
}

/** What is in the way of the copy is in the way of its removal too. */
function removeDraft(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // The next copy begins with removing it.
  }
}

function apply(db: Connection, { number, name, sql }: Migration, crashpoint?: (name: string) => void): boolean {
  db.exec("BEGIN IMMEDIATE");
  try {
    if (!insertNumber(db, number, name)) {
      db.exec("ROLLBACK");
      return false;
    }
    db.exec(sql);
    if (!db.inTransaction) throw new Error("it must not end its own transaction");
    crashpoint?.("migration");
    db.exec("COMMIT");
    return true;
  } catch (error) {
    if (db.inTransaction) db.exec("ROLLBACK");
    throw new SlipwayError("internal", `Migration ${number} (${name}) failed: ${errorMessage(error)}`, {
      cause: error,
    });
  }
}

/** @returns false when another migrator has inserted the number. */
function insertNumber(db: Connection, number: number, name: string): boolean {
  try {
    db.prepare("INSERT INTO migrations (number, name) VALUES (?, ?)").run(number, name);
    return true;
  } catch (error) {
    if (error instanceof Database.SqliteError && error.code === "SQLITE_CONSTRAINT_PRIMARYKEY") return false;
    throw error;
  }
}
