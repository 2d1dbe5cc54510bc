/** Answers to requests with an Idempotency-Key. */
import type { Connection } from "../driver.ts";
import type { Accounts, Reply, ReplyAddress } from "../../../core/ports/accounts.ts";
import type { GroupCommit } from "../writer/group-commit.ts";
import type { ReplyWrites } from "../writer/messages.ts";

export function replyWrites(db: Connection): ReplyWrites {
  const put = db.prepare(
    `INSERT INTO replies (user_id, endpoint, key, at, sealed) VALUES (?, ?, ?, ?, ?)
     ON CONFLICT DO UPDATE SET at = excluded.at, sealed = excluded.sealed`,
  );
  const expire = db.prepare("DELETE FROM replies WHERE at <= ?");
  const trim = db.prepare(
    `DELETE FROM replies WHERE user_id = ? AND at < (
       SELECT at FROM replies WHERE user_id = ? ORDER BY at DESC LIMIT 1 OFFSET ?
     )`,
  );
  return {
    putReply({ userId, endpoint, key, at, sealed }, { after, perUser }) {
      put.run(userId, endpoint, key, at, sealed);
      expire.run(after);
      trim.run(userId, userId, perUser - 1);
    },
  };
}

export function sqliteReplies(db: Connection, groupCommit: GroupCommit): Pick<Accounts, "reply" | "putReply"> {
  const find = db.prepare<[string, string, string], Pick<Reply, "at" | "sealed">>(
    "SELECT at, sealed FROM replies WHERE user_id = ? AND endpoint = ? AND key = ?",
  );
  return {
    async reply({ userId, endpoint, key }: ReplyAddress) {
      const row = find.get(userId, endpoint, key);
      return row === undefined ? null : { userId, endpoint, key, ...row };
    },
    putReply: (reply, keep) => groupCommit.run("putReply", reply, keep),
  };
}
