/** Up to where people have read their tasks, in SQLite. */
import { setImmediate } from "node:timers/promises";
import type { Connection } from "./driver.ts";
import type { Page } from "../../core/lib/pagination.ts";
import { NOT_DELETED } from "./deletions.ts";
import { STATE_COLUMNS, type StateRow } from "./tables/rows.ts";

/** A row of a list, with its place in the order of changes. */
export type ChangedRow = StateRow & { readonly change: number };

export function readMarkReads(db: Connection) {
  const seqs = db.prepare<[string], { id: string; seq: number }>(
    "SELECT r.task_id AS id, r.seq FROM json_each(?) AS j CROSS JOIN task_reads AS r ON r.task_id = j.value",
  );
  return {
    readSeqs: (taskIds: readonly string[]): ReadonlyMap<string, number> =>
      new Map(seqs.all(JSON.stringify(taskIds)).map(({ id, seq }) => [id, seq])),
  };
}

/** Tasks, and marks, that are looked at in one turn of the event loop. */
const LOOKED_AT = 2_000;

interface ChangesQuery {
  readonly userId: string | null;
  readonly reader: string;
  readonly after: number;
}

/**
 * Pages the changes of a task list, of one person or of all, merged with the read marks of one
 * person. Each task appears once, at the later of its two positions. A task is skipped at the
 * earlier one, so a page is read in parts; a task that changes while they are read moves to the
 * end.
 * @param toPage makes a page of at most `limit` of these rows.
 */
export function markedChanges<T>(
  db: Connection,
  toPage: (rows: Iterable<ChangedRow>, limit: number) => Page<T>,
): (query: ChangesQuery, limit: number) => Promise<Page<T>> {
  const prepare = (owned: string) => ({
    bound: db
      .prepare<ChangesQuery, number | null>(
        `SELECT min(rev) FROM (
           SELECT * FROM (
             SELECT t.rev FROM tasks AS t WHERE ${owned} t.rev > @after ORDER BY t.rev LIMIT 1 OFFSET ${LOOKED_AT}
           ) UNION ALL SELECT * FROM (
             SELECT rev FROM task_reads WHERE user_id = @reader AND rev > @after
             ORDER BY rev LIMIT 1 OFFSET ${LOOKED_AT}
           )
         )`,
      )
      .pluck(),
    rows: db.prepare<ChangesQuery & { upto: number; limit: number }, ChangedRow>(
      `SELECT ${STATE_COLUMNS}, t.rev AS change FROM tasks AS t
       WHERE ${owned} t.rev > @after AND t.rev <= @upto AND ${NOT_DELETED} AND NOT EXISTS (
         SELECT 1 FROM task_reads AS r WHERE r.task_id = t.id AND r.user_id = @reader AND r.rev > t.rev
       )
       UNION ALL
       SELECT ${STATE_COLUMNS}, r.rev AS change
       FROM task_reads AS r INDEXED BY task_reads_user CROSS JOIN tasks AS t ON t.id = r.task_id
       WHERE r.user_id = @reader AND r.rev > @after AND r.rev <= @upto AND r.rev > t.rev AND ${NOT_DELETED}
       ORDER BY change LIMIT @limit`,
    ),
  });
  const [ofAll, ofUser] = [prepare(""), prepare("t.user_id = @userId AND")];
  return async ({ userId, reader, after }, limit) => {
    const { bound, rows } = userId === null ? ofAll : ofUser;
    for (let from = after; ;) {
      const query = { userId, reader, after: from };
      const upto = bound.get(query) ?? null;
      const all = rows.iterate({ ...query, upto: upto ?? Number.MAX_SAFE_INTEGER, limit: limit + 1 });
      const { items, more } = toPage(all, limit);
      if (items.length > 0 || upto === null) return { items, more: more || upto !== null };
      from = upto;
      await setImmediate();
    }
  };
}

export interface ReadMarkWrites {
  /** @returns false when nothing of it was unread, and nothing was written. */
  markRead(userId: string, taskId: string, seq: number): boolean;
}

export function readMarkWrite(db: Connection) {
  const mark = db.prepare<{ userId: string; taskId: string; seq: number; rev: number }>(
    `INSERT INTO task_reads (task_id, user_id, seq, rev)
     SELECT t.id, t.user_id, min(@seq, t.seq), @rev FROM tasks AS t
     WHERE t.id = @taskId AND t.user_id = @userId AND @seq >= t.notable AND ${NOT_DELETED}
     ON CONFLICT (task_id) DO UPDATE SET seq = excluded.seq, rev = excluded.rev
     WHERE seq < (SELECT notable FROM tasks WHERE id = excluded.task_id)`,
  );
  return (userId: string, taskId: string, seq: number, rev: number): boolean =>
    mark.run({ userId, taskId, seq, rev }).changes === 1;
}
