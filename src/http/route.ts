/** A route is one row: express registers it, and the OpenAPI document is generated from it. */
import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import { z } from "zod";
import type { Act, AuditLog } from "../core/ports/records/audit.ts";
import type { Accounts, Identity, Scope } from "../core/ports/accounts.ts";
import type { ErrorCode } from "../core/error.ts";
import { scopeOf, type Access } from "../core/roles.ts";
import type { BudgetService } from "../coordinator/services/budget.ts";
import type { EgressService } from "../coordinator/services/egress.ts";
import type { Page } from "../core/lib/pagination.ts";
import type { Direction, Store } from "../core/ports/store.ts";
import type { Before } from "../core/protocol/rest.ts";
import type { DeviceLogins } from "../auth/device-logins.ts";
import type { KeyRing } from "../auth/keys/key-ring.ts";
import type { Variables } from "../auth/variables.ts";
import type { People } from "../auth/people.ts";
import type { Passkeys } from "../auth/passkeys/passkeys.ts";
import type { ProviderLogins } from "../auth/providers/provider-logins.ts";
import type { AuthenticatedCaller, Sessions } from "../auth/sessions.ts";
import type { LoginThrottle } from "./login-throttle.ts";
import type { Clock, Ids, Log } from "../core/ports/runtime.ts";
import type { NotificationService } from "../notifications/service.ts";
import type { OperationsService } from "../coordinator/services/operations.ts";
import type { TaskService } from "../coordinator/services/tasks/task-service.ts";
import { ARTIFACT_NAME } from "../core/values/artifact.ts";

/** Encrypts small secrets for the database. A sealed text opens only with the same `context`. */
export interface Sealer {
  seal(plain: string, context: string): string;
  open(sealed: string, context: string): string;
}

/** An answered request, for metrics. */
export interface AnsweredRequest {
  readonly method: string;
  readonly status: number;
  readonly seconds: number;
  /** Of its problem; null = none. */
  readonly code: string | null;
}

export interface ApiMetrics {
  /** Prometheus text. */
  text(): Promise<string>;
  noteRequest(request: AnsweredRequest): void;
}

/** Dependencies of all route handlers. */
export interface ApiDeps {
  readonly tasks: TaskService;
  readonly operations: OperationsService;
  readonly budget: Pick<BudgetService, "threads">;
  readonly egress: Pick<EgressService, "list" | "change">;
  readonly notifications: NotificationService;
  readonly sessions: Sessions;
  readonly people: People;
  readonly devices: DeviceLogins;
  readonly passkeys: Passkeys;
  readonly variables: Pick<Variables, "list" | "put" | "remove">;
  readonly logins: ProviderLogins;
  readonly store: Store;
  readonly accounts: Accounts;
  readonly audit: AuditLog;
  readonly vault: Sealer;
  readonly keys: KeyRing;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  /** Resolves when sandboxes can be started; rejects with the reason. */
  readonly checkSandbox: (signal: AbortSignal) => Promise<unknown>;
  /** The data folder; its disk must have free space. */
  readonly dataDir: string;
  readonly metrics: ApiMetrics;
  /** Of scheduled backups; null = there are none. Absent = none. */
  readonly backup?: () => { readonly lastAt: number | null; readonly error: string | null } | null;
  readonly version: string;
  /** Other browser origins that may call the API; none by default. */
  readonly origins?: readonly string[];
  /** True when clients reach the server through a proxy or a tunnel. */
  readonly isFronted?: boolean;
  /**
   * Proxies whose `X-Forwarded-For` is trusted: a number of hops, or addresses and CIDR ranges.
   * None by default.
   */
  readonly trustProxy?: number | readonly string[];
  /** The folder of the built web app; absent or null = none is served. */
  readonly webDir?: string | null;
}

export type Method = "get" | "post" | "delete";
/** The content of a response: JSON of a schema, text or bytes of a media type, or nothing. */
export type Answer =
  | { readonly schema: z.ZodType }
  | { readonly media: string }
  | { readonly binary: string }
  | { readonly empty: true };

export interface RouteReply {
  readonly status: number;
  readonly body?: unknown;
  /** Media type; JSON when absent. With a media type, `body` is a string. */
  readonly media?: string;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  /** Bytes in place of `body`, of type `media`. */
  readonly content?: AsyncIterable<Uint8Array>;
}

export interface RouteCall<B, Q> {
  readonly deps: ApiDeps;
  readonly throttle: LoginThrottle;
  /** @throws `unauthenticated` on routes without authentication. */
  readonly caller: AuthenticatedCaller;
  readonly identity: Identity;
  readonly params: Readonly<Record<string, string>>;
  readonly body: B;
  readonly query: Q;
  readonly idempotencyKey: string | null;
  /** The row of this call in the audit log, to pass to the write that it tells about. */
  readonly act: Act | undefined;
  readonly ip: string;
  readonly headers: IncomingHttpHeaders;
  /** True when the client used https, here or at a trusted proxy. */
  readonly isSecure: boolean;
}

/**
 * `store`: a day, also after a restart. `handler`: the handler finds what the key made before.
 * `memoryMs`: in this process only, for answers that would be of no use later, and for calls
 * without a user whose whole credential is the body.
 */
export type Replay = "store" | "handler" | { readonly memoryMs: number };

/** For answers with a secret: kept in memory only, as long as a client repeats a lost call. */
export const MEMORY_REPLAY = { memoryMs: 30_000 };

export interface Route<B extends z.ZodType = z.ZodType, Q extends z.ZodType = z.ZodType> {
  readonly method: Method;
  /** Express style: `/v1/tasks/:id`. */
  readonly path: string;
  readonly access: Access;
  /** The scope that a personal token needs; null = no token makes this call. */
  readonly scope: Scope | null;
  /** The name of the call in the OpenAPI document and in clients, for example `getTask`. */
  readonly operation: string;
  readonly summary: string;
  readonly body: B;
  readonly query: Q;
  /** Where the answer to a call with an Idempotency-Key is kept; every unsafe call takes one. */
  readonly replay: Replay;
  readonly answers: Readonly<Record<number, readonly Answer[]>>;
  /** Error codes beside those that every call of its kind has (`routeProblems`). */
  readonly problems: readonly ErrorCode[];
  /** Its answers may take MiB: a person gets few of them at once (server/client-limits.ts). */
  readonly isLarge: boolean;
  /** Its body is one file of any type, named by the query; `body` is then a `Received`. */
  readonly isUpload: boolean;
  /** Its body is a form, not JSON: the wire of OAuth. */
  readonly isForm: boolean;
  readonly handle: (call: RouteCall<z.infer<B>, z.infer<Q>>) => Promise<RouteReply>;
}

/** Unsafe calls change something: they take an Idempotency-Key. */
export const isUnsafe = ({ method }: Pick<Route, "method">): boolean => method !== "get";

export const nothing = z.strictObject({});
type Nothing = typeof nothing;

type Row<B extends z.ZodType, Q extends z.ZodType> = Pick<
  Route<B, Q>,
  "method" | "path" | "access" | "operation" | "summary" | "answers" | "handle"
> &
  Partial<Pick<Route<B, Q>, "body" | "query" | "replay" | "problems" | "isLarge" | "isUpload" | "isForm" | "scope">>;

/** Checks the types of one row and erases them, because the table holds rows of different types. */
export function route<B extends z.ZodType = Nothing, Q extends z.ZodType = Nothing>(row: Row<B, Q>): Route {
  // Without a user, a stored answer could reach anyone; not if the body is the whole credential.
  const replay: Replay = row.access === "none" ? "handler" : "store";
  const scope = scopeOf(row.access, row.method);
  const flags = { isLarge: false, isUpload: false, isForm: false };
  return { body: nothing, query: nothing, replay, problems: [], ...flags, scope, ...row } as unknown as Route;
}

export const json = (...schemas: z.ZodType[]): Answer[] => schemas.map((schema) => ({ schema }));
export const EMPTY: readonly Answer[] = [{ empty: true }];

/** The query of lists with cursors. */
export const listQuerySchema = z.strictObject({
  limit: z.coerce.number().int().min(1).max(1_000).default(200).describe("Most items of the page."),
  cursor: z.string().max(64).optional().describe("`next` of the page before."),
});

export const bySeq = ({ seq }: { readonly seq: number }): string => String(seq);

/** The seq of a cursor. A cursor that is no seq gives an empty page. */
const parseSeq = (cursor = "0"): number => (/^\d{1,15}$/.test(cursor) ? Number(cursor) : Number.MAX_SAFE_INTEGER);

/** A page of a list of one task, read from either end. */
export function readPage<T>(
  read: (seq: number, limit: number, direction: Direction) => Promise<Page<T>>,
  { after, cursor, before, limit }: { after?: number; cursor?: string | undefined; before?: Before; limit: number },
): Promise<Page<T>> {
  if (before === undefined) return read(after ?? parseSeq(cursor), limit, "up");
  return read(before === "latest" ? Number.MAX_SAFE_INTEGER : before, limit, "down");
}

/** The cursor of the next page; null at the end. */
export function nextCursor<T>({ items, more }: Page<T>, getKey: (item: T) => string): string | null {
  const last = items.at(-1);
  return more && last !== undefined ? getKey(last) : null;
}

/**
 * One page of a list that is read as a whole, after the item whose key is `cursor`. An unknown
 * cursor gives an empty page.
 */
export function pageOfList<T>(
  items: readonly T[],
  getKey: (item: T) => string,
  query: z.infer<typeof listQuerySchema>,
): { items: T[]; next: string | null } {
  const found = query.cursor === undefined ? -1 : items.findIndex((item) => getKey(item) === query.cursor);
  const from = query.cursor !== undefined && found === -1 ? items.length : found + 1;
  const page = items.slice(from, from + query.limit);
  const last = page.at(-1);
  return { items: page, next: last !== undefined && from + page.length < items.length ? getKey(last) : null };
}

/** Path parameters: a value of another form is 404 before the handler runs (rule S2). */
const ID = /^[a-z]{1,10}_[0-9A-Za-z]{26}$/;
const FREE_ID = /^[\w-]{1,64}$/;
const SHAPES: Readonly<Record<string, RegExp>> = {
  mid: FREE_ID,
  seq: /^\d{1,15}$/,
  name: ARTIFACT_NAME,
  provider: FREE_ID,
};

export function areParamsValid(params: Readonly<Record<string, string>>): boolean {
  return Object.entries(params).every(([name, value]) => (SHAPES[name] ?? ID).test(value));
}

export function isId(text: string): boolean {
  return ID.test(text);
}

/** Headers that proxies add. With one of them the caller may be on another machine. */
const FORWARDED =
  /^(?:x-forwarded(?:-\w+)?|forwarded|via|x-real-ip|x-client-ip|x-cluster-client-ip|true-client-ip|cf-connecting-ip|cf-ray|x-original-(?:for|host|url))$/;

/** True when a header shows that a proxy forwarded the request. */
export function isForwarded({ headers }: Pick<IncomingMessage, "headers">): boolean {
  return Object.keys(headers).some((name) => FORWARDED.test(name));
}

/**
 * True when both the peer address and the Host header are loopback and no proxy header is present.
 * This excludes web pages that rebind their name to this machine, and proxies on this machine. A
 * proxy may add no header: call this only when none is configured.
 */
export function isLocalCall(ip: string, request: IncomingMessage): boolean {
  const loopback = ip === "::1" || /^(::ffff:)?127\./.test(ip);
  const host = (request.headers.host ?? "").replace(/:\d+$/, "");
  const forwarded = isForwarded(request);
  return loopback && !forwarded && (host === "localhost" || host === "[::1]" || /^127(\.\d{1,3}){3}$/.test(host));
}
