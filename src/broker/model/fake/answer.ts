/** A turn as the Messages API words it: the message, and the same as a stream of events. */
import type { AnswerUsage } from "../usage.ts";
import type { Fault, Turn } from "./scenario.ts";
import { getBlocks, signThinking, summarySignature, type Block, type FakeRequest } from "./strict.ts";

export interface FakeUsage {
  readonly input_tokens: number;
  readonly output_tokens: number;
  readonly cache_read_input_tokens: number;
  readonly cache_creation_input_tokens: number;
}

export interface FakeAnswer {
  readonly id: string;
  readonly model: string;
  readonly content: readonly Block[];
  readonly stopReason: NonNullable<AnswerUsage["stopReason"]>;
  readonly usage: FakeUsage;
  /** For the last tool call: what is streamed in place of its JSON. */
  readonly brokenJson: string | null;
  readonly refusal: string | null;
}

const PIECE = 24;
const CHARACTERS_PER_TOKEN = 4;

/** A fixed rule of thumb, so that counts are the same in each run. */
export const tokensIn = (text: string): number => Math.ceil(text.length / CHARACTERS_PER_TOKEN);

/** Tokens of system, tools and messages: what the request sends in all. */
export function promptTokens(request: FakeRequest): number {
  return tokensIn(JSON.stringify([request.system ?? "", request.tools ?? [], request.messages.map(getBlocks)]));
}

interface Given {
  readonly request: FakeRequest;
  readonly turn: Turn;
  readonly fault: Fault | null;
  /** Makes ids of messages and tool calls unique. */
  readonly id: string;
  /** Prompt tokens that an earlier request of the conversation has put into the cache. */
  readonly cached: number;
  readonly caches: boolean;
}

/** Counts as a provider with a prompt cache does. */
function countOf({ request, turn, cached, caches }: Given, content: readonly Block[]): FakeUsage {
  const prompt = promptTokens(request);
  const read = caches ? Math.min(cached, prompt) : 0;
  const written = caches ? prompt - read : 0;
  return {
    input_tokens: caches ? 0 : prompt,
    output_tokens: tokensIn(JSON.stringify(content)),
    cache_read_input_tokens: read,
    cache_creation_input_tokens: written,
    ...Object.fromEntries(Object.entries(turn.usage ?? {}).filter(([, value]) => value !== undefined)),
  };
}

/**
 * A call that was cut reaches the client without input, and comes back like that: so it is what
 * gets signed.
 */
function contentOf({ request, turn, fault, id }: Given): Block[] {
  const blocks: Block[] = [
    { type: "thinking", thinking: turn.think ?? "I look at what there is and choose the next step." },
  ];
  if (turn.say !== undefined) blocks.push({ type: "text", text: turn.say });
  for (const [i, { name, input }] of (turn.tools ?? []).entries()) {
    const cut = fault?.kind === "cut_tool_json" && i === (turn.tools?.length ?? 0) - 1;
    blocks.push({ type: "tool_use", id: `toolu_${id}_${i}`, name, input: cut ? {} : input });
  }
  if (blocks.length === 1) blocks.push({ type: "text", text: "Done." });
  const signature = signThinking(request, request.messages, blocks);
  return blocks.map((one) => (one.type === "thinking" ? { ...one, signature } : one));
}

export function createAnswer(given: Given): FakeAnswer {
  const { request, turn, fault, id } = given;
  const base = { id: `msg_${id}`, model: request.model, brokenJson: null, refusal: null };
  if (fault?.kind === "refusal") {
    const category = fault.category ?? "cyber";
    return { ...base, content: [], stopReason: "refusal", usage: countOf(given, []), refusal: category };
  }
  const content = contentOf(given);
  const usage = countOf(given, content);
  const calls = content.some((one) => one.type === "tool_use");
  if (fault?.kind === "context_limit") return { ...base, content, usage, stopReason: "model_context_window_exceeded" };
  if (fault?.kind === "cut_tool_json")
    return { ...base, content, usage, stopReason: "max_tokens", brokenJson: '{"command": "ech' };
  const stopReason = turn.stop ?? (calls ? "tool_use" : "end_turn");
  return {
    ...base,
    content,
    usage,
    stopReason,
    brokenJson: fault?.kind === "invalid_tool_json" ? '{"command": oops}' : null,
  };
}

/** The provider's own summary: one signed block, and nothing else. */
export function createSummary(request: FakeRequest, id: string, text: string): FakeAnswer {
  const content: Block[] = [{ type: "compaction", content: text, signature: summarySignature(text) }];
  const base = { id: `msg_${id}`, model: request.model, brokenJson: null, refusal: null };
  return {
    ...base,
    content,
    stopReason: "compaction",
    usage: countOf({ request, turn: {}, fault: null, id, cached: 0, caches: false }, content),
  };
}

/** The answer to a request without `stream`. */
export function toMessage(answer: FakeAnswer): object {
  const { id, model, content, stopReason, usage, refusal } = answer;
  return { id, type: "message", role: "assistant", model, content, ...stopOf(stopReason, refusal), usage };
}

const stopOf = (reason: string, refusal: string | null): object => ({
  stop_reason: reason,
  stop_sequence: null,
  stop_details:
    refusal === null ? null : { type: "refusal", category: refusal, explanation: "The request was declined." },
});

export interface StreamEvent {
  readonly type: string;
  readonly [key: string]: unknown;
}

function* pieces(text: string): Generator<string> {
  for (let at = 0; at < text.length; at += PIECE) yield text.slice(at, at + PIECE);
}

function* blockEvents(one: Block, index: number, json: string | null): Generator<StreamEvent> {
  const delta = (body: object): StreamEvent => ({ type: "content_block_delta", index, delta: body });
  const start = (body: object): StreamEvent => ({ type: "content_block_start", index, content_block: body });
  if (one.type === "thinking") {
    yield start({ type: "thinking", thinking: "", signature: "" });
    for (const thinking of pieces(String(one["thinking"]))) yield delta({ type: "thinking_delta", thinking });
    yield delta({ type: "signature_delta", signature: one["signature"] });
  } else if (one.type === "compaction") {
    yield start({ ...one, content: null });
    yield delta({ type: "compaction_delta", content: one["content"] });
  } else if (one.type === "text") {
    yield start({ type: "text", text: "" });
    for (const text of pieces(String(one["text"]))) yield delta({ type: "text_delta", text });
  } else {
    yield start({ ...one, input: {} });
    for (const partial of pieces(json ?? JSON.stringify(one["input"])))
      yield delta({ type: "input_json_delta", partial_json: partial });
  }
  yield { type: "content_block_stop", index };
}

/** The answer as a stream, from `message_start` to `message_stop`. */
export function* eventsOf(answer: FakeAnswer): Generator<StreamEvent> {
  const { id, model, content, stopReason, usage, refusal, brokenJson } = answer;
  const message = {
    id,
    type: "message",
    role: "assistant",
    model,
    content: [],
    ...stopOf("", null),
    stop_reason: null,
  };
  yield { type: "message_start", message: { ...message, usage: { ...usage, output_tokens: 1 } } };
  yield { type: "ping" };
  for (const [index, one] of content.entries())
    yield* blockEvents(one, index, index === content.length - 1 ? brokenJson : null);
  yield { type: "message_delta", delta: stopOf(stopReason, refusal), usage: { output_tokens: usage.output_tokens } };
  yield { type: "message_stop" };
}
