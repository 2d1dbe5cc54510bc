/** Routes of tasks. The task service authorizes: every handler goes through it (rule S2). */
import type { z } from "zod";
import { accepts, phaseOf } from "../../../machines/fold.ts";
import { SlipwayError } from "../../core/error.ts";
import type { AttemptRow, MessageRow, ToolCallRow } from "../../core/ports/store.ts";
import { isSettledState, type Task } from "../../core/task.ts";
import { toIsoTime, toWireEvent, toWireTask } from "../../core/protocol/mapping.ts";
import { eventSchema } from "../../core/protocol/events.ts";
import {
  artifactRowSchema,
  attemptSchema,
  diffSchema,
  machineSchema,
  messageRowSchema,
  toolCallSchema,
} from "../../core/protocol/history.ts";
import {
  answerSchema,
  diffQuerySchema,
  eventQuerySchema,
  messageSchema,
  pageSchema,
  retrySchema,
  submitSchema,
  taskQuerySchema,
  taskSchema,
  type WireTask,
} from "../../core/protocol/rest.ts";
import { EMPTY, isId, json, listQuerySchema, nextCursor, pageOfList, route, type ApiDeps } from "../route.ts";
import type { Identity } from "../../core/ports/accounts.ts";
import type { Artifact } from "../../core/values/artifact.ts";

/** Converts a task to its wire form, with its owner and the reason why a queued task waits. */
export async function toTaskView(deps: Pick<ApiDeps, "operations" | "accounts">, task: Task): Promise<WireTask> {
  const wait = task.state === "queued" ? await deps.operations.wait(task) : null;
  const owner = await deps.accounts.user(task.userId);
  return toWireTask(task, phaseOf(task.snapshot), wait, owner?.email ?? null);
}

const isoOrNull = (at: number | null): string | null => (at === null ? null : toIsoTime(at));

type WireMessage = z.infer<typeof messageRowSchema>;

/** The content was checked before it was recorded. */
function toWireMessage({ id, seq, at, role, content, mode, status }: MessageRow): WireMessage {
  return { id, seq, at: toIsoTime(at), role, content: content as unknown as WireMessage["content"], mode, status };
}

function toWireToolCall(row: ToolCallRow): z.infer<typeof toolCallSchema> {
  const { id, attempt, seq, name, input, startedAt, endedAt, output, exitCode, truncated } = row;
  return {
    id,
    attempt,
    seq,
    name,
    input,
    startedAt: toIsoTime(startedAt),
    endedAt: isoOrNull(endedAt),
    output,
    exitCode,
    truncated,
  };
}

function toWireAttempt(row: AttemptRow): z.infer<typeof attemptSchema> {
  const { number, container, startedAt, endedAt, exitCode, failure } = row;
  return { number, container, startedAt: toIsoTime(startedAt), endedAt: isoOrNull(endedAt), exitCode, failure };
}

const toWireArtifact = ({ at, ...rest }: Artifact): z.infer<typeof artifactRowSchema> => ({
  ...rest,
  at: toIsoTime(at),
});

const bySeq = ({ seq }: { readonly seq: number }): string => String(seq);

/** The seq of a cursor. A cursor that is no seq gives an empty page. */
const parseSeq = (cursor = "0"): number => (/^\d{1,15}$/.test(cursor) ? Number(cursor) : Number.MAX_SAFE_INTEGER);

async function listTasks(deps: ApiDeps, identity: Identity, query: z.infer<typeof taskQuerySchema>) {
  const { state, thread, q, limit, cursor } = query;
  if (cursor !== undefined && !isId(cursor)) {
    throw new SlipwayError("invalid_request", undefined, {
      errors: [{ path: "cursor", message: "is not a cursor of this list" }],
    });
  }
  const found = await deps.store.tasks({
    userId: identity.role === "user" ? identity.userId : null,
    limit,
    ...(state === undefined ? {} : { states: state }),
    ...(thread === undefined ? {} : { threadId: thread }),
    ...(q === undefined ? {} : { text: q }),
    ...(cursor === undefined ? {} : { before: cursor }),
  });
  const items = await Promise.all(found.items.map((task) => toTaskView(deps, task)));
  return { items, next: nextCursor(found, (task) => task.id) };
}

export const taskRoutes = [
  route({
    method: "post",
    path: "/v1/tasks",
    access: "user",
    operation: "submitTask",
    summary: "Submit a task",
    body: submitSchema,
    replay: "handler",
    answers: { 201: json(taskSchema), 200: json(taskSchema) },
    problems: [
      "not_found",
      "invalid_repository",
      "invalid_branch",
      "invalid_image",
      "image_not_allowed",
      "agent_unavailable",
      "model_unavailable",
      "egress_unavailable",
      "limits_unavailable",
      "forge_unavailable",
      "idempotency_mismatch",
    ],
    async handle({ deps, identity, body, idempotencyKey }) {
      const { task, replayed } = await deps.tasks.submit(identity, body, idempotencyKey);
      return {
        status: replayed ? 200 : 201,
        body: await toTaskView(deps, task),
        headers: { Location: `/v1/tasks/${task.id}` },
      };
    },
  }),
  route({
    method: "get",
    path: "/v1/tasks",
    access: "user",
    operation: "listTasks",
    isLarge: true,
    summary: "Tasks, newest first",
    query: taskQuerySchema,
    answers: { 200: json(pageSchema(taskSchema)) },
    async handle({ deps, identity, query }) {
      return { status: 200, body: await listTasks(deps, identity, query) };
    },
  }),
  route({
    method: "get",
    path: "/v1/tasks/:id",
    access: "user",
    operation: "getTask",
    summary: "One task",
    answers: { 200: json(taskSchema) },
    problems: ["not_found"],
    async handle({ deps, identity, params }) {
      return { status: 200, body: await toTaskView(deps, await deps.tasks.task(identity, params["id"] ?? "")) };
    },
  }),
  route({
    method: "post",
    path: "/v1/tasks/:id/cancel",
    access: "user",
    operation: "cancelTask",
    summary: "Stop a task; its work so far is kept",
    answers: { 202: json(taskSchema) },
    problems: ["not_found", "task_settled"],
    async handle({ deps, identity, params, idempotencyKey }) {
      const task = await deps.tasks.cancel(identity, params["id"] ?? "", false, idempotencyKey);
      return { status: 202, body: await toTaskView(deps, task) };
    },
  }),
  route({
    method: "post",
    path: "/v1/tasks/:id/retry",
    access: "user",
    operation: "retryTask",
    summary: "A new task of the same thread, from the start, the checkpoint or the push",
    body: retrySchema,
    answers: { 201: json(taskSchema) },
    problems: [
      "not_found",
      "task_open",
      "nothing_to_push",
      "expired",
      "limits_unavailable",
      "forge_unavailable",
      "invalid_branch",
    ],
    async handle({ deps, identity, params, body, idempotencyKey }) {
      const task = await deps.tasks.retry(identity, params["id"] ?? "", body, idempotencyKey);
      return { status: 201, body: await toTaskView(deps, task), headers: { Location: `/v1/tasks/${task.id}` } };
    },
  }),
];

export const messageRoutes = [
  route({
    method: "post",
    path: "/v1/tasks/:id/messages",
    access: "user",
    operation: "sendMessage",
    summary: "Send the agent a message; on a settled task this creates a follow-up task",
    body: messageSchema,
    answers: { 202: json(messageRowSchema), 201: json(taskSchema) },
    problems: ["not_found", "expired"],
    async handle({ deps, identity, params, body, idempotencyKey }) {
      const result = await deps.tasks.message(identity, params["id"] ?? "", body, idempotencyKey);
      if ("message" in result) return { status: 202, body: toWireMessage(result.message) };
      return {
        status: 201,
        body: await toTaskView(deps, result.task),
        headers: { Location: `/v1/tasks/${result.task.id}` },
      };
    },
  }),
  route({
    method: "get",
    path: "/v1/tasks/:id/messages",
    access: "user",
    operation: "listMessages",
    isLarge: true,
    summary: "The conversation",
    query: listQuerySchema,
    answers: { 200: json(pageSchema(messageRowSchema)) },
    problems: ["not_found"],
    async handle({ deps, identity, params, query }) {
      const { id, state } = await deps.tasks.task(identity, params["id"] ?? "");
      const page = await deps.store.messages(id, parseSeq(query.cursor), query.limit);
      // Tasks that settled before rule R6 was kept still have queued messages.
      const isLost = ({ status }: MessageRow): boolean => status === "queued" && isSettledState(state);
      const rows = page.items.map((row): MessageRow => (isLost(row) ? { ...row, status: "undelivered" } : row));
      return { status: 200, body: { items: rows.map(toWireMessage), next: nextCursor(page, bySeq) } };
    },
  }),
  route({
    method: "delete",
    path: "/v1/tasks/:id/messages/:mid",
    access: "user",
    operation: "withdrawMessage",
    summary: "Withdraw a message that was not delivered",
    answers: { 204: EMPTY },
    problems: ["not_found", "message_delivered", "task_settled"],
    async handle({ deps, identity, params }) {
      await deps.tasks.withdraw(identity, params["id"] ?? "", params["mid"] ?? "");
      return { status: 204 };
    },
  }),
  route({
    method: "post",
    path: "/v1/tasks/:id/answer",
    access: "user",
    operation: "answerQuestion",
    summary: "Answer the agent's question; the first answer counts",
    body: answerSchema,
    answers: { 200: json(taskSchema) },
    problems: ["not_found", "already_answered"],
    async handle({ deps, identity, params, body, idempotencyKey }) {
      const task = await deps.tasks.answer(identity, params["id"] ?? "", body, idempotencyKey);
      return { status: 200, body: await toTaskView(deps, task) };
    },
  }),
];

export const historyRoutes = [
  route({
    method: "get",
    path: "/v1/tasks/:id/events",
    access: "user",
    operation: "listEvents",
    isLarge: true,
    summary: "The log, by seq",
    query: eventQuerySchema,
    answers: { 200: json(pageSchema(eventSchema)) },
    problems: ["not_found"],
    async handle({ deps, identity, params, query }) {
      const { id } = await deps.tasks.task(identity, params["id"] ?? "");
      const page = await deps.store.events(id, query.after, query.limit);
      return { status: 200, body: { items: page.items.map(toWireEvent), next: nextCursor(page, bySeq) } };
    },
  }),
  route({
    method: "get",
    path: "/v1/tasks/:id/tool-calls",
    access: "user",
    operation: "listToolCalls",
    isLarge: true,
    summary: "Tool calls of the agent",
    query: listQuerySchema,
    answers: { 200: json(pageSchema(toolCallSchema)) },
    problems: ["not_found"],
    async handle({ deps, identity, params, query }) {
      const { id } = await deps.tasks.task(identity, params["id"] ?? "");
      const page = await deps.store.toolCalls(id, parseSeq(query.cursor), query.limit);
      return { status: 200, body: { items: page.items.map(toWireToolCall), next: nextCursor(page, bySeq) } };
    },
  }),
  route({
    method: "get",
    path: "/v1/tasks/:id/attempts",
    access: "user",
    operation: "listAttempts",
    summary: "Attempts and how they ended",
    query: listQuerySchema,
    answers: { 200: json(pageSchema(attemptSchema)) },
    problems: ["not_found"],
    async handle({ deps, identity, params, query }) {
      const { id } = await deps.tasks.task(identity, params["id"] ?? "");
      const { items, next } = pageOfList(await deps.store.attempts(id), (row) => String(row.number), query);
      return { status: 200, body: { items: items.map(toWireAttempt), next } };
    },
  }),
  route({
    method: "get",
    path: "/v1/tasks/:id/diff",
    access: "user",
    operation: "getDiff",
    isLarge: true,
    summary: "The changes: files and patches, or one patch for git apply",
    query: diffQuerySchema,
    answers: { 200: [{ schema: diffSchema }, { media: "text/x-diff" }] },
    problems: ["not_found", "expired", "payload_too_large"],
    async handle({ deps, identity, params, query }) {
      const id = params["id"] ?? "";
      if (query.format === "json") return { status: 200, body: await deps.tasks.diff(identity, id) };
      return { status: 200, media: "text/x-diff", body: await deps.tasks.patch(identity, id) };
    },
  }),
  route({
    method: "get",
    path: "/v1/tasks/:id/artifacts",
    access: "user",
    operation: "listArtifacts",
    summary: "Artifacts salvaged from sandboxes whose worker could not save its work",
    query: listQuerySchema,
    answers: { 200: json(pageSchema(artifactRowSchema)) },
    problems: ["not_found"],
    async handle({ deps, identity, params, query }) {
      const artifacts = await deps.tasks.artifacts(identity, params["id"] ?? "");
      const { items, next } = pageOfList(artifacts, (artifact) => artifact.name, query);
      return { status: 200, body: { items: items.map(toWireArtifact), next } };
    },
  }),
  route({
    method: "get",
    path: "/v1/tasks/:id/artifacts/:name",
    access: "user",
    operation: "getArtifact",
    isLarge: true,
    summary: "One artifact, unchanged: an archive whose content was not inspected",
    answers: { 200: [{ binary: "application/gzip" }] },
    problems: ["not_found"],
    async handle({ deps, identity, params }) {
      const id = params["id"] ?? "";
      const { artifact, content } = await deps.tasks.artifact(identity, id, params["name"] ?? "");
      const headers = {
        "Content-Length": String(artifact.bytes),
        "Content-Disposition": `attachment; filename="${id}-${artifact.name}"`,
      };
      return { status: 200, media: "application/gzip", content, headers };
    },
  }),
  route({
    method: "get",
    path: "/v1/tasks/:id/machine",
    access: "user",
    operation: "getMachine",
    isLarge: true,
    summary: "The statechart's own view of a task",
    answers: { 200: json(machineSchema) },
    problems: ["not_found"],
    async handle({ deps, identity, params }) {
      const task = await deps.tasks.task(identity, params["id"] ?? "");
      return { status: 200, body: await machineView(deps, task) };
    },
  }),
];

async function machineView(deps: ApiDeps, task: Task): Promise<z.infer<typeof machineSchema>> {
  const { snapshot, state } = task;
  const stuck = deps.operations.stuck(task);
  const attempt = (await deps.store.attempts(task.id)).at(-1);
  return {
    state,
    snapshot: { ...snapshot },
    since: toIsoTime(snapshot.context.enteredAt),
    dueAt: isoOrNull(snapshot.context.dueAt),
    can: accepts(snapshot),
    container: attempt !== undefined && attempt.endedAt === null ? attempt.container : null,
    stuck: stuck && { reason: stuck.reason, since: toIsoTime(stuck.since) },
  };
}
