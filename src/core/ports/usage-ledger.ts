/**
 * What model requests cost: one row each, written by the gateway from what it saw. The sums decide
 * what may still be spent.
 */

/** One request to the model. A request that never reached the provider has no row. */
export interface ModelUsage {
  /** Chosen when the request begins; booking the same id again replaces the row. */
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
   * True while, or because, the provider's own count is not known: the request goes on, or was cut.
   */
  readonly estimated: boolean;
}

export interface UsageTotal {
  /** US dollars. */
  readonly usd: number;
  readonly requests: number;
}

/** The books. Contract in test/contract/usage-ledger.ts. */
export interface UsageLedger {
  /** Resolves when the row is durable. Idempotent by `id`; the last booking counts. */
  record(row: ModelUsage): Promise<void>;
  /**
   * What a task's requests cost so far; of an unknown task nothing. Requests that cost nothing are
   * not counted.
   */
  spentBy(taskId: string): Promise<UsageTotal>;
  /**
   * What requests that began at `since` (epoch ms) or later cost: of one user, or of all (null).
   */
  spentSince(since: number, userId: string | null): Promise<UsageTotal>;
}
