/**
 * Which model requests of a worker are forwarded to the provider. The worker is hostile: the
 * server's key must serve nothing but messages.
 *
 * Q1 What is sent is what was checked, unchanged: the parsed body is serialized again, without a
 *    field more or less. A request that is not permitted is refused with the name of its field,
 *    header or beta; nothing is removed silently.
 * Q2 A request must not make the provider fetch, run or store anything: fields, blocks, sources and
 *    tools, at any depth, are positive lists, headers too (headers.ts). What the API adds later is
 *    refused by its path and name until it is reviewed here.
 *
 * Recursion is safe: the depth was limited before parsing.
 */
import { z } from "zod";
import { matchesPattern } from "../../../core/values/name-pattern.ts";
import { computeCeiling, type RequestCeiling } from "./ceiling.ts";

/** A request that the policy refuses; the message is sent to the worker. */
export class InvalidModelRequest extends Error {}

/** Betas of any date whose fields are listed here, or that have none. */
const BETAS: readonly string[] = [
  "advanced-tool-use-*",
  "afk-mode-*",
  "auto-mode-classifier-*",
  "cache-diagnosis-*",
  "claude-code-*",
  "compact-*",
  "context-1m-*",
  "context-management-*",
  "dangerous-tool-use-*",
  "effort-*",
  "extended-cache-ttl-*",
  "fine-grained-*",
  "inline-tools-*",
  "interleaved-thinking-*",
  "mid-conversation-*",
  "model-context-window-exceeded-*",
  "pdfs-*",
  "per-turn-control-*",
  "prompt-caching-*",
  "redact-thinking-*",
  "structured-outputs-*",
  "task-budgets-*",
  "thinking-*",
  "token-counting-*",
  "token-efficient-*",
];

export interface RequestRules {
  /** Permitted models; an entry that ends in `*` permits every name with that prefix. */
  readonly models: readonly string[];
  /** Permitted values of `anthropic-beta`; a trailing `*` permits a prefix. */
  readonly betas: readonly string[];
  /** Larger values of `max_tokens` are refused. */
  readonly maxTokens: number;
}

export const DEFAULT_RULES: RequestRules = {
  models: ["claude-*"],
  betas: BETAS,
  maxTokens: 128_000,
};

export interface ModelRequest {
  readonly model: string;
  readonly stream: boolean;
  readonly body: string;
  readonly ceiling: RequestCeiling;
}

const requestSchema = z.looseObject({
  model: z.string().min(1).max(200),
  max_tokens: z.int().positive().optional(),
  stream: z.boolean().optional(),
  messages: z.array(z.unknown()).min(1),
});

/** @throws InvalidModelRequest */
export function checkRequest(value: unknown, rules: RequestRules): ModelRequest {
  const parsed = requestSchema.safeParse(value);
  if (!parsed.success) throw new InvalidModelRequest(describeIssue(parsed.error));
  const request = value as Readonly<Record<string, unknown>>;
  const { model, max_tokens: maxTokens = 0, stream = false } = parsed.data;
  checkContent(request);
  if (!matchesPattern(rules.models, model))
    throw new InvalidModelRequest(
      `The model "${model}" is not offered by this server. An operator permits it with SLIPWAY_MODELS.`,
    );
  if (maxTokens > rules.maxTokens)
    throw new InvalidModelRequest(`The gateway permits a "max_tokens" of at most ${rules.maxTokens}.`);
  const body = JSON.stringify(request);
  return { model, stream, body, ceiling: computeCeiling(request, body) };
}

function describeIssue({ issues }: z.ZodError): string {
  const path = issues[0]?.path.join(".") ?? "";
  return `The body is not a Messages API request${path === "" ? "" : `: "${path}" is not valid`}.`;
}

// ---------------------------------------------------------------- the positive list

/** Checks one value. @throws InvalidModelRequest */
type Check = (value: unknown, path: string) => void;
type Fields = Readonly<Record<string, Check>>;

function refuse(path: string): never {
  throw new InvalidModelRequest(`The gateway does not permit the field "${path}".`);
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Text to the model, whatever it looks like: the input and the schema of a tool. */
const anything: Check = () => undefined;

/** A string, a number, a truth value or null. */
const scalar: Check = (value, path) => {
  if (typeof value === "object" && value !== null) refuse(path);
};

/** Objects and lists of scalars, such as cache_control: nothing that holds a block or a source. */
const settings: Check = (value, path) => {
  if (typeof value !== "object" || value === null) return;
  for (const [name, item] of Object.entries(value)) {
    const at = join(path, name);
    if (name === "source" || name === "content") refuse(at);
    settings(item, at);
  }
};

const join = (path: string, name: string): string =>
  /^\d+$/.test(name) ? `${path}[${name}]` : path === "" ? name : `${path}.${name}`;

/** Other values may have other prices. */
const oneOf =
  (...values: readonly string[]): Check =>
  (value, path) => {
    if (value === null || (typeof value === "string" && values.includes(value))) return;
    throw new InvalidModelRequest(`The gateway permits a "${path}" of ${values.join(" or ")} only.`);
  };

const listOf =
  (check: Check): Check =>
  (value, path) => {
    if (!Array.isArray(value)) return scalar(value, path);
    for (const [index, item] of value.entries()) check(item, `${path}[${index}]`);
  };

function checkFields(value: unknown, path: string, fields: Fields): void {
  if (!isObject(value)) return scalar(value, path);
  for (const [name, item] of Object.entries(value)) {
    const check = Object.hasOwn(fields, name) ? fields[name] : undefined;
    if (check === undefined) return refuse(join(path, name));
    check(item, join(path, name));
  }
}

const object =
  (fields: Fields): Check =>
  (value, path) =>
    checkFields(value, path, fields);

/** An object whose `type` decides its fields. `kind` is for people. */
const typed =
  (kind: string, types: Readonly<Record<string, Fields>>): Check =>
  (value, path) => {
    if (!isObject(value)) return scalar(value, path);
    const { type } = value;
    const fields = typeof type === "string" && Object.hasOwn(types, type) ? types[type] : undefined;
    if (fields === undefined)
      throw new InvalidModelRequest(
        `The gateway does not permit a ${kind} of type "${String(type).slice(0, 100)}" (${path}): ` +
          "the provider must not fetch, run or store anything.",
      );
    checkFields(value, path, { type: scalar, ...fields });
  };

const cached: Fields = { cache_control: settings };
const text: Fields = { ...cached, text: scalar, citations: settings };
const base64: Fields = { media_type: scalar, data: scalar };
const source = typed("source", {
  base64,
  text: base64,
  content: { content: (value, path) => nested(value, path) },
});
const image: Fields = { ...cached, source, transformations: settings };
const nested = listOf(typed("block", { text, image }));

/** Tools that run in the sandbox. */
const LOCAL_TOOL = /^(?:custom|(?:bash|text_editor|memory)_\d+)$/;
const tool: Check = (value, path) => {
  const type = isObject(value) ? value["type"] : null;
  if (typeof type === "string" && !LOCAL_TOOL.test(type))
    throw new InvalidModelRequest(
      `The tool type "${type.slice(0, 100)}" (${path}) would run at the provider, which the gateway does not permit.`,
    );
  checkFields(value, path, {
    ...cached,
    type: scalar,
    name: scalar,
    description: scalar,
    input_schema: anything,
    input_examples: anything,
    strict: scalar,
    defer_loading: scalar,
    eager_input_streaming: scalar,
    max_characters: scalar,
    allowed_callers: directOnly,
  });
};

/** Calls from programs that run at the provider are not permitted. */
const directOnly: Check = (value, path) => {
  const callers: unknown[] = Array.isArray(value) ? value : [value];
  if (callers.some((caller) => caller !== "direct" && caller !== null)) refuse(path);
};
const caller = typed("caller", { direct: {} });
const changedTool = typed("tool", { tool_reference: { name: scalar }, tool_definition: { definition: tool } });
const change: Fields = { ...cached, tool: changedTool };
const CHANGES = { tool_addition: change, tool_removal: change };

const document: Fields = { ...cached, source, citations: settings, context: scalar, title: scalar };
const searchResult: Fields = { ...cached, source: scalar, title: scalar, citations: settings, content: nested };
const RESULTS = {
  text,
  image,
  document,
  search_result: searchResult,
  tool_reference: { ...cached, tool_name: scalar },
};

const block = typed("block", {
  ...RESULTS,
  ...CHANGES,
  thinking: { thinking: scalar, signature: scalar },
  redacted_thinking: { data: scalar },
  tool_use: { ...cached, id: scalar, name: scalar, input: anything, caller },
  tool_result: {
    ...cached,
    tool_use_id: scalar,
    is_error: scalar,
    content: listOf(typed("block", RESULTS)),
  },
  compaction: {
    ...cached,
    content: scalar,
    encrypted_content: scalar,
    signature: scalar,
    tool_changes: listOf(typed("block", CHANGES)),
  },
});

const message = object({ role: scalar, content: listOf(block), output_config: settings, clear_at: scalar });
const outputConfig = object({
  effort: scalar,
  task_budget: settings,
  format: object({ type: scalar, schema: anything, name: scalar }),
});

/** Fields of the body. */
const FIELDS: Fields = {
  model: scalar,
  max_tokens: scalar,
  messages: listOf(message),
  system: listOf(typed("block", { text })),
  tools: listOf(tool),
  tool_choice: settings,
  stream: scalar,
  stop_sequences: settings,
  metadata: settings,
  thinking: settings,
  output_config: outputConfig,
  output_format: object({ type: scalar, schema: anything, name: scalar }),
  cache_control: settings,
  compaction: settings,
  context_management: settings,
  temperature: scalar,
  top_p: scalar,
  top_k: scalar,
  service_tier: oneOf("auto", "standard_only"),
  diagnostics: settings,
  safeguards: listOf(typed("safeguard", { dangerous_tool_use: { classifier_context: anything } })),
  speed: oneOf("standard", "fast"),
};

/** @throws InvalidModelRequest naming the first field that is not on the list. */
function checkContent(request: Readonly<Record<string, unknown>>): void {
  checkFields(request, "", FIELDS);
}
