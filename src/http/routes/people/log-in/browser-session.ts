/**
 * Sessions of browsers: the refresh token is in a cookie that scripts cannot read, the access token
 * in the response (cookies.ts).
 */
import type { z } from "zod";
import type { TokenGrant } from "../../../../auth/sessions.ts";
import { SlipwayError } from "../../../../core/error.ts";
import { loginSchema, sessionSchema, setupSchema } from "../../../../core/protocol/rest.ts";
import { readClientInfo } from "../../../client-info.ts";
import { readCookie, rejectOtherSites, setCookie } from "../../../cookies.ts";
import { EMPTY, json, route, type RouteCall, type RouteReply, MEMORY_REPLAY } from "../../../route.ts";

export const browserSessionSchema = sessionSchema.omit({ refreshToken: true });
/** The refresh has none: its cookie yields the same successor again until that arrived (H19). */
const COOKIE_SECONDS = 90 * 24 * 60 * 60;

type AnyCall = Pick<RouteCall<unknown, unknown>, "headers" | "isSecure">;

/** The Set-Cookie header that gives the browser this session. */
export function sessionCookie(call: AnyCall, { refreshToken }: TokenGrant): string {
  return setCookie(call, "slipway", refreshToken, COOKIE_SECONDS);
}

export function browserReply(call: AnyCall, status: number, grant: TokenGrant): RouteReply {
  const { accessToken, expiresIn, user } = grant;
  const { id, email, role } = user;
  const body: z.infer<typeof browserSessionSchema> = { accessToken, expiresIn, user: { id, email, role } };
  return { status, body, headers: { "Set-Cookie": sessionCookie(call, grant) } };
}

/**
 * Renews a session. Guesses count per address; a token that was signed here cannot be guessed, so
 * strangers behind the same address do not keep its holder out (rule S10).
 */
export function refresh(call: RouteCall<unknown, unknown>, token: string): Promise<TokenGrant> {
  const { deps, throttle, ip } = call;
  const run = (): Promise<TokenGrant> => deps.sessions.refresh(token, readClientInfo(call));
  return deps.sessions.isIssued(token) ? throttle.inTurn("refresh", run) : throttle.attempt("refresh", ip, null, run);
}

export const browserSessionRoutes = [
  route({
    method: "post",
    path: "/v1/session",
    access: "none",
    replay: MEMORY_REPLAY,
    operation: "logInBrowser",
    summary: "Log in with e-mail and password; the refresh token is set as a cookie",
    body: loginSchema,
    answers: { 200: json(browserSessionSchema) },
    problems: ["invalid_credentials", "forbidden", "rate_limited"],
    async handle(call) {
      rejectOtherSites(call);
      const { deps, throttle, ip, body } = call;
      const grant = await throttle.attempt("login", ip, body.email, () =>
        deps.sessions.login(body.email, body.password, readClientInfo(call)),
      );
      return browserReply(call, 200, grant);
    },
  }),
  route({
    method: "post",
    path: "/v1/session/refresh",
    access: "none",
    operation: "refreshBrowserSession",
    summary: "Renew the session of the cookie",
    answers: { 200: json(browserSessionSchema) },
    problems: ["unauthenticated", "forbidden", "rate_limited"],
    async handle(call) {
      rejectOtherSites(call);
      const token = readCookie(call, "slipway");
      if (token === null) throw new SlipwayError("unauthenticated", "Log in first.");
      return browserReply(call, 200, await refresh(call, token));
    },
  }),
  route({
    method: "post",
    path: "/v1/session/setup",
    access: "none",
    replay: MEMORY_REPLAY,
    operation: "setUpInBrowser",
    summary: "Create the first admin with the one-time token, and log in as it",
    body: setupSchema,
    answers: { 201: json(browserSessionSchema) },
    problems: ["unauthenticated", "conflict", "forbidden", "rate_limited"],
    async handle(call) {
      rejectOtherSites(call);
      const { deps, throttle, ip, body } = call;
      const { token, email, password } = body;
      const client = readClientInfo(call);
      const grant = await throttle.attempt("setup", ip, null, () =>
        deps.sessions.setUp(token, email, password, client),
      );
      return browserReply(call, 201, grant);
    },
  }),
  route({
    method: "delete",
    path: "/v1/session",
    access: "user",
    scope: null,
    operation: "logOutBrowser",
    summary: "End this session and remove its cookie",
    answers: { 204: EMPTY },
    problems: ["forbidden"],
    async handle(call) {
      rejectOtherSites(call);
      await call.deps.sessions.logout(call.caller, call.act);
      return { status: 204, headers: { "Set-Cookie": setCookie(call, "slipway", "", 0) } };
    },
  }),
];
