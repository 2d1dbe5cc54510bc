/** The audit log in SQL. */
import type { Connection } from "../driver.ts";
import { entryOf } from "../../../core/lib/audit/act.ts";
import { hashAuditRow } from "../../../core/lib/audit/chain.ts";
import type { Act, AuditEnds, AuditEntry, AuditLog, AuditRow, AuditVia } from "../../../core/ports/records/audit.ts";
import type { GroupCommit } from "../writer/group-commit.ts";
import type { AuditWrites, Writes } from "../writer/messages.ts";

export interface AuditRecord {
  n: number;
  at: number;
  actor: string | null;
  via: string;
  address: string;
  action: string;
  target: string | null;
  outcome: string;
  detail: string;
  hash: string;
}

interface EndsRecord {
  start_n: number;
  start_hash: string;
  end_n: number;
  end_hash: string;
}

/** Rows that one transaction removes. */
const PRUNED_AT_ONCE = 5_000;

export const toAuditRow = (row: AuditRecord): AuditRow => ({
  ...row,
  // Written by this program only; what was changed since no longer fits its hash.
  via: row.via as AuditVia,
  detail: readDetail(row.detail),
});

function readDetail(text: string): AuditRow["detail"] {
  try {
    return JSON.parse(text) as AuditRow["detail"];
  } catch {
    // A value that no row is written with: the hash does not fit.
    return { unreadable: true };
  }
}

export const toAuditEnds = (row: EndsRecord): AuditEnds => ({
  start: { n: row.start_n, hash: row.start_hash },
  end: { n: row.end_n, hash: row.end_hash },
});

export function auditWrites(db: Connection): AuditWrites {
  const ends = db.prepare<[], EndsRecord>("SELECT * FROM audit_ends");
  const insert = db.prepare(
    `INSERT INTO audit (n, at, actor, via, address, action, target, outcome, detail, hash)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  const moveEnd = db.prepare("UPDATE audit_ends SET end_n = ?, end_hash = ?");
  const moveStart = db.prepare("UPDATE audit_ends SET start_n = ?, start_hash = ?");
  const oldest = db.prepare<[number], { n: number; at: number; hash: string }>(
    "SELECT n, at, hash FROM audit WHERE n > ? ORDER BY n",
  );
  const drop = db.prepare("DELETE FROM audit WHERE n <= ?");
  return {
    appendAudit(entry: AuditEntry): void {
      const { end_n, end_hash } = ends.get() ?? { end_n: 0, end_hash: "" };
      const n = end_n + 1;
      const hash = hashAuditRow(n, end_hash, entry);
      const { at, actor, via, address, action, target, outcome, detail } = entry;
      insert.run(n, at, actor, via, address, action, target, outcome, JSON.stringify(detail), hash);
      moveEnd.run(n, hash);
    },
    pruneAudit(at: number): number {
      const { start_n = 0 } = ends.get() ?? {};
      let last: { n: number; hash: string } | null = null;
      for (const row of oldest.iterate(start_n)) {
        if (row.at >= at || row.n - start_n > PRUNED_AT_ONCE) break;
        last = row;
      }
      if (last === null) return 0;
      moveStart.run(last.n, last.hash);
      return drop.run(last.n).changes;
    },
  };
}

/** Runs writes of which the first that changes something carries the row of the act. */
export function createAuditedRun(groupCommit: GroupCommit, act: Act): GroupCommit["run"] {
  return async (name, ...args) => {
    if (act.isWritten) return await groupCommit.run(name, ...args);
    // Not twice: two writes of one act may be under way at once.
    act.isWritten = true;
    try {
      const result = await groupCommit.run("audited", entryOf(act, name, args), [name, ...args]);
      if (result === false) act.isWritten = false;
      return result as ReturnType<Writes[typeof name]>;
    } catch (error) {
      act.isWritten = false;
      throw error;
    }
  };
}

export function sqliteAudit(db: Connection, groupCommit: GroupCommit): AuditLog {
  const rows = db.prepare<unknown[], AuditRecord>(
    `SELECT * FROM audit
     WHERE n < coalesce(@before, 9e18) AND (@actor IS NULL OR actor = @actor)
       AND (@action IS NULL OR action = @action) AND (@target IS NULL OR target = @target)
     ORDER BY n DESC LIMIT @limit`,
  );
  const after = db.prepare<[number, number], AuditRecord>("SELECT * FROM audit WHERE n > ? ORDER BY n LIMIT ?");
  const ends = db.prepare<[], EndsRecord>("SELECT * FROM audit_ends");
  return {
    append: (entry) => groupCommit.run("appendAudit", entry),
    rows: async ({ before = null, actor = null, action = null, target = null, limit }) =>
      rows.all({ before, actor, action, target, limit }).map(toAuditRow),
    rowsAfter: async (n, limit) => after.all(n, limit).map(toAuditRow),
    async ends() {
      const row = ends.get();
      if (row === undefined) throw new Error("the audit log has no ends");
      return toAuditEnds(row);
    },
    async prune(at) {
      let count = 0;
      for (;;) {
        const removed = await groupCommit.run("pruneAudit", at);
        count += removed;
        if (removed === 0) return count;
      }
    },
  };
}
