/** Routes of tasks. The task service authorizes: every handler goes through it (rule S2). */
import type { z } from "zod";
import { phaseOf } from "../../../machines/fold.ts";
import { SlipwayError } from "../../core/error.ts";
import type { Identity } from "../../core/ports/accounts.ts";
import type { MessageRow } from "../../core/ports/store.ts";
import { isSettledState, type Task } from "../../core/task.ts";
import { messageRowSchema } from "../../core/protocol/history.ts";
import { toIsoTime, toWireTask } from "../../core/protocol/mapping.ts";
import {
  answerSchema,
  countsQuerySchema,
  historyQuerySchema,
  messageSchema,
  pageSchema,
  retrySchema,
  submitSchema,
  taskPageSchema,
  taskQuerySchema,
  taskSchema,
  type WireTask,
} from "../../core/protocol/rest.ts";
import { countsSchema, keepSchema, readSchema } from "../../core/protocol/task-parts.ts";
import { bySeq, EMPTY, isId, json, MEMORY_REPLAY, nextCursor, readPage, route, type ApiDeps } from "../route.ts";

type ViewDeps = Pick<ApiDeps, "operations" | "budget" | "accounts"> & {
  readonly store: Pick<ApiDeps["store"], "readSeqs">;
};

/**
 * Converts tasks to their wire form, with their owners, what these have read, the budgets of their
 * threads and the reasons why queued ones wait.
 */
export async function toTaskViews(deps: ViewDeps, tasks: readonly Task[]): Promise<WireTask[]> {
  const [waits, threads, reads] = await Promise.all([
    deps.operations.waits(tasks),
    deps.budget.threads(tasks),
    deps.store.readSeqs(tasks.map(({ id }) => id)),
  ]);
  const emails = new Map<string, string | null>();
  for (const id of new Set(tasks.flatMap(({ userId, spec }) => [userId, spec.submittedBy ?? userId])))
    emails.set(id, (await deps.accounts.user(id))?.email ?? null);
  const emailOf = (id: string): string | null => emails.get(id) ?? null;
  return tasks.map((task) => {
    const [wait, budget] = [waits.get(task.id) ?? null, threads.get(task.threadId) ?? null];
    return toWireTask(task, phaseOf(task.snapshot), wait, emailOf, budget, reads.get(task.id));
  });
}

export async function toTaskView(deps: ViewDeps, task: Task): Promise<WireTask> {
  const [view] = await toTaskViews(deps, [task]);
  return view as WireTask;
}

type WireMessage = z.infer<typeof messageRowSchema>;

/** The content was checked before it was recorded. */
function toWireMessage({ id, seq, at, role, content, mode, status }: MessageRow): WireMessage {
  return { id, seq, at: toIsoTime(at), role, content: content as unknown as WireMessage["content"], mode, status };
}

async function listTasks(deps: ApiDeps, identity: Identity, query: z.infer<typeof taskQuerySchema>) {
  const { state, thread, repository, owner, needs, q, limit, cursor } = query;
  if (cursor !== undefined && !isId(cursor)) {
    throw new SlipwayError("invalid_request", undefined, {
      errors: [{ path: "cursor", message: "is not a cursor of this list" }],
    });
  }
  if (q !== undefined) await deps.tasks.quotas.noteSearch(identity.userId);
  const found = await deps.store.tasks({
    userId: needs === "me" ? identity.userId : readOwner(identity, owner),
    limit,
    ...readRepository(repository),
    ...(needs === undefined ? {} : { asking: true }),
    ...(state === undefined ? {} : { states: state }),
    ...(thread === undefined ? {} : { threadId: thread }),
    ...(q === undefined ? {} : { text: q }),
    ...(cursor === undefined ? {} : { before: cursor }),
  });
  const watchAfter = found.items.length === 0 ? null : Math.max(...found.items.map(({ rev }) => rev));
  return { items: await toTaskViews(deps, found.items), next: nextCursor(found, (task) => task.id), watchAfter };
}

/** @returns the owner that the list is filtered by; null = all owners. */
function readOwner({ userId, role }: Identity, owner: string | undefined): string | null {
  if (owner === "me") return userId;
  if (role !== "user") return owner ?? null;
  if (owner !== undefined && owner !== userId)
    throw new SlipwayError("forbidden", "Tasks of other people are for operators. Leave `owner` out.");
  return userId;
}

/** The address as tasks have it. */
const readRepository = (repository: string | undefined): { readonly repo?: string } =>
  repository === undefined ? {} : { repo: repository.trim().replace(/\/+$/, "") };

async function countTasks(deps: ApiDeps, identity: Identity, query: z.infer<typeof countsQuerySchema>) {
  const userId = readOwner(identity, query.owner);
  const { byState, asking } = await deps.store.tally({ userId, ...readRepository(query.repository) });
  const waiting = byState.queued + byState.retrying;
  const { done, failed, cancelled } = byState;
  const running = byState.provisioning + byState.running + byState.pushing + byState.cancelling - asking;
  return { needs: asking, running, waiting, done, failed, cancelled } satisfies z.infer<typeof countsSchema>;
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
      "quota_exceeded",
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
    answers: { 200: json(taskPageSchema) },
    problems: ["quota_exceeded"],
    async handle({ deps, identity, query }) {
      return { status: 200, body: await listTasks(deps, identity, query) };
    },
  }),
  route({
    method: "get",
    path: "/v1/tasks/counts",
    access: "user",
    operation: "countTasks",
    summary: "How many tasks there are, by whose move it is: the caller's, for operators those of all",
    query: countsQuerySchema,
    answers: { 200: json(countsSchema) },
    async handle({ deps, identity, query }) {
      return { status: 200, body: await countTasks(deps, identity, query) };
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
    method: "delete",
    path: "/v1/tasks/:id",
    access: "user",
    operation: "deleteTask",
    summary: "Delete a settled task with all that it has; costs and the audit log stay",
    answers: { 204: EMPTY },
    problems: ["not_found", "task_open", "conflict"],
    async handle({ deps, identity, params }) {
      await deps.tasks.deletions.delete(identity, params["id"] ?? "");
      return { status: 204 };
    },
  }),
  route({
    method: "get",
    path: "/v1/tasks/:id/keep",
    access: "user",
    operation: "isTaskKept",
    summary: "Whether the task stays when others of its age are deleted",
    answers: { 200: json(keepSchema) },
    problems: ["not_found"],
    async handle({ deps, identity, params }) {
      return { status: 200, body: { keep: await deps.tasks.deletions.keep(identity, params["id"] ?? "") } };
    },
  }),
  route({
    method: "post",
    path: "/v1/tasks/:id/keep",
    access: "user",
    operation: "keepTask",
    summary: "Keep the task when others of its age are deleted, or no longer",
    body: keepSchema,
    answers: { 200: json(keepSchema) },
    problems: ["not_found"],
    async handle({ deps, identity, params, body }) {
      return { status: 200, body: { keep: await deps.tasks.deletions.keep(identity, params["id"] ?? "", body.keep) } };
    },
  }),
  route({
    method: "post",
    path: "/v1/tasks/:id/read",
    access: "user",
    operation: "markTaskRead",
    summary: "Its owner has seen the task up to an event; the mark only goes forward",
    body: readSchema,
    replay: MEMORY_REPLAY,
    answers: { 200: json(taskSchema) },
    problems: ["not_found"],
    async handle({ deps, identity, params, body }) {
      const task = await deps.tasks.markRead(identity, params["id"] ?? "", body.seq);
      return { status: 200, body: await toTaskView(deps, task) };
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
      "quota_exceeded",
      "agent_unavailable",
      "model_unavailable",
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
    problems: ["quota_exceeded", "not_found", "expired", "task_open", "agent_unavailable", "model_unavailable"],
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
    query: historyQuerySchema,
    answers: { 200: json(pageSchema(messageRowSchema)) },
    problems: ["not_found"],
    async handle({ deps, identity, params, query }) {
      const { id, state } = await deps.tasks.task(identity, params["id"] ?? "");
      const page = await readPage((...place) => deps.store.messages(id, ...place), query);
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
    problems: ["not_found", "already_answered", "question_expired"],
    async handle({ deps, identity, params, body, idempotencyKey }) {
      const task = await deps.tasks.answer(identity, params["id"] ?? "", body, idempotencyKey);
      return { status: 200, body: await toTaskView(deps, task) };
    },
  }),
];
