/** How many tasks a person has (rule S14). The ids of tasks are in the order of their creation. */
import type { Connection } from "../driver.ts";

export function loadReads(db: Connection) {
  // Only ids until the row is found: each row holds a snapshot.
  const newestTaskAt = db
    .prepare<[string, number], number>(
      `SELECT created_at FROM tasks WHERE id = (
         SELECT id FROM tasks INDEXED BY tasks_user WHERE user_id = ? ORDER BY id DESC LIMIT 1 OFFSET ?
       )`,
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
  const knownKey = db
    .prepare<[string, string], number>("SELECT 1 FROM idempotency_keys WHERE user_id = ? AND key = ?")
    .pluck();

  function countSince(userId: string, since: number): number {
    let count = 0;
    for (const at of createdAts.iterate(userId)) {
      if (at <= since) break;
      count += 1;
    }
    return count;
  }

  return {
    newestTaskAt: (userId: string, n: number): number | null => newestTaskAt.get(userId, n - 1) ?? null,
    taskLoad: (userId: string, since: number) => ({ open: open.get(userId) ?? 0, since: countSince(userId, since) }),
    hasIdempotencyKey: (userId: string, key: string): boolean => knownKey.get(userId, key) !== undefined,
  };
}
