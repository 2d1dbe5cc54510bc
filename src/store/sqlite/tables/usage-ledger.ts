/** The usage ledger in SQLite. */
import type { Connection } from "../driver.ts";
import type { UsageLedger, UsageTotal } from "../../../core/ports/records/usage-ledger.ts";
import type { GroupCommit } from "../writer/group-commit.ts";
import type { LedgerWrites } from "../writer/messages.ts";

export function ledgerWrites(db: Connection): LedgerWrites {
  const put = db.prepare(
    `INSERT OR REPLACE INTO model_requests (id, task_id, user_id, attempt, at, model,
       input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, usd, estimated)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  return {
    recordUsage(row) {
      const { id, taskId, userId, attempt, at, model, usd } = row;
      const counts = [row.inputTokens, row.outputTokens, row.cacheReadTokens, row.cacheWriteTokens];
      put.run(id, taskId, userId, attempt, at, model, ...counts, usd, row.estimated ? 1 : 0);
    },
  };
}

export function sqliteLedger(db: Connection, groupCommit: GroupCommit): UsageLedger {
  const total = "SELECT coalesce(sum(usd), 0) AS usd, count(*) AS requests FROM model_requests WHERE usd > 0 AND";
  const ofTask = db.prepare<[string], UsageTotal>(`${total} task_id = ?`);
  const ofAll = db.prepare<[number], UsageTotal>(`${total} at >= ?`);
  const ofUser = db.prepare<[string, number], UsageTotal>(`${total} user_id = ? AND at >= ?`);
  const none: UsageTotal = { usd: 0, requests: 0 };
  return {
    record: (row) => groupCommit.run("recordUsage", row),
    spentBy: async (taskId) => ofTask.get(taskId) ?? none,
    spentSince: async (since, userId) => (userId === null ? ofAll.get(since) : ofUser.get(userId, since)) ?? none,
  };
}
