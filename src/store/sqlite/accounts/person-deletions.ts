/** The deletion of people in SQLite. */
import type { Connection } from "../driver.ts";
import type { PersonDeletion, PersonPurge, PersonTask } from "../../../core/ports/accounts.ts";
import { NOT_DELETED } from "../deletions.ts";

interface DeletionRow {
  user_id: string;
  alias: string;
  begun_at: number;
  deleted_by: string;
}

export function personDeletionReads(db: Connection) {
  const open = db.prepare<[], DeletionRow>("SELECT * FROM person_deletions ORDER BY begun_at, user_id");
  const tasks = db.prepare<[string, number], PersonTask>(
    `SELECT t.id, t.user_id AS userId, t.thread_id AS threadId, t.state FROM tasks AS t
     WHERE t.user_id = ? AND ${NOT_DELETED} ORDER BY t.id DESC LIMIT ?`,
  );
  return {
    personDeletions: (): PersonDeletion[] =>
      open.all().map((row) => ({ userId: row.user_id, alias: row.alias, at: row.begun_at, by: row.deleted_by })),
    personTasks: (userId: string, limit: number): PersonTask[] => tasks.all(userId, limit),
  };
}

export interface PersonWrites {
  /** @returns false when there is no such person. */
  deletePerson(deletion: PersonDeletion): boolean;
  purgePerson(deletion: PersonDeletion): PersonPurge;
}

/** Most rows that one write changes: others wait no longer than that takes. */
const ROWS = 1_000;

/** Rows of a person that are few, and that reference no user. */
const OWN_ROWS = [
  "DELETE FROM push_devices WHERE user_id = @userId",
  "DELETE FROM notifications WHERE user_id = @userId",
  "DELETE FROM replies WHERE user_id = @userId",
  "DELETE FROM turns WHERE user_id = @userId",
  "DELETE FROM settings WHERE instr(key, @userId) > 0",
];

export function personDeletionWrites(db: Connection): PersonWrites {
  const begin = db.prepare(
    `INSERT INTO person_deletions (user_id, alias, begun_at, deleted_by)
     SELECT id, @alias, @at, @by FROM users WHERE id = @userId ON CONFLICT DO NOTHING`,
  );
  // Links that the person made, also used ones, and those that were made for their address.
  const links = db.prepare(
    `DELETE FROM links WHERE made_by = @userId OR user_id = @userId
       OR lower(email) = (SELECT email FROM users WHERE id = @userId)`,
  );
  // Sessions, tokens, credentials, identities, passkeys and variables go with it.
  const account = db.prepare("DELETE FROM users WHERE id = @userId");
  const own = OWN_ROWS.map((sql) => db.prepare(sql));
  const rename = [
    `UPDATE model_requests SET user_id = @alias
     WHERE rowid IN (SELECT rowid FROM model_requests WHERE user_id = @userId LIMIT ${ROWS})`,
    `UPDATE deleted_tasks SET user_id = @alias
     WHERE rowid IN (SELECT rowid FROM deleted_tasks WHERE user_id = @userId LIMIT ${ROWS})`,
    `UPDATE deleted_tasks SET deleted_by = @alias
     WHERE rowid IN (SELECT rowid FROM deleted_tasks WHERE deleted_by = @userId LIMIT ${ROWS})`,
  ].map((sql) => db.prepare(sql));
  const hasTasks = db
    .prepare<{ userId: string }, number>("SELECT 1 FROM tasks WHERE user_id = @userId LIMIT 1")
    .pluck();
  const keys = db.prepare("DELETE FROM idempotency_keys WHERE user_id = @userId");
  const end = db.prepare("DELETE FROM person_deletions WHERE user_id = @userId");
  return {
    deletePerson({ userId, alias, at, by }) {
      if (begin.run({ userId, alias, at, by }).changes === 0) return false;
      links.run({ userId });
      for (const statement of own) statement.run({ userId });
      account.run({ userId });
      return true;
    },
    purgePerson({ userId, alias }) {
      for (const statement of rename) if (statement.run({ userId, alias }).changes > 0) return "more";
      if (hasTasks.get({ userId }) !== undefined) return "tasks";
      // Calls that were under way when the deletion began may have written some again.
      for (const statement of [...own, keys]) statement.run({ userId });
      end.run({ userId });
      return "done";
    },
  };
}
