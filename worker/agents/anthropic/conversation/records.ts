/**
 * The records of the transcript, in their stored form.
 *
 * R1 The records hold everything that the model is sent, as it was sent. No record is changed.
 * R2 A call is recorded before its tool runs, its result before the next call.
 */
import { z } from "zod";
import { EFFORTS } from "../../../../src/core/task.ts";
import type { Picture } from "../../../workspace/attachments.ts";
import { AgentFailure, type TranscriptRecord } from "../../agent.ts";

const block = z.looseObject({ type: z.string() });
export type Block = z.infer<typeof block>;

const toolSchema = z.strictObject({
  name: z.string(),
  description: z.string(),
  input_schema: z.record(z.string(), z.unknown()),
});

/** The origins of a text that is sent to the model between its answers. */
export const TEXT_SOURCES = [
  "task",
  "person",
  "nudge",
  "stuck",
  "limit",
  "verify",
  "review",
  "resumed",
  "go_on",
] as const;
export type TextSource = (typeof TEXT_SOURCES)[number];

/** A picture that the model is shown after a text. Its content is not in the transcript. */
const pictures = z.array(z.strictObject({ id: z.string(), name: z.string(), mediaType: z.string() }));

/** For a record, which has the field only where there are some. */
export const toPictures = (pictures: readonly Picture[] = []): { pictures?: Picture[] } =>
  pictures.length === 0 ? {} : { pictures: [...pictures] };

/** What a provider or a proxy may refuse without being a fault of the conversation. */
const refused = z.array(z.enum(["hour_cache", "clearing"]));
export type Refused = z.infer<typeof refused>[number];

/** `budget`: for models that think only with a fixed number of tokens. */
export const THINKING = ["summarized", "budget", "default"] as const;

const beginRecord = z.strictObject({
  kind: z.literal("begin"),
  model: z.string(),
  effort: z.enum(EFFORTS).nullable(),
  /** Of one answer; an answer that was cut off is asked for again with more, up to `maxOutput`. */
  maxTokens: z.int().positive(),
  /** The model's limit; absent = maxTokens. */
  maxOutput: z.int().positive().optional(),
  /** The conversation is summarized when it has this many tokens. */
  compactAt: z.int().positive(),
  thinking: z.enum(THINKING),
  /** Not sent again in this conversation; absent = nothing. */
  refused: refused.optional(),
  system: z.string(),
  tools: z.array(toolSchema),
  text: z.string(),
  /** Shown after `text`; absent = none. */
  pictures: pictures.optional(),
  /** Texts after `text`, kept apart because a later attempt may withdraw them; absent = none. */
  notes: z.array(z.string()).optional(),
  /** The task that the last `begin` began is begun again, with a report of the work so far. */
  again: z.literal(true).optional(),
});
export type Begin = z.infer<typeof beginRecord>;

const turnRecord = z.strictObject({
  kind: z.literal("turn"),
  content: z.array(block),
  stop: z.string(),
  /** The tokens of the conversation up to and including this answer. */
  tokens: z.int().min(0),
});

const callRecord = z.strictObject({ kind: z.literal("call"), id: z.string() });

const resultRecord = z.strictObject({
  kind: z.literal("result"),
  id: z.string(),
  output: z.string(),
  status: z.enum(["ok", "failed", "unknown", "not_run"]),
});
export type Result = z.infer<typeof resultRecord>;

const textRecord = z.strictObject({
  kind: z.literal("told"),
  source: z.enum(TEXT_SOURCES),
  text: z.string(),
  pictures: pictures.optional(),
  /** The id of the message of a person; absent for other texts. */
  message: z.string().optional(),
  /** The notes that hold from here on; `text` announces them. Absent = the same as before. */
  notes: z.array(z.string()).optional(),
});
export type TextRecord = z.infer<typeof textRecord>;

/**
 * Replaces everything before it. `block` is the provider's own summary, which is sent back
 * unchanged; null when `text` contains a summary that the model wrote in a turn.
 */
const compactedRecord = z.strictObject({
  kind: z.literal("compacted"),
  block: block.nullable(),
  text: z.string(),
  pictures: pictures.optional(),
});

/** From here on the provider leaves out the results of the first `uses` calls (clearing.ts). */
const clearedRecord = z.strictObject({ kind: z.literal("cleared"), uses: z.int().positive() });
export type ClearedRecord = z.infer<typeof clearedRecord>;

/** The model could not read these pictures: from here on a text stands in their place. */
const unreadableRecord = z.strictObject({ kind: z.literal("unreadable"), pictures: z.array(z.string()) });

/** Settings of the requests that the model or a proxy refused, replaced by others. */
const settingsRecord = z.strictObject({
  kind: z.literal("settings"),
  effort: z.enum(EFFORTS).nullable(),
  thinking: z.enum(THINKING),
  maxTokens: z.int().positive(),
  maxOutput: z.int().positive(),
  /** Replaces that of the `begin` record; absent = the same as before. */
  refused: refused.optional(),
});
export type SettingsRecord = z.infer<typeof settingsRecord>;

export const recordSchema = z.discriminatedUnion("kind", [
  beginRecord,
  settingsRecord,
  turnRecord,
  callRecord,
  resultRecord,
  textRecord,
  compactedRecord,
  clearedRecord,
  unreadableRecord,
]);
export type ConversationRecord = z.infer<typeof recordSchema>;

/** @throws AgentFailure when another agent, or an incompatible version of this one, wrote it. */
export function parseRecord({ data }: TranscriptRecord): ConversationRecord {
  const parsed = recordSchema.safeParse(data);
  if (!parsed.success)
    throw new AgentFailure("agent_error", "The transcript was not written by this agent. Retry from `start`.");
  return parsed.data;
}
