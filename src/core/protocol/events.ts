/**
 * The events of a task's log on the wire: one schema per type. The schemas are strict, so that a
 * test finds each field that is written but not described; the OpenAPI document is not, because
 * fields may be added. Logs of earlier versions miss the fields that are optional here.
 */
import { z } from "zod";
import { WORKER_DATA, contentBlockSchema, messageBlockSchema, type EventType } from "../event.ts";
import { FAILURE_CODES } from "../failure.ts";
import { EFFORTS, PULL_REQUEST_MODES, RETRY_FROM, TASK_STATES } from "../task.ts";
import { budgetSchema } from "../task-schema.ts";
import { artifactSchema } from "../values/artifact.ts";

const time = z.iso.datetime();
const sha = z.string().describe("A commit id.");
const personId = z.string().describe("The id of the person who asked for it.");
const requestMark = z.string().optional().describe("Marks a request that came with an Idempotency-Key.");

const checkpointSchema = z.strictObject({
  sha,
  cursor: z.string().nullable().describe("The agent's own position; opaque."),
});
const reportSchema = z.strictObject({ title: z.string(), summary: z.string().describe("Markdown.") });

const submittedData = z.strictObject({
  repo: z.string(),
  base: z.string().nullable().optional().describe("The branch to start from; null = the default branch."),
  branch: z.string().optional().describe("The branch that receives the work."),
  title: z.string().optional(),
  agent: z.string().optional(),
  model: z.string().nullable().optional(),
  effort: z.enum(EFFORTS).nullable().optional(),
  priority: z.int().optional(),
  maxAttempts: z.int().optional(),
  pullRequest: z.enum(PULL_REQUEST_MODES).optional(),
  from: z.enum(RETRY_FROM).optional().describe("Where a retry begins."),
  policy: z.record(z.string(), z.number()).optional().describe("The time limits of the task, in ms, by name."),
  by: personId.optional(),
  baseSha: sha.nullable().optional(),
  headSha: sha.nullable().optional().describe("The finished commit that a retry of the push delivers."),
  checkpoint: checkpointSchema.nullable().optional().describe("The saved work of the preceding task."),
  report: reportSchema.nullable().optional(),
});

const continuesSchema = z.strictObject({ taskId: z.string(), checkpoint: checkpointSchema });
const jitter = z.number().optional().describe("0 to 1: the random part of the delay before a retry.");

/** The causes of `task.state`, by `reason`. */
const STATE_DATA = [
  z.strictObject({
    reason: z.literal("claimed").describe("The scheduler gave the task a slot; a new attempt begins."),
    continues: continuesSchema.optional().describe("Newer pushed work of the thread, from which the task begins."),
  }),
  z.strictObject({ reason: z.literal("ready").describe("The sandbox is ready; the agent begins.") }),
  z.strictObject({
    reason: z.literal("finished").describe("The agent has finished."),
    sha,
    changed: z.boolean().describe("False = nothing is to be pushed."),
    title: z.string(),
    summary: z.string().describe("The agent's report, Markdown."),
  }),
  z.strictObject({
    reason: z.literal("failed").describe("The attempt or the push failed; `to` says whether it is tried again."),
    code: z.enum(FAILURE_CODES),
    detail: z.string().nullable(),
    evidence: z.string().nullable().describe("The end of the relevant log."),
    jitter,
    retryAfterMs: z.number().nullable().describe("Shortest wait before the next try that the other side asked for."),
    counted: z.literal(true).optional().describe("The attempt counts although infrastructure failed."),
  }),
  z.strictObject({
    reason: z.literal("cancel").describe("Somebody asked for a stop."),
    force: z.boolean().describe("True = without time to save the work."),
    by: personId.optional(),
    request: requestMark,
  }),
  z.strictObject({ reason: z.literal("stopped").describe("The sandbox is gone after a cancel.") }),
  z.strictObject({
    reason: z.literal("timed_out").describe("A deadline passed: of the state, of a question, or of a delay."),
    code: z.enum(FAILURE_CODES).optional().describe("The failure that the deadline means; absent when it means none."),
    jitter,
  }),
  z.strictObject({
    reason: z.literal("yielded").describe("A task that waits for an answer gave its slot to others that wait for one."),
  }),
] as const;

const MESSAGE_DATA = [
  z.strictObject({
    id: z.string(),
    role: z.literal("user"),
    content: z.array(messageBlockSchema),
    mode: z
      .enum(["steer", "follow_up"])
      .describe("steer = at the next safe point; follow_up = when the agent is done."),
    interrupt: z.literal(true).optional().describe("What runs ends at once, with its output so far."),
    status: z.enum(["queued"]).describe("Later statuses are events of type message.status."),
    by: personId,
  }),
  z.strictObject({ id: z.string(), role: z.literal("assistant"), content: z.array(contentBlockSchema) }),
] as const;

/**
 * The input of a tool as the agent wrote it. Nothing holds an agent to a tool's schema, so the
 * fields of the built-in tools may have any type.
 */
export const toolInputSchema = z
  .looseObject({
    command: z.unknown().optional().describe("bash: the command or script."),
    timeoutMs: z.unknown().optional().describe("bash, job: the longest time, ms."),
    background: z.unknown().optional().describe("bash: whether it runs as a job."),
    action: z.unknown().optional().describe("job: status, wait, kill or list."),
    id: z.unknown().optional().describe("job: its id."),
    path: z.unknown().optional().describe("read, edit, write, grep, glob: a path in the workspace."),
    start: z.unknown().optional().describe("read: the first line."),
    end: z.unknown().optional().describe("read: the last line."),
    old: z.unknown().optional().describe("edit: the text that is replaced."),
    new: z.unknown().optional().describe("edit: the text that replaces it."),
    content: z.unknown().optional().describe("write: the whole file."),
    pattern: z.unknown().optional().describe("grep, glob: what is searched for."),
  })
  .describe("The input of a tool as the agent wrote it: a JSON object of any form. Check each field before its use.");

/** Fields that only notices of the coordinator carry. */
const noticeData = WORKER_DATA.notice.extend({
  by: z.literal("server").optional().describe("The coordinator wrote it in place of an event of the worker."),
  kind: z.enum(["usd", "turns", "threadUsd"]).optional().describe("budget_near: which budget is nearly used up."),
  limit: z.number().optional().describe("budget_near: the budget."),
  commits: z
    .array(z.strictObject({ sha, author: z.string(), title: z.string() }))
    .optional()
    .describe(
      "branch_updated, branch_rewritten: the newest commits that people pushed since the last push, newest first.",
    ),
  commitCount: z.number().optional().describe("How many they are."),
  artifact: artifactSchema.nullable().optional().describe("The artifact that was kept; its `at` is epoch ms."),
  lostMs: z.number().optional().describe("Time that nobody could use, ms; deadlines moved by it."),
  graceMs: z.number().optional().describe("No deadline of work passes earlier than this after the event, ms."),
  aheadMs: z.number().optional().describe("How far the log is ahead of a wall clock that was set back, ms."),
});

const startPoint = z.strictObject({
  sha: sha.nullable().describe("The upstream branch's commit; null = the base."),
  carry: z
    .strictObject({ base: sha, sha })
    .nullable()
    .describe("Changes between two commits that are applied to it, uncommitted."),
});

/** The data of each event type as it is stored. */
export const EVENT_DATA = {
  "task.submitted": submittedData,
  "task.state": z.discriminatedUnion("reason", STATE_DATA),
  "task.step": WORKER_DATA["task.step"].extend({
    startedAt: z.number().optional().describe("Epoch ms; a quick step is recorded only at its end."),
    found: z
      .strictObject({ base: z.string(), baseSha: sha, start: startPoint.optional() })
      .optional()
      .describe("mirror: the base, its newest commit in the work, and where the work starts instead of there."),
  }),
  message: z.discriminatedUnion("role", MESSAGE_DATA),
  "message.status": z.strictObject({
    id: z.string().describe("The id of the person's message."),
    status: z.enum(["delivered", "withdrawn", "moved", "undelivered"]),
    taskId: z.string().optional().describe("moved: the follow-up task whose prompt contains the message."),
    by: personId.optional(),
  }),
  "tool.started": WORKER_DATA["tool.started"].extend({ input: toolInputSchema }),
  "tool.finished": WORKER_DATA["tool.finished"],
  todo: WORKER_DATA.todo,
  usage: WORKER_DATA.usage.extend({ model: z.string().optional().describe("The model, where a gateway counted.") }),
  checkpoint: WORKER_DATA.checkpoint,
  question: WORKER_DATA.question.extend({
    id: z.string().describe("Name it in the answer. Ids that begin with budget_ ask for more budget."),
    by: z.literal("server").optional().describe("The coordinator wrote it in place of an event of the worker."),
    parks: z.literal(true).optional().describe("Its working time is used up: the sandbox ends at once."),
  }),
  answer: z.strictObject({
    questionId: z.string(),
    text: z.string(),
    by: personId.optional(),
    decision: z.enum(["continue", "stop"]).optional().describe("Of a question of the coordinator."),
    choice: z.enum(["push", "leave_out"]).optional().describe("Of a push that was held back."),
    budget: budgetSchema.optional().describe("The budget of the task from now on."),
    request: requestMark,
  }),
  notice: noticeData,
  verify: WORKER_DATA.verify,
  push: z.strictObject({ branch: z.string(), sha }),
  pull_request: z.strictObject({ url: z.string(), number: z.int(), state: z.string() }),
} as const satisfies Record<EventType, z.ZodType>;

const authorSchema = z
  .strictObject({
    kind: z.enum(["server", "worker", "person"]),
    id: z.string().optional().describe("person: their id."),
  })
  .describe(
    "Who said it. What a worker says proves nothing: the agent and the commands that it runs can say anything in its name. Absent in old logs that do not tell.",
  );

const head = {
  taskId: z.string(),
  seq: z.int().describe("1, 2, 3, … per task, without gaps: the cursor of the log and of the stream."),
  at: time,
  by: authorSchema.optional(),
  attempt: z.int().describe("The attempt during which it happened; 0 before the first."),
  from: z.enum(TASK_STATES).nullable().describe("The state before the event; null for the first event."),
  to: z.enum(TASK_STATES).describe("The state after the event."),
};

const eventOf = <T extends EventType>(type: T) =>
  z.strictObject({ ...head, type: z.literal(type), data: EVENT_DATA[type] });

/** By type. */
export const EVENT_SCHEMAS = {
  "task.submitted": eventOf("task.submitted"),
  "task.state": eventOf("task.state"),
  "task.step": eventOf("task.step"),
  message: eventOf("message"),
  "message.status": eventOf("message.status"),
  "tool.started": eventOf("tool.started"),
  "tool.finished": eventOf("tool.finished"),
  todo: eventOf("todo"),
  usage: eventOf("usage"),
  checkpoint: eventOf("checkpoint"),
  question: eventOf("question"),
  answer: eventOf("answer"),
  notice: eventOf("notice"),
  verify: eventOf("verify"),
  push: eventOf("push"),
  pull_request: eventOf("pull_request"),
} as const satisfies { [T in EventType]: unknown };

type EventSchema = (typeof EVENT_SCHEMAS)[EventType];

export const eventSchema = z
  .discriminatedUnion("type", Object.values(EVENT_SCHEMAS) as [EventSchema, ...EventSchema[]])
  .describe("One entry of a task's log; `type` decides what `data` is. A newer server may send other types too.");

/** Fields may be added to the data, so any name may be read; known names have their types. */
type Open<T> = T extends unknown ? T & Readonly<Record<string, unknown>> : never;
type WithOpenData<E> = E extends { data: infer D } ? Omit<E, "data"> & { readonly data: Open<D> } : never;
/** `switch (event.type)` decides the type of `event.data`. */
export type WireEvent = WithOpenData<z.infer<EventSchema>>;
/** The events of one type. */
export type WireEventOf<T extends EventType> = Extract<WireEvent, { type: T }>;
