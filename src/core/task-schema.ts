/**
 * Schemas of the parts of a submission. Separate from task.ts, so that the writer thread, which
 * only needs task.ts, starts without loading zod.
 */
import { z } from "zod";

export const budgetSchema = z.strictObject({
  usd: z.number().positive().max(10_000).optional().describe("US dollars."),
  minutes: z
    .number()
    .positive()
    .max(24 * 60)
    .optional()
    .describe("Minutes of work; the time of people does not count."),
  turns: z.int().positive().max(10_000).optional().describe("Requests to the model."),
  threadUsd: z
    .number()
    .positive()
    .max(10_000)
    .optional()
    .describe("US dollars of all tasks of the thread together, its follow-ups and retries included."),
});
export type Budget = z.infer<typeof budgetSchema>;

export const limitsSchema = z.strictObject({
  memoryMb: z.int().min(64).max(65_536).optional().describe("MiB of memory for the sandbox."),
  cpus: z.number().min(0.1).max(64).optional().describe("CPU cores for the sandbox."),
  diskMb: z.int().min(64).max(1_048_576).optional().describe("MiB of the workspace."),
});
export type Limits = z.infer<typeof limitsSchema>;

/** One step of the scripted agent. */
export const scriptStepSchema = z.union([
  z.strictObject({ say: z.string() }),
  z.strictObject({ bash: z.string(), timeoutMs: z.int().positive().max(3_600_000).optional() }),
  z.strictObject({ read: z.string() }),
  z.strictObject({ write: z.strictObject({ path: z.string(), content: z.string() }) }),
  z.strictObject({ edit: z.strictObject({ path: z.string(), old: z.string(), new: z.string() }) }),
  z.strictObject({
    todo: z
      .array(z.strictObject({ text: z.string(), status: z.enum(["pending", "in_progress", "completed"]) }))
      .max(200),
  }),
  z.strictObject({ ask: z.strictObject({ question: z.string(), options: z.array(z.string()).max(20).optional() }) }),
  z.strictObject({ wait: z.int().min(0).max(86_400_000) }),
  z.strictObject({
    usage: z.strictObject({
      inputTokens: z.int().min(0).optional(),
      outputTokens: z.int().min(0).optional(),
      cacheReadTokens: z.int().min(0).optional(),
      cacheWriteTokens: z.int().min(0).optional(),
      usd: z.number().min(0).optional(),
      turns: z.int().min(0).optional(),
    }),
  }),
  z.strictObject({ commit: z.string() }),
  z.strictObject({ fail: z.strictObject({ code: z.string(), message: z.string() }) }),
  z.strictObject({ exit: z.int().min(0).max(255) }),
  z.strictObject({ hang: z.literal(true) }),
  z.strictObject({ finish: z.strictObject({ title: z.string(), summary: z.string() }) }),
]);
export type ScriptStep = z.infer<typeof scriptStepSchema>;
