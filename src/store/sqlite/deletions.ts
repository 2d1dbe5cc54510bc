/** Deleted tasks in SQLite. */
import type { Connection } from "./driver.ts";
import type { DeletedTask, DeletionRequest } from "../../core/ports/store.ts";
import type { TaskState } from "../../core/task.ts";
import { transcriptHeirs } from "./tables/transcripts.ts";

/**
 * For a WHERE clause over `tasks AS t`: without tasks whose deletion has begun. Tasks whose
 * deletion has ended have no row in `tasks`, so the list holds only the few deletions in progress.
 */
export const NOT_DELETED = "t.id NOT IN (SELECT task_id FROM deleted_tasks WHERE purged_at IS NULL)";

interface DeletedRow {
  task_id: string;
  user_id: string;
  thread_id: string;
  state: TaskState;
  rev: number;
  created_at: number;
  settled_at: number;
  deleted_at: number;
  deleted_by: string | null;
  purged_at: number | null;
}

const toDeletedTask = (row: DeletedRow): DeletedTask => ({
  id: row.task_id,
  userId: row.user_id,
  threadId: row.thread_id,
  state: row.state,
  rev: row.rev,
  createdAt: row.created_at,
  settledAt: row.settled_at,
  deletedAt: row.deleted_at,
  deletedBy: row.deleted_by,
  purgedAt: row.purged_at,
});

export function deletionReads(db: Connection) {
  const one = db.prepare<[string], DeletedRow>("SELECT * FROM deleted_tasks WHERE task_id = ?");
  const unpurged = db.prepare<[number], DeletedRow>(
    "SELECT * FROM deleted_tasks WHERE purged_at IS NULL ORDER BY task_id LIMIT ?",
  );
  const since = db.prepare<[number, string | null, number], DeletedRow>(
    "SELECT * FROM deleted_tasks WHERE rev > ? AND user_id = coalesce(?, user_id) ORDER BY rev LIMIT ?",
  );
  const old = db
    .prepare<[number, number], string>(
      `SELECT t.id FROM tasks AS t INDEXED BY tasks_ended
       WHERE t.settled_at IS NOT NULL AND t.settled_at < ? AND t.state IN ('done', 'failed', 'cancelled')
         AND ${NOT_DELETED} AND t.id NOT IN (SELECT task_id FROM kept_tasks) AND NOT EXISTS (
           SELECT 1 FROM tasks AS o INDEXED BY tasks_thread_open
           WHERE o.thread_id = t.thread_id AND o.state NOT IN ('done', 'failed', 'cancelled')
         )
       ORDER BY t.settled_at, t.id LIMIT ?`,
    )
    .pluck();
  const kept = db.prepare<[string], number>("SELECT 1 FROM kept_tasks WHERE task_id = ?").pluck();
  return {
    isKept: (taskId: string): boolean => kept.get(taskId) !== undefined,
    tasksToExpire: (before: number, limit: number): string[] => old.all(before, limit),
    deletedTask(taskId: string): DeletedTask | null {
      const row = one.get(taskId);
      return row === undefined ? null : toDeletedTask(row);
    },
    openDeletions: (limit: number): DeletedTask[] => unpurged.all(limit).map(toDeletedTask),
    deletedSince: (userId: string | null, afterRev: number, limit: number): DeletedTask[] =>
      since.all(afterRev, userId, limit).map(toDeletedTask),
  };
}

/** Most rows and bytes that one write removes: others wait no longer than that takes. */
const ROWS = 1_000;
const BYTES = 4 * 2 ** 20;

/** Tables of many or large rows: the key below `task_id`, and what a row takes. */
const PARTS = [
  ["transcripts", "n", "octet_length(record)"],
  ["task_events", "seq", "octet_length(data)"],
  ["tool_calls", "seq", "octet_length(input) + coalesce(octet_length(output), 0)"],
  ["messages", "seq", "octet_length(content)"],
] as const;

export function deletionWrites(db: Connection) {
  const insert = db.prepare(
    `INSERT INTO deleted_tasks
       (task_id, user_id, thread_id, state, rev, created_at, settled_at, deleted_at, deleted_by, purged_at)
     SELECT id, user_id, thread_id, state, ?, created_at, coalesce(settled_at, updated_at), ?, ?, NULL
     FROM tasks AS t
     WHERE id = ? AND state IN ('done', 'failed', 'cancelled') AND NOT EXISTS (
       SELECT 1 FROM tasks AS o INDEXED BY tasks_thread_open
       WHERE o.thread_id = t.thread_id AND o.state NOT IN ('done', 'failed', 'cancelled')
     )
     ON CONFLICT DO NOTHING`,
  );
  const isUnpurged = db
    .prepare<[string], number>("SELECT 1 FROM deleted_tasks WHERE task_id = ? AND purged_at IS NULL")
    .pluck();
  const parts = PARTS.map(([table, key, size]) => ({
    // The last rows first: what is left is always the beginning of a whole list.
    rows: db.prepare<[string], { key: number; bytes: number }>(
      `SELECT ${key} AS key, ${size} AS bytes FROM ${table} WHERE task_id = ? ORDER BY ${key} DESC LIMIT ${ROWS}`,
    ),
    remove: db.prepare(`DELETE FROM ${table} WHERE task_id = ? AND ${key} >= ?`),
  }));
  const handOver = transcriptHeirs(db);
  const notifications = db.prepare("DELETE FROM notifications WHERE task_id = ?");
  const task = db.prepare("DELETE FROM tasks WHERE id = ?");
  const end = db.prepare("UPDATE deleted_tasks SET purged_at = ? WHERE task_id = ?");

  /** @returns false when there was nothing to remove. */
  function removeSome(taskId: string, { rows, remove }: (typeof parts)[number]): boolean {
    let from: number | null = null;
    let bytes = 0;
    for (const row of rows.iterate(taskId)) {
      if (from !== null && bytes + row.bytes > BYTES) break;
      from = row.key;
      bytes += row.bytes;
    }
    if (from !== null) remove.run(taskId, from);
    return from !== null;
  }

  const keep = db.prepare(
    "INSERT INTO kept_tasks (task_id, at) SELECT id, ? FROM tasks WHERE id = ? ON CONFLICT DO NOTHING",
  );
  const release = db.prepare("DELETE FROM kept_tasks WHERE task_id = ?");
  return {
    setKept: (taskId: string, at: number | null): void =>
      void (at === null ? release.run(taskId) : keep.run(at, taskId)),
    beginDeletion: ({ taskId, at, by }: DeletionRequest, rev: number): boolean =>
      insert.run(rev, at, by, taskId).changes === 1,
    purgeDeletion(taskId: string, at: number): boolean {
      if (isUnpurged.get(taskId) === undefined) return true;
      if (!handOver(taskId)) return false;
      for (const part of parts) if (removeSome(taskId, part)) return false;
      notifications.run(taskId);
      // Its specification, attempts and idempotency keys go with it.
      task.run(taskId);
      end.run(at, taskId);
      return true;
    },
  };
}
