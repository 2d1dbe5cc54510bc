/**
 * The lines of the transcript.
 *
 * Whatever the model sees is in here, as it saw it: nothing is changed afterwards. A call is
 * written before its tool runs, its result after.
 */
import { z } from "zod";
import { EFFORTS } from "../../../../src/core/task.ts";
import { AgentFailure, type TranscriptRecord } from "../../agent.ts";

const block = z.looseObject({ type: z.string() });
export type Block = z.infer<typeof block>;

const toolSchema = z.strictObject({
  name: z.string(),
  description: z.string(),
  input_schema: z.record(z.string(), z.unknown()),
});

/** Who is behind a text that the model is told. */
export const SOURCES = ["task", "person", "nudge", "stuck", "limit", "verify", "resumed", "go_on"] as const;
export type Source = (typeof SOURCES)[number];

const begin = z.strictObject({
  kind: z.literal("begin"),
  model: z.string(),
  effort: z.enum(EFFORTS).nullable(),
  maxTokens: z.int().positive(),
  /** Tokens of the conversation from which on it is summed up. */
  compactAt: z.int().positive(),
  thinking: z.enum(["summarized", "default"]),
  system: z.string(),
  tools: z.array(toolSchema),
  text: z.string(),
  /** Texts after `text`, kept apart because a later attempt may withdraw them; absent = none. */
  notes: z.array(z.string()).optional(),
});
export type Begin = z.infer<typeof begin>;

const turn = z.strictObject({
  kind: z.literal("turn"),
  content: z.array(block),
  stop: z.string(),
  /** Size of the conversation with this answer. */
  tokens: z.int().min(0),
});

const call = z.strictObject({ kind: z.literal("call"), id: z.string() });

const result = z.strictObject({
  kind: z.literal("result"),
  id: z.string(),
  output: z.string(),
  status: z.enum(["ok", "failed", "unknown", "not_run"]),
});
export type Result = z.infer<typeof result>;

/** `message`: the id of the person's message that it is. */
const told = z.strictObject({
  kind: z.literal("told"),
  source: z.enum(SOURCES),
  text: z.string(),
  message: z.string().optional(),
  /** The notes that hold from here on, when they are not those before; `text` announces them. */
  notes: z.array(z.string()).optional(),
});

/**
 * Everything before is replaced by this. `block`: the provider's own summary, to be sent back as it
 * is; null where `text` holds ours.
 */
const compacted = z.strictObject({ kind: z.literal("compacted"), block: block.nullable(), text: z.string() });

export const recordSchema = z.discriminatedUnion("kind", [begin, turn, call, result, told, compacted]);
export type Line = z.infer<typeof recordSchema>;

/** @throws AgentFailure when another version of this agent wrote it, or another agent. */
export function readLine({ data }: TranscriptRecord): Line {
  const parsed = recordSchema.safeParse(data);
  if (!parsed.success)
    throw new AgentFailure("agent_error", "The transcript was not written by this agent. Retry from `start`.");
  return parsed.data;
}
