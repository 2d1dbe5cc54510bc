/**
 * The route table as an express application.
 *
 * H1 Who asks is known before anything that they sent is read; what they sent is parsed before
 *    anything is done.
 * H2 Every refusal is a problem document with a code; nothing of an internal failure is shown.
 */
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import express, { type Express, type NextFunction, type Request, type Response } from "express";
import type { z } from "zod";
import { SlipwayError } from "../core/error.ts";
import type { AuthenticatedCaller } from "../auth/sessions.ts";
import { idempotencyKeySchema } from "../core/protocol/rest.ts";
import { readBody } from "./body.ts";
import { allowOrigins } from "./cors.ts";
import { LoginThrottle } from "./login-throttle.ts";
import { invalidRequest, sendProblem } from "./problem.ts";
import { isLocalCall, areParamsValid, type RouteCall, type ApiDeps, type RouteReply, type Route } from "./route.ts";
import { HEADER_COUNT } from "./server.ts";
import { ROUTES } from "./routes/index.ts";

const SECURITY_HEADERS = {
  "X-Content-Type-Options": "nosniff",
  "X-Frame-Options": "DENY",
  "Referrer-Policy": "no-referrer",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Content-Security-Policy": "default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
} as const;

export function createApp(deps: ApiDeps): Express {
  const app = express();
  const throttle = new LoginThrottle(deps.clock);
  app.disable("x-powered-by").disable("etag").set("query parser", false).set("trust proxy", trusted(deps));
  app.enable("case sensitive routing").enable("strict routing");
  app.use(opened(deps));
  app.use(allowOrigins(deps.origins ?? []));
  const methods = new Map<string, string[]>();
  for (const row of ROUTES) {
    app[row.method](row.path, (request, response) => answer({ deps: deps, throttle, row, request, response }));
    methods.set(row.path, [
      ...(methods.get(row.path) ?? []),
      ...(row.method === "get" ? ["GET", "HEAD"] : [row.method.toUpperCase()]),
    ]);
  }
  for (const [path, allowed] of methods) app.all(path, refuseMethod(allowed));
  app.use(() => {
    throw new SlipwayError("not_found", "There is nothing at this address.");
  });
  app.use((error: unknown, _request: Request, response: Response, _next: NextFunction) => {
    sendProblem(response, error, deps.log, { requestId: response.getHeader("X-Request-Id") });
  });
  return app;
}

function trusted({ trustProxy }: ApiDeps): false | number | string[] {
  if (trustProxy === undefined) return false;
  return typeof trustProxy === "number" ? trustProxy : [...trustProxy];
}

/**
 * First of all: the id, the headers of every answer, the diary, and the refusal of header floods.
 */
function opened({ ids, clock, log }: ApiDeps) {
  return (request: Request, response: Response, next: NextFunction): void => {
    const requestId = ids.next("req");
    const begun = clock.now();
    // The path without its query: a query may hold what people typed.
    const path = request.path;
    response.set(SECURITY_HEADERS).set("X-Request-Id", requestId);
    if (path.startsWith("/v1/") || path === "/v1") response.set("Cache-Control", "no-store");
    response.once("close", () => {
      const { method } = request;
      log.debug(
        { requestId, method, path: path.slice(0, 200), status: response.statusCode, ms: clock.now() - begun },
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
  readonly row: Route;
  readonly request: Request;
  readonly response: Response;
}

async function answer(exchange: Exchange): Promise<void> {
  const reply = await exchange.row.handle(await callOf(exchange));
  if (reply.content === undefined) return send(exchange.response, reply);
  const { status, media = "application/octet-stream", headers } = reply;
  exchange.response
    .status(status)
    .set(headers ?? {})
    .setHeader("Content-Type", media);
  if (exchange.request.method === "HEAD") {
    await reply.content[Symbol.asyncIterator]().return?.();
    return void exchange.response.end();
  }
  // A reader who goes away is no failure of ours; one whose bytes cannot be read is cut, because
  // the status is sent.
  await pipeline(Readable.from(reply.content), exchange.response).catch(() => exchange.response.destroy());
}

/** Everything about the request that the handler may rely on (H1). */
async function callOf({ deps, throttle, row, request }: Exchange): Promise<RouteCall<unknown, unknown>> {
  const ip = request.ip ?? "";
  const caller = await admit(deps, row, request, ip);
  const params = request.params as Record<string, string>;
  if (!areParamsValid(params)) throw new SlipwayError("not_found");
  const query = parsed(row.query, queryOf(request), "query");
  const idempotencyKey = row.idempotent ? keyOf(request) : null;
  const body = row.method === "post" ? parsed(row.body, await readBody(request), "body") : undefined;
  return {
    deps,
    throttle,
    params,
    query,
    body,
    idempotencyKey,
    ip,
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

async function admit(
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
  const enough =
    row.access === "user" || caller.role === "admin" || (caller.role === "operator" && row.access !== "admin");
  if (!enough)
    throw new SlipwayError("forbidden", `This needs the role ${row.access === "admin" ? "admin" : "operator"}.`);
  return caller;
}

function parsed(schema: z.ZodType, value: unknown, where: string): unknown {
  const result = schema.safeParse(value);
  if (!result.success) throw invalidRequest(result.error, where);
  return result.data;
}

/** A name that comes twice is refused: parts of a system that read different ones disagree. */
function queryOf(request: Request): Record<string, string> {
  const at = request.url.indexOf("?");
  const pairs = [...new URLSearchParams(at === -1 ? "" : request.url.slice(at))];
  const query = Object.fromEntries(pairs);
  if (Object.keys(query).length === pairs.length) return query;
  throw new SlipwayError("invalid_request", "A query parameter came twice.");
}

function keyOf(request: Request): string | null {
  const key = request.headers["idempotency-key"];
  if (key === undefined) return null;
  const result = idempotencyKeySchema.safeParse(key);
  if (result.success) return result.data;
  throw new SlipwayError("invalid_request", "The Idempotency-Key is not valid: see errors.", {
    errors: [{ path: "Idempotency-Key", message: "must be 1 to 255 printable ASCII characters without spaces" }],
  });
}

function send(response: Response, { status, body, media, headers }: RouteReply): void {
  response.status(status).set(headers ?? {});
  if (body === undefined) {
    response.end();
    return;
  }
  response.setHeader("Content-Type", `${media ?? "application/json"}; charset=utf-8`);
  response.end(media === undefined ? JSON.stringify(body) : body);
}
