/**
 * Validates requests like the real API, so that an agent that works with the fake model works with
 * the provider.
 *
 * F1 A thinking block is bound to its prefix: its signature is a digest of system, tools, the
 *    preceding messages and the block's message. A changed prefix is refused with the provider's
 *    error ("bound to a different conversation"): the transcript is append-only.
 * F2 Each tool_use is followed by exactly one tool_result at the start of the next message.
 * F3 An assistant message does not end with thinking, and no text is blank.
 * F4 A provider-side summary (`compaction`) is signed and is the only block of the first message.
 * F5 An image is a whole picture of its media type.
 */
import { createHash, type Hash } from "node:crypto";
import { z } from "zod";
import { canonicalJson } from "../../../core/lib/json/canonical-json.ts";

const block = z.looseObject({ type: z.string() });
export type Block = z.infer<typeof block>;

const tokens = z.strictObject({ type: z.literal("input_tokens"), value: z.int().min(0) });
const uses = z.strictObject({ type: z.literal("tool_uses"), value: z.int().min(0) });
const edit = z.strictObject({
  type: z.literal("clear_tool_uses_20250919"),
  trigger: z.discriminatedUnion("type", [tokens, uses]).default({ type: "input_tokens", value: 100_000 }),
  keep: uses.default({ type: "tool_uses", value: 3 }),
  clear_at_least: tokens.nullish(),
  exclude_tools: z.array(z.string()).nullish(),
});
/** The provider's other edits are accepted and leave the prompt as it is. */
const otherEdit = z.looseObject({ type: z.enum(["clear_thinking_20251015", "compact_20260112"]) });
const contextManagement = z.strictObject({
  edits: z.array(z.discriminatedUnion("type", [edit, otherEdit])).default([]),
});
export type Edit = z.infer<typeof edit>;

export const requestSchema = z.looseObject({
  model: z.string().min(1),
  max_tokens: z.int().positive(),
  stream: z.boolean().optional(),
  system: z.union([z.string(), z.array(block)]).optional(),
  tools: z.array(z.looseObject({ name: z.string().min(1) })).optional(),
  tool_choice: z.looseObject({ type: z.string() }).optional(),
  thinking: z.looseObject({ type: z.string() }).optional(),
  output_config: z.looseObject({ effort: z.string().nullish() }).optional(),
  compaction: z.strictObject({ type: z.literal("summarize"), instructions: z.string().nullish() }).optional(),
  context_management: contextManagement.nullish(),
  metadata: z.looseObject({ user_id: z.string().nullish() }).nullish(),
  messages: z
    .array(
      z.looseObject({ role: z.enum(["user", "assistant", "system"]), content: z.union([z.string(), z.array(block)]) }),
    )
    .min(1),
});
export type FakeRequest = z.infer<typeof requestSchema>;
export type FakeMessage = FakeRequest["messages"][number];

/** The edit that removes old results, which a request has at most once; undefined = none. */
export const findClearing = ({ context_management: asked }: FakeRequest): Edit | undefined =>
  asked?.edits.find((one): one is Edit => one.type === "clear_tool_uses_20250919");

const MAX_BREAKPOINTS = 4;

export const getBlocks = (message: FakeMessage): readonly Block[] =>
  typeof message.content === "string" ? [{ type: "text", text: message.content }] : message.content;

/** Canonical JSON without cache marks and signatures, which may differ between equal requests. */
const IGNORED: ReadonlySet<string> = new Set(["cache_control", "signature"]);
const canonical = (value: unknown): string => canonicalJson(value, IGNORED);

const hashPrefix = (request: FakeRequest): Hash =>
  createHash("sha256").update(canonical([request.system ?? null, request.tools ?? null]));

/** The signature of F1. @param before the preceding messages. */
export function signThinking(request: FakeRequest, before: readonly FakeMessage[], content: readonly Block[]): string {
  const digest = hashPrefix(request);
  for (const message of before) digest.update(canonical([message.role, getBlocks(message)]));
  return digest.update(canonical(content)).digest("base64");
}

function countBreakpoints(value: unknown): number {
  if (Array.isArray(value)) return value.reduce((sum: number, item) => sum + countBreakpoints(item), 0);
  if (typeof value !== "object" || value === null) return 0;
  const own = "cache_control" in value && value.cache_control !== null && value.cache_control !== undefined ? 1 : 0;
  return (
    own +
    Object.entries(value).reduce((sum, [key, item]) => sum + (key === "cache_control" ? 0 : countBreakpoints(item)), 0)
  );
}

function findBadParameter(request: FakeRequest): string | null {
  for (const name of ["temperature", "top_p", "top_k"])
    if (name in request) return `${name}: Extra inputs are not permitted`;
  if (request.tool_choice !== undefined && ["any", "tool"].includes(request.tool_choice.type))
    return "tool_choice: forced tool use is not supported by this model";
  if (countBreakpoints(request) > MAX_BREAKPOINTS)
    return `A maximum of ${MAX_BREAKPOINTS} blocks with cache_control may be provided.`;
  const names = (request.tools ?? []).map(({ name }) => name);
  if (new Set(names).size < names.length) return "tools: Tool names must be unique.";
  return null;
}

export const isSummary = (message: FakeMessage): boolean => getBlocks(message).some((one) => one.type === "compaction");

export const summarySignature = (text: string): string =>
  createHash("sha256").update(`summary ${text}`).digest("base64");

/** F4 */
function findBadSummary(messages: readonly FakeMessage[]): string | null {
  for (const [i, message] of messages.entries()) {
    if (!isSummary(message)) continue;
    const [one, ...others] = getBlocks(message);
    if (i > 0 || message.role !== "assistant" || others.length > 0)
      return `messages.${i}: the compaction block must be the first block`;
    if (one?.["signature"] !== summarySignature(String(one?.["content"])))
      return `messages.${i}: the compaction block's signature does not verify`;
  }
  return null;
}

/** F3 and the order of the roles. */
function findBadOrder(messages: readonly FakeMessage[]): string | null {
  const [first] = messages;
  if (first?.role !== "user" && (first === undefined || !isSummary(first)))
    return "messages.0: the first message must use the user role";
  for (const [i, { role, content }] of messages.entries()) {
    if (role === "system" && messages[i - 1]?.role === "assistant")
      return `messages.${i}: a system message cannot follow an assistant message`;
    if (role !== "system" && messages[i - 1]?.role === role && role === "assistant")
      return `messages.${i}: roles must alternate`;
    if (content.length === 0) return `messages.${i}: content must not be empty`;
    const empty =
      Array.isArray(content) && content.some((one) => one.type === "text" && String(one["text"] ?? "").trim() === "");
    if (empty) return `messages.${i}: text content blocks must be non-empty`;
    if (role === "assistant" && getBlocks({ role, content }).at(-1)?.type.endsWith("thinking") === true)
      return `messages.${i}: The final block in an assistant message cannot be \`thinking\`.`;
  }
  return messages.at(-1)?.role === "assistant" ? "This model does not support assistant message prefill." : null;
}

const MAGIC: Readonly<Record<string, RegExp>> = {
  "image/png": /^\x89PNG\r\n\x1a\n.*IEND.{4}$/s,
  "image/jpeg": /^\xff\xd8\xff/,
  "image/gif": /^GIF8/,
  "image/webp": /^RIFF.{4}WEBP/s,
};

/** F5 */
function findBadImage(messages: readonly FakeMessage[]): string | null {
  for (const [i, message] of messages.entries())
    for (const one of getBlocks(message)) {
      if (one.type !== "image") continue;
      const { media_type: type, data } = (one["source"] ?? {}) as { media_type?: string; data?: string };
      const bytes = Buffer.from(data ?? "", "base64").toString("latin1");
      if (MAGIC[type ?? ""]?.test(bytes) !== true) return `messages.${i}: Could not process image`;
    }
  return null;
}

const getIds = (message: FakeMessage | undefined, type: string, key: string): string[] =>
  message === undefined ? [] : getBlocks(message).flatMap((one) => (one.type === type ? [String(one[key])] : []));

function findUnpairedTool(messages: readonly FakeMessage[]): string | null {
  const seen = new Set<string>();
  for (const [i, message] of messages.entries()) {
    const called = message.role === "assistant" ? getIds(message, "tool_use", "id") : [];
    const answered = new Set(getIds(messages[i + 1], "tool_result", "tool_use_id"));
    const missing = called.filter((id) => !answered.has(id));
    if (missing.length > 0)
      return `messages.${i}: tool_use ids were found without tool_result blocks immediately after: ${missing.join(", ")}`;
    const before = new Set(getIds(messages[i - 1], "tool_use", "id"));
    for (const id of getIds(message, "tool_result", "tool_use_id")) {
      if (!before.has(id)) return `messages.${i}: unexpected tool_use_id found in tool_result blocks: ${id}`;
      if (seen.has(id)) return `messages.${i}: each tool_use must have a single result: ${id}`;
      seen.add(id);
    }
    const blocks = getBlocks(message);
    const last = blocks.findLastIndex((one) => one.type === "tool_result");
    if (blocks.slice(0, last + 1).some((one) => one.type !== "tool_result"))
      return `messages.${i}: tool_result blocks must come first`;
  }
  return null;
}

/** Linear: the digest of the prefix is copied for each signed message, not computed again. */
function findForeignThinking(request: FakeRequest): string | null {
  const before = hashPrefix(request);
  for (const [i, message] of request.messages.entries()) {
    const blocks = getBlocks(message);
    const signed = message.role === "assistant" ? blocks.filter((one) => one.type === "thinking") : [];
    const wanted = signed.length === 0 ? "" : before.copy().update(canonical(blocks)).digest("base64");
    if (signed.some((one) => one["signature"] !== wanted))
      return `messages.${i}.content: the thinking block is bound to a different conversation`;
    before.update(canonical([message.role, blocks]));
  }
  return null;
}

/** The API's error message for an invalid request; null for a valid one. */
export function findViolation(request: FakeRequest): string | null {
  return (
    findBadParameter(request) ??
    findBadSummary(request.messages) ??
    findBadOrder(request.messages) ??
    findUnpairedTool(request.messages) ??
    findBadImage(request.messages) ??
    findForeignThinking(request)
  );
}
