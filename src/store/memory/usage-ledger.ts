/** The usage ledger in memory. */
import type { ModelUsage, UsageLedger, UsageTotal } from "../../core/ports/records/usage-ledger.ts";

export class MemoryLedger implements UsageLedger {
  readonly #rows = new Map<string, ModelUsage>();

  put(row: ModelUsage): void {
    this.#rows.set(row.id, row);
  }

  /** Gives the rows of the person to the alias. */
  rename(userId: string, alias: string): void {
    for (const row of this.#rows.values()) if (row.userId === userId) this.put({ ...row, userId: alias });
  }

  async record(row: ModelUsage): Promise<void> {
    this.put(row);
  }

  async spentBy(taskId: string): Promise<UsageTotal> {
    return this.#sum((row) => row.taskId === taskId);
  }

  async spentSince(since: number, userId: string | null): Promise<UsageTotal> {
    return this.#sum((row) => row.at >= since && (userId === null || row.userId === userId));
  }

  #sum(isIncluded: (row: ModelUsage) => boolean): UsageTotal {
    const found = [...this.#rows.values()].filter((row) => row.usd > 0 && isIncluded(row));
    return { usd: found.reduce((total, { usd }) => total + usd, 0), requests: found.length };
  }
}
