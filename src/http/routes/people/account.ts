/** A person's own sessions and password. */
import { z } from "zod";
import { commitIdentityKey, commitIdentitySchema, readCommitIdentity } from "../../../core/values/git-identity.ts";
import type { Session } from "../../../core/ports/accounts.ts";
import { SlipwayError } from "../../../core/error.ts";
import { toIsoTime } from "../../../core/protocol/mapping.ts";
import {
  deletePersonSchema,
  endSessionsSchema,
  newPasswordSchema,
  sessionRowSchema,
} from "../../../core/protocol/people.ts";
import { pageSchema } from "../../../core/protocol/rest.ts";
import { readCookie, setCookie } from "../../cookies.ts";
import { deletePerson } from "./people.ts";
import { EMPTY, json, listQuerySchema, MEMORY_REPLAY, pageOfList, route } from "../../route.ts";

function wireSession(row: Session, current: string | null): z.infer<typeof sessionRowSchema> {
  return {
    id: row.id,
    device: row.device,
    address: row.address,
    createdAt: toIsoTime(row.createdAt),
    lastUsedAt: toIsoTime(row.rotatedAt),
    expiresAt: toIsoTime(row.expiresAt),
    current: row.id === current,
  };
}

const commitIdentityAnswer = z.strictObject({ identity: commitIdentitySchema.nullable() });

export const accountRoutes = [
  route({
    method: "get",
    path: "/v1/sessions",
    access: "user",
    scope: null,
    operation: "listSessions",
    summary: "Where I am logged in, the last used first",
    query: listQuerySchema,
    answers: { 200: json(pageSchema(sessionRowSchema)) },
    async handle({ deps, caller, query }) {
      const rows = await deps.people.sessions(caller.userId);
      const { items, next } = pageOfList(rows, (row) => row.id, query);
      return { status: 200, body: { items: items.map((row) => wireSession(row, caller.sessionId)), next } };
    },
  }),
  route({
    method: "delete",
    path: "/v1/sessions/:id",
    access: "user",
    scope: null,
    operation: "endSession",
    summary: "End one of my sessions; its sockets close within seconds",
    answers: { 204: EMPTY },
    problems: ["not_found"],
    async handle({ deps, caller, params, act }) {
      if (!(await deps.people.endSession(caller.userId, params["id"] ?? "", act))) throw new SlipwayError("not_found");
      return { status: 204 };
    },
  }),
  route({
    method: "delete",
    path: "/v1/sessions",
    access: "user",
    scope: null,
    operation: "endSessions",
    summary: "End all of my sessions",
    query: endSessionsSchema,
    answers: { 204: EMPTY },
    async handle({ deps, caller, query, act }) {
      await deps.people.endSessions(caller.userId, query.keep === "current" ? caller.sessionId : null, act);
      return { status: 204 };
    },
  }),
  route({
    method: "post",
    path: "/v1/me/password",
    access: "user",
    scope: null,
    operation: "changePassword",
    summary: "Change my password with the old one; my other sessions end",
    body: newPasswordSchema,
    answers: { 204: EMPTY },
    problems: ["invalid_credentials", "fresh_login_required", "rate_limited", "not_found"],
    async handle({ deps, throttle, ip, caller, body, act }) {
      const { currentPassword = null, newPassword } = body;
      // A stolen session must not guess the password faster than a stranger.
      await throttle.attempt("password", ip, caller.userId, () =>
        deps.people.changePassword(caller, currentPassword, newPassword, act),
      );
      return { status: 204 };
    },
  }),
  route({
    method: "delete",
    path: "/v1/me",
    access: "user",
    scope: null,
    operation: "deleteMe",
    // In the store it would be a row of the person.
    replay: MEMORY_REPLAY,
    summary: "Delete my account with all that I have, after a log-in of the last ten minutes",
    query: deletePersonSchema,
    answers: { 204: EMPTY },
    problems: ["not_found", "conflict", "task_open", "fresh_login_required"],
    async handle(call) {
      await call.deps.sessions.assertFresh(call.caller);
      const reply = await deletePerson(call, call.caller.userId);
      // The browser keeps nothing of the person either.
      const hasCookie = readCookie(call, "slipway") !== null;
      return hasCookie ? { ...reply, headers: { "Set-Cookie": setCookie(call, "slipway", "", 0) } } : reply;
    },
  }),
  route({
    method: "get",
    path: "/v1/me/commit-identity",
    access: "user",
    scope: null,
    operation: "getCommitIdentity",
    summary: "How commits of my tasks name me; null = by my e-mail address",
    answers: { 200: json(commitIdentityAnswer) },
    async handle({ deps, caller }) {
      const identity = readCommitIdentity(await deps.store.setting(commitIdentityKey(caller.userId)));
      return { status: 200, body: { identity } };
    },
  }),
  route({
    method: "post",
    path: "/v1/me/commit-identity",
    access: "user",
    scope: null,
    operation: "changeCommitIdentity",
    summary: "Choose how commits of my tasks name me, from the next attempt on",
    body: commitIdentitySchema,
    answers: { 200: json(commitIdentityAnswer) },
    async handle({ deps, caller, body }) {
      await deps.store.setSetting(commitIdentityKey(caller.userId), JSON.stringify(body));
      return { status: 200, body: { identity: body } };
    },
  }),
  route({
    method: "delete",
    path: "/v1/me/commit-identity",
    access: "user",
    scope: null,
    operation: "deleteCommitIdentity",
    summary: "Name me by my e-mail address again",
    answers: { 204: EMPTY },
    async handle({ deps, caller }) {
      await deps.store.setSetting(commitIdentityKey(caller.userId), null);
      return { status: 204 };
    },
  }),
];
