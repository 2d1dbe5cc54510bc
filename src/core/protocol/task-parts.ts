/** Parts of a task on the wire. */
import { z } from "zod";
import { STEP_NAMES } from "../task.ts";

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
