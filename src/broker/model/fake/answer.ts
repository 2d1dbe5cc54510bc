/** Renders a turn in Messages API format, as a message and as a stream of events. */
import type { AnswerUsage } from "../usage.ts";
import type { AppliedEdit } from "./context-edit.ts";
import type { Fault, Turn } from "./scenario.ts";
import { countTokens, type PromptTokens } from "./prompt-cache.ts";
import { signThinking, summarySignature, type Block, type FakeRequest } from "./strict.ts";

export interface FakeUsage {
  readonly input_tokens: number;
  readonly output_tokens: number;
  readonly cache_read_input_tokens: number;
  readonly cache_creation_input_tokens: number;
  /** Only where something was written. */
  readonly cache_creation?: {
    readonly ephemeral_5m_input_tokens: number;
    readonly ephemeral_1h_input_tokens: number;
  };
}

export interface FakeAnswer {
  readonly id: string;
  readonly model: string;
  readonly content: readonly Block[];
  readonly stopReason: NonNullable<AnswerUsage["stopReason"]>;
  readonly usage: FakeUsage;
  /** Streamed instead of the JSON of the last tool call. */
  readonly brokenJson: string | null;
  readonly refusal: string | null;
  /** What was left out of the prompt; absent = the request did not ask for it. */
  readonly edits?: readonly AppliedEdit[];
}

const DELTA_CHARACTERS = 24;

interface AnswerInput {
  readonly request: FakeRequest;
  readonly turn: Turn;
  readonly fault: Fault | null;
  /** Unique per answer; part of the ids of messages and tool calls. */
  readonly id: string;
  readonly prompt: PromptTokens;
}

function createUsage({ turn, prompt }: Pick<AnswerInput, "turn" | "prompt">, content: readonly Block[]): FakeUsage {
  const { total, read, written5m, written1h } = prompt;
  return {
    input_tokens: total - read - written5m - written1h,
    output_tokens: content.length === 0 ? 0 : countTokens(JSON.stringify(content)),
    cache_read_input_tokens: read,
    cache_creation_input_tokens: written5m + written1h,
    ...(written5m + written1h === 0
      ? {}
      : { cache_creation: { ephemeral_5m_input_tokens: written5m, ephemeral_1h_input_tokens: written1h } }),
    ...Object.fromEntries(Object.entries(turn.usage ?? {}).filter(([, value]) => value !== undefined)),
  };
}

/**
 * A truncated tool call is signed with empty input, because the client sends it back that way.
 */
function createContent({ request, turn, fault, id }: AnswerInput): Block[] {
  const blocks: Block[] = [
    { type: "thinking", thinking: turn.think ?? "I examine the state and choose the next step." },
  ];
  if (turn.say !== undefined) blocks.push({ type: "text", text: turn.say });
  const calls = fault?.kind === "only_thinking" ? [] : (turn.tools ?? []);
  for (const [i, { name, input }] of calls.entries()) {
    const cut = fault?.kind === "cut_tool_json" && i === (turn.tools?.length ?? 0) - 1;
    blocks.push({ type: "tool_use", id: `toolu_${id}_${i}`, name, input: cut ? {} : input });
  }
  // A turn that names only its thinking is an answer without text or call.
  if (blocks.length === 1 && turn.think === undefined && fault?.kind !== "only_thinking")
    blocks.push({ type: "text", text: "Done." });
  const signature = signThinking(request, request.messages, blocks);
  return blocks.map((block) => (block.type === "thinking" ? { ...block, signature } : block));
}

export function createAnswer(input: AnswerInput): FakeAnswer {
  const { request, turn, fault, id } = input;
  const base = { id: `msg_${id}`, model: request.model, brokenJson: null, refusal: null };
  if (fault?.kind === "refusal") {
    const category = fault.category ?? "cyber";
    return { ...base, content: [], stopReason: "refusal", usage: createUsage(input, []), refusal: category };
  }
  const content = createContent(input);
  const usage = createUsage(input, content);
  const calls = content.some((block) => block.type === "tool_use");
  if (fault?.kind === "context_limit") return { ...base, content, usage, stopReason: "model_context_window_exceeded" };
  if (fault?.kind === "cut_tool_json")
    return { ...base, content, usage, stopReason: "max_tokens", brokenJson: '{"command": "ech' };
  const stop = fault === null && turn.faults?.some(({ kind }) => kind === "only_thinking") ? undefined : turn.stop;
  const stopReason = stop ?? (calls ? "tool_use" : "end_turn");
  return {
    ...base,
    content,
    usage,
    stopReason,
    brokenJson: fault?.kind === "invalid_tool_json" ? '{"command": oops}' : null,
  };
}

/** A provider-side summary: one signed block. */
export function createSummary(request: FakeRequest, id: string, text: string, prompt: PromptTokens): FakeAnswer {
  const content: Block[] = [{ type: "compaction", content: text, signature: summarySignature(text) }];
  const base = { id: `msg_${id}`, model: request.model, brokenJson: null, refusal: null };
  return {
    ...base,
    content,
    stopReason: "compaction",
    usage: createUsage({ turn: {}, prompt }, content),
  };
}

/** The answer to a request without `stream`. */
export function toMessage(answer: FakeAnswer): object {
  const { id, model, content, stopReason, usage, refusal } = answer;
  const stop = toStopFields(stopReason, refusal);
  return { id, type: "message", role: "assistant", model, content, ...stop, usage, ...toEditFields(answer) };
}

const toEditFields = ({ edits }: FakeAnswer): object =>
  edits === undefined ? {} : { context_management: { applied_edits: edits } };

const toStopFields = (reason: string, refusal: string | null): object => ({
  stop_reason: reason,
  stop_sequence: null,
  stop_details:
    refusal === null ? null : { type: "refusal", category: refusal, explanation: "The request was declined." },
});

export interface StreamEvent {
  readonly type: string;
  readonly [key: string]: unknown;
}

function* split(text: string): Generator<string> {
  for (let offset = 0; offset < text.length; offset += DELTA_CHARACTERS)
    yield text.slice(offset, offset + DELTA_CHARACTERS);
}

function* createBlockEvents(block: Block, index: number, json: string | null): Generator<StreamEvent> {
  const delta = (body: object): StreamEvent => ({ type: "content_block_delta", index, delta: body });
  const start = (body: object): StreamEvent => ({ type: "content_block_start", index, content_block: body });
  if (block.type === "thinking") {
    yield start({ type: "thinking", thinking: "", signature: "" });
    for (const thinking of split(String(block["thinking"]))) yield delta({ type: "thinking_delta", thinking });
    yield delta({ type: "signature_delta", signature: block["signature"] });
  } else if (block.type === "compaction") {
    yield start({ ...block, content: null });
    yield delta({ type: "compaction_delta", content: block["content"] });
  } else if (block.type === "text") {
    yield start({ type: "text", text: "" });
    for (const text of split(String(block["text"]))) yield delta({ type: "text_delta", text });
  } else {
    yield start({ ...block, input: {} });
    for (const partial of split(json ?? JSON.stringify(block["input"])))
      yield delta({ type: "input_json_delta", partial_json: partial });
  }
  yield { type: "content_block_stop", index };
}

/** The answer as a stream, from `message_start` to `message_stop`. */
export function* createEvents(answer: FakeAnswer): Generator<StreamEvent> {
  const { id, model, content, stopReason, usage, refusal, brokenJson } = answer;
  const message = {
    id,
    type: "message",
    role: "assistant",
    model,
    content: [],
    ...toStopFields("", null),
    stop_reason: null,
  };
  yield {
    type: "message_start",
    message: { ...message, usage: { ...usage, output_tokens: Math.min(1, usage.output_tokens) } },
  };
  yield { type: "ping" };
  for (const [index, block] of content.entries())
    yield* createBlockEvents(block, index, index === content.length - 1 ? brokenJson : null);
  yield {
    type: "message_delta",
    delta: toStopFields(stopReason, refusal),
    usage: { output_tokens: usage.output_tokens },
    ...toEditFields(answer),
  };
  yield { type: "message_stop" };
}
