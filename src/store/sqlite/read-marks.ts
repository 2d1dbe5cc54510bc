/** Up to where people have read their tasks, in SQLite. */
import type { Connection } from "./driver.ts";
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

/**
 * Changes of a person's list or of that of all, and what one person read: two indexes that are
 * merged, each task once.
 */
export function markedChanges(db: Connection) {
  const prepare = (owned: string) =>
    db.prepare<{ userId: string | null; reader: string; after: number; limit: number }, ChangedRow>(
      `SELECT ${STATE_COLUMNS}, t.rev AS change FROM tasks AS t
       WHERE ${owned} t.rev > @after AND ${NOT_DELETED} AND NOT EXISTS (
         SELECT 1 FROM task_reads AS r WHERE r.task_id = t.id AND r.user_id = @reader AND r.rev > t.rev
       )
       UNION ALL
       SELECT ${STATE_COLUMNS}, r.rev AS change
       FROM task_reads AS r INDEXED BY task_reads_user CROSS JOIN tasks AS t ON t.id = r.task_id
       WHERE r.user_id = @reader AND r.rev > @after AND r.rev > t.rev AND ${NOT_DELETED}
       ORDER BY change LIMIT @limit`,
    );
  const [ofAll, ofUser] = [prepare(""), prepare("t.user_id = @userId AND")];
  return (userId: string | null, after: number, limit: number, reader: string): IterableIterator<ChangedRow> =>
    (userId === null ? ofAll : ofUser).iterate({ userId, reader, after, limit });
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
