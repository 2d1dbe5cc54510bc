/**
 * Which model requests of a worker are forwarded to the provider. The worker is hostile: the
 * server's key must serve nothing but messages.
 *
 * Q1 The body that is sent is the body that was checked: it is parsed, checked, and serialized
 *    again.
 * Q2 A request must not make the provider fetch, run or store anything: server tools, URLs of
 *    images or documents, files and containers are refused.
 */
import { z } from "zod";
import { matchesPattern } from "../../core/values/name-pattern.ts";
import { computeCeiling, type RequestCeiling } from "./ceiling.ts";

export interface RequestRules {
  /** Permitted models; an entry that ends in `*` permits every name with that prefix. */
  readonly models: readonly string[];
  /** Values of `anthropic-beta` that are forwarded; a trailing `*` permits a prefix. */
  readonly betas: readonly string[];
  /** Larger values of `max_tokens` are reduced to this. */
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

/** A request that the policy refuses; the message is sent to the worker. */
export class InvalidModelRequest extends Error {}

export interface ModelRequest {
  readonly model: string;
  readonly stream: boolean;
  readonly body: string;
  readonly ceiling: RequestCeiling;
}

/** Permitted top-level fields. A field that the API adds later is refused until it is reviewed. */
const FIELDS = new Set(
  (
    "model max_tokens messages system tools tool_choice stream stop_sequences metadata thinking output_config cache_control " +
    "compaction context_management temperature top_p top_k service_tier diagnostics speed"
  ).split(" "),
);

/** Tool types that run in the sandbox; every other type runs at the provider. */
const LOCAL_TOOL = /^(?:custom|bash_\d+|text_editor_\d+|memory_\d+)$/;
const REMOTE_SOURCES = new Set(["url", "file"]);
const REMOTE_BLOCKS = new Set(["container_upload", "server_tool_use", "mcp_tool_use"]);

const requestSchema = z.looseObject({
  model: z.string().min(1).max(200),
  max_tokens: z.int().positive().optional(),
  stream: z.boolean().optional(),
  messages: z.array(z.unknown()).min(1),
  tools: z.array(z.looseObject({ type: z.string().nullish() })).optional(),
});

/**
 * Describes the first block in messages that the provider would fetch or run; null when there is
 * none. Recursion is safe: the depth was limited before parsing.
 */
function findRemote(value: unknown): string | null {
  if (Array.isArray(value)) {
    for (const item of value) {
      const found = findRemote(item);
      if (found !== null) return found;
    }
    return null;
  }
  if (typeof value !== "object" || value === null) return null;
  const { type, source } = value as { type?: unknown; source?: unknown };
  if (typeof type === "string" && REMOTE_BLOCKS.has(type)) return `a block of type "${type}"`;
  const sourceType = typeof source === "object" && source !== null ? (source as { type?: unknown }).type : undefined;
  if (typeof sourceType === "string" && REMOTE_SOURCES.has(sourceType)) return `a source of type "${sourceType}"`;
  const content = (value as { content?: unknown }).content;
  return typeof content === "object" ? findRemote(content) : null;
}

/** @throws InvalidModelRequest */
export function checkRequest(value: unknown, rules: RequestRules): ModelRequest {
  const parsed = requestSchema.safeParse(value);
  if (!parsed.success) throw new InvalidModelRequest("The body is not a Messages API request.");
  const { model, max_tokens: maxTokens, messages, tools = [], stream = false } = parsed.data;
  const unknown = Object.keys(parsed.data).find((name) => !FIELDS.has(name));
  if (unknown !== undefined) throw new InvalidModelRequest(`The gateway does not permit the field "${unknown}".`);
  if (!matchesPattern(rules.models, model))
    throw new InvalidModelRequest(
      `The model "${model}" is not offered by this server. An operator permits it with SLIPWAY_MODELS.`,
    );
  const tool = tools.find(({ type }) => typeof type === "string" && !LOCAL_TOOL.test(type));
  if (tool !== undefined)
    throw new InvalidModelRequest(
      `The tool type "${tool.type}" would run at the provider, which the gateway does not permit.`,
    );
  const remote = findRemote(messages);
  if (remote !== null)
    throw new InvalidModelRequest(`The messages contain ${remote}, which the provider would fetch or run.`);
  const capped = maxTokens === undefined ? {} : { max_tokens: Math.min(maxTokens, rules.maxTokens) };
  const request = { ...parsed.data, ...capped };
  const body = JSON.stringify(request);
  return { model, stream, body, ceiling: computeCeiling(request, body) };
}
