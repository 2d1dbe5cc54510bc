/**
 * Raw reads of a database for the checker: rows as they are stored, also those that the store
 * could not return as tasks.
 *
 * I1 `within` runs its reads on one snapshot of the database: a coordinator that writes meanwhile
 *    causes no finding.
 * I2 Lists are read row by row, so memory does not grow with them.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import Database, { type Connection, type Statement } from "../driver.ts";
import { AuditCheck } from "../../../core/lib/audit/chain.ts";
import { SlipwayError } from "../../../core/error.ts";
import type { KeyStore } from "../../../core/ports/accounts.ts";
import { pendingMigrations } from "../migrate.ts";
import { toAuditEnds, toAuditRow, type AuditRecord } from "../accounts/audit.ts";
import { keyReads } from "../accounts/keys.ts";
import type { AttemptRecord, EventRecord, MessageRecord, ToolCallRecord } from "../tables/rows.ts";
import { NOT_DELETED } from "../deletions.ts";
import { MAX_TRIGRAMS, toTrigrams } from "../../shared/trigrams.ts";
import { toMatch } from "../tables/text-index.ts";
import { compareSchema, type SchemaDifference } from "./schema.ts";

/** A row of `tasks`, with its specification; null where there is none. */
export interface RawTask {
  readonly id: string;
  readonly user_id: string;
  readonly machine_version: number;
  readonly priority: number;
  readonly turn: number;
  readonly rank: number;
  readonly created_at: number;
  readonly state: string;
  readonly slot: number;
  readonly attempt: number;
  readonly excused: number;
  readonly seq: number;
  readonly rev: number;
  readonly due_at: number | null;
  readonly updated_at: number;
  readonly started_at: number | null;
  readonly settled_at: number | null;
  readonly snapshot: string;
  readonly todo: string | null;
  readonly changes: string | null;
  readonly activity: string | null;
  readonly notable: number | null;
  readonly spec: string | null;
  readonly search: string | null;
}

/** What a request to the model cost. */
export interface RequestAmounts {
  readonly model: string;
  readonly input_tokens: number;
  readonly output_tokens: number;
  readonly cache_read_tokens: number;
  readonly cache_write_tokens: number;
  readonly usd: number;
}

/** A row of the usage ledger. */
export interface LedgerRow extends RequestAmounts {
  readonly id: string;
  readonly estimated: 0 | 1;
}

export interface Orphan {
  readonly table: string;
  /** The table of the row that is missing. */
  readonly parent: string;
  readonly rows: number;
}

export interface TranscriptFault {
  readonly taskId: string;
  readonly detail: string;
}

const BUSY_MS = 5_000;
const PAGE = 200;

export class Inspection {
  readonly #db: Connection;
  readonly #migrations: string;
  readonly #statements = new Map<string, Statement<unknown[]>>();

  constructor(db: Connection, migrations: string) {
    this.#db = db;
    this.#migrations = migrations;
  }

  within<T>(read: () => T): T {
    this.#db.exec("BEGIN");
    try {
      return read();
    } finally {
      this.#db.exec("COMMIT");
    }
  }

  close(): void {
    this.#db.close();
  }

  schema(): SchemaDifference[] {
    return compareSchema(this.#db, this.#migrations);
  }

  /** SQLite's own check of the file and its indexes: empty = whole. */
  damage(): string[] {
    const lines = this.#db.prepare<[], string>("PRAGMA integrity_check(20)").pluck().all();
    return lines.filter((line) => line !== "ok");
  }

  /** Rows whose parent row does not exist, and logs without a task. */
  orphans(): Orphan[] {
    const rows = this.#db
      .prepare<[], Orphan>(
        `SELECT "table", parent, count(*) AS "rows" FROM pragma_foreign_key_check GROUP BY "table", parent`,
      )
      .all();
    const logs = this.#db
      .prepare<[], number>(
        `WITH RECURSIVE ids (id) AS (
           SELECT min(task_id) FROM task_events
           UNION ALL SELECT (SELECT min(task_id) FROM task_events WHERE task_id > id) FROM ids WHERE id IS NOT NULL
         )
         SELECT count(*) FROM ids WHERE id IS NOT NULL AND id NOT IN (SELECT id FROM tasks)`,
      )
      .pluck()
      .get();
    return logs === undefined || logs === 0 ? rows : [...rows, { table: "task_events", parent: "tasks", rows: logs }];
  }

  /** Tasks whose deletion has begun and not ended. */
  halfDeleted(): string[] {
    return this.#db
      .prepare<[], string>("SELECT task_id FROM deleted_tasks WHERE purged_at IS NULL ORDER BY task_id")
      .pluck()
      .all();
  }

  /** People whose deletion has begun and not ended. */
  halfDeletedPeople(): string[] {
    return this.#db.prepare<[], string>("SELECT user_id FROM person_deletions ORDER BY user_id").pluck().all();
  }

  /**
   * Ids in order, in pages, so that other reads may run in between; without tasks whose deletion
   * has begun, which are incomplete.
   */
  *taskIds(): Generator<string, void, undefined> {
    const page = this.#db.prepare<[string], string>(
      `SELECT t.id FROM tasks AS t WHERE t.id > ? AND ${NOT_DELETED} ORDER BY t.id LIMIT ${PAGE}`,
    );
    for (let last = ""; ;) {
      const ids = page.pluck().all(last);
      yield* ids;
      if (ids.length < PAGE) return;
      last = ids.at(-1) ?? last;
    }
  }

  task(id: string): RawTask | null {
    const row = this.#prepare<[string], RawTask>(
      `SELECT t.id, t.user_id, t.machine_version, t.priority, t.turn, t.rank, t.created_at, t.state, t.slot,
         t.attempt, t.excused, t.seq, t.rev, t.due_at, t.updated_at, t.started_at, t.settled_at, t.snapshot,
         t.todo, t.changes, t.activity, t.notable,
         s.spec, s.search
       FROM tasks AS t LEFT JOIN task_specs AS s ON s.task_id = t.id WHERE t.id = ?`,
    ).get(id);
    return row ?? null;
  }

  events(taskId: string): IterableIterator<EventRecord> {
    return this.#prepare<[string], EventRecord>("SELECT * FROM task_events WHERE task_id = ? ORDER BY seq").iterate(
      taskId,
    );
  }

  messages(taskId: string): IterableIterator<MessageRecord> {
    return this.#prepare<[string], MessageRecord>("SELECT * FROM messages WHERE task_id = ?").iterate(taskId);
  }

  toolCalls(taskId: string): IterableIterator<ToolCallRecord> {
    return this.#prepare<[string], ToolCallRecord>("SELECT * FROM tool_calls WHERE task_id = ?").iterate(taskId);
  }

  attempts(taskId: string): AttemptRecord[] {
    return this.#prepare<[string], AttemptRecord>("SELECT * FROM attempts WHERE task_id = ? ORDER BY number").all(
      taskId,
    );
  }

  ledger(taskId: string): LedgerRow[] {
    return this.#prepare<[string], LedgerRow>(
      `SELECT id, estimated, model, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, usd
       FROM model_requests WHERE task_id = ?`,
    ).all(taskId);
  }

  /** Tasks that share a rev with another one, without the oldest of each. */
  repeatedRevs(): { readonly id: string; readonly rev: number }[] {
    return this.#db
      .prepare<[], { id: string; rev: number }>(
        `SELECT t.id, t.rev FROM (SELECT rev, min(id) AS first FROM tasks GROUP BY rev HAVING count(*) > 1) AS r
         JOIN tasks AS t ON t.rev = r.rev AND t.id <> r.first ORDER BY t.rev, t.id`,
      )
      .all();
  }

  /** States whose tally is not the number of their tasks. */
  wrongTallies(): { readonly state: string; readonly tally: number; readonly tasks: number }[] {
    return this.#db
      .prepare<[], { state: string; tally: number; tasks: number }>(
        `SELECT state, sum(tally) AS tally, sum(tasks) AS tasks FROM (
           SELECT state, tasks AS tally, 0 AS tasks FROM tallies
           UNION ALL SELECT state, 0, count(*) FROM tasks GROUP BY state
         ) GROUP BY state HAVING sum(tally) <> sum(tasks)`,
      )
      .all();
  }

  /** Tasks that the search index does not find by their text, and its entries without a task. */
  searchFaults(): { readonly missing: readonly string[]; readonly left: number } {
    // FTS5 compares a row's number with integers only, and numbers are bound as floating points.
    const find = this.#prepare<[string, number], number>(
      "SELECT 1 FROM task_search WHERE task_search MATCH ? AND rowid = CAST(? AS INTEGER)",
    );
    const missing: string[] = [];
    const specs = this.#db.prepare<[], { n: number; id: string; search: string }>(
      "SELECT rowid AS n, task_id AS id, search FROM task_specs",
    );
    for (const { n, id, search } of specs.iterate()) {
      const trigrams = toTrigrams(search, MAX_TRIGRAMS);
      if (trigrams.length > 0 && find.get(toMatch(trigrams), n) === undefined) missing.push(id);
    }
    const left = this.#db
      .prepare<[], number>("SELECT count(*) FROM task_search_docsize WHERE id NOT IN (SELECT rowid FROM task_specs)")
      .pluck()
      .get();
    return { missing, left: left ?? 0 };
  }

  transcriptFaults(): TranscriptFault[] {
    return this.#db
      .prepare<[], TranscriptFault>(
        `SELECT task_id AS taskId, 'record ' || min(n) || ' does not continue the one before it' AS detail
         FROM (
           SELECT r.task_id, n, attempt, r.total,
             row_number() OVER task + coalesce(o.upto, 0) AS place,
             r.total - octet_length(record) - coalesce(lag(r.total) OVER task, o.total, 0) AS missing,
             attempt < coalesce(lag(attempt) OVER task, 0) AS backwards
           FROM transcripts AS r LEFT JOIN (
             SELECT task_id, max(upto) AS upto, max(total) AS total FROM transcript_origins GROUP BY task_id
           ) AS o ON o.task_id = r.task_id
           -- Records below are being handed over by a task that is deleted.
           WHERE r.n > coalesce(o.upto, 0)
           WINDOW task AS (PARTITION BY r.task_id ORDER BY n)
         )
         WHERE n <> place OR missing <> 0 OR backwards GROUP BY task_id
         UNION ALL
         SELECT t.id, 'its transcript has records of attempt ' || max(r.attempt) || ', the task is at ' || t.attempt
         FROM transcripts AS r JOIN tasks AS t ON t.id = r.task_id WHERE r.attempt > t.attempt GROUP BY t.id
         UNION ALL
         SELECT task_id, 'it lacks inherited records of ' || owner
         FROM (
           SELECT task_id, owner, after, upto, lag(upto) OVER (PARTITION BY task_id ORDER BY upto) AS previous,
             (SELECT count(*) FROM transcripts AS r WHERE r.task_id = o.owner AND r.n > after AND r.n <= upto) AS found
           FROM transcript_origins AS o
         )
         WHERE found <> upto - after OR after <> coalesce(previous, 0)`,
      )
      .all();
  }

  /** Idempotency keys that belong to another user than their task. */
  foreignKeys(): string[] {
    return this.#db
      .prepare<[], string>(
        `SELECT t.id FROM idempotency_keys AS k JOIN tasks AS t ON t.id = k.task_id WHERE t.user_id <> k.user_id`,
      )
      .pluck()
      .all();
  }

  /** The first row of the audit log that does not fit its chain; null = all do. */
  auditFault(): string | null {
    const ends = this.#db.prepare<[], Parameters<typeof toAuditEnds>[0]>("SELECT * FROM audit_ends").get();
    if (ends === undefined) return "the audit log has lost its ends";
    const check = new AuditCheck(toAuditEnds(ends));
    for (const row of this.#db.prepare<[], AuditRecord>("SELECT * FROM audit ORDER BY n").iterate())
      if (!check.add(toAuditRow(row))) break;
    return check.finish();
  }

  keys(): Pick<KeyStore, "keys" | "sealedCounts"> {
    return keyReads(this.#db);
  }

  setting(key: string): string | null {
    return (
      this.#prepare<[string], { value: string }>("SELECT value FROM settings WHERE key = ?").get(key)?.value ?? null
    );
  }

  #prepare<P extends unknown[], R>(sql: string): Statement<P, R> {
    const statement = this.#statements.get(sql) ?? this.#db.prepare(sql);
    this.#statements.set(sql, statement);
    return statement as Statement<unknown[]> as Statement<P, R>;
  }
}

/**
 * Opens the database read-only, whether or not a coordinator runs. Takes no lock.
 * @throws SlipwayError `unavailable` when the database is not migrated, `newer_schema`.
 */
export function openInspection(dir: string, migrations: string): Inspection {
  const path = join(dir, "slipway.db");
  if (!existsSync(path)) throw new SlipwayError("unavailable", `There is no database in ${dir} yet.`);
  const db = new Database(path, { readonly: true, timeout: BUSY_MS });
  try {
    if (pendingMigrations(db, migrations).length > 0)
      throw new SlipwayError(
        "unavailable",
        `The database in ${dir} has not been migrated yet. Start this version of Slipway once.`,
      );
    return new Inspection(db, migrations);
  } catch (error) {
    db.close();
    throw error;
  }
}
