/**
 * The answers of the server as types. The client trusts their shape and ignores fields that it does
 * not know: a newer server may add some.
 */
import type { z } from "zod";
import type {
  artifactRowSchema,
  attemptSchema,
  conversationSchema,
  diffFileSchema,
  diffSchema,
  logDigestSchema,
  machineSchema,
  messageRowSchema,
  pullRequestSchema,
  toolCallSchema,
} from "../core/protocol/history.ts";
import type { countsSchema } from "../core/protocol/task-parts.ts";
import type {
  garbageReportSchema,
  meSchema,
  newUserSchema,
  sessionSchema,
  ticketSchema,
  tokenSchema,
  userSchema,
  WireTask,
} from "../core/protocol/rest.ts";
import type {
  auditCheckSchema,
  keyRotationSchema,
  keySchema,
  auditRowSchema,
  deviceOfferSchema,
  deviceOfferStateSchema,
  devicePollSchema,
  deviceStartSchema,
  identitySchema,
  linkInfoSchema,
  linkSchema,
  madeLinkSchema,
  newPasskeySchema,
  passkeySchema,
  passkeyStartSchema,
  providersSchema,
  pendingDeviceSchema,
  sessionRowSchema,
} from "../core/protocol/people.ts";
import type { credentialSchema, newCredentialSchema } from "../core/protocol/repositories.ts";
import type { quotaChangeSchema, usageSchema } from "../core/protocol/usage.ts";
import type { TaskState } from "../core/task.ts";

export type Usage = z.infer<typeof usageSchema>;
export type QuotaChange = z.infer<typeof quotaChangeSchema>;
export type Attempt = z.infer<typeof attemptSchema>;
export type Artifact = z.infer<typeof artifactRowSchema>;
export type Leftovers = z.infer<typeof garbageReportSchema>;
export type GitCredential = z.infer<typeof credentialSchema>;
export type DiffContentQuery = {
  /** The path after the change. */
  readonly path: string;
  readonly side: "before" | "after";
};
export type DiffFile = z.infer<typeof diffFileSchema>;
export type LogDigest = z.infer<typeof logDigestSchema>;
export type Conversation = z.infer<typeof conversationSchema>;
export type TaskCounts = z.infer<typeof countsSchema>;
export type TaskDiff = z.infer<typeof diffSchema>;
export type Machine = z.infer<typeof machineSchema>;
export type Me = z.infer<typeof meSchema>;
export type Message = z.infer<typeof messageRowSchema>;
export type NewCredential = z.infer<typeof newCredentialSchema>;
export type NewUser = z.infer<typeof newUserSchema>;
export type LoginAnswer = z.infer<typeof sessionSchema>;
export type Ticket = z.infer<typeof ticketSchema>;
export type PersonalToken = z.infer<typeof tokenSchema>;
export type PullRequestView = z.infer<typeof pullRequestSchema>;
export type ToolCall = z.infer<typeof toolCallSchema>;
export type Account = z.infer<typeof userSchema>;

export type AuditRecord = z.infer<typeof auditRowSchema>;
export type AuditReport = z.infer<typeof auditCheckSchema>;
export type DataKey = z.infer<typeof keySchema>;
export type KeyRotation = z.infer<typeof keyRotationSchema>;
export type DeviceStart = z.infer<typeof deviceStartSchema>;
export type DevicePoll = z.infer<typeof devicePollSchema>;
export type PendingDevice = z.infer<typeof pendingDeviceSchema>;
export type LoginProviders = z.infer<typeof providersSchema>;
export type LoginSession = z.infer<typeof sessionRowSchema>;
export type LinkInfo = z.infer<typeof linkInfoSchema>;
export type OneTimeLink = z.infer<typeof linkSchema>;
export type MadeLink = z.infer<typeof madeLinkSchema>;
export type LinkedIdentity = z.infer<typeof identitySchema>;
export type DeviceOffer = z.infer<typeof deviceOfferSchema>;
export type DeviceOfferState = z.infer<typeof deviceOfferStateSchema>;
export type OwnPasskey = z.infer<typeof passkeySchema>;
export type PasskeyStart = z.infer<typeof passkeyStartSchema>;
/** What the browser made, and the ticket that it answers. */
export type NewPasskey = z.infer<typeof newPasskeySchema>;

export interface Page<T> {
  readonly items: readonly T[];
  /** Cursor of the next page; null at the end. */
  readonly next: string | null;
}

export interface TaskPage extends Page<WireTask> {
  /**
   * The `after` of a `watchTasks` that yields what changes from this answer on; null without items,
   * absent from servers that do not say it.
   */
  readonly watchAfter?: number | null;
}

export interface ListQuery {
  readonly limit?: number;
  readonly cursor?: string;
}

/** The newest first: `latest`, then `next` of the page before. */
export type Before = string | number;

export interface HistoryQuery extends ListQuery {
  readonly before?: Before;
}

export interface ConversationQuery {
  readonly limit?: number;
  readonly after?: string;
  readonly before?: string;
}

export interface CountsQuery {
  /** The address of a repository. */
  readonly repository?: string;
  /** The id of a person, for operators; `me` = yours. */
  readonly owner?: string;
}

export interface TaskListQuery extends ListQuery, CountsQuery {
  readonly state?: readonly TaskState[];
  readonly thread?: string;
  /** `me` = those of yours that wait for an answer. */
  readonly needs?: "me";
  readonly q?: string;
}

/**
 * A message to an open task is queued for its agent; one to a settled task begins a follow-up task.
 */
export type MessageAnswer =
  | { readonly kind: "queued"; readonly message: Pick<Message, "id" | "status"> }
  | { readonly kind: "follow_up"; readonly task: WireTask };

/** The pair that a login gives. */
export interface Session {
  readonly accessToken: string;
  readonly refreshToken: string;
}

/**
 * Where a session is kept between runs. Refresh tokens work once, so a holder that shares them
 * reads the newest before it refreshes.
 */
export interface SessionStore {
  load(): Session | null | Promise<Session | null>;
  save(session: Session | null): void | Promise<void>;
}

export interface CallOptions {
  readonly signal?: AbortSignal;
}
export interface KeyedCallOptions extends CallOptions {
  /** Made up when left out. Give your own to make a call safe over restarts of your program. */
  readonly idempotencyKey?: string;
}
