/**
 * How many tasks a person has (rule S14), deleted ones among them. The ids of tasks are in the
 * order of their creation.
 */
import type { Connection } from "../driver.ts";

export function loadReads(db: Connection) {
  // Only ids until the row is found: each row holds a snapshot.
  const newestTask = db
    .prepare<[string, string, number], string>(
      `SELECT id FROM tasks INDEXED BY tasks_user WHERE user_id = ?
       UNION ALL
       SELECT task_id FROM deleted_tasks INDEXED BY deleted_tasks_user WHERE user_id = ? AND purged_at IS NOT NULL
       ORDER BY 1 DESC LIMIT 1 OFFSET ?`,
    )
    .pluck();
  const createdAt = db
    .prepare<[string, string], number>(
      `SELECT created_at FROM tasks WHERE id = ? UNION ALL SELECT created_at FROM deleted_tasks WHERE task_id = ?`,
    )
    .pluck();
  const open = db
    .prepare<[string], number>(
      `SELECT count(*) FROM tasks INDEXED BY tasks_user_open
       WHERE user_id = ? AND state NOT IN ('done', 'failed', 'cancelled')`,
    )
    .pluck();
  const createdAts = db
    .prepare<[string], number>("SELECT created_at FROM tasks INDEXED BY tasks_user WHERE user_id = ? ORDER BY id DESC")
    .pluck();
  const deletedAts = db
    .prepare<[string], number>(
      `SELECT created_at FROM deleted_tasks INDEXED BY deleted_tasks_user
       WHERE user_id = ? AND purged_at IS NOT NULL ORDER BY task_id DESC`,
    )
    .pluck();
  const owner = db.prepare<[string], string>("SELECT user_id FROM tasks WHERE id = ?").pluck();
  const knownKey = db
    .prepare<[string, string], number>("SELECT 1 FROM idempotency_keys WHERE user_id = ? AND key = ?")
    .pluck();

  function countSince(userId: string, since: number): number {
    let count = 0;
    for (const newest of [createdAts, deletedAts])
      for (const at of newest.iterate(userId)) {
        if (at <= since) break;
        count += 1;
      }
    return count;
  }

  return {
    newestTaskAt(userId: string, n: number): number | null {
      const id = newestTask.get(userId, userId, n - 1);
      return id === undefined ? null : (createdAt.get(id, id) ?? null);
    },
    taskLoad: (userId: string, since: number) => ({ open: open.get(userId) ?? 0, since: countSince(userId, since) }),
    taskOwners: (taskIds: readonly string[]): Map<string, string> =>
      new Map(
        taskIds.flatMap((id) => [owner.get(id)].flatMap((userId) => (userId === undefined ? [] : [[id, userId]]))),
      ),
    hasIdempotencyKey: (userId: string, key: string): boolean => knownKey.get(userId, key) !== undefined,
  };
}
