/**
 * Learns from a refusal what the model does not support, where the provider lists no capabilities.
 * Pure.
 */
import type { Effort } from "../../../../src/core/task.ts";
import type { Begin, Refused, SettingsRecord } from "../conversation/records.ts";

/** A model that refuses adaptive thinking may accept a fixed budget, or none. */
const LESS_THINKING: Readonly<Record<Begin["thinking"], Begin["thinking"] | null>> = {
  summarized: "budget",
  budget: "default",
  default: null,
};

const REFUSALS: Readonly<Record<Refused, RegExp>> = {
  hour_cache: /\bttl\b|cache_control/i,
  clearing: /context.management|clear_tool_uses|\bbetas?\b/i,
};

/** The next lower effort; null = without the parameter. */
const lowerEffort = (effort: Effort): Effort | null =>
  effort === "max" ? "xhigh" : effort === "xhigh" ? "high" : null;

const currentSettings = ({ effort, thinking, maxTokens, maxOutput = maxTokens }: Begin) =>
  ({ kind: "settings", effort, thinking, maxTokens, maxOutput }) as const;

/**
 * Learns a parameter that must not be sent again. Allowed at any point of a conversation, because
 * the model does not read it. Null when the message names no parameter that was sent.
 */
export function learnRefusal(begin: Begin, sent: readonly Refused[], message: string): SettingsRecord | null {
  const { refused = [] } = begin;
  const found = sent.find((name) => !refused.includes(name) && REFUSALS[name].test(message));
  return found === undefined ? null : { ...currentSettings(begin), refused: [...refused, found] };
}

/** The settings of the next request; null when the message is not about one of them. */
export function learnSettings(begin: Begin, message: string): SettingsRecord | null {
  const { effort, thinking, maxTokens } = begin;
  const current = currentSettings(begin);
  const most = Number(/max_tokens: \d+ > (\d+)/.exec(message)?.[1] ?? 0);
  if (most > 0 && most < maxTokens) return { ...current, maxTokens: most, maxOutput: most };
  if (/effort/i.test(message) && effort !== null) {
    const hasNone = /not support the effort|effort parameter|effort: Extra inputs/i.test(message);
    return { ...current, effort: hasNone ? null : lowerEffort(effort) };
  }
  const less = LESS_THINKING[thinking];
  return /thinking.{0,60}not supported|thinking: Extra inputs/i.test(message) && less !== null
    ? { ...current, thinking: less }
    : null;
}
