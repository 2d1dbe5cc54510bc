/**
 * One row per call: what registers it in express and what the OpenAPI document prints are the same
 * thing.
 */
import type { IncomingMessage } from "node:http";
import { z } from "zod";
import type { Accounts, Identity } from "../core/ports/accounts.ts";
import type { ErrorCode } from "../core/error.ts";
import type { EgressService } from "../coordinator/services/egress.ts";
import type { Page } from "../core/lib/pagination.ts";
import type { Store } from "../core/ports/store.ts";
import type { AuthenticatedCaller, Sessions } from "../auth/sessions.ts";
import type { LoginThrottle } from "./login-throttle.ts";
import type { Clock, Ids, Log } from "../core/ports/runtime.ts";
import type { OperationsService } from "../coordinator/services/operations.ts";
import type { TaskService } from "../coordinator/services/tasks.ts";
import { ARTIFACT_NAME } from "../core/values/artifact.ts";

/**
 * Seals small secrets for the disk. `context` binds a sealed text to its row: it opens only with
 * the same one.
 */
export interface Sealer {
  seal(plain: string, context: string): string;
}

/** Numbers that only their owners know. */
export interface Gauges {
  /** Open WebSockets. */
  sockets(): number;
  /** Events committed since the start. */
  events(): number;
  /** Lag of the event loop in seconds: its 99th percentile since the last call. */
  loopLagSeconds(): number;
}

/** Everything that the doors need; main.ts hands it over. */
export interface ApiDeps {
  readonly tasks: TaskService;
  readonly operations: OperationsService;
  readonly egress: Pick<EgressService, "list" | "change">;
  readonly sessions: Sessions;
  readonly store: Store;
  readonly accounts: Accounts;
  readonly vault: Sealer;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  /** Resolves when tasks can be sandboxed; rejects with the reason. */
  readonly checkSandbox: (signal: AbortSignal) => Promise<unknown>;
  /** The folder whose disk must not fill up. */
  readonly dataDir: string;
  readonly gauges: Gauges;
  readonly version: string;
  /** Browser origins other than our own that may call the API; none by default. */
  readonly origins?: readonly string[];
  /**
   * People reach the server under another address than its own: something stands in front of it.
   */
  readonly isFronted?: boolean;
  /**
   * Whose `X-Forwarded-For` to believe: a number of hops, or addresses and CIDR ranges. Nobody's by
   * default.
   */
  readonly trustProxy?: number | readonly string[];
}

export type Method = "get" | "post" | "delete";
/** `metrics` = operators, or whoever asks from this machine. */
export type Access = "none" | "user" | "operator" | "admin" | "metrics";

/**
 * What a status answers with: JSON of that schema, a text or bytes of that media type, or nothing.
 */
export type Answer =
  | { readonly schema: z.ZodType }
  | { readonly media: string }
  | { readonly binary: string }
  | { readonly empty: true };

export interface RouteReply {
  readonly status: number;
  readonly body?: unknown;
  /** Media type; JSON unless said. `body` is a string then. */
  readonly media?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Bytes instead of a body, of the type that `media` says. */
  readonly content?: AsyncIterable<Uint8Array>;
}

export interface RouteCall<B, Q> {
  readonly deps: ApiDeps;
  readonly throttle: LoginThrottle;
  /** Throws `unauthenticated` on routes that anybody may call. */
  readonly caller: AuthenticatedCaller;
  readonly identity: Identity;
  readonly params: Readonly<Record<string, string>>;
  readonly body: B;
  readonly query: Q;
  readonly idempotencyKey: string | null;
  readonly ip: string;
}

export interface Route<B extends z.ZodType = z.ZodType, Q extends z.ZodType = z.ZodType> {
  readonly method: Method;
  /** Express style: `/v1/tasks/:id`. */
  readonly path: string;
  readonly access: Access;
  readonly summary: string;
  readonly body: B;
  readonly query: Q;
  /** True when the call takes an Idempotency-Key. */
  readonly idempotent: boolean;
  readonly answers: Readonly<Record<number, readonly Answer[]>>;
  /** Codes of its problem documents beyond those that every call of its kind has. */
  readonly problems: readonly ErrorCode[];
  readonly handle: (call: RouteCall<z.infer<B>, z.infer<Q>>) => Promise<RouteReply>;
}

export const nothing = z.strictObject({});
type Nothing = typeof nothing;

type Row<B extends z.ZodType, Q extends z.ZodType> = Pick<
  Route<B, Q>,
  "method" | "path" | "access" | "summary" | "answers" | "handle"
> &
  Partial<Pick<Route<B, Q>, "body" | "query" | "idempotent" | "problems">>;

/** Checks the row's own types, then forgets them: the table holds rows of every kind. */
export function route<B extends z.ZodType = Nothing, Q extends z.ZodType = Nothing>(row: Row<B, Q>): Route {
  return { body: nothing, query: nothing, idempotent: false, problems: [], ...row } as unknown as Route;
}

export const json = (...schemas: z.ZodType[]): Answer[] => schemas.map((schema) => ({ schema }));
export const EMPTY: readonly Answer[] = [{ empty: true }];

/** The query of lists with cursors. */
export const listQuerySchema = z.strictObject({
  limit: z.coerce.number().int().min(1).max(1_000).default(200),
  cursor: z.string().max(64).optional(),
});

/** The cursor of the page behind this one; null at the end. */
export function nextCursor<T>({ items, more }: Page<T>, keyOf: (item: T) => string): string | null {
  const last = items.at(-1);
  return more && last !== undefined ? keyOf(last) : null;
}

/**
 * One page of a list that is short enough to be read whole, after the item whose key is `cursor`;
 * an unknown cursor gives an empty page.
 */
export function pageOfList<T>(
  items: readonly T[],
  keyOf: (item: T) => string,
  query: z.infer<typeof listQuerySchema>,
): { items: T[]; next: string | null } {
  const found = query.cursor === undefined ? -1 : items.findIndex((item) => keyOf(item) === query.cursor);
  const from = query.cursor !== undefined && found === -1 ? items.length : found + 1;
  const page = items.slice(from, from + query.limit);
  const last = page.at(-1);
  return { items: page, next: last !== undefined && from + page.length < items.length ? keyOf(last) : null };
}

/** The shapes of path parameters. What does not fit is 404 before anything is asked (rule S2). */
const ID = /^[a-z]{1,10}_[0-9A-Za-z]{26}$/;
const FREE_ID = /^[\w-]{1,64}$/;
const SHAPES: Readonly<Record<string, RegExp>> = { mid: FREE_ID, name: ARTIFACT_NAME };

export function areParamsValid(params: Readonly<Record<string, string>>): boolean {
  return Object.entries(params).every(([name, value]) => (SHAPES[name] ?? ID).test(value));
}

export function isId(text: string): boolean {
  return ID.test(text);
}

/** What proxies add. One of them means that the caller may be anywhere. */
const FORWARDED =
  /^(?:x-forwarded(?:-\w+)?|forwarded|via|x-real-ip|x-client-ip|x-cluster-client-ip|true-client-ip|cf-connecting-ip|cf-ray|x-original-(?:for|host|url))$/;

/**
 * True when the peer and the name that it called us by are both this machine: a page of the web
 * that points its name at us is not, and neither is whoever comes through a proxy on this machine.
 * To be asked only where no such proxy is known of: one may be silent.
 */
export function isLocalCall(ip: string, request: IncomingMessage): boolean {
  const loopback = ip === "::1" || /^(::ffff:)?127\./.test(ip);
  const host = (request.headers.host ?? "").replace(/:\d+$/, "");
  const forwarded = Object.keys(request.headers).some((name) => FORWARDED.test(name));
  return loopback && !forwarded && (host === "localhost" || host === "[::1]" || /^127(\.\d{1,3}){3}$/.test(host));
}
