/** Finds the row of the usage ledger that belongs to each `usage` event of the coordinator. */
import type { TaskEvent } from "../../../core/event.ts";
import type { LedgerRow, RequestAmounts } from "../../../store/sqlite/inspection/inspection.ts";

/** A `usage` event. */
export interface RequestUsage {
  readonly seq: number;
  readonly at: number;
  readonly attempt: number;
  readonly amounts: RequestAmounts;
}

export interface LedgerMatch {
  /** Events without a row. */
  readonly missing: readonly RequestUsage[];
  /** Rows without an event: requests under way, cut off, or ended after their attempt. */
  readonly unmatched: readonly LedgerRow[];
}

export function toRequestUsage({ seq, at, attempt, data }: TaskEvent): RequestUsage {
  const amounts = {
    model: String(data["model"]),
    input_tokens: Number(data["inputTokens"]),
    output_tokens: Number(data["outputTokens"]),
    cache_read_tokens: Number(data["cacheReadTokens"]),
    cache_write_tokens: Number(data["cacheWriteTokens"]),
    usd: Number(data["usd"]),
  };
  return { seq, at, attempt, amounts };
}

const tokensOf = (row: RequestAmounts): string =>
  [row.model, row.input_tokens, row.output_tokens, row.cache_read_tokens, row.cache_write_tokens].join(" ");

/** Each row belongs to one event. */
export function matchLedger(usage: readonly RequestUsage[], ledger: readonly LedgerRow[]): LedgerMatch {
  const rows = new Map<string, LedgerRow[]>();
  const keyOf = (row: RequestAmounts): string => `${tokensOf(row)} ${row.usd}`;
  for (const row of ledger) rows.set(keyOf(row), [...(rows.get(keyOf(row)) ?? []), row]);
  const missing = usage.filter(({ amounts }) => rows.get(keyOf(amounts))?.pop() === undefined);
  return { missing, unmatched: [...rows.values()].flat() };
}

/**
 * The row that a request without one most probably has, with other amounts: one with the same
 * tokens, or one that was written when a request began and never again.
 */
export function findCandidate(amounts: RequestAmounts, unmatched: readonly LedgerRow[]): LedgerRow | null {
  const same = unmatched.find((row) => tokensOf(row) === tokensOf(amounts));
  const begun = unmatched.find(
    (row) => row.model === amounts.model && row.estimated === 1 && row.input_tokens + row.output_tokens === 0,
  );
  return same ?? begun ?? null;
}
