/** Routes of accounts: login, tokens, git credentials, tickets and users. */
import { z } from "zod";
import type { AccessToken, Credential, User } from "../../../../core/ports/accounts.ts";
import { SlipwayError } from "../../../../core/error.ts";
import type { AuthenticatedCaller, TokenGrant } from "../../../../auth/sessions.ts";
import { credentialContext } from "../../../../auth/vault.ts";
import { ALL_SCOPES } from "../../../../core/roles.ts";
import { toIsoTime } from "../../../../core/protocol/mapping.ts";
import {
  loginSchema,
  meSchema,
  newTokenSchema,
  newUserSchema,
  pageSchema,
  refreshSchema,
  sessionSchema,
  setupSchema,
  ticketSchema,
  tokenSchema,
  userSchema,
} from "../../../../core/protocol/rest.ts";
import { TOKEN_USER } from "../../../../core/ports/repositories.ts";
import { credentialSchema, newCredentialSchema } from "../../../../core/protocol/repositories.ts";
import { parseHostAndPort } from "../../../../core/values/hostname.ts";
import { refresh } from "./browser-session.ts";
import { readClientInfo } from "../../../client-info.ts";
import {
  EMPTY,
  json,
  listQuerySchema,
  pageOfList,
  route,
  type ApiDeps,
  type RouteReply,
  MEMORY_REPLAY,
} from "../../../route.ts";

const DAY = 24 * 60 * 60 * 1_000;
const TOKEN_DAYS = 90;
/** For credentials of short life: as long as a ticket is valid. */

/** The response to the creation of a personal token; no other response contains the token. */
const mintedTokenSchema = tokenSchema.extend({ token: z.string() });

export function wireSession(grant: TokenGrant): z.infer<typeof sessionSchema> {
  const { accessToken, refreshToken, expiresIn, user } = grant;
  return { accessToken, refreshToken, expiresIn, user: me(user) };
}

function me({ id, email, role }: User): z.infer<typeof meSchema> {
  return { id, email, role };
}

export function wireUser(user: User): z.infer<typeof userSchema> {
  return { ...me(user), createdAt: toIsoTime(user.createdAt), disabledAt: isoOrNull(user.disabledAt) };
}

function wireCredential(credential: Credential): z.infer<typeof credentialSchema> {
  const { id, host, username, createdAt, check, lastUsedAt, lastUse } = credential;
  const times = { createdAt: toIsoTime(createdAt), lastUsedAt: isoOrNull(lastUsedAt) };
  return { id, host, kind: "token", username, ...times, check, lastUse };
}

const isoOrNull = (at: number | null): string | null => (at === null ? null : toIsoTime(at));

function wireToken({ id, name, createdAt, expiresAt, lastUsedAt, scopes }: AccessToken): z.infer<typeof tokenSchema> {
  return {
    id,
    name,
    scopes: [...(scopes ?? ALL_SCOPES)],
    createdAt: toIsoTime(createdAt),
    expiresAt: isoOrNull(expiresAt),
    lastUsedAt: isoOrNull(lastUsedAt),
  };
}

export const authRoutes = [
  route({
    method: "post",
    path: "/v1/auth/login",
    access: "none",
    replay: MEMORY_REPLAY,
    operation: "login",
    summary: "Log in with e-mail and password",
    body: loginSchema,
    answers: { 200: json(sessionSchema) },
    problems: ["invalid_credentials", "rate_limited"],
    async handle(call) {
      const { deps, throttle, ip, body } = call;
      const { email, password } = body;
      const client = readClientInfo(call);
      const grant = await throttle.attempt("login", ip, email, () => deps.sessions.login(email, password, client));
      return { status: 200, body: wireSession(grant) };
    },
  }),
  route({
    method: "post",
    path: "/v1/auth/refresh",
    access: "none",
    replay: MEMORY_REPLAY,
    operation: "refreshSession",
    summary: "Exchange a refresh token for a new session pair; reuse ends the session",
    body: refreshSchema,
    answers: { 200: json(sessionSchema) },
    problems: ["unauthenticated", "rate_limited"],
    async handle(call) {
      return { status: 200, body: wireSession(await refresh(call, call.body.refreshToken)) };
    },
  }),
  route({
    method: "post",
    path: "/v1/auth/logout",
    access: "user",
    scope: null,
    operation: "logout",
    summary: "End this session",
    answers: { 204: EMPTY },
    problems: ["forbidden"],
    async handle({ deps, caller, act }) {
      await deps.sessions.logout(caller, act);
      return { status: 204 };
    },
  }),
  route({
    method: "post",
    path: "/v1/setup",
    access: "none",
    replay: MEMORY_REPLAY,
    operation: "setUp",
    summary: "Create the first admin with the one-time token printed at startup",
    body: setupSchema,
    answers: { 201: json(sessionSchema) },
    problems: ["unauthenticated", "conflict", "rate_limited"],
    async handle(call) {
      const { deps, throttle, ip, body } = call;
      const { token, email, password } = body;
      const client = readClientInfo(call);
      const grant = await throttle.attempt("setup", ip, null, () =>
        deps.sessions.setUp(token, email, password, client),
      );
      return { status: 201, body: wireSession(grant) };
    },
  }),
  route({
    method: "get",
    path: "/v1/me",
    access: "user",
    operation: "getMe",
    summary: "The authenticated user",
    answers: { 200: json(meSchema) },
    async handle({ deps, caller }) {
      const user = await deps.accounts.user(caller.userId);
      if (user === null) throw new SlipwayError("unauthenticated");
      return { status: 200, body: me(user) };
    },
  }),
  route({
    method: "post",
    path: "/v1/tickets",
    access: "user",
    replay: MEMORY_REPLAY,
    scope: "read",
    operation: "createTicket",
    summary: "A one-time ticket for a WebSocket",
    answers: { 201: json(ticketSchema) },
    async handle({ deps, caller }) {
      return { status: 201, body: deps.sessions.issueTicket(caller) };
    },
  }),
];

export const tokenRoutes = [
  route({
    method: "post",
    path: "/v1/tokens",
    access: "user",
    scope: null,
    operation: "createToken",
    summary: "Create a personal access token; only this response contains it",
    body: newTokenSchema,
    answers: { 201: json(mintedTokenSchema) },
    problems: ["forbidden"],
    async handle({ deps, caller, body, idempotencyKey, act }) {
      const { row, token } = await deps.sessions.createToken(
        caller,
        body.name,
        (body.expiresInDays ?? TOKEN_DAYS) * DAY,
        idempotencyKey,
        body.scopes,
        act,
      );
      return { status: 201, body: { ...wireToken(row), token } };
    },
  }),
  route({
    method: "get",
    path: "/v1/tokens",
    access: "user",
    operation: "listTokens",
    summary: "My personal access tokens",
    query: listQuerySchema,
    answers: { 200: json(pageSchema(tokenSchema)) },
    async handle({ deps, caller, query }) {
      const { items, next } = pageOfList(await deps.accounts.tokens(caller.userId), (token) => token.id, query);
      return { status: 200, body: { items: items.map(wireToken), next } };
    },
  }),
  route({
    method: "delete",
    path: "/v1/tokens/:id",
    access: "user",
    scope: null,
    operation: "revokeToken",
    summary: "Revoke a personal access token",
    answers: { 204: EMPTY },
    problems: ["not_found"],
    async handle({ deps, caller, params, act }) {
      return removed(await deps.accounts.with(act).deleteToken(caller.userId, params["id"] ?? ""));
    },
  }),
];

export const credentialRoutes = [
  route({
    method: "post",
    path: "/v1/credentials",
    access: "user",
    scope: null,
    operation: "putCredential",
    summary:
      "Store a git credential for a host, replacing an existing one, after the host was asked about it. The token is never returned",
    body: newCredentialSchema,
    answers: { 201: json(credentialSchema) },
    problems: ["credential_refused", "invalid_repository", "rate_limited"],
    async handle({ deps, caller, identity, body, act }) {
      const host = normalizeHost(body.host);
      const { token, username = TOKEN_USER, repo = null } = body;
      const asked = body.check === false ? null : { host, auth: { username, token }, repo };
      const check = await deps.tasks.checkCredential(identity, asked);
      const credential = { ...sealed(deps, caller, body, host), check };
      await deps.accounts.with(act).putCredential(credential);
      return { status: 201, body: wireCredential(credential) };
    },
  }),
  route({
    method: "get",
    path: "/v1/credentials",
    access: "user",
    operation: "listCredentials",
    summary: "My git credentials, without their tokens",
    query: listQuerySchema,
    answers: { 200: json(pageSchema(credentialSchema)) },
    async handle({ deps, caller, query }) {
      const { items, next } = pageOfList(
        await deps.accounts.credentials(caller.userId),
        (credential) => credential.id,
        query,
      );
      return { status: 200, body: { items: items.map(wireCredential), next } };
    },
  }),
  route({
    method: "delete",
    path: "/v1/credentials/:id",
    access: "user",
    scope: null,
    operation: "deleteCredential",
    summary: "Delete a git credential",
    answers: { 204: EMPTY },
    problems: ["not_found"],
    async handle({ deps, caller, params, act }) {
      return removed(await deps.people.deleteCredential(caller.userId, params["id"] ?? "", act));
    },
  }),
];

export const userRoutes = [
  route({
    method: "post",
    path: "/v1/users",
    access: "admin",
    scope: null,
    operation: "createUser",
    summary: "Create a user",
    body: newUserSchema,
    answers: { 201: json(userSchema) },
    problems: ["conflict"],
    async handle({ deps, caller, body, idempotencyKey, act }) {
      const request = idempotencyKey === null ? null : `${caller.userId} ${idempotencyKey}`;
      return { status: 201, body: wireUser(await deps.sessions.createUser(body, request, act)) };
    },
  }),
  route({
    method: "get",
    path: "/v1/users",
    access: "admin",
    operation: "listUsers",
    summary: "All users",
    query: listQuerySchema,
    answers: { 200: json(pageSchema(userSchema)) },
    async handle({ deps, query }) {
      const { items, next } = pageOfList(await deps.sessions.listUsers(), (user) => user.id, query);
      return { status: 200, body: { items: items.map(wireUser), next } };
    },
  }),
];

function removed(there: boolean): RouteReply {
  if (!there) throw new SlipwayError("not_found");
  return { status: 204 };
}

function sealed(
  deps: ApiDeps,
  caller: AuthenticatedCaller,
  body: z.infer<typeof newCredentialSchema>,
  host: string,
): Omit<Credential, "check"> {
  return {
    id: deps.ids.next("cred"),
    userId: caller.userId,
    host,
    username: body.username ?? null,
    sealed: deps.vault.seal(body.token, credentialContext(caller.userId, host)),
    createdAt: deps.clock.now(),
    lastUsedAt: null,
    lastUse: null,
  };
}

/**
 * `host[:port]` in the form that repository addresses use: lower case, without the https port.
 * @throws SlipwayError `invalid_request`.
 */
export function normalizeHost(text: string): string {
  const parsed = parseHostAndPort(text);
  if (parsed === null) {
    throw new SlipwayError("invalid_request", "The body is not valid: see errors.", {
      errors: [{ path: "host", message: "must be a host name, or host:port" }],
    });
  }
  const { host, port } = parsed;
  return port === null || port === 443 ? host : `${host}:${port}`;
}
