/** Routes with which admins look after people, and the one-time links that they give away. */
import type { z } from "zod";
import type { Link } from "../../../core/ports/accounts.ts";
import { SlipwayError } from "../../../core/error.ts";
import { toIsoTime } from "../../../core/protocol/mapping.ts";
import {
  acceptLinkSchema,
  deletePersonSchema,
  disableSchema,
  linkInfoSchema,
  linkSchema,
  linkTokenSchema,
  madeLinkSchema,
  newInvitationSchema,
  roleChangeSchema,
} from "../../../core/protocol/people.ts";
import { pageSchema, sessionSchema, userSchema } from "../../../core/protocol/rest.ts";
import { isSettledState, TASK_STATES } from "../../../core/task.ts";
import { readClientInfo } from "../../client-info.ts";
import { rejectOtherSites } from "../../cookies.ts";
import {
  EMPTY,
  json,
  listQuerySchema,
  nothing,
  pageOfList,
  route,
  type ApiDeps,
  type RouteCall,
  MEMORY_REPLAY,
} from "../../route.ts";
import { wireSession, wireUser } from "./log-in/auth.ts";
import { browserReply, browserSessionSchema } from "./log-in/browser-session.ts";

const DAY = 24 * 60 * 60_000;
const INVITATION_DAYS = 7;
/** As long as a ticket is valid. */
const OPEN_STATES = TASK_STATES.filter((state) => !isSettledState(state));

function wireLink({ id, kind, email, role, createdAt, expiresAt }: Link): z.infer<typeof linkSchema> {
  return { id, kind, email, role, createdAt: toIsoTime(createdAt), expiresAt: toIsoTime(expiresAt) };
}

function wireMadeLink(
  { logins }: ApiDeps,
  { link, token }: { link: Link; token: string },
): z.infer<typeof madeLinkSchema> {
  // In the fragment, which browsers do not send.
  return { ...wireLink(link), token, url: `${logins.baseUrl}/join#${token}` };
}

/** Cancels the open tasks of a person, each once. */
async function cancelTasks({ deps, identity }: RouteCall<unknown, unknown>, userId: string): Promise<void> {
  for (;;) {
    const { items } = await deps.store.tasks({ userId, states: OPEN_STATES, limit: 100 });
    const waiting = items.filter(({ state }) => state !== "cancelling");
    if (waiting.length === 0) return;
    for (const { id } of waiting)
      await deps.tasks.cancel(identity, id, false).catch((error: unknown) => {
        if (!(error instanceof SlipwayError && error.code === "task_settled")) throw error;
      });
  }
}

/** Deletes a person. With `tasks=cancel` their open tasks are cancelled first. */
export async function deletePerson(
  { deps, caller, query, act }: RouteCall<unknown, z.infer<typeof deletePersonSchema>>,
  userId: string,
): Promise<{ status: number }> {
  await deps.people.remove(
    caller.userId,
    userId,
    async () => {
      const { open } = await deps.store.taskLoad(userId, deps.clock.now());
      if (open === 0 || query.tasks === "cancel") return;
      const tasks = open === 1 ? "One task is open" : `${open} tasks are open`;
      throw new SlipwayError("task_open", `${tasks}. Send tasks=cancel to cancel them, or wait for their end.`);
    },
    act,
  );
  return { status: 204 };
}

const acceptLink = async (call: RouteCall<z.infer<typeof acceptLinkSchema>, unknown>) => {
  const { deps, throttle, body } = call;
  const { token, email = null, password } = body;
  return throttle.inTurn("setup", () => deps.people.acceptLink(token, email, password, readClientInfo(call)));
};

export const peopleRoutes = [
  route({
    method: "post",
    path: "/v1/users/:id/role",
    access: "admin",
    scope: null,
    operation: "changeRole",
    summary: "Give a person another role; it holds from their next call on",
    body: roleChangeSchema,
    answers: { 200: json(userSchema) },
    problems: ["not_found", "conflict"],
    async handle({ deps, caller, params, body, act }) {
      const user = await deps.people.setRole(caller.userId, params["id"] ?? "", body.role, act);
      return { status: 200, body: wireUser(user) };
    },
  }),
  route({
    method: "post",
    path: "/v1/users/:id/disable",
    access: "admin",
    scope: null,
    operation: "disableUser",
    summary: "Disable a person: log-ins, sessions, sockets and tokens stop within seconds",
    body: disableSchema,
    answers: { 200: json(userSchema) },
    problems: ["not_found", "conflict"],
    async handle(call) {
      const { deps, caller, params, body, act } = call;
      const user = await deps.people.setDisabled(caller.userId, params["id"] ?? "", true, act);
      if (body.tasks === "cancel") await cancelTasks(call, user.id);
      return { status: 200, body: wireUser(user) };
    },
  }),
  route({
    method: "post",
    path: "/v1/users/:id/enable",
    access: "admin",
    scope: null,
    operation: "enableUser",
    summary: "Let a disabled person log in again; their tokens work again",
    answers: { 200: json(userSchema) },
    problems: ["not_found"],
    async handle({ deps, caller, params, act }) {
      const user = await deps.people.setDisabled(caller.userId, params["id"] ?? "", false, act);
      return { status: 200, body: wireUser(user) };
    },
  }),
  route({
    method: "delete",
    path: "/v1/users/:id",
    access: "admin",
    scope: null,
    operation: "deleteUser",
    summary: "Delete a person with all that they have; costs stay without a name, and so does the audit log by id",
    replay: MEMORY_REPLAY,
    query: deletePersonSchema,
    answers: { 204: EMPTY },
    problems: ["not_found", "conflict", "task_open", "fresh_login_required"],
    async handle(call) {
      const userId = call.params["id"] ?? "";
      if (userId === call.caller.userId) await call.deps.sessions.assertFresh(call.caller);
      return await deletePerson(call, userId);
    },
  }),
  route({
    method: "delete",
    path: "/v1/users/:id/sessions",
    access: "admin",
    scope: null,
    operation: "endUserSessions",
    summary: "End all sessions of a person",
    answers: { 204: EMPTY },
    async handle({ deps, params, act }) {
      await deps.people.endSessions(params["id"] ?? "", null, act);
      return { status: 204 };
    },
  }),
  route({
    method: "post",
    path: "/v1/users/:id/password-link",
    access: "admin",
    scope: null,
    operation: "createPasswordLink",
    summary: "A one-time link with which a person sets a new password; only this response contains it",
    answers: { 201: json(madeLinkSchema) },
    problems: ["not_found", "conflict"],
    async handle({ deps, caller, params, act }) {
      const made = await deps.people.makePasswordLink(caller.userId, params["id"] ?? "", act);
      return { status: 201, body: wireMadeLink(deps, made) };
    },
  }),
];

export const linkRoutes = [
  route({
    method: "post",
    path: "/v1/links",
    access: "admin",
    scope: null,
    operation: "createInvitation",
    summary: "Invite a person with a one-time link; only this response contains it",
    body: newInvitationSchema,
    answers: { 201: json(madeLinkSchema) },
    problems: ["conflict"],
    async handle({ deps, caller, body, act }) {
      const { email = null, role, days = INVITATION_DAYS } = body;
      return {
        status: 201,
        body: wireMadeLink(deps, await deps.people.invite(caller.userId, email, role, days * DAY, act)),
      };
    },
  }),
  route({
    method: "get",
    path: "/v1/links",
    access: "admin",
    scope: null,
    operation: "listLinks",
    summary: "Links that can still be used, without their tokens",
    query: listQuerySchema,
    answers: { 200: json(pageSchema(linkSchema)) },
    async handle({ deps, query }) {
      const { items, next } = pageOfList(await deps.people.openLinks(), (row) => row.id, query);
      return { status: 200, body: { items: items.map(wireLink), next } };
    },
  }),
  route({
    method: "delete",
    path: "/v1/links/:id",
    access: "admin",
    scope: null,
    operation: "withdrawLink",
    summary: "Withdraw a link",
    answers: { 204: EMPTY },
    problems: ["not_found"],
    async handle({ deps, params, act }) {
      if (!(await deps.accounts.with(act).deleteLink(params["id"] ?? ""))) throw new SlipwayError("not_found");
      return { status: 204 };
    },
  }),
  route({
    method: "post",
    path: "/v1/links/look",
    access: "none",
    replay: MEMORY_REPLAY,
    operation: "lookAtLink",
    summary: "What a one-time link is for",
    body: linkTokenSchema,
    query: nothing,
    answers: { 200: json(linkInfoSchema) },
    problems: ["expired"],
    async handle({ deps, body }) {
      const { id: _, createdAt: __, ...shown } = wireLink(await deps.people.findLink(body.token));
      return { status: 200, body: shown };
    },
  }),
  route({
    method: "post",
    path: "/v1/links/accept",
    access: "none",
    replay: MEMORY_REPLAY,
    operation: "acceptLink",
    summary: "Use a one-time link: make the account or set the password, and log in",
    body: acceptLinkSchema,
    answers: { 201: json(sessionSchema) },
    problems: ["expired", "conflict", "rate_limited", "not_found", "unauthenticated"],
    async handle(call) {
      return { status: 201, body: wireSession(await acceptLink(call)) };
    },
  }),
  route({
    method: "post",
    path: "/v1/session/link",
    access: "none",
    replay: MEMORY_REPLAY,
    operation: "acceptLinkInBrowser",
    summary: "Use a one-time link in a browser; the refresh token is set as a cookie",
    body: acceptLinkSchema,
    answers: { 201: json(browserSessionSchema) },
    problems: ["expired", "conflict", "forbidden", "rate_limited", "not_found", "unauthenticated"],
    async handle(call) {
      rejectOtherSites(call);
      return browserReply(call, 201, await acceptLink(call));
    },
  }),
];
