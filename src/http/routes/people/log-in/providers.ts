/** Log-in with a provider, and the identities of a person. The browser is led through redirects. */
import { z } from "zod";
import type { ProviderIdentity } from "../../../../core/ports/accounts.ts";
import { SlipwayError } from "../../../../core/error.ts";
import { toIsoTime } from "../../../../core/protocol/mapping.ts";
import {
  identitySchema,
  providersSchema,
  startLoginSchema,
  type LoginProblem,
} from "../../../../core/protocol/people.ts";
import { pageSchema } from "../../../../core/protocol/rest.ts";
import { readClientInfo } from "../../../client-info.ts";
import { readCookie, rejectOtherSites, setCookie } from "../../../cookies.ts";
import { EMPTY, json, listQuerySchema, pageOfList, route, type ApiDeps, type RouteReply } from "../../../route.ts";
import { sessionCookie } from "./browser-session.ts";

/** As long as the sealed cookie is good. */
const FLOW_SECONDS = 600;
/** Tells the app that the browser has a session now, which scripts cannot see. */
const HAS_SESSION = "#session";

const refused = (problem: LoginProblem, isLink: boolean): string => `${isLink ? "/you" : "/login"}?problem=${problem}`;

function redirect(location: string, cookies: readonly string[] = []): RouteReply {
  return { status: 302, headers: { Location: location, ...(cookies.length === 0 ? {} : { "Set-Cookie": cookies }) } };
}

export const providerRoutes = [
  route({
    method: "get",
    path: "/v1/auth/providers",
    access: "none",
    operation: "listProviders",
    summary: "What people can log in with beside a password: providers, by their startUrl, and passkeys",
    answers: { 200: json(providersSchema) },
    async handle({ deps: { logins, passkeys } }) {
      const origin = passkeys.relyingParty?.origin;
      return { status: 200, body: { items: logins.list(), passkeys: origin === undefined ? null : { origin } } };
    },
  }),
  route({
    method: "get",
    path: "/v1/auth/oauth/:provider/start",
    access: "none",
    operation: "startProviderLogin",
    summary: "Begin a log-in with a provider: leads the browser there",
    query: startLoginSchema,
    answers: { 302: EMPTY },
    problems: ["not_found", "forbidden", "unauthenticated", "rate_limited"],
    async handle(call) {
      const { deps, params, query } = call;
      const isLink = query.link === "true";
      const session = isLink ? await readSession(call) : null;
      const next = query.next ?? (isLink ? "/you" : "/");
      const started = await deps.logins.start(params["provider"] ?? "", next, session, query.git === "true");
      if (started.kind === "refused") return redirect(refused(started.problem, isLink));
      // The provider leads the browser back from another site: a Strict cookie would not be sent.
      return redirect(started.location, [setCookie(call, "slipway-login", started.cookie, FLOW_SECONDS, "Lax")]);
    },
  }),
  route({
    method: "get",
    path: "/v1/auth/oauth/:provider/callback",
    access: "none",
    operation: "finishProviderLogin",
    summary: "Where the provider leads the browser back to; ends in the app, logged in",
    query: z.record(z.string().max(100), z.string().max(4_000)),
    answers: { 302: EMPTY },
    problems: ["not_found", "rate_limited"],
    async handle(call) {
      const { deps, throttle, params, query } = call;
      const cookie = readCookie(call, "slipway-login");
      const cleared = setCookie(call, "slipway-login", "", 0, "Lax");
      const outcome = await throttle.inTurn("provider", () =>
        deps.logins.finish(params["provider"] ?? "", query, cookie, readClientInfo(call)),
      );
      if (outcome.kind === "refused") {
        const { act } = call;
        if (act !== undefined) act.entry = { ...act.entry, outcome: outcome.problem };
        return redirect(refused(outcome.problem, outcome.isLink), [cleared]);
      }
      if (outcome.kind === "linked") return redirect(outcome.next, [cleared]);
      return redirect(`${outcome.next}${HAS_SESSION}`, [cleared, sessionCookie(call, outcome.grant)]);
    },
  }),
  route({
    method: "get",
    path: "/v1/me/identities",
    access: "user",
    operation: "listIdentities",
    summary: "The providers that I can log in with",
    query: listQuerySchema,
    answers: { 200: json(pageSchema(identitySchema)) },
    async handle({ deps, caller, query }) {
      const rows = await deps.accounts.identities(caller.userId);
      const { items, next } = pageOfList(rows, (row) => row.id, query);
      return { status: 200, body: { items: items.map((row) => wireIdentity(deps, row)), next } };
    },
  }),
  route({
    method: "delete",
    path: "/v1/me/identities/:id",
    access: "user",
    scope: null,
    operation: "unlinkIdentity",
    summary: "Unlink a provider. Needs a log-in of the last ten minutes",
    answers: { 204: EMPTY },
    problems: ["not_found", "forbidden", "fresh_login_required", "conflict"],
    async handle({ deps, caller, params, act }) {
      await deps.people.unlink(caller, params["id"] ?? "", act);
      return { status: 204 };
    },
  }),
];

function wireIdentity({ logins }: ApiDeps, row: ProviderIdentity): z.infer<typeof identitySchema> {
  const { id, issuer, name, createdAt, lastUsedAt } = row;
  return {
    id,
    provider: logins.providerOf(row),
    issuer,
    name,
    createdAt: toIsoTime(createdAt),
    lastUsedAt: lastUsedAt === null ? null : toIsoTime(lastUsedAt),
  };
}

/** The session of the browser's cookie: another site cannot make a person link its own account. */
async function readSession(call: Parameters<typeof readCookie>[0] & { readonly deps: ApiDeps }) {
  rejectOtherSites(call);
  const token = readCookie(call, "slipway");
  const session = token === null ? null : await call.deps.sessions.sessionOf(token);
  if (session === null) throw new SlipwayError("unauthenticated", "Log in first.");
  return session;
}
