/**
 * The route table as an express application.
 *
 * H1 A call is authenticated before its body is read, and its input is validated before the handler
 *    runs.
 * H2 Every error is a problem document with a code; an internal error shows no detail.
 */
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import express, { type Express, type NextFunction, type Request, type Response } from "express";
import { z } from "zod";
import { SlipwayError, type ErrorCode } from "../core/error.ts";
import type { Role } from "../core/ports/accounts.ts";
import { ACCESS } from "../core/roles.ts";
import type { AuthenticatedCaller } from "../auth/sessions.ts";
import { fieldWords } from "../core/lib/json/field-words.ts";
import { idempotencyKeySchema } from "../core/protocol/rest.ts";
import { LargeAnswers } from "./server/client-limits.ts";
import { compressAnswers, readBody, readForm, send, setHeaders } from "./transfer/body.ts";
import { receiveUpload } from "./transfer/upload.ts";
import type { Received } from "../core/ports/files/attachments.ts";
import { LoginThrottle } from "./login-throttle.ts";
import { invalidRequest, sendProblem } from "./problem.ts";
import { Replies } from "./replies.ts";
import {
  isForwarded,
  isLocalCall,
  isUnsafe,
  areParamsValid,
  type RouteCall,
  type ApiDeps,
  type RouteReply,
  type Route,
} from "./route.ts";
import { AuditTrail, type AuditedCall } from "./server/audit-trail.ts";
import { HEADER_COUNT } from "./server/server.ts";
import { ROUTES } from "./routes/index.ts";
import { allowOrigins } from "./transfer/cross-origin.ts";
import { serveWebApp } from "./web-app.ts";

const SECURITY_HEADERS = {
  "X-Content-Type-Options": "nosniff",
  "X-Frame-Options": "DENY",
  "Referrer-Policy": "no-referrer",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Content-Security-Policy": "default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
} as const;

/** Refusals that an operator wants to see. An access token that has expired is none. */
const REFUSALS: ReadonlySet<string> = new Set<ErrorCode>(["invalid_credentials", "forbidden", "rate_limited"]);
/** What clients do by themselves. */
const UNATTENDED: ReadonlySet<string> = new Set([
  "createTicket",
  "refreshBrowserSession",
  "refreshSession",
  "reportPresence",
  "sendReceipt",
]);

export function createApp(deps: ApiDeps): Express {
  const app = express();
  const throttle = new LoginThrottle(deps.clock);
  const replies = new Replies(deps);
  const trail = new AuditTrail(deps);
  const large = new LargeAnswers();
  app.disable("x-powered-by").disable("etag").set("query parser", false).set("trust proxy", getTrustProxy(deps));
  app.enable("case sensitive routing").enable("strict routing");
  app.use(beginResponse(deps));
  if (getTrustProxy(deps) === false || deps.trustProxy === 0) app.use(noticeProxies(deps));
  app.use(allowOrigins(deps.origins ?? []));
  app.use(["/v1", "/openapi.json"], compressAnswers());
  const methods = new Map<string, string[]>();
  for (const row of ROUTES) {
    app[row.method](row.path, (request, response) =>
      answer({ deps, throttle, replies, trail, large, row, request, response }),
    );
    methods.set(row.path, [
      ...(methods.get(row.path) ?? []),
      ...(row.method === "get" ? ["GET", "HEAD"] : [row.method.toUpperCase()]),
    ]);
  }
  // app.all() would make one layer for each of the 35 methods.
  for (const [path, allowed] of methods) app.route(path).all(refuseMethod(allowed));
  serveWebApp(app, deps.webDir ?? null);
  app.use(() => {
    throw new SlipwayError("not_found", "There is nothing at this address.");
  });
  app.use((error: unknown, request: Request, response: Response, _next: NextFunction) => {
    const code = sendProblem(response, error, deps.log, { requestId: response.getHeader("X-Request-Id") });
    response.locals["code"] = code;
    if (REFUSALS.has(code))
      deps.log.warn({ code, address: request.ip, path: request.path.slice(0, 200) }, "a request was refused");
  });
  return app;
}

function getTrustProxy({ trustProxy }: ApiDeps): false | number | string[] {
  if (trustProxy === undefined) return false;
  return typeof trustProxy === "number" ? trustProxy : [...trustProxy];
}

/**
 * Warns once: behind a proxy that is not configured all clients share one address, and one of them
 * can use up what the others may try.
 */
function noticeProxies({ log }: ApiDeps) {
  let hasWarned = false;
  return (request: Request, _response: Response, next: NextFunction): void => {
    if (!hasWarned && isForwarded(request)) {
      hasWarned = true;
      log.warn(
        { address: request.socket.remoteAddress },
        "a request came through a proxy, whose X-Forwarded-For is not believed: set SLIPWAY_TRUST_PROXY to the number of proxies",
      );
    }
    next();
  };
}

/** Sets the request id and the headers of every response, logs the request, limits the headers. */
function beginResponse({ ids, clock, log, metrics }: ApiDeps) {
  return (request: Request, response: Response, next: NextFunction): void => {
    const requestId = ids.next("req");
    const startedAt = clock.now();
    // Without the query, which may contain text that a user typed.
    const path = request.path;
    response.set(SECURITY_HEADERS).set("X-Request-Id", requestId);
    if (path.startsWith("/v1/") || path === "/v1") response.set("Cache-Control", "no-store");
    response.once("close", () => {
      const { method } = request;
      const code = typeof response.locals["code"] === "string" ? response.locals["code"] : null;
      metrics.noteRequest({ method, status: response.statusCode, seconds: (clock.now() - startedAt) / 1_000, code });
      log.debug(
        { requestId, method, path: path.slice(0, 200), status: response.statusCode, ms: clock.now() - startedAt },
        "request",
      );
    });
    next(
      request.rawHeaders.length > 2 * HEADER_COUNT
        ? new SlipwayError("headers_too_large", `At most ${HEADER_COUNT} headers.`)
        : undefined,
    );
  };
}

function refuseMethod(allowed: readonly string[]) {
  return (_request: Request, response: Response): void => {
    response.set("Allow", allowed.join(", "));
    throw new SlipwayError("method_not_allowed", `Use ${allowed.join(" or ")}.`);
  };
}

interface Exchange {
  readonly deps: ApiDeps;
  readonly throttle: LoginThrottle;
  readonly replies: Replies;
  readonly trail: AuditTrail;
  readonly large: LargeAnswers;
  readonly row: Route;
  readonly request: Request;
  readonly response: Response;
}

/** `userId` is empty for a call without authentication. */
type KeyedCall = RouteCall<unknown, unknown> & { readonly userId: string; readonly audited: AuditedCall };

async function answer(exchange: Exchange): Promise<void> {
  const call = await readCall(exchange);
  const { large, row, response } = exchange;
  if (!row.isLarge) return await makeAnswer(exchange, call);
  await large.run(call.userId, response, () => makeAnswer(exchange, call));
}

async function makeAnswer(exchange: Exchange, call: KeyedCall): Promise<void> {
  const reply = await handleOnce(exchange, call);
  if (isUnsafe(exchange.row)) noteAct(exchange, call, reply);
  if (reply.content === undefined) return await send(exchange, reply);
  const { status, media = "application/octet-stream", headers } = reply;
  setHeaders(exchange.response.status(status), headers).setHeader("Content-Type", media);
  if (exchange.request.method === "HEAD") {
    await reply.content[Symbol.asyncIterator]().return?.();
    return void exchange.response.end();
  }
  // Either the client closed the connection, or reading failed after the status was sent: in both
  // cases only the connection can end.
  await pipeline(Readable.from(reply.content), exchange.response).catch(() => exchange.response.destroy());
}

/**
 * Logs the person and the operation of a successful call, never its input. For a log-in the person
 * is read from the answer.
 */
function noteAct({ deps, row, request }: Exchange, { userId, ip }: KeyedCall, { status, body }: RouteReply): void {
  if (UNATTENDED.has(row.operation) || status >= 400) return;
  const answered = z.object({ user: z.object({ id: z.string() }) }).safeParse(body).data;
  const user = userId === "" ? answered?.user.id : userId;
  deps.log.info({ user, address: ip, path: request.path.slice(0, 200) }, row.operation);
}

/** A call with an Idempotency-Key has one effect, however often it is sent (rule R5). */
async function handleOnce({ row, request, replies, trail }: Exchange, call: KeyedCall): Promise<RouteReply> {
  const { idempotencyKey: key, userId, body, act } = call;
  const handle = (): Promise<RouteReply> => row.handle(call);
  const run = act === undefined ? handle : () => trail.run(call.audited, act, handle);
  try {
    if (key === null || row.replay === "handler") return await run();
    const endpoint = `${request.method} ${request.path}`;
    return await replies.run({ userId, endpoint, key, body }, row.replay, run);
  } finally {
    // One that was sent again keeps nothing of its body.
    if (row.isUpload) await (body as Received).discard();
  }
}

/** Authenticates the request and validates its input (H1). */
async function readCall({ deps, throttle, trail, row, request }: Exchange): Promise<KeyedCall> {
  const ip = request.ip ?? "";
  const caller = await authorize(deps, row, request, ip);
  const params = request.params as Record<string, string>;
  if (!areParamsValid(params)) throw new SlipwayError("not_found");
  const query = parseInput(row.query, readQuery(request), "query");
  const idempotencyKey = isUnsafe(row) ? readIdempotencyKey(request) : null;
  const body = row.method === "post" ? await receiveBody(deps, row, request, { caller, query }) : undefined;
  const audited = { row, caller, address: ip, params, query, body };
  return {
    deps,
    throttle,
    params,
    query,
    body,
    idempotencyKey,
    act: trail.begin(audited),
    audited,
    userId: caller?.userId ?? "",
    ip,
    headers: request.headers,
    isSecure: request.secure,
    get caller() {
      if (caller === null) throw new SlipwayError("unauthenticated");
      return caller;
    },
    get identity() {
      if (caller === null) throw new SlipwayError("unauthenticated");
      return { userId: caller.userId, role: caller.role };
    },
  };
}

/** The JSON of the body, or the file that it is. */
async function receiveBody(
  deps: ApiDeps,
  row: Route,
  request: Request,
  { caller, query }: { readonly caller: AuthenticatedCaller | null; readonly query: unknown },
): Promise<unknown> {
  if (row.isUpload && caller !== null)
    return await receiveUpload(deps, caller, (query as { name: string }).name, request);
  return parseInput(row.body, await (row.isForm ? readForm : readBody)(request), "body");
}

async function authorize(
  { sessions, trustProxy, isFronted }: ApiDeps,
  row: Route,
  request: Request,
  ip: string,
): Promise<AuthenticatedCaller | null> {
  if (row.access === "none") return null;
  const proxied = isFronted === true || (typeof trustProxy === "number" ? trustProxy > 0 : trustProxy !== undefined);
  if (row.access === "metrics" && !proxied && isLocalCall(ip, request)) return null;
  const bearer = /^Bearer +([\x21-\x7e]+)$/i.exec(request.headers.authorization ?? "")?.[1];
  if (bearer === undefined) throw new SlipwayError("unauthenticated", "Send Authorization: Bearer <token>.");
  const caller = await sessions.authenticate(bearer);
  const roles: readonly Role[] = ACCESS[row.access];
  if (!roles.includes(caller.role))
    throw new SlipwayError("forbidden", `This needs the role ${row.access === "admin" ? "admin" : "operator"}.`);
  if (caller.scopes !== null && row.scope === null)
    throw new SlipwayError("forbidden", "A personal token cannot do this. Log in first.");
  if (caller.scopes !== null && row.scope !== null && !caller.scopes.includes(row.scope))
    throw new SlipwayError("forbidden", `This token was made without the scope ${row.scope}. Make another one.`);
  return caller;
}

function parseInput(schema: z.ZodType, value: unknown, where: string): unknown {
  const result = schema.safeParse(value, { error: fieldWords });
  if (!result.success) throw invalidRequest(result.error, where);
  return result.data;
}

/**
 * @throws `invalid_request` for a repeated name: a proxy and this server may read different ones.
 */
function readQuery(request: Request): Record<string, string> {
  const start = request.url.indexOf("?");
  const pairs = [...new URLSearchParams(start === -1 ? "" : request.url.slice(start))];
  const query = Object.fromEntries(pairs);
  if (Object.keys(query).length === pairs.length) return query;
  throw new SlipwayError("invalid_request", "A query parameter is repeated.");
}

function readIdempotencyKey(request: Request): string | null {
  const key = request.headers["idempotency-key"];
  if (key === undefined) return null;
  const result = idempotencyKeySchema.safeParse(key);
  if (result.success) return result.data;
  throw new SlipwayError("invalid_request", "The Idempotency-Key is not valid: see errors.", {
    errors: [{ path: "Idempotency-Key", message: "must be 1 to 255 printable ASCII characters without spaces" }],
  });
}
