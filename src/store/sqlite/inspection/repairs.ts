/**
 * Writes of `doctor --repair`. The log is only read.
 *
 * R1 The caller holds the folder's lock, so no coordinator runs.
 * R2 `transaction` is one transaction without triggers and foreign keys: a failure changes nothing.
 *    At its end the schema is the one that the migrations make.
 */
import { join } from "node:path";
import Database, { type Connection } from "../driver.ts";
import { SlipwayError } from "../../../core/error.ts";
import { makePrivateFile } from "../lock.ts";
import { pendingMigrations } from "../migrate.ts";
import { connect } from "../writer/writer.ts";
import { Inspection, type RequestAmounts, type RawTask } from "./inspection.ts";
import type { LogProjections } from "./log-projections.ts";
import { DERIVED_TABLES, readSchema, SEARCH_INDEX } from "./schema.ts";

/** Columns of `tasks` to write. */
export type TaskColumns = Readonly<Partial<Record<keyof RawTask, string | number | null>>>;

export class Repairs {
  readonly inspection: Inspection;
  readonly #db: Connection;

  constructor(db: Connection, migrations: string) {
    this.#db = db;
    this.inspection = new Inspection(db, migrations);
  }

  close(): void {
    this.#db.close();
  }

  /** Copies the database, also what the WAL holds, to a new file that only this user can read. */
  async backUp(path: string): Promise<void> {
    makePrivateFile(path);
    await this.#db.backup(path);
  }

  transaction(work: () => void): void {
    this.#db.pragma("foreign_keys = OFF");
    try {
      this.#db
        .transaction(() => {
          this.#dropTriggers();
          this.#makeTables();
          work();
          this.#makeIndexesAndTriggers();
        })
        .immediate();
    } finally {
      this.#db.pragma("foreign_keys = ON");
    }
  }

  #dropTriggers(): void {
    for (const { type, name } of readSchema(this.#db).values()) if (type === "trigger") this.#drop(type, name);
  }

  #drop(type: string, name: string): void {
    this.#db.exec(`DROP ${type} "${name.replaceAll('"', '""')}"`);
  }

  #makeTables(): void {
    for (const { kind, type, name, sql } of this.inspection.schema())
      if (kind === "missing" && type === "table" && sql !== null && DERIVED_TABLES.has(name)) this.#db.exec(sql);
  }

  #makeIndexesAndTriggers(): void {
    const tables = readSchema(this.#db);
    for (const { kind, type, name, table, sql } of this.inspection.schema()) {
      if ((type !== "index" && type !== "trigger") || !tables.has(`table ${table}`)) continue;
      if (kind !== "missing") this.#drop(type, name);
      if (sql !== null) this.#make(sql);
    }
  }

  /** A unique index over rows that are not unique stays missing, and a finding. */
  #make(sql: string): void {
    try {
      this.#db.exec(sql);
    } catch (error) {
      if (!(error instanceof Database.SqliteError) || error.code !== "SQLITE_CONSTRAINT_UNIQUE") throw error;
    }
  }

  reindex(): void {
    this.#db.exec("REINDEX");
  }

  /** Writes the file anew; outside of a transaction. */
  compact(): void {
    this.#db.exec("VACUUM");
    // The index names rows by numbers that SQLite may have changed.
    this.indexSearch();
  }

  /** Makes the search index anew from the tasks' texts. */
  indexSearch(): void {
    if (!readSchema(this.#db).has("table task_specs")) return;
    const rebuild = (): void => void this.#db.exec(`INSERT INTO ${SEARCH_INDEX} (${SEARCH_INDEX}) VALUES ('rebuild')`);
    try {
      rebuild();
    } catch (error) {
      if (!(error instanceof Database.SqliteError)) throw error;
      this.#drop("table", SEARCH_INDEX);
      this.#makeTables();
      rebuild();
    }
  }

  /** Writes the columns with a new revision, so that readers of changes see the task. */
  writeTask(id: string, columns: TaskColumns): void {
    const names = Object.keys(columns);
    const assignments = names.map((name) => `"${name}" = ?`).join(", ");
    this.#db.prepare(`UPDATE tasks SET ${assignments} WHERE id = ?`).run(...Object.values(columns), id);
    this.renewRev(id);
  }

  renewRev(id: string): void {
    this.#db
      .prepare(
        `UPDATE tasks SET rev = (
           SELECT max(rev) + 1 FROM (
             SELECT rev FROM tasks UNION ALL SELECT rev FROM deleted_tasks UNION ALL SELECT rev FROM task_reads
           )
         ) WHERE id = ?`,
      )
      .run(id);
  }

  writeSearch(id: string, text: string): void {
    this.#db.prepare("UPDATE task_specs SET search = ? WHERE task_id = ?").run(text, id);
  }

  /** Replaces the task's lists. Exit codes of attempts are kept: the log does not have them. */
  writeLists(id: string, { messages, toolCalls, attempts }: LogProjections): void {
    const exitCodes = new Map(this.inspection.attempts(id).map((row) => [row.number, row.exit_code]));
    for (const table of ["messages", "tool_calls", "attempts"])
      this.#db.prepare(`DELETE FROM ${table} WHERE task_id = ?`).run(id);
    for (const row of messages.values()) this.#insert("messages", row);
    for (const row of toolCalls.values()) this.#insert("tool_calls", row);
    for (const row of attempts.values())
      this.#insert("attempts", { ...row, exit_code: exitCodes.get(row.number) ?? null });
  }

  insertRequest(
    row: RequestAmounts & { id: string; task_id: string; user_id: string; attempt: number; at: number },
  ): void {
    this.#insert("model_requests", { ...row, estimated: 0 });
  }

  /** Corrects the amounts of a row of the ledger. */
  writeRequest(id: string, amounts: RequestAmounts): void {
    const assignments = Object.keys(amounts).map((name) => `${name} = ?`);
    this.#db
      .prepare(`UPDATE model_requests SET ${assignments.join(", ")}, estimated = 0 WHERE id = ?`)
      .run(...(Object.values(amounts) as unknown[]), id);
  }

  #insert(table: string, row: object): void {
    const names = Object.keys(row);
    this.#db
      .prepare(`INSERT INTO ${table} (${names.join(", ")}) VALUES (${names.map(() => "?").join(", ")})`)
      .run(...(Object.values(row) as unknown[]));
  }

  countTallies(): void {
    this.#db.exec(
      "DELETE FROM tallies; INSERT INTO tallies (state, tasks) SELECT state, count(*) FROM tasks GROUP BY state",
    );
  }

  /** Deletes the table's rows whose parent row does not exist. */
  deleteOrphans(table: string): void {
    const links = this.#db
      .prepare<[string], { parent: string; from: string; to: string }>(
        `SELECT "table" AS parent, "from", "to" FROM pragma_foreign_key_list(?)`,
      )
      .all(table);
    for (const { parent, from, to } of links)
      this.#db.exec(`DELETE FROM ${table} WHERE ${from} NOT IN (SELECT ${to} FROM ${parent})`);
  }
}

/**
 * Opens the database for writing; the caller holds the folder's lock.
 * @throws SlipwayError `unavailable` when the database is not migrated, `newer_schema`.
 */
export function openRepairs(dir: string, migrations: string): Repairs {
  const db = connect({ path: join(dir, "slipway.db"), synchronous: "FULL" });
  try {
    if (pendingMigrations(db, migrations).length > 0)
      throw new SlipwayError(
        "unavailable",
        "The database has not been migrated yet. Start this version of Slipway once.",
      );
    return new Repairs(db, migrations);
  } catch (error) {
    db.close();
    throw error;
  }
}
