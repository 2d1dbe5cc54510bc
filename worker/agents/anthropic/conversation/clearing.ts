/**
 * Old results leave the prompt before the conversation has to be summarized.
 *
 * The client sends everything, always: thinking is bound to what preceded it. The provider leaves
 * results out (`context_management`), and decides anew at each request. Which results these are is
 * therefore a record: a number of calls to keep that stayed the same would leave out one more with
 * each call, and everything after it would be written to the cache again each time.
 */
import type { Conversation, Message } from "./conversation.ts";
import type { Begin, Block, ClearedRecord } from "./records.ts";

/** Results leave at this share of the size at which the conversation is summarized. */
const TRIGGER_SHARE = 0.8;
/** What leaves is at least this share of the prompt: the rest is written to the cache again. */
const WORTH_SHARE = 0.5;
/** The last calls, whose results stay. */
const KEPT_USES = 10;
/** Answers of people stay. The other conversation tools have short results. */
const KEPT_TOOLS = ["ask_user"];
/** Characters of a conversation that is sent; a longer one is summarized. */
const MOST_CHARACTERS = 2_000_000;

const triggerOf = ({ compactAt }: Begin): number => Math.floor(compactAt * TRIGGER_SHARE);

const listUses = (messages: readonly Message[]): Block[] =>
  messages.flatMap(({ content }) => content.filter(({ type }) => type === "tool_use"));

/** The results that leave now; null = none, or too little for the price. Pure. */
export function planClearing(conversation: Conversation): ClearedRecord | null {
  const { begin, tokens, cleared, calls } = conversation;
  if (begin === null || begin.refused?.includes("clearing") === true || tokens < triggerOf(begin)) return null;
  const messages = conversation.messages();
  const names = listUses(messages).map(({ id, name }) => [String(id), String(name)] as const);
  // The model has not seen the results of its last answer yet.
  const end = names.length - Math.max(KEPT_USES, calls.length);
  if (end <= cleared) return null;
  const size = (part: readonly (readonly [string, string])[]): number => {
    const ids = new Set(part.flatMap(([id, name]) => (KEPT_TOOLS.includes(name) ? [] : [id])));
    const results = messages.flatMap(({ content }) => content.filter((one) => ids.has(String(one["tool_use_id"]))));
    return results.reduce((sum, { content }) => sum + JSON.stringify(content).length, 0);
  };
  const whole = JSON.stringify([begin.system, begin.tools, messages]).length;
  const left = whole - size(names.slice(0, cleared));
  const isWorth = size(names.slice(cleared, end)) >= left * WORTH_SHARE;
  return isWorth && whole <= MOST_CHARACTERS ? { kind: "cleared", uses: end } : null;
}

export const CLEAR_EDIT = "clear_tool_uses_20250919";

/** The field of the request; empty when nothing is left out. @param cleared a number of calls. */
export function createEdits(begin: Begin, messages: readonly Message[], cleared: number): object {
  const kept = listUses(messages).length - cleared;
  if (cleared === 0 || kept < 0) return {};
  const trigger = triggerOf(begin);
  const edit = {
    type: CLEAR_EDIT,
    trigger: { type: "input_tokens", value: trigger },
    keep: { type: "tool_uses", value: kept },
    clear_at_least: { type: "input_tokens", value: Math.floor(trigger * WORTH_SHARE) },
    exclude_tools: KEPT_TOOLS,
  };
  return { context_management: { edits: [edit] } };
}
