/** The usage ledger in memory. */
import type { ModelUsage, UsageLedger, UsageTotal } from "../../core/ports/usage-ledger.ts";

export function memoryLedger(): UsageLedger {
  const rows = new Map<string, ModelUsage>();
  const sum = (included: (row: ModelUsage) => boolean): UsageTotal => {
    const found = [...rows.values()].filter((row) => row.usd > 0 && included(row));
    return { usd: found.reduce((total, { usd }) => total + usd, 0), requests: found.length };
  };
  return {
    record: async (row) => void rows.set(row.id, row),
    spentBy: async (taskId) => sum((row) => row.taskId === taskId),
    spentSince: async (since, userId) => sum((row) => row.at >= since && (userId === null || row.userId === userId)),
  };
}
