/**
 * Token usage of one model request, read from its answer: from the stream as it passes, or from the
 * whole message.
 *
 * U1 The provider's count replaces the estimate. Until its final count arrives, output is estimated
 *    from the text that has passed, so that a budget is enforced in mid-stream.
 * U2 If the answer has `iterations` (compaction by the provider), their sum is the usage: the
 *    top-level counts exclude them.
 */
import { createParser, type EventSourceParser } from "eventsource-parser";
import { z } from "zod";

export interface TokenUsage {
  /** Prompt tokens outside the cache: neither read from nor written to it. */
  readonly inputTokens: number;
  /** Includes thinking. */
  readonly outputTokens: number;
  readonly cacheReadTokens: number;
  readonly cacheWrite5mTokens: number;
  readonly cacheWrite1hTokens: number;
}

export const NO_TOKENS: TokenUsage = {
  inputTokens: 0,
  outputTokens: 0,
  cacheReadTokens: 0,
  cacheWrite5mTokens: 0,
  cacheWrite1hTokens: 0,
};

/** What the part of the answer that has passed contains. */
export interface AnswerUsage {
  readonly usage: TokenUsage;
  /** True while output tokens are estimated: the provider's final count has not passed. */
  readonly estimated: boolean;
  /** True once the provider has counted the prompt. A count of zero is ignored. */
  readonly promptCounted: boolean;
  /** True once a part of the answer's content has passed. */
  readonly hasContent: boolean;
  /** The speed and the region that the answer names; null = none. */
  readonly speed: string | null;
  readonly region: string | null;
  readonly model: string | null;
  readonly stopReason: string | null;
  /** An `error` event in mid-stream: its type, such as `overloaded_error`. */
  readonly errorType: string | null;
  /** True once `message_stop` (or a whole message) has passed. */
  readonly complete: boolean;
}

/**
 * English prose and code have three to four characters per token; the smaller number overestimates
 * the cost and so protects the budget.
 */
const CHARACTERS_PER_TOKEN = 3;

const count = z.number().min(0).nullish();
const countsSchema = z.looseObject({
  input_tokens: count,
  output_tokens: count,
  cache_read_input_tokens: count,
  cache_creation_input_tokens: count,
  cache_creation: z.looseObject({ ephemeral_5m_input_tokens: count, ephemeral_1h_input_tokens: count }).nullish(),
});
type Counts = z.infer<typeof countsSchema>;
const usageSchema = countsSchema.extend({
  iterations: z.array(countsSchema).nullish(),
  speed: z.string().nullish(),
  inference_geo: z.string().nullish(),
});
type RawUsage = z.infer<typeof usageSchema>;

const messageSchema = z.looseObject({
  model: z.string().nullish(),
  stop_reason: z.string().nullish(),
  content: z.array(z.unknown()).nullish(),
  usage: usageSchema.nullish(),
});
const eventSchema = z.looseObject({
  type: z.string(),
  message: messageSchema.nullish(),
  usage: usageSchema.nullish(),
  delta: z
    .looseObject({
      stop_reason: z.string().nullish(),
      text: z.string().nullish(),
      thinking: z.string().nullish(),
      partial_json: z.string().nullish(),
    })
    .nullish(),
  error: z.looseObject({ type: z.string().nullish() }).nullish(),
});

/** @param hourTokens the most that counts as written for an hour where the count has no split. */
function toTokenUsage(raw: Counts, hourTokens: number): TokenUsage {
  const { ephemeral_5m_input_tokens: short, ephemeral_1h_input_tokens: long } = raw.cache_creation ?? {};
  const rest = Math.max(0, (raw.cache_creation_input_tokens ?? 0) - (short ?? 0) - (long ?? 0));
  const hour = Math.min(rest, Math.max(0, hourTokens - (long ?? 0)));
  return {
    inputTokens: raw.input_tokens ?? 0,
    outputTokens: raw.output_tokens ?? 0,
    cacheReadTokens: raw.cache_read_input_tokens ?? 0,
    cacheWrite5mTokens: (short ?? 0) + rest - hour,
    cacheWrite1hTokens: (long ?? 0) + hour,
  };
}

/** The sum of two usages. */
export function addTokens(a: TokenUsage, b: TokenUsage): TokenUsage {
  return {
    inputTokens: a.inputTokens + b.inputTokens,
    outputTokens: a.outputTokens + b.outputTokens,
    cacheReadTokens: a.cacheReadTokens + b.cacheReadTokens,
    cacheWrite5mTokens: a.cacheWrite5mTokens + b.cacheWrite5mTokens,
    cacheWrite1hTokens: a.cacheWrite1hTokens + b.cacheWrite1hTokens,
  };
}

function sumUsage(raw: RawUsage, hourTokens: number): TokenUsage {
  const parts = raw.iterations ?? [];
  if (parts.length === 0) return toTokenUsage(raw, hourTokens);
  return parts.map((part) => toTokenUsage(part, hourTokens)).reduce(addTokens, NO_TOKENS);
}

const isCount = (value: number | null | undefined): boolean => value !== null && value !== undefined;

/** Prompt tokens, read from and written to the cache or neither. */
export const countPrompt = (usage: TokenUsage): number =>
  usage.inputTokens + usage.cacheReadTokens + usage.cacheWrite5mTokens + usage.cacheWrite1hTokens;

/**
 * Counts are cumulative: of two the larger one is right. The final count has only changed fields.
 */
function merge(before: RawUsage, after: RawUsage): RawUsage {
  const merged: Record<string, unknown> = { ...before };
  for (const [name, value] of Object.entries(after)) {
    const known = merged[name];
    if (value === null || value === undefined) continue;
    merged[name] = typeof value === "number" && typeof known === "number" ? Math.max(known, value) : value;
  }
  return merged;
}

/**
 * Reads the usage of one answer as it passes. Chunks may be cut anywhere; unknown events and
 * malformed data are ignored.
 */
export class UsageReader {
  readonly #parser: EventSourceParser;
  readonly #decoder = new TextDecoder();
  readonly #hourTokens: number;
  #raw: RawUsage = {};
  #characters = 0;
  #counted = false;
  #hasContent = false;
  #model: string | null = null;
  #stopReason: string | null = null;
  #errorType: string | null = null;
  #complete = false;

  /** @param hourTokens the most tokens that the request can write to the cache for an hour. */
  constructor(hourTokens = 0) {
    this.#hourTokens = hourTokens;
    this.#parser = createParser({ onEvent: ({ data }) => this.#onEvent(data) });
  }

  /** Bytes of a stream (`text/event-stream`). */
  feed(bytes: Uint8Array): void {
    this.#parser.feed(this.#decoder.decode(bytes, { stream: true }));
  }

  /** The whole answer (`application/json`). */
  finish(text: string): void {
    const message = messageSchema.safeParse(parseJson(text));
    if (!message.success) return;
    this.#applyMessage(message.data);
    this.#counted = isCount(message.data.usage?.output_tokens);
    this.#hasContent = (message.data.content ?? []).length > 0;
    this.#complete = true;
  }

  read(): AnswerUsage {
    const known = sumUsage(this.#raw, this.#hourTokens);
    const estimate = Math.ceil(this.#characters / CHARACTERS_PER_TOKEN);
    const outputTokens = this.#counted ? known.outputTokens : Math.max(known.outputTokens, estimate);
    return {
      usage: { ...known, outputTokens },
      estimated: !this.#counted,
      promptCounted: countPrompt(known) > 0,
      hasContent: this.#hasContent,
      speed: this.#raw.speed ?? null,
      region: this.#raw.inference_geo ?? null,
      model: this.#model,
      stopReason: this.#stopReason,
      errorType: this.#errorType,
      complete: this.#complete,
    };
  }

  #applyMessage(message: z.infer<typeof messageSchema>): void {
    this.#model = message.model ?? this.#model;
    this.#stopReason = message.stop_reason ?? this.#stopReason;
    if (message.usage) this.#raw = merge(this.#raw, message.usage);
  }

  #onEvent(data: string): void {
    const event = eventSchema.safeParse(parseJson(data));
    if (!event.success) return;
    const { type, message, usage, delta, error } = event.data;
    if (type === "message_start" && message) this.#applyMessage(message);
    if (type === "content_block_start") this.#hasContent = true;
    if (type === "content_block_delta")
      this.#characters +=
        (delta?.text ?? "").length + (delta?.thinking ?? "").length + (delta?.partial_json ?? "").length;
    if (type === "message_delta") {
      this.#stopReason = delta?.stop_reason ?? this.#stopReason;
      if (usage) {
        this.#raw = merge(this.#raw, usage);
        this.#counted ||= isCount(usage.output_tokens) || (usage.iterations ?? []).length > 0;
      }
    }
    if (type === "message_stop") this.#complete = true;
    if (type === "error") this.#errorType = error?.type ?? "api_error";
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return null;
  }
}
