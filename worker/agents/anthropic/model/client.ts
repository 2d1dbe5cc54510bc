/** The provider's client library. It is loaded on demand, because most workers start without it. */
import type Anthropic from "@anthropic-ai/sdk";
import { z } from "zod";
import { EFFORTS, type Effort } from "../../../../src/core/task.ts";
import type { Begin } from "../conversation/records.ts";

export type Params = Anthropic.MessageStreamParams;

/** The beta of the provider's summaries; needed to request one and to send one back. */
const COMPACT_BETA = "compact-2026-09-04";
const CLEAR_BETA = "context-management-2025-06-27";

/** The betas that a request needs. */
function listBetas(params: Params): string[] {
  const first = params.messages[0]?.content;
  // The library's stable types have no such block.
  const isSummarized = Array.isArray(first) && first.some(({ type }) => (type as string) === "compaction");
  return [...(isSummarized ? [COMPACT_BETA] : []), ...("context_management" in params ? [CLEAR_BETA] : [])];
}

/** The part of the library's stream that is used. */
export interface ModelStream {
  /** Called whenever bytes arrive, also those of pings, which are no events of the library. */
  onBytes(listener: () => void): void;
  on(event: "streamEvent", listener: (event: { readonly type: string; readonly delta?: unknown }) => void): unknown;
  finalMessage(): Promise<unknown>;
  abort(): void;
}

const supported = z.looseObject({ supported: z.boolean().nullish() }).nullish();
const levels = Object.fromEntries(EFFORTS.map((level) => [level, supported]));
const modelInfo = z.looseObject({
  max_input_tokens: z.number().nullish(),
  max_tokens: z.number().nullish(),
  capabilities: z
    .looseObject({
      effort: z.looseObject({ supported: z.boolean().nullish(), ...levels }).nullish(),
      thinking: z
        .looseObject({ types: z.looseObject({ adaptive: supported, enabled: supported }).nullish() })
        .nullish(),
      context_management: z.looseObject({ clear_tool_uses_20250919: supported }).nullish(),
    })
    .nullish(),
});
export interface ModelFacts {
  /** Tokens. */
  readonly window: number;
  readonly maxOutput: number;
  readonly thinking: Begin["thinking"];
  /** Null = unknown: all are assumed. */
  readonly efforts: readonly Effort[] | null;
  /** Old results can be left out. */
  readonly clears: boolean;
}

export interface ModelClient {
  stream(params: Params, signal: AbortSignal): ModelStream;
  /** Requests the provider's summary in place of an answer. */
  compact(params: Params, instructions: string, signal: AbortSignal): ModelStream;
  /**
   * The provider's facts about a model; conservative assumptions where it reports none. Rejects
   * only when aborted.
   */
  facts(model: string, signal: AbortSignal): Promise<ModelFacts>;
}

const ASSUMED: ModelFacts = { window: 200_000, maxOutput: 64_000, thinking: "summarized", efforts: null, clears: true };
const FACTS_MS = 15_000;

function readFacts(info: unknown): ModelFacts {
  const { data } = modelInfo.safeParse(info);
  if (data === undefined) return ASSUMED;
  return {
    window: data.max_input_tokens ?? ASSUMED.window,
    maxOutput: data.max_tokens ?? ASSUMED.maxOutput,
    thinking: readThinking(data),
    efforts: readEfforts(data),
    clears: data.capabilities?.context_management?.clear_tool_uses_20250919?.supported ?? true,
  };
}

function readThinking({ capabilities }: z.infer<typeof modelInfo>): ModelFacts["thinking"] {
  const { adaptive, enabled } = capabilities?.thinking?.types ?? {};
  if (adaptive?.supported ?? true) return "summarized";
  return enabled?.supported === true ? "budget" : "default";
}

/** A level that the list does not mention is one of a model that is older than the level. */
function readEfforts({ capabilities }: z.infer<typeof modelInfo>): ModelFacts["efforts"] {
  const effort = capabilities?.effort ?? null;
  if (effort === null) return ASSUMED.efforts;
  if (effort.supported === false) return [];
  const named = EFFORTS.filter((level) => supported.safeParse(effort[level]).data?.supported === true);
  return named.length === 0 ? ASSUMED.efforts : named;
}

/** @param silenceMs the longest wait for the head of a response, ms. */
export async function openClient(
  address: { readonly baseURL: string; readonly token: string },
  silenceMs: number,
): Promise<ModelClient> {
  const { default: Library } = await import("@anthropic-ai/sdk");
  // ModelCaller retries instead of the library, because its retries are reported to people.
  const client: Anthropic = new Library({
    apiKey: address.token,
    baseURL: address.baseURL,
    maxRetries: 0,
    timeout: silenceMs,
    logLevel: "off",
  });
  return {
    stream(params, signal) {
      const betas = listBetas(params);
      return watchBytes(client, ({ messages, beta }) =>
        betas.length === 0
          ? messages.stream(params, { signal })
          : beta.messages.stream({ ...params, betas } as Anthropic.Beta.MessageCreateParams, { signal }),
      );
    },
    compact: (params, instructions, signal) =>
      watchBytes(client, ({ beta }) =>
        beta.messages.stream(
          {
            ...params,
            betas: [COMPACT_BETA],
            compaction: { type: "summarize", instructions },
          } as Anthropic.Beta.MessageCreateParams,
          { signal },
        ),
      ),
    async facts(model, signal) {
      try {
        return readFacts(await client.models.retrieve(model, {}, { signal, timeout: FACTS_MS }));
      } catch {
        signal.throwIfAborted();
        return ASSUMED;
      }
    },
  };
}

/** The library passes on no pings, so the bytes are watched on their way to it. */
function watchBytes(client: Anthropic, open: (client: Anthropic) => Omit<ModelStream, "onBytes">): ModelStream {
  let notify = (): void => undefined;
  const watched = client.withOptions({
    fetch: async (url, init) => {
      const response = await fetch(url, init);
      notify();
      if (response.body === null) return response;
      const body = response.body.pipeThrough(
        new TransformStream<Uint8Array, Uint8Array>({
          transform(chunk, controller) {
            notify();
            controller.enqueue(chunk);
          },
        }),
      );
      const { status, statusText, headers } = response;
      return new Response(body, { status, statusText, headers });
    },
  });
  const stream = open(watched);
  return {
    on: (event, listener) => stream.on(event, listener),
    finalMessage: () => stream.finalMessage(),
    abort: () => stream.abort(),
    onBytes: (listener) => (notify = listener),
  };
}
