/** Passkeys of a person, and the log-in with one (src/auth/passkeys/passkeys.ts). */
import type { z } from "zod";
import type { Passkey } from "../../../../core/ports/accounts.ts";
import { SlipwayError } from "../../../../core/error.ts";
import { toIsoTime } from "../../../../core/protocol/mapping.ts";
import {
  newPasskeySchema,
  passkeyChangeSchema,
  passkeyLoginSchema,
  passkeySchema,
  passkeyStartSchema,
} from "../../../../core/protocol/people.ts";
import { pageSchema } from "../../../../core/protocol/rest.ts";
import { readClientInfo } from "../../../client-info.ts";
import { rejectOtherSites } from "../../../cookies.ts";
import { EMPTY, json, listQuerySchema, MEMORY_REPLAY, pageOfList, route, type ApiDeps } from "../../../route.ts";
import { browserReply, browserSessionSchema } from "./browser-session.ts";

export const passkeyRoutes = [
  route({
    method: "post",
    path: "/v1/session/passkey/start",
    access: "none",
    replay: MEMORY_REPLAY,
    operation: "startPasskeyLogin",
    summary: "Begin a log-in with a passkey: give options to navigator.credentials.get",
    answers: { 200: json(passkeyStartSchema) },
    problems: ["passkeys_unavailable", "forbidden"],
    async handle(call) {
      rejectOtherSites(call);
      return { status: 200, body: await call.deps.passkeys.startLogin() };
    },
  }),
  route({
    method: "post",
    path: "/v1/session/passkey",
    access: "none",
    replay: MEMORY_REPLAY,
    operation: "logInWithPasskey",
    summary: "Log in with a passkey; the refresh token is set as a cookie",
    body: passkeyLoginSchema,
    answers: { 200: json(browserSessionSchema) },
    problems: ["passkeys_unavailable", "passkey_refused", "expired", "forbidden", "rate_limited"],
    async handle(call) {
      rejectOtherSites(call);
      const { deps, throttle, body } = call;
      // A signature cannot be guessed, so attempts are not counted, and one client cannot block
      // another.
      const grant = await throttle.inTurn("passkey", () => deps.passkeys.logIn(body, readClientInfo(call)));
      return browserReply(call, 200, grant);
    },
  }),
  route({
    method: "post",
    path: "/v1/me/passkeys/start",
    access: "user",
    scope: null,
    replay: MEMORY_REPLAY,
    operation: "startPasskey",
    summary:
      "Begin to make a passkey: give options to navigator.credentials.create. Needs a log-in of the last ten minutes",
    answers: { 200: json(passkeyStartSchema) },
    problems: ["passkeys_unavailable", "forbidden", "fresh_login_required", "conflict"],
    async handle({ deps, caller }) {
      return { status: 200, body: await deps.passkeys.startRegistration(caller) };
    },
  }),
  route({
    method: "post",
    path: "/v1/me/passkeys",
    access: "user",
    scope: null,
    operation: "createPasskey",
    summary: "Keep the passkey that the browser made",
    body: newPasskeySchema,
    answers: { 201: json(passkeySchema) },
    problems: ["passkeys_unavailable", "passkey_refused", "expired", "forbidden", "conflict"],
    async handle(call) {
      const { deps, caller, body, act } = call;
      const name = body.name ?? readClientInfo(call).device;
      const { transports = [], ...signed } = body.response.response;
      const response = { ...body.response, response: { ...signed, transports } };
      const made = await deps.passkeys.register(caller, { ticket: body.ticket, response, name }, act);
      return { status: 201, body: wirePasskey(deps, made) };
    },
  }),
  route({
    method: "get",
    path: "/v1/me/passkeys",
    access: "user",
    operation: "listPasskeys",
    summary: "My passkeys",
    query: listQuerySchema,
    answers: { 200: json(pageSchema(passkeySchema)) },
    async handle({ deps, caller, query }) {
      const { items, next } = pageOfList(await deps.accounts.passkeys(caller.userId), ({ id }) => id, query);
      return { status: 200, body: { items: items.map((row) => wirePasskey(deps, row)), next } };
    },
  }),
  route({
    method: "post",
    path: "/v1/me/passkeys/:id",
    access: "user",
    scope: null,
    operation: "changePasskey",
    summary: "Give a passkey another name",
    body: passkeyChangeSchema,
    answers: { 204: EMPTY },
    problems: ["not_found"],
    async handle({ deps, caller, params, body, act }) {
      if (!(await deps.accounts.with(act).changePasskey(caller.userId, params["id"] ?? "", body)))
        throw new SlipwayError("not_found");
      return { status: 204 };
    },
  }),
  route({
    method: "delete",
    path: "/v1/me/passkeys/:id",
    access: "user",
    scope: null,
    operation: "deletePasskey",
    summary: "Remove a passkey. Needs a log-in of the last ten minutes",
    answers: { 204: EMPTY },
    problems: ["not_found", "forbidden", "fresh_login_required", "conflict"],
    async handle({ deps, caller, params, act }) {
      await deps.people.removePasskey(caller, params["id"] ?? "", act);
      return { status: 204 };
    },
  }),
];

function wirePasskey({ passkeys }: ApiDeps, passkey: Passkey): z.infer<typeof passkeySchema> {
  const { id, name, rpId, createdAt, lastUsedAt } = passkey;
  return {
    id,
    name,
    usable: rpId === passkeys.relyingParty?.rpId,
    createdAt: toIsoTime(createdAt),
    lastUsedAt: lastUsedAt === null ? null : toIsoTime(lastUsedAt),
  };
}
