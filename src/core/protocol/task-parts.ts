/** Parts of a task on the wire. */
import { z } from "zod";
import { EGRESS_POLICIES, PULL_REQUEST_MODES, STEP_NAMES } from "../task.ts";
import { budgetSchema, limitsSchema } from "../task-schema.ts";

const time = z.iso.datetime();

export const waitSchema = z.strictObject({
  reason: z.enum([
    "concurrency",
    "user_limit",
    "thread_busy",
    "sandbox_unavailable",
    "disk_low",
    "paused",
    "model_rate_limited",
    "budget",
  ]),
  position: z.int().describe("Number of tasks ahead of it; 0 = next."),
});

export const stepSchema = z.strictObject({
  name: z.enum(STEP_NAMES),
  startedAt: time,
  endedAt: time.nullable().describe("Null for the open step."),
  detail: z.string().nullable(),
});

export const questionSchema = z.strictObject({
  id: z.string().describe("Name it in the answer. Ids that begin with budget_ ask for more budget."),
  question: z.string(),
  options: z.array(z.string()).nullable().describe("Null = any text is an answer."),
  askedAt: time,
});

export const usageSchema = z.strictObject({
  inputTokens: z.number(),
  outputTokens: z.number(),
  cacheReadTokens: z.number(),
  cacheWriteTokens: z.number(),
  usd: z.number().describe("US dollars."),
  turns: z.number().describe("Requests to the model."),
});

export const threadBudgetSchema = z.strictObject({
  spentUsd: z.number().describe("US dollars that the tasks of the thread cost together."),
  limitUsd: z.number().describe("The most that a task of the thread was submitted with or was granted."),
});

export const ownerSchema = z.strictObject({
  id: z.string(),
  email: z.string().nullable().describe("Null when there is no such account any more."),
});

export const todoCountSchema = z.strictObject({
  done: z.int(),
  total: z.int(),
  current: z.string().nullable().describe("The entry that the agent works on."),
});

export const changeSizeSchema = z.strictObject({ files: z.int(), additions: z.int(), deletions: z.int() });

export const activitySchema = z.strictObject({
  at: time,
  text: z.string().describe("One line: a command, a file, or the agent's words."),
});

export const submissionSchema = z.strictObject({
  base: z.string().nullable(),
  budget: budgetSchema,
  limits: limitsSchema,
  egress: z.enum(EGRESS_POLICIES),
  verify: z.array(z.string()),
  priority: z.int(),
  pullRequest: z.enum(PULL_REQUEST_MODES),
  maxAttempts: z.int(),
});

export const keepSchema = z.strictObject({ keep: z.boolean() });

export const readSchema = z.strictObject({
  seq: z.int().min(0).max(Number.MAX_SAFE_INTEGER).describe("The last event that the person has seen."),
});

/** Numbers of tasks by group. */
export const countsSchema = z.strictObject({
  needs: z.int().describe("They wait for an answer."),
  running: z.int().describe("Claimed, and not waiting for an answer."),
  waiting: z.int().describe("Queued, or between two attempts."),
  done: z.int(),
  failed: z.int(),
  cancelled: z.int(),
});
