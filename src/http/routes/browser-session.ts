/**
 * Sessions of browsers: the refresh token is in a cookie that scripts cannot read, the access token
 * in the response.
 *
 * B1 The cookie has the `__Host-` prefix and `Secure` when the request came over https. Plain http
 *    serves loopback and private networks only; there the cookie has neither.
 * B2 Every route rejects a request that another site caused.
 */
import type { z } from "zod";
import type { TokenGrant } from "../../auth/sessions.ts";
import { SlipwayError } from "../../core/error.ts";
import { loginSchema, sessionSchema, setupSchema } from "../../core/protocol/rest.ts";
import { EMPTY, json, route, type RouteCall, type RouteReply } from "../route.ts";

const browserSessionSchema = sessionSchema.omit({ refreshToken: true });
/** The refresh has none: its credential is the cookie, which yields the same successor for 30 s. */
const REPLAY = { memoryMs: 30_000 };
const COOKIE_SECONDS = 90 * 24 * 60 * 60;

type AnyCall = Pick<RouteCall<unknown, unknown>, "headers" | "isSecure">;

const cookieName = ({ isSecure }: AnyCall): string => (isSecure ? "__Host-slipway" : "slipway");

function setCookie(call: AnyCall, value: string, seconds: number): string {
  const flags = `Path=/; Max-Age=${seconds}; HttpOnly; SameSite=Strict${call.isSecure ? "; Secure" : ""}`;
  return `${cookieName(call)}=${value}; ${flags}`;
}

function readCookie(call: AnyCall): string | null {
  const name = cookieName(call);
  for (const pair of (call.headers.cookie ?? "").split(";")) {
    const [key, value] = pair.trim().split("=", 2);
    if (key === name && value !== undefined && value !== "") return value;
  }
  return null;
}

/** Browsers send Sec-Fetch-Site; older ones send Origin with every POST and DELETE. */
function rejectOtherSites({ headers }: AnyCall): void {
  const site = headers["sec-fetch-site"];
  const { origin, host } = headers;
  const isSame = site === undefined ? origin === undefined || hostOf(origin) === host : site === "same-origin";
  if (!isSame) throw new SlipwayError("forbidden", "This request came from another site.");
}

function hostOf(origin: string): string | null {
  return URL.canParse(origin) ? new URL(origin).host : null;
}

function reply(call: AnyCall, status: number, grant: TokenGrant): RouteReply {
  const { accessToken, refreshToken, expiresIn, user } = grant;
  const { id, email, role } = user;
  const body: z.infer<typeof browserSessionSchema> = { accessToken, expiresIn, user: { id, email, role } };
  return { status, body, headers: { "Set-Cookie": setCookie(call, refreshToken, COOKIE_SECONDS) } };
}

export const browserSessionRoutes = [
  route({
    method: "post",
    path: "/v1/session",
    access: "none",
    replay: REPLAY,
    operation: "logInBrowser",
    summary: "Log in with e-mail and password; the refresh token is set as a cookie",
    body: loginSchema,
    answers: { 200: json(browserSessionSchema) },
    problems: ["invalid_credentials", "forbidden", "rate_limited"],
    async handle(call) {
      rejectOtherSites(call);
      const { deps, throttle, ip, body } = call;
      const grant = await throttle.attempt("login", ip, body.email, () =>
        deps.sessions.login(body.email, body.password),
      );
      return reply(call, 200, grant);
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
      const token = readCookie(call);
      if (token === null) throw new SlipwayError("unauthenticated", "Log in first.");
      const { deps, throttle, ip } = call;
      return reply(call, 200, await throttle.attempt("refresh", ip, null, () => deps.sessions.refresh(token)));
    },
  }),
  route({
    method: "post",
    path: "/v1/session/setup",
    access: "none",
    replay: REPLAY,
    operation: "setUpInBrowser",
    summary: "Create the first admin with the one-time token, and log in as it",
    body: setupSchema,
    answers: { 201: json(browserSessionSchema) },
    problems: ["unauthenticated", "conflict", "forbidden", "rate_limited"],
    async handle(call) {
      rejectOtherSites(call);
      const { deps, throttle, ip, body } = call;
      const { token, email, password } = body;
      const grant = await throttle.attempt("setup", ip, null, () => deps.sessions.setUp(token, email, password));
      return reply(call, 201, grant);
    },
  }),
  route({
    method: "delete",
    path: "/v1/session",
    access: "user",
    operation: "logOutBrowser",
    summary: "End this session and remove its cookie",
    answers: { 204: EMPTY },
    problems: ["forbidden"],
    async handle(call) {
      rejectOtherSites(call);
      await call.deps.sessions.logout(call.caller);
      return { status: 204, headers: { "Set-Cookie": setCookie(call, "", 0) } };
    },
  }),
];
