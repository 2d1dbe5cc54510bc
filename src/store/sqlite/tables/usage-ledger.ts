/** The books in SQLite, and in memory: the same contract. */
import type { Connection } from "../driver.ts";
import type { UsageLedger, ModelUsage, UsageTotal } from "../../../core/ports/usage-ledger.ts";
import type { GroupCommit } from "../writer/group-commit.ts";

export interface LedgerWrites {
  book(row: ModelUsage): void;
}

export function ledgerWrites(db: Connection): LedgerWrites {
  const put = db.prepare(
    `INSERT OR REPLACE INTO model_requests (id, task_id, user_id, attempt, at, model,
       input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, usd, estimated)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  return {
    book(row) {
      const {
        id,
        taskId,
        userId,
        attempt,
        at,
        model,
        inputTokens,
        outputTokens,
        cacheReadTokens,
        cacheWriteTokens,
        usd,
      } = row;
      const counts = [inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens];
      put.run(id, taskId, userId, attempt, at, model, ...counts, usd, row.estimated ? 1 : 0);
    },
  };
}

export function sqliteLedger(db: Connection, batch: GroupCommit): UsageLedger {
  const total = "SELECT coalesce(sum(usd), 0) AS usd, count(*) AS requests FROM model_requests WHERE usd > 0 AND";
  const ofTask = db.prepare<[string], UsageTotal>(`${total} task_id = ?`);
  const ofAll = db.prepare<[number], UsageTotal>(`${total} at >= ?`);
  const ofUser = db.prepare<[string, number], UsageTotal>(`${total} user_id = ? AND at >= ?`);
  const none: UsageTotal = { usd: 0, requests: 0 };
  return {
    record: (row) => batch.run("book", row),
    spentBy: async (taskId) => ofTask.get(taskId) ?? none,
    spentSince: async (since, userId) => (userId === null ? ofAll.get(since) : ofUser.get(userId, since)) ?? none,
  };
}

export function memoryLedger(): UsageLedger {
  const rows = new Map<string, ModelUsage>();
  const total = (of: (row: ModelUsage) => boolean): UsageTotal => {
    const found = [...rows.values()].filter((row) => row.usd > 0 && of(row));
    return { usd: found.reduce((sum, { usd }) => sum + usd, 0), requests: found.length };
  };
  return {
    record: async (row) => void rows.set(row.id, row),
    spentBy: async (taskId) => total((row) => row.taskId === taskId),
    spentSince: async (since, userId) => total((row) => row.at >= since && (userId === null || row.userId === userId)),
  };
}
