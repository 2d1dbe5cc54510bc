/** Routes of what a task did: its log, tool calls, attempts, changes, artifacts. */
import { Readable } from "node:stream";
import type { z } from "zod";
import { accepts } from "../../../machines/fold.ts";
import { SlipwayError } from "../../core/error.ts";
import { detectKind, HEAD_BYTES } from "../../core/lib/media-type.ts";
import type { Identity } from "../../core/ports/accounts.ts";
import type { AttemptRow, ConversationPlace, Store, ToolCallRow } from "../../core/ports/store.ts";
import { eventSchema } from "../../core/protocol/events.ts";
import {
  artifactRowSchema,
  attemptSchema,
  conversationSchema,
  diffFileSchema,
  diffSchema,
  digestQuerySchema,
  logDigestSchema,
  machineSchema,
  toolCallSchema,
} from "../../core/protocol/history.ts";
import { toIsoTime, toWireEvent } from "../../core/protocol/mapping.ts";
import {
  conversationQuerySchema,
  diffContentQuerySchema,
  diffFileQuerySchema,
  diffQuerySchema,
  eventQuerySchema,
  historyQuerySchema,
  pageSchema,
} from "../../core/protocol/rest.ts";
import type { Task } from "../../core/task.ts";
import type { Artifact } from "../../core/values/artifact.ts";
import { isPicture, PICTURE_TYPES } from "../../core/values/attachment.ts";
import { DOWNLOAD, foreignHeaders } from "../transfer/foreign-file.ts";
import { LogDigests } from "../live/log-digests.ts";
import { bySeq, json, listQuerySchema, nextCursor, pageOfList, readPage, route, type ApiDeps } from "../route.ts";
import { toTaskViews } from "./tasks.ts";

const isoOrNull = (at: number | null): string | null => (at === null ? null : toIsoTime(at));

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

const LATEST: ConversationPlace = { taskId: "~", seq: 0 };

function parsePlace(text: string): ConversationPlace {
  const [taskId = "", seq = "0"] = text.split(".");
  return { taskId, seq: Number(seq) };
}

async function readConversation(
  deps: ApiDeps,
  { userId, role }: Identity,
  threadId: string,
  { after, before, limit }: z.infer<typeof conversationQuerySchema>,
): Promise<z.infer<typeof conversationSchema>> {
  const owner = role === "user" ? userId : null;
  const direction = before === undefined ? "up" : "down";
  const from = before ?? after;
  const page = await deps.store.conversation({
    userId: owner,
    threadId,
    direction,
    limit,
    ...(from === undefined ? {} : { from: from === "latest" ? LATEST : parsePlace(from) }),
  });
  const ids = [...new Set(page.items.map(({ taskId }) => taskId))];
  if (ids.length === 0 && (await deps.store.tasks({ userId: owner, threadId, limit: 1 })).items.length === 0)
    throw new SlipwayError("not_found", "There is no such thread.");
  const found = await Promise.all(ids.map((id) => deps.store.task(id)));
  const tasks = await toTaskViews(
    deps,
    found.filter((task) => task !== null),
  );
  const next = nextCursor(page, ({ taskId, seq }) => `${taskId}.${seq}`);
  return { tasks, items: page.items.map(toWireEvent), next };
}

const digestsOf = new WeakMap<Store, LogDigests>();

async function readDigest({ store }: ApiDeps, task: Task, seq: number): Promise<z.infer<typeof logDigestSchema>> {
  const digests = digestsOf.get(store) ?? new LogDigests(store);
  digestsOf.set(store, digests);
  const digest = await digests.at(task.id, seq);
  if (digest === null) throw new SlipwayError("not_found", `The log ends at ${task.seq}.`);
  return { seq, digest };
}

export const historyRoutes = [
  route({
    method: "get",
    path: "/v1/tasks/:id/events",
    access: "user",
    operation: "listEvents",
    isLarge: true,
    summary: "The log, by seq or newest first",
    query: eventQuerySchema,
    answers: { 200: json(pageSchema(eventSchema)) },
    problems: ["not_found"],
    async handle({ deps, identity, params, query }) {
      const { id } = await deps.tasks.task(identity, params["id"] ?? "");
      if (query.only !== undefined && query.before !== undefined)
        throw new SlipwayError("invalid_request", "The outline is read with `after`, not with `before`.");
      const page =
        query.only === undefined
          ? await readPage((...place) => deps.store.events(id, ...place), query)
          : await deps.store.outline(id, query.after, query.limit);
      return { status: 200, body: { items: page.items.map(toWireEvent), next: nextCursor(page, bySeq) } };
    },
  }),
  route({
    method: "get",
    path: "/v1/tasks/:id/digest",
    access: "user",
    operation: "getLogDigest",
    isLarge: true,
    summary: "The digest of the log up to a seq, to compare with what a client has",
    query: digestQuerySchema,
    answers: { 200: json(logDigestSchema) },
    problems: ["not_found"],
    async handle({ deps, identity, params, query }) {
      const task = await deps.tasks.task(identity, params["id"] ?? "");
      return { status: 200, body: await readDigest(deps, task, query.seq ?? task.seq) };
    },
  }),
  route({
    method: "get",
    path: "/v1/tasks/:id/tool-calls",
    access: "user",
    operation: "listToolCalls",
    isLarge: true,
    summary: "Tool calls of the agent",
    query: historyQuerySchema,
    answers: { 200: json(pageSchema(toolCallSchema)) },
    problems: ["not_found"],
    async handle({ deps, identity, params, query }) {
      const { id } = await deps.tasks.task(identity, params["id"] ?? "");
      const page = await readPage((...place) => deps.store.toolCalls(id, ...place), query);
      return { status: 200, body: { items: page.items.map(toWireToolCall), next: nextCursor(page, bySeq) } };
    },
  }),
  route({
    method: "get",
    path: "/v1/tasks/:id/tool-calls/:seq",
    access: "user",
    operation: "getToolCall",
    summary: "One tool call, by the seq of the event that began it",
    answers: { 200: json(toolCallSchema) },
    problems: ["not_found"],
    async handle({ deps, identity, params }) {
      const { id } = await deps.tasks.task(identity, params["id"] ?? "");
      const row = await deps.store.toolCall(id, Number(params["seq"]));
      if (row === null) throw new SlipwayError("not_found", "No tool call began with the event of this seq.");
      return { status: 200, body: toWireToolCall(row) };
    },
  }),
  route({
    method: "get",
    path: "/v1/threads/:id/conversation",
    access: "user",
    operation: "getConversation",
    isLarge: true,
    summary: "What was said in all tasks of a thread, in order or newest first, and how each ended",
    query: conversationQuerySchema,
    answers: { 200: json(conversationSchema) },
    problems: ["not_found"],
    async handle({ deps, identity, params, query }) {
      return { status: 200, body: await readConversation(deps, identity, params["id"] ?? "", query) };
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
    path: "/v1/tasks/:id/diff/file",
    access: "user",
    operation: "getDiffFile",
    isLarge: true,
    summary: "One changed file, its patch up to 2 MiB",
    query: diffFileQuerySchema,
    answers: { 200: json(diffFileSchema) },
    problems: ["not_found", "expired", "payload_too_large"],
    async handle({ deps, identity, params, query }) {
      return { status: 200, body: await deps.tasks.diffFile(identity, params["id"] ?? "", query.path) };
    },
  }),
  route({
    method: "get",
    path: "/v1/tasks/:id/diff/content",
    access: "user",
    operation: "getDiffContent",
    isLarge: true,
    summary: "The bytes of a changed file before or after the change, up to 10 MiB: a picture, or a download",
    query: diffContentQuerySchema,
    answers: { 200: [...PICTURE_TYPES, DOWNLOAD].map((binary) => ({ binary })) },
    problems: ["not_found", "expired", "payload_too_large"],
    async handle({ deps, identity, params, query: { path, side } }) {
      const bytes = await deps.tasks.diffContent(identity, params["id"] ?? "", path, side);
      const kind = detectKind(bytes.subarray(0, HEAD_BYTES));
      const isShown = isPicture(kind);
      const headers = foreignHeaders(path.slice(path.lastIndexOf("/") + 1), bytes.length, isShown);
      return { status: 200, media: isShown ? kind.mediaType : DOWNLOAD, content: Readable.from([bytes]), headers };
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
    problems: ["not_found", "storage_unavailable", "storage_refused"],
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
