/**
 * The event: one entry of a task's log. The same shape is the statechart's input, the database row
 * and, with ISO times, the frame on the wire.
 */
import { z } from "zod";
import { attachmentBlockSchema } from "./values/attachment.ts";
import { isGuardQuestion } from "./values/push-guard.ts";
import { isBudgetQuestion } from "./budget.ts";
import { STEP_NAMES, type TaskState } from "./task.ts";

export const EVENT_TYPES = [
  "task.submitted",
  "task.state",
  "task.step",
  "message",
  "message.status",
  "tool.started",
  "tool.finished",
  "todo",
  "usage",
  "checkpoint",
  "question",
  "answer",
  "notice",
  "verify",
  "push",
  "pull_request",
] as const;
export type EventType = (typeof EVENT_TYPES)[number];

/** What the outline of a log holds, besides the changes of the state and the tools that run. */
export const OUTLINE_TYPES = ["message.status", "todo", "checkpoint"] as const satisfies readonly EventType[];

/**
 * What people and the agent said to each other, and how it ended. An index has this list
 * (migrations/sqlite/0024_branch_news.sql).
 */
const CONVERSATION_TYPES = [
  "task.submitted",
  "task.state",
  "message",
  "message.status",
  "question",
  "answer",
  "verify",
  "push",
  "pull_request",
] as const satisfies readonly EventType[];

/** Whether an event is a part of its thread: what was said, and what happened to the branch. */
export const isOfConversation = ({ type, data }: Pick<TaskEvent, "type" | "data">): boolean =>
  (CONVERSATION_TYPES as readonly EventType[]).includes(type) ||
  (type === "notice" && String(data["code"]).startsWith("branch_"));

export type EventData = Readonly<Record<string, unknown>>;

/**
 * One entry of the log. `seq` is 1..n per task without gaps; `at` is epoch ms of the coordinator's
 * clock.
 */
export interface TaskEvent {
  readonly taskId: string;
  readonly seq: number;
  readonly at: number;
  /** The attempt of the event; 0 before the first one. Events of earlier attempts are refused. */
  readonly attempt: number;
  readonly type: EventType;
  readonly from: TaskState | null;
  readonly to: TaskState;
  /** `task.state` carries its cause in `reason`; machines/task-events.ts lists the values. */
  readonly data: EventData;
  /** The worker's number, which identifies resent events; null for events from elsewhere. */
  readonly workerSeq: number | null;
}

/** An event with its data as the stored text: valid JSON of an object. */
export interface EventRow extends Omit<TaskEvent, "data"> {
  readonly data: string;
  /** Length of `data` in UTF-8. */
  readonly dataBytes: number;
}

/** The input of `record`: the coordinator adds seq, at, from and to. */
export interface Proposal {
  readonly type: EventType;
  readonly data: EventData;
  /** The sender's attempt. Absent for events from users: the current attempt. */
  readonly attempt?: number;
  readonly workerSeq?: number;
}

const sha = z.string().regex(/^[0-9a-f]{40}([0-9a-f]{24})?$/);
const text = (max: number) => z.string().max(max);
const id = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/);

/** Bounded, so that sums stay safe integers. */
const amount = z.int().min(0).max(1_000_000_000);

export const TEXT_LIMIT = 64 * 1024;

export const contentBlockSchema = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("text"), text: text(TEXT_LIMIT) }),
  z.strictObject({ type: z.literal("thinking"), text: text(TEXT_LIMIT) }),
]);

/** What a person's message consists of. */
export const messageBlockSchema = z.discriminatedUnion("type", [...contentBlockSchema.options, attachmentBlockSchema]);

/**
 * The `data` that a worker may send, by event type; validated before it is recorded. `ready`,
 * `finished` and `failed` are recorded as `task.state`.
 */
export const WORKER_DATA = {
  "task.step": z.strictObject({
    name: z.enum(STEP_NAMES),
    status: z.enum(["started", "ended"]),
    detail: text(500).nullable(),
  }),
  message: z.strictObject({ id, role: z.enum(["assistant"]), content: z.array(contentBlockSchema).max(100) }),
  "message.status": z.strictObject({ id, status: z.enum(["delivered"]) }),
  "tool.started": z.strictObject({ id, name: text(100), input: z.record(z.string(), z.unknown()) }),
  "tool.finished": z.strictObject({
    id,
    name: text(100),
    output: text(TEXT_LIMIT),
    exitCode: z.int().nullable(),
    ms: z.number().min(0),
    truncated: z.boolean(),
  }),
  todo: z.strictObject({
    items: z
      .array(z.strictObject({ text: text(500), status: z.enum(["pending", "in_progress", "completed"]) }))
      .max(200),
  }),
  usage: z.strictObject({
    inputTokens: amount,
    outputTokens: amount,
    cacheReadTokens: amount,
    cacheWriteTokens: amount,
    usd: z.number().min(0).max(1_000_000),
    turns: amount,
  }),
  checkpoint: z.strictObject({
    sha,
    cursor: text(1_000).nullable(),
    files: z.int().min(0),
    additions: z.int().min(0),
    deletions: z.int().min(0),
  }),
  question: z.strictObject({
    id: id.refine((text) => !isBudgetQuestion(text) && !isGuardQuestion(text), "is reserved for the coordinator"),
    question: text(4_000),
    options: z.array(text(500)).max(20).nullable(),
  }),
  notice: z.strictObject({ level: z.enum(["info", "warning", "error"]), code: text(100), text: text(4_000) }),
  verify: z.strictObject({
    command: text(4_000),
    exitCode: z.int().nullable(),
    ms: z.number().min(0),
    tail: text(16_384),
  }),
  ready: z.strictObject({}),
  finished: z.strictObject({ sha, title: text(500), summary: text(TEXT_LIMIT) }),
  failed: z.strictObject({ code: text(100), message: text(4_000), evidence: text(16_384).nullable() }),
} as const;
export type WorkerEventType = keyof typeof WORKER_DATA;
export const WORKER_EVENT_TYPES = Object.keys(WORKER_DATA) as [WorkerEventType, ...WorkerEventType[]];
