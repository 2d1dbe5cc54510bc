/**
 * The audit log port: who did what, from where, on what, with which outcome. Rows are only added;
 * each contains the digest of the one before it (src/core/lib/audit/chain.ts). Times are epoch ms.
 */

/** How the actor was known. `none`: not logged in. `server`: Slipway itself. */
export type AuditVia = "session" | "token" | "local" | "none" | "server";
export type AuditValue = string | number | boolean | null;

export interface AuditEntry {
  readonly at: number;
  /** The id of a person; null = unknown. */
  readonly actor: string | null;
  readonly via: AuditVia;
  /** The network address; empty = this machine. */
  readonly address: string;
  /** The name of the call in the OpenAPI document, or of what the server does by itself. */
  readonly action: string;
  /** The id of what it was done to; null = the installation, or unknown. */
  readonly target: string | null;
  /** `ok`, or the code of the error. */
  readonly outcome: string;
  /** Fields of the request that are no secret; at most a few short values. */
  readonly detail: Readonly<Record<string, AuditValue>>;
}

export interface AuditRow extends AuditEntry {
  /** 1, 2, 3 and so on without gaps. */
  readonly n: number;
  /** Digest of this row and of the hash before it. */
  readonly hash: string;
}

/** A place between two rows: the number and the hash of the row before it. */
export interface AuditMark {
  readonly n: number;
  readonly hash: string;
}

/** Where the kept rows begin and end. */
export interface AuditEnds {
  /** Rows up to this one were removed by the retention. */
  readonly start: AuditMark;
  readonly end: AuditMark;
}

export interface AuditQuery {
  /** Rows with a smaller number; absent = the newest. */
  readonly before?: number | undefined;
  readonly actor?: string | undefined;
  readonly action?: string | undefined;
  readonly target?: string | undefined;
  readonly limit: number;
}

/** Contract in test/contract/people/people.ts. */
export interface AuditLog {
  /** Durable when it resolves. */
  append(entry: AuditEntry): Promise<void>;
  /** Newest first. */
  rows(query: AuditQuery): Promise<AuditRow[]>;
  /** Rows after number `n`, oldest first. */
  rowsAfter(n: number, limit: number): Promise<AuditRow[]>;
  ends(): Promise<AuditEnds>;
  /** Removes the oldest rows that are all from before `at`. @returns how many. */
  prune(at: number): Promise<number>;
}

/**
 * One act of a caller, which becomes one row: in the transaction of the write that it is passed to
 * (`Accounts.with`), or else when the call has ended.
 */
export interface Act {
  entry: AuditEntry;
  isWritten: boolean;
}
