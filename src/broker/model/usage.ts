/**
 * What a model request used, read from its answer: the stream as it passes, or the whole message.
 *
 * U1 What the provider counted goes before what was estimated. Until its closing count arrives,
 *    output is estimated from the text that passed, so that a budget can be enforced in mid-stream
 *    and a stream that was cut is still paid for.
 * U2 Where the answer has `iterations` (compaction on the provider's side), their sum counts: the
 *    numbers at the top leave them out.
 */
import { createParser, type EventSourceParser } from "eventsource-parser";
import { z } from "zod";

export interface TokenUsage {
  /** Prompt tokens that were neither read from nor written to the cache. */
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

/** The whole answer of one request, as far as it has passed. */
export interface AnswerUsage {
  readonly usage: TokenUsage;
  /** True while the output is estimated: the provider's closing count has not passed. */
  readonly estimated: boolean;
  readonly model: string | null;
  readonly stopReason: string | null;
  /** An `error` event in mid-stream: its type, such as `overloaded_error`. */
  readonly errorType: string | null;
  /** True once `message_stop` (or a whole message) has passed. */
  readonly complete: boolean;
}

/**
 * English prose and code have three to four characters a token; the smaller number errs on the side
 * of the budget.
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
const usageSchema = countsSchema.extend({ iterations: z.array(countsSchema).nullish() });
type RawUsage = z.infer<typeof usageSchema>;

const messageSchema = z.looseObject({
  model: z.string().nullish(),
  stop_reason: z.string().nullish(),
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

function tokensOf(raw: Counts): TokenUsage {
  const written = raw.cache_creation_input_tokens ?? 0;
  const long = raw.cache_creation?.ephemeral_1h_input_tokens ?? 0;
  return {
    inputTokens: raw.input_tokens ?? 0,
    outputTokens: raw.output_tokens ?? 0,
    cacheReadTokens: raw.cache_read_input_tokens ?? 0,
    cacheWrite5mTokens: raw.cache_creation?.ephemeral_5m_input_tokens ?? Math.max(0, written - long),
    cacheWrite1hTokens: long,
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

function total(raw: RawUsage): TokenUsage {
  const parts = raw.iterations ?? [];
  return parts.length === 0 ? tokensOf(raw) : parts.map(tokensOf).reduce(addTokens, NO_TOKENS);
}

/**
 * Later counts replace earlier ones field by field: the closing count repeats only what changed.
 */
function merged(before: RawUsage, after: RawUsage): RawUsage {
  const given = Object.entries(after).filter(([, value]) => value !== null && value !== undefined);
  return { ...before, ...Object.fromEntries(given) };
}

/**
 * Reads one answer as it passes. `feed` takes the bytes in any pieces; what is not the provider's
 * format is passed over.
 */
export class UsageReader {
  readonly #parser: EventSourceParser;
  readonly #decoder = new TextDecoder();
  #raw: RawUsage = {};
  #written = 0;
  #counted = false;
  #model: string | null = null;
  #stopReason: string | null = null;
  #errorType: string | null = null;
  #complete = false;

  constructor() {
    this.#parser = createParser({ onEvent: ({ data }) => this.#hear(data) });
  }

  /** Bytes of a stream (`text/event-stream`). */
  feed(bytes: Uint8Array): void {
    this.#parser.feed(this.#decoder.decode(bytes, { stream: true }));
  }

  /** A whole answer (`application/json`). */
  finish(text: string): void {
    const message = messageSchema.safeParse(parsed(text));
    if (!message.success) return;
    this.#take(message.data);
    this.#counted = this.#complete = message.data.usage !== null && message.data.usage !== undefined;
  }

  read(): AnswerUsage {
    const known = total(this.#raw);
    const guess = Math.ceil(this.#written / CHARACTERS_PER_TOKEN);
    const outputTokens = this.#counted ? known.outputTokens : Math.max(known.outputTokens, guess);
    return {
      usage: { ...known, outputTokens },
      estimated: !this.#counted,
      model: this.#model,
      stopReason: this.#stopReason,
      errorType: this.#errorType,
      complete: this.#complete,
    };
  }

  #take(message: z.infer<typeof messageSchema>): void {
    this.#model = message.model ?? this.#model;
    this.#stopReason = message.stop_reason ?? this.#stopReason;
    if (message.usage) this.#raw = merged(this.#raw, message.usage);
  }

  #hear(data: string): void {
    const event = eventSchema.safeParse(parsed(data));
    if (!event.success) return;
    const { type, message, usage, delta, error } = event.data;
    if (type === "message_start" && message) this.#take(message);
    if (type === "content_block_delta")
      this.#written += (delta?.text ?? "").length + (delta?.thinking ?? "").length + (delta?.partial_json ?? "").length;
    if (type === "message_delta") {
      this.#stopReason = delta?.stop_reason ?? this.#stopReason;
      if (usage) {
        this.#raw = merged(this.#raw, usage);
        this.#counted = true;
      }
    }
    if (type === "message_stop") this.#complete = true;
    if (type === "error") this.#errorType = error?.type ?? "api_error";
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return null;
  }
}
