/** The audit log in memory. */
import { AUDIT_GENESIS, hashAuditRow } from "../../core/lib/audit/chain.ts";
import { entryOf } from "../../core/lib/audit/act.ts";
import type { Accounts } from "../../core/ports/accounts.ts";
import type { Act, AuditLog, AuditMark, AuditRow } from "../../core/ports/records/audit.ts";

export function memoryAudit(): AuditLog {
  let rows: AuditRow[] = [];
  let start: AuditMark = AUDIT_GENESIS;
  const last = (): AuditMark => rows.at(-1) ?? start;
  return {
    async append(entry) {
      const n = last().n + 1;
      rows.push({ ...entry, n, hash: hashAuditRow(n, last().hash, entry) });
    },
    rows: async ({ before, actor, action, target, limit }) =>
      rows
        .filter(
          (row) =>
            (before === undefined || row.n < before) &&
            (actor === undefined || row.actor === actor) &&
            (action === undefined || row.action === action) &&
            (target === undefined || row.target === target),
        )
        .toReversed()
        .slice(0, limit),
    rowsAfter: async (n, limit) => rows.filter((row) => row.n > n).slice(0, limit),
    ends: async () => ({ start: { n: start.n, hash: start.hash }, end: { n: last().n, hash: last().hash } }),
    async prune(at) {
      const kept = rows.findIndex((row) => row.at >= at);
      const removed = rows.slice(0, kept === -1 ? rows.length : kept);
      start = removed.at(-1) ?? start;
      rows = rows.slice(removed.length);
      return removed.length;
    },
  };
}

/** The writes that an act may be passed to; the row follows the write. */
export function auditedAccounts(accounts: Accounts, audit: AuditLog, act: Act | undefined): Accounts {
  if (act === undefined) return accounts;
  const wrap = (name: string, write: (...args: unknown[]) => Promise<unknown>) => {
    return async (...args: unknown[]): Promise<unknown> => {
      const result = await write(...args);
      if (act.isWritten || result === false) return result;
      act.isWritten = true;
      await audit.append(entryOf(act, name, args));
      return result;
    };
  };
  const writes = Object.entries(accounts).filter(([name]) => /^(?:create|change|delete|accept|revoke|put)/.test(name));
  return { ...accounts, ...Object.fromEntries(writes.map(([name, write]) => [name, wrap(name, write as never)])) };
}
