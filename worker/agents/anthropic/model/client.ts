/**
 * The client library, loaded when a model is needed: a worker whose agent needs none starts without
 * it.
 */
import type Anthropic from "@anthropic-ai/sdk";
import { z } from "zod";
import type { Params } from "./request.ts";
import { COMPACT_BETA } from "./request.ts";

/** What of the library's streams is used. */
export interface ModelStream {
  on(event: "streamEvent", listener: (event: { readonly type: string; readonly delta?: unknown }) => void): unknown;
  finalMessage(): Promise<unknown>;
  abort(): void;
}

const supported = z.looseObject({ supported: z.boolean().nullish() }).nullish();
const modelInfo = z.looseObject({
  max_input_tokens: z.number().nullish(),
  max_tokens: z.number().nullish(),
  capabilities: z
    .looseObject({
      effort: supported,
      thinking: z.looseObject({ types: z.looseObject({ adaptive: supported }).nullish() }).nullish(),
    })
    .nullish(),
});
export interface ModelFacts {
  /** Tokens. */
  readonly window: number;
  readonly maxOutput: number;
  readonly adaptive: boolean;
  readonly effort: boolean;
}

export interface ModelClient {
  /** @param betas `plain`: none. */
  stream(params: Params, betas: "plain" | "compact", signal: AbortSignal): ModelStream;
  /** The provider sums up in place of answering. */
  compact(params: Params, instructions: string, signal: AbortSignal): ModelStream;
  /**
   * What the provider says about a model; careful assumptions where it says nothing. Rejects only
   * when aborted.
   */
  facts(model: string, signal: AbortSignal): Promise<ModelFacts>;
}

const UNKNOWN: ModelFacts = { window: 200_000, maxOutput: 32_000, adaptive: true, effort: true };
const FACTS_MS = 15_000;

function factsOf(info: unknown): ModelFacts {
  const { data } = modelInfo.safeParse(info);
  if (data === undefined) return UNKNOWN;
  return {
    window: data.max_input_tokens ?? UNKNOWN.window,
    maxOutput: data.max_tokens ?? UNKNOWN.maxOutput,
    adaptive: data.capabilities?.thinking?.types?.adaptive?.supported ?? UNKNOWN.adaptive,
    effort: data.capabilities?.effort?.supported ?? UNKNOWN.effort,
  };
}

/** @param silenceMs longest wait for the head of an answer. */
export async function openClient(
  address: { readonly baseURL: string; readonly token: string },
  silenceMs: number,
): Promise<ModelClient> {
  const { default: Library } = await import("@anthropic-ai/sdk");
  // Our own retries are visible to people; the library's are not.
  const client: Anthropic = new Library({
    apiKey: address.token,
    baseURL: address.baseURL,
    maxRetries: 0,
    timeout: silenceMs,
    logLevel: "off",
  });
  return {
    stream: (params, betas, signal) =>
      client.messages.stream(params, {
        signal,
        ...(betas === "compact" ? { headers: { "anthropic-beta": COMPACT_BETA } } : {}),
      }),
    compact: (params, instructions, signal) =>
      client.beta.messages.stream(
        {
          ...params,
          betas: [COMPACT_BETA],
          compaction: { type: "summarize", instructions },
        } as Anthropic.Beta.MessageCreateParams,
        { signal },
      ),
    async facts(model, signal) {
      try {
        return factsOf(await client.models.retrieve(model, {}, { signal, timeout: FACTS_MS }));
      } catch {
        signal.throwIfAborted();
        return UNKNOWN;
      }
    },
  };
}
