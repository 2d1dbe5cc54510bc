/**
 * Learns from a refusal what the model does not support, where the provider lists no capabilities.
 * Pure.
 */
import { lowerEffort } from "../conversation/beginning.ts";
import type { Begin, SettingsRecord } from "../conversation/records.ts";

/** A model that refuses adaptive thinking may accept a fixed budget, or none. */
const LESS_THINKING: Readonly<Record<Begin["thinking"], Begin["thinking"] | null>> = {
  summarized: "budget",
  budget: "default",
  default: null,
};

/** The settings of the next request; null when the message is not about one of them. */
export function learnSettings(begin: Begin, message: string): SettingsRecord | null {
  const { effort, thinking, maxTokens, maxOutput = maxTokens } = begin;
  const current = { kind: "settings", effort, thinking, maxTokens, maxOutput } as const;
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
