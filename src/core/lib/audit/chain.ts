/**
 * The chain of the audit log: the hash of a row covers its content and the hash before it, so a row
 * that was changed, removed or moved no longer fits.
 */
import { createHash } from "node:crypto";
import type { AuditEnds, AuditEntry, AuditRow } from "../../ports/records/audit.ts";
import { canonicalJson } from "../json/canonical-json.ts";

export const AUDIT_GENESIS = { n: 0, hash: "0".repeat(64) } as const;

export function hashAuditRow(n: number, before: string, entry: AuditEntry): string {
  const { at, actor, via, address, action, target, outcome, detail } = entry;
  const text = canonicalJson([n, before, at, actor, via, address, action, target, outcome, detail]);
  return createHash("sha256").update(text).digest("hex");
}

/** Follows a chain row by row; `fault` is the first thing that does not fit. */
export class AuditCheck {
  readonly #ends: AuditEnds;
  #n: number;
  #hash: string;
  fault: string | null = null;
  rows = 0;

  constructor(ends: AuditEnds) {
    this.#ends = ends;
    this.#n = ends.start.n;
    this.#hash = ends.start.hash;
  }

  get last(): number {
    return this.#n;
  }

  /** @returns false after a fault: later rows prove nothing. */
  add(row: AuditRow): boolean {
    if (this.fault !== null) return false;
    if (row.n !== this.#n + 1) this.fault = `row ${this.#n + 1} is missing: row ${row.n} follows row ${this.#n}`;
    else if (row.hash !== hashAuditRow(row.n, this.#hash, row))
      this.fault = `row ${row.n} was changed, or does not belong after row ${this.#n}`;
    this.#n = row.n;
    this.#hash = row.hash;
    this.rows += 1;
    return this.fault === null;
  }

  /** After the last row. */
  finish(): string | null {
    const { end } = this.#ends;
    if (this.fault === null && (this.#n !== end.n || this.#hash !== end.hash))
      this.fault = `the log ends with row ${this.#n}, but row ${end.n} was written`;
    return this.fault;
  }
}
