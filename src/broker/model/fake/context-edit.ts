/**
 * The provider's removal of old tool results from a prompt.
 *
 * E1 It is decided for each request alone, from the whole conversation: beyond the trigger all
 *    results but those of the last `keep` calls are left out, if that frees `clear_at_least`.
 * E2 What is sent stays the conversation that thinking is bound to; tokens and cache are those of
 *    the prompt that is left.
 */
import { countPromptTokens } from "./prompt-cache.ts";
import { findClearing, getBlocks, type Edit, type FakeRequest } from "./strict.ts";

export interface AppliedEdit {
  readonly type: Edit["type"];
  readonly cleared_tool_uses: number;
  readonly cleared_input_tokens: number;
}

const PLACEHOLDER = "[Old tool result content cleared]";

export interface EditedPrompt {
  readonly request: FakeRequest;
  /** Null = the request asked for none. */
  readonly applied: readonly AppliedEdit[] | null;
}

/** E1 */
export function editPrompt(request: FakeRequest): EditedPrompt {
  const { context_management: asked } = request;
  if (asked === undefined || asked === null) return { request, applied: null };
  const clearing = findClearing(request);
  const edited = clearing === undefined ? null : clear(request, clearing);
  return edited ?? { request, applied: [] };
}

function clear(request: FakeRequest, { type, trigger, keep, clear_at_least: least, exclude_tools: kept }: Edit) {
  const calls = request.messages.flatMap((message) => getBlocks(message).filter((one) => one.type === "tool_use"));
  const before = countPromptTokens(request);
  if ((trigger.type === "input_tokens" ? before : calls.length) <= trigger.value) return null;
  const old = calls.slice(0, Math.max(0, calls.length - keep.value));
  const ids = new Set(old.filter(({ name }) => kept?.includes(String(name)) !== true).map(({ id }) => String(id)));
  const messages = request.messages.map((message) => ({
    ...message,
    content: getBlocks(message).map((one) =>
      ids.has(String(one["tool_use_id"])) ? { ...one, content: PLACEHOLDER } : one,
    ),
  }));
  const edited = { ...request, messages };
  const freed = before - countPromptTokens(edited);
  if (ids.size === 0 || freed < (least?.value ?? 0)) return null;
  return { request: edited, applied: [{ type, cleared_tool_uses: ids.size, cleared_input_tokens: freed }] };
}
