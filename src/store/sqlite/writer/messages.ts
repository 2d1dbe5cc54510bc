/**
 * The messages between the main thread and the writer thread. Every argument and result is plain
 * data, because structured cloning carries it.
 */
import type {
  AccessToken,
  Accounts,
  Credential,
  Link,
  Passkey,
  PasswordHash,
  ProviderIdentity,
  Reply,
  SealedRow,
  Session,
  StoredKey,
  StoredVariable,
  User,
  UserChange,
} from "../../../core/ports/accounts.ts";
import type { CredentialUse } from "../../../core/protocol/repositories.ts";
import type { Notification, NotificationProgress, PushDevice, Rung } from "../../../core/ports/notifications.ts";
import type { AuditEntry } from "../../../core/ports/records/audit.ts";
import type { Commit, DeletionRequest } from "../../../core/ports/store.ts";
import type { AppendResult, NewRecord } from "../../../core/ports/records/transcripts.ts";
import type { ModelUsage } from "../../../core/ports/records/usage-ledger.ts";
import type { PersonWrites } from "../accounts/person-deletions.ts";
import type { ReadMarkWrites } from "../read-marks.ts";
import type { NewTaskRow, ProgressRow } from "../tables/rows.ts";

/** The result of inserting a task: its rev, or the task that used the idempotency key before. */
export type Created =
  | { readonly kind: "created"; readonly rev: number }
  | { readonly kind: "replayed"; readonly taskId: string }
  | { readonly kind: "mismatch" };

export interface CommitCall extends Omit<Commit, "followUp"> {
  readonly followUp?: NewTaskRow;
}

export interface TaskWrites extends ReadMarkWrites {
  create(task: NewTaskRow): Created;
  /**
   * @returns the new rev and the progress after the commit, or null when `expectedSeq` does not
   * match or the task is settled.
   */
  commit(commit: CommitCall): (ProgressRow & { readonly rev: number }) | null;
  recordExit(taskId: string, attempt: number, exitCode: number | null): void;
  setSetting(key: string, value: string | null): void;
  appendRecord(record: NewRecord): AppendResult;
  dropTranscript(taskId: string): void;
  beginDeletion(request: DeletionRequest): boolean;
  /** @returns true when no row of the task is left. */
  purgeDeletion(taskId: string, at: number): boolean;
  setKept(taskId: string, at: number | null): void;
  /** Flips a reserved setting, so that the whole write path is exercised. */
  ping(): void;
}

export interface AccountWrites {
  createUser(user: User & PasswordHash, identity?: ProviderIdentity): void;
  changeUser(id: string, change: UserChange): boolean;
  createIdentity(identity: ProviderIdentity): void;
  touchIdentity(id: string, at: number): void;
  deleteIdentity(userId: string, id: string): boolean;
  createPasskey(passkey: Passkey): void;
  usePasskey(id: string, counter: number, at: number): boolean;
  changePasskey(userId: string, id: string, change: Pick<Passkey, "name">): boolean;
  deletePasskey(userId: string, id: string): boolean;
  createLink(link: Link): void;
  deleteLink(id: string): boolean;
  acceptInvitation(id: string, at: number, user: User & PasswordHash): boolean;
  acceptPassword(id: string, at: number, passwordHash: string): boolean;
  createSession(session: Session): void;
  /** @returns false when the current hash is not `fromHash` or the session is revoked. */
  rotateSession(id: string, fromHash: string, toHash: string, at: number, address?: string): boolean;
  confirmSession(id: string, tokenHash: string, at: number): void;
  revokeSession(id: string, at: number): void;
  revokeSessions(userId: string, at: number, except: string | null): number;
  createToken(token: AccessToken): void;
  touchToken(id: string, at: number): void;
  deleteToken(userId: string, id: string): boolean;
  putCredential(credential: Credential): void;
  touchCredential(userId: string, id: string, at: number, use: CredentialUse): void;
  deleteCredential(userId: string, id: string): boolean;
  putVariable(variable: StoredVariable): void;
  deleteVariable(userId: string, repo: string, name: string): boolean;
}

export interface LedgerWrites {
  recordUsage(row: ModelUsage): void;
}

export interface ReplyWrites {
  putReply(reply: Reply, keep: Parameters<Accounts["putReply"]>[1]): void;
}

export interface NotificationWrites {
  putDevice(device: PushDevice): void;
  deleteDevice(userId: string, id: string): boolean;
  addNotification(row: Notification): boolean;
  progressNotification(id: string, change: NotificationProgress): void;
  reachRung(id: string, rung: Rung, at: number): boolean;
}

export interface AuditWrites {
  appendAudit(entry: AuditEntry): void;
  /** @returns how many rows were removed; a further call removes more. */
  pruneAudit(at: number): number;
}

export interface KeyWrites {
  addKeys(keys: readonly StoredKey[]): boolean;
  rewrapKeys(keys: readonly Pick<StoredKey, "id" | "wrapped">[]): boolean;
  reseal(changes: readonly { readonly row: SealedRow; readonly sealed: string }[]): number;
  forgetKeys(): void;
}

type OtherWrites = ReplyWrites & LedgerWrites & NotificationWrites & AuditWrites & KeyWrites & PersonWrites;
type PlainWrites = TaskWrites & AccountWrites & OtherWrites;

/** All writes of the store. */
export interface Writes extends PlainWrites {
  /** Another write, and the row of its act when it changed something. @returns its result. */
  audited(entry: AuditEntry, call: readonly [name: string, ...args: unknown[]]): unknown;
}

/** One write: its name and arguments. */
export type WriteCall = { [K in keyof Writes]: readonly [name: K, ...args: Parameters<Writes[K]>] }[keyof Writes];

export type WriteOutcome =
  | { readonly kind: "done"; readonly value: unknown }
  /** `code` is the SQLite error code; null for other errors. */
  | { readonly kind: "failed"; readonly message: string; readonly code: string | null };

export interface ConnectionOptions {
  /** Path of the database file. */
  readonly path: string;
  readonly synchronous: "FULL" | "NORMAL";
}

/** What the writer thread is started with. */
export interface ThreadData extends ConnectionOptions {
  /** Size of the reserve (disk-reserve.ts); 0 = none. */
  readonly reserveBytes: number;
  /** See src/core/lib/runtime/crashpoint.ts. */
  readonly crash: string | undefined;
}
