/** Doors to tasks. Whose task it is, the service says: everything here asks it first (rule S2). */
import type { z } from "zod";
import { accepts, phaseOf } from "../../../machines/fold.ts";
import { SlipwayError } from "../../core/error.ts";
import type { AttemptRow, MessageRow, ToolCallRow } from "../../core/ports/store.ts";
import type { Task } from "../../core/task.ts";
import { toIsoTime, toWireEvent, toWireTask } from "../../core/protocol/mapping.ts";
import {
  answerSchema,
  artifactRowSchema,
  attemptSchema,
  diffQuerySchema,
  diffSchema,
  eventQuerySchema,
  eventSchema,
  machineSchema,
  messageRowSchema,
  messageSchema,
  pageSchema,
  retrySchema,
  submitSchema,
  taskQuerySchema,
  taskSchema,
  toolCallSchema,
  type WireTask,
} from "../../core/protocol/rest.ts";
import { EMPTY, isId, json, listQuerySchema, nextCursor, pageOfList, route, type ApiDeps } from "../route.ts";
import type { Identity } from "../../core/ports/accounts.ts";
import type { Artifact } from "../../core/values/artifact.ts";

/** A stored task as the wire shows it, with why it waits. */
export async function toTaskView(deps: Pick<ApiDeps, "operations">, task: Task): Promise<WireTask> {
  const wait = task.state === "queued" ? await deps.operations.wait(task) : null;
  return toWireTask(task, phaseOf(task.snapshot), wait);
}

const when = (at: number | null): string | null => (at === null ? null : toIsoTime(at));

function showMessage(row: MessageRow): z.infer<typeof messageRowSchema> {
  const { id, seq, at, role, content, mode, status } = row;
  return { id, seq, at: toIsoTime(at), role, content: content.map((block) => ({ ...block })), mode, status };
}

function showToolCall(row: ToolCallRow): z.infer<typeof toolCallSchema> {
  const { id, attempt, seq, name, input, startedAt, endedAt, output, exitCode, truncated } = row;
  return {
    id,
    attempt,
    seq,
    name,
    input,
    startedAt: toIsoTime(startedAt),
    endedAt: when(endedAt),
    output,
    exitCode,
    truncated,
  };
}

function showAttempt(row: AttemptRow): z.infer<typeof attemptSchema> {
  const { number, container, startedAt, endedAt, exitCode, failure } = row;
  return { number, container, startedAt: toIsoTime(startedAt), endedAt: when(endedAt), exitCode, failure };
}

const showArtifact = ({ at, ...rest }: Artifact): z.infer<typeof artifactRowSchema> => ({ ...rest, at: toIsoTime(at) });

const bySeq = ({ seq }: { readonly seq: number }): string => String(seq);

/** What follows a cursor that is a seq; nothing follows one that is not. */
const seqOf = (cursor = "0"): number => (/^\d{1,15}$/.test(cursor) ? Number(cursor) : Number.MAX_SAFE_INTEGER);

async function listTasks(deps: ApiDeps, person: Identity, query: z.infer<typeof taskQuerySchema>) {
  const { state, thread, q, limit, cursor } = query;
  if (cursor !== undefined && !isId(cursor)) {
    throw new SlipwayError("invalid_request", undefined, {
      errors: [{ path: "cursor", message: "is not a cursor of this list" }],
    });
  }
  const found = await deps.store.tasks({
    userId: person.role === "user" ? person.userId : null,
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
    summary: "Submit a task",
    body: submitSchema,
    idempotent: true,
    answers: { 201: json(taskSchema), 200: json(taskSchema) },
    problems: [
      "invalid_repository",
      "invalid_branch",
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
    summary: "Stop a task; its work so far is kept",
    answers: { 202: json(taskSchema) },
    problems: ["not_found", "task_settled"],
    async handle({ deps, identity, params }) {
      return {
        status: 202,
        body: await toTaskView(deps, await deps.tasks.cancel(identity, params["id"] ?? "", false)),
      };
    },
  }),
  route({
    method: "post",
    path: "/v1/tasks/:id/retry",
    access: "user",
    summary: "A new task of the same thread, from the start, the checkpoint or the push",
    body: retrySchema,
    answers: { 201: json(taskSchema) },
    problems: ["not_found", "task_open", "nothing_to_push", "limits_unavailable"],
    async handle({ deps, identity, params, body }) {
      const task = await deps.tasks.retry(identity, params["id"] ?? "", body);
      return { status: 201, body: await toTaskView(deps, task), headers: { Location: `/v1/tasks/${task.id}` } };
    },
  }),
];

export const messageRoutes = [
  route({
    method: "post",
    path: "/v1/tasks/:id/messages",
    access: "user",
    summary: "Say something to the agent; on a settled task this makes a follow-up task",
    body: messageSchema,
    idempotent: true,
    answers: { 202: json(messageRowSchema), 201: json(taskSchema) },
    problems: ["not_found", "idempotency_mismatch"],
    async handle({ deps, identity, params, body, idempotencyKey }) {
      const said = await deps.tasks.message(identity, params["id"] ?? "", body, idempotencyKey);
      if ("message" in said) return { status: 202, body: showMessage(said.message) };
      return {
        status: 201,
        body: await toTaskView(deps, said.task),
        headers: { Location: `/v1/tasks/${said.task.id}` },
      };
    },
  }),
  route({
    method: "get",
    path: "/v1/tasks/:id/messages",
    access: "user",
    summary: "The conversation",
    query: listQuerySchema,
    answers: { 200: json(pageSchema(messageRowSchema)) },
    problems: ["not_found"],
    async handle({ deps, identity, params, query }) {
      const { id } = await deps.tasks.task(identity, params["id"] ?? "");
      const page = await deps.store.messages(id, seqOf(query.cursor), query.limit);
      return { status: 200, body: { items: page.items.map(showMessage), next: nextCursor(page, bySeq) } };
    },
  }),
  route({
    method: "delete",
    path: "/v1/tasks/:id/messages/:mid",
    access: "user",
    summary: "Take back a message that was not delivered",
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
    summary: "Answer the agent's question; the first answer counts",
    body: answerSchema,
    answers: { 200: json(taskSchema) },
    problems: ["not_found", "already_answered"],
    async handle({ deps, identity, params, body }) {
      return { status: 200, body: await toTaskView(deps, await deps.tasks.answer(identity, params["id"] ?? "", body)) };
    },
  }),
];

export const historyRoutes = [
  route({
    method: "get",
    path: "/v1/tasks/:id/events",
    access: "user",
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
    summary: "What the agent ran",
    query: listQuerySchema,
    answers: { 200: json(pageSchema(toolCallSchema)) },
    problems: ["not_found"],
    async handle({ deps, identity, params, query }) {
      const { id } = await deps.tasks.task(identity, params["id"] ?? "");
      const page = await deps.store.toolCalls(id, seqOf(query.cursor), query.limit);
      return { status: 200, body: { items: page.items.map(showToolCall), next: nextCursor(page, bySeq) } };
    },
  }),
  route({
    method: "get",
    path: "/v1/tasks/:id/attempts",
    access: "user",
    summary: "Every attempt and how it ended",
    query: listQuerySchema,
    answers: { 200: json(pageSchema(attemptSchema)) },
    problems: ["not_found"],
    async handle({ deps, identity, params, query }) {
      const { id } = await deps.tasks.task(identity, params["id"] ?? "");
      const { items, next } = pageOfList(await deps.store.attempts(id), (row) => String(row.number), query);
      return { status: 200, body: { items: items.map(showAttempt), next } };
    },
  }),
  route({
    method: "get",
    path: "/v1/tasks/:id/diff",
    access: "user",
    summary: "The work: files and patches, or one patch that git applies",
    query: diffQuerySchema,
    answers: { 200: [{ schema: diffSchema }, { media: "text/x-diff" }] },
    problems: ["not_found", "expired"],
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
    summary: "What was salvaged of sandboxes whose worker could not save its work",
    query: listQuerySchema,
    answers: { 200: json(pageSchema(artifactRowSchema)) },
    problems: ["not_found"],
    async handle({ deps, identity, params, query }) {
      const found = await deps.tasks.artifacts(identity, params["id"] ?? "");
      const { items, next } = pageOfList(found, (one) => one.name, query);
      return { status: 200, body: { items: items.map(showArtifact), next } };
    },
  }),
  route({
    method: "get",
    path: "/v1/tasks/:id/artifacts/:name",
    access: "user",
    summary: "One artifact, as it is: an archive whose content nobody has looked at",
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
    dueAt: when(snapshot.context.dueAt),
    can: accepts(snapshot),
    container: attempt !== undefined && attempt.endedAt === null ? attempt.container : null,
    stuck: stuck && { reason: stuck.reason, since: toIsoTime(stuck.since) },
  };
}
