/**
 * The usage ledger: one row per model request, recorded by the gateway from the traffic it
 * forwards. Budgets are checked against its sums.
 */

/** One model request. A request that never reached the provider has no row. */
export interface ModelUsage {
  /** Created when the request begins; recording the same id again replaces the row. */
  readonly id: string;
  readonly taskId: string;
  readonly userId: string;
  readonly attempt: number;
  /** When it began, epoch ms. */
  readonly at: number;
  readonly model: string;
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly cacheReadTokens: number;
  readonly cacheWriteTokens: number;
  /** US dollars. */
  readonly usd: number;
  /**
   * True while the provider's own count is unknown: the request is running, or was cut off before
   * the count arrived.
   */
  readonly estimated: boolean;
}

export interface UsageTotal {
  /** US dollars. */
  readonly usd: number;
  readonly requests: number;
}

/** Contract in test/contract/usage-ledger.ts. */
export interface UsageLedger {
  /** Resolves when the row is durable. Idempotent by `id`: the last call wins. */
  record(row: ModelUsage): Promise<void>;
  /** Total of one task; zero for an unknown task. Requests without cost are not counted. */
  spentBy(taskId: string): Promise<UsageTotal>;
  /** Total of requests that began at `since` (epoch ms) or later, of one user or of all (null). */
  spentSince(since: number, userId: string | null): Promise<UsageTotal>;
}
