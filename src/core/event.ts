/**
 * The event: one row of a task's log. At once the chart's input, the database row and the frame on
 * the wire.
 */
import { z } from "zod";
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

export type EventData = Readonly<Record<string, unknown>>;

/**
 * One row of the log. `seq` is 1..n per task without holes; `at` is epoch ms, given by the
 * coordinator's clock.
 */
export interface TaskEvent {
  readonly taskId: string;
  readonly seq: number;
  readonly at: number;
  /**
   * The attempt that the event belongs to; 0 before the first. An old attempt's event is refused.
   */
  readonly attempt: number;
  readonly type: EventType;
  readonly from: TaskState | null;
  readonly to: TaskState;
  /** What a `task.state` means stands in `reason`, in the words of machines/task-events.ts. */
  readonly data: EventData;
  /** The worker's own number for it: a resent one is dropped. Null when no worker said it. */
  readonly workerSeq: number | null;
}

/** What a caller hands to `record`: the coordinator adds seq, at, from and to. */
export interface Proposal {
  readonly type: EventType;
  readonly data: EventData;
  /** The attempt that the sender speaks for. Left out by people: it means "the current one". */
  readonly attempt?: number;
  readonly workerSeq?: number;
}

const sha = z.string().regex(/^[0-9a-f]{40}([0-9a-f]{24})?$/);
const text = (max: number) => z.string().max(max);
const id = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/);

/** Bounded, so that no sum of them is anything but a number. */
const amount = z.int().min(0).max(1_000_000_000);

export const TEXT_LIMIT = 64 * 1024;

export const contentBlockSchema = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("text"), text: text(TEXT_LIMIT) }),
  z.strictObject({ type: z.literal("thinking"), text: text(TEXT_LIMIT) }),
]);

/**
 * What a worker may send, by type; `data` is checked against it before it is recorded. `ready`,
 * `finished` and `failed` become `task.state`.
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
    id: id.refine((text) => !isBudgetQuestion(text), "is kept for the coordinator"),
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
