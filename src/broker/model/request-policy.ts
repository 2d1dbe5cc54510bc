/**
 * What of a worker's request goes on to the model provider. The worker is hostile: it may use the
 * server's key for nothing but messages.
 *
 * Q1 What was checked is what is sent: the body is parsed, checked, and written anew.
 * Q2 Nothing that makes the provider fetch, run or keep something: no server tools, no addresses of
 *    images or documents, no files, no containers.
 */
import { z } from "zod";
import { matchesPattern } from "../../core/values/name-pattern.ts";

export interface RequestRules {
  /** Models that may be used; an entry that ends in `*` allows every name that begins with it. */
  readonly models: readonly string[];
  /**
   * Values of `anthropic-beta` that go on; an entry that ends in `*` allows every value that begins
   * with it.
   */
  readonly betas: readonly string[];
  /** The largest `max_tokens`. */
  readonly maxTokens: number;
}

export const DEFAULT_RULES: RequestRules = {
  models: ["claude-*"],
  betas: [
    "compact-*",
    "context-management-*",
    "thinking-*",
    "interleaved-thinking-*",
    "prompt-caching-*",
    "extended-cache-ttl-*",
    "effort-*",
    "token-efficient-*",
    "fine-grained-*",
    "task-budgets-*",
  ],
  maxTokens: 128_000,
};

/** Why a request does not go on, in words for whoever sent it. */
export class RefusedRequest extends Error {}

export interface ModelRequest {
  readonly model: string;
  readonly stream: boolean;
  readonly body: string;
  /** Characters of the prompt: what the least cost is guessed from. */
  readonly promptLength: number;
}

/**
 * Top-level fields that go on. Others are refused by name, so that a new one is looked at before it
 * is let through.
 */
const FIELDS = new Set(
  (
    "model max_tokens messages system tools tool_choice stream stop_sequences metadata thinking output_config cache_control " +
    "compaction context_management temperature top_p top_k service_tier diagnostics speed"
  ).split(" "),
);

/** Tools that run here, in the sandbox; everything else that has a type runs at the provider. */
const LOCAL_TOOL = /^(?:custom|bash_\d+|text_editor_\d+|memory_\d+)$/;
const REMOTE_SOURCE = new Set(["url", "file"]);
const REMOTE_BLOCK = new Set(["container_upload", "server_tool_use", "mcp_tool_use"]);

const shape = z.looseObject({
  model: z.string().min(1).max(200),
  max_tokens: z.int().positive().optional(),
  stream: z.boolean().optional(),
  messages: z.array(z.unknown()).min(1),
  tools: z.array(z.looseObject({ type: z.string().nullish() })).optional(),
});

/**
 * The first thing in messages, system or tools that the provider would fetch or run. The body was
 * measured before it was parsed, so it is not deep.
 */
function remote(value: unknown): string | null {
  if (Array.isArray(value)) return firstOf(value);
  if (typeof value !== "object" || value === null) return null;
  const { type, source } = value as { type?: unknown; source?: unknown };
  if (typeof type === "string" && REMOTE_BLOCK.has(type)) return `a block of type "${type}"`;
  const from = typeof source === "object" && source !== null ? (source as { type?: unknown }).type : undefined;
  if (typeof from === "string" && REMOTE_SOURCE.has(from)) return `a source of type "${from}"`;
  const content = (value as { content?: unknown }).content;
  return typeof content === "object" ? remote(content) : null;
}

function firstOf(values: readonly unknown[]): string | null {
  for (const value of values) {
    const found = remote(value);
    if (found !== null) return found;
  }
  return null;
}

/** @throws RefusedRequest */
export function checkRequest(value: unknown, rules: RequestRules): ModelRequest {
  const parsed = shape.safeParse(value);
  if (!parsed.success) throw new RefusedRequest("The body is not a request for messages.");
  const { model, max_tokens: maxTokens, messages, tools = [], stream = false } = parsed.data;
  const unknown = Object.keys(parsed.data).find((name) => !FIELDS.has(name));
  if (unknown !== undefined) throw new RefusedRequest(`The field "${unknown}" does not pass this gateway.`);
  if (!matchesPattern(rules.models, model))
    throw new RefusedRequest(`The model "${model}" is not offered here. An operator allows it with SLIPWAY_MODELS.`);
  const tool = tools.find(({ type }) => typeof type === "string" && !LOCAL_TOOL.test(type));
  if (tool !== undefined)
    throw new RefusedRequest(`The tool type "${tool.type}" would run at the provider and does not pass this gateway.`);
  const fetched = remote(messages);
  if (fetched !== null)
    throw new RefusedRequest(`The messages hold ${fetched}, which the provider would fetch or run.`);
  const capped = maxTokens === undefined ? {} : { max_tokens: Math.min(maxTokens, rules.maxTokens) };
  const body = JSON.stringify({ ...parsed.data, ...capped });
  return { model, stream, body, promptLength: body.length };
}
