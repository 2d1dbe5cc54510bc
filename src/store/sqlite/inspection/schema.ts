/**
 * Compares a database's schema with the one that the migrations make on an empty database.
 * Comments and white space do not count: migrations change them.
 */
import Database, { type Connection } from "../driver.ts";
import { migrate } from "../migrate.ts";

export interface SchemaObject {
  readonly type: "table" | "index" | "trigger" | "view";
  readonly name: string;
  readonly table: string;
  readonly sql: string;
}

export interface SchemaDifference {
  readonly kind: "missing" | "changed" | "unknown";
  readonly type: SchemaObject["type"];
  readonly name: string;
  readonly table: string;
  /** The statement that makes it as the migrations do; null for an unknown object. */
  readonly sql: string | null;
}

/** The virtual table of the search index; its content is that of `task_specs`. */
export const SEARCH_INDEX = "task_search";

/** Tables that logs and tasks give; `doctor --repair` makes and fills them again. */
export const DERIVED_TABLES: ReadonlySet<string> = new Set([
  "messages",
  "tool_calls",
  "attempts",
  "tallies",
  SEARCH_INDEX,
]);

/** @param migrations the folder of the migrations. */
export function compareSchema(db: Connection, migrations: string): SchemaDifference[] {
  const expected = expectedSchema(migrations);
  const stored = readSchema(db);
  const found: SchemaDifference[] = [];
  for (const [key, { type, name, table, sql }] of expected) {
    const other = stored.get(key);
    if (other === undefined) found.push({ kind: "missing", type, name, table, sql });
    else if (normalize(other.sql) !== normalize(sql)) found.push({ kind: "changed", type, name, table, sql });
  }
  for (const [key, { type, name, table }] of stored)
    if (!expected.has(key)) found.push({ kind: "unknown", type, name, table, sql: null });
  return found;
}

function expectedSchema(migrations: string): Map<string, SchemaObject> {
  const db = new Database(":memory:");
  try {
    migrate(db, migrations);
    return readSchema(db);
  } finally {
    db.close();
  }
}

/** Without the objects that SQLite makes itself, and the tables inside of virtual ones. */
export function readSchema(db: Connection): Map<string, SchemaObject> {
  const rows = db
    .prepare<[], SchemaObject>(
      `SELECT type, name, tbl_name AS 'table', sql FROM sqlite_schema WHERE sql IS NOT NULL
       AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
       AND name NOT IN (SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'shadow')`,
    )
    .all();
  return new Map(rows.map((row) => [`${row.type} ${row.name}`, row]));
}

function normalize(sql: string): string {
  return sql
    .replaceAll(/--[^\n]*/g, "")
    .replaceAll(/\s+/g, " ")
    .replaceAll(/ ?([(),]) ?/g, "$1")
    .trim();
}
