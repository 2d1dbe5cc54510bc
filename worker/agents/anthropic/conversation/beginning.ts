/** The `begin` record: how a conversation starts, and how it starts again. */
import type { Effort } from "../../../../src/core/task.ts";
import type { AgentContext } from "../../agent.ts";
import { WORK_SO_FAR, NOTE } from "../messages.ts";
import type { ModelFacts } from "../model/client.ts";
import { firstMessage, getTools, systemPrompt } from "../model/request.ts";
import type { LoopSettings } from "../settings.ts";
import type { Picture } from "../../../workspace/attachments.ts";
import { toPictures, type ConversationLog } from "./conversation-log.ts";
import { formatLog } from "./compaction.ts";
import type { Begin, Refused } from "./records.ts";

/**
 * The share of the model's window that a conversation fills before it is summarized, and the
 * largest window that is used without a setting, in tokens.
 */
const COMPACT_SHARE = 0.6;
const MAX_WINDOW = 250_000;
/** The share of the window that is the most that a setting can use. */
const MOST_SHARE = 0.9;
/** Characters of the log of earlier work. */
const LOG_LIMIT = 30_000;

const ORDER: readonly Effort[] = ["low", "medium", "high", "xhigh", "max"];

/** The most effort that the model offers, up to the one that was asked for; null = its default. */
export function limitEffort(asked: Effort | null, offered: readonly Effort[] | null): Effort | null {
  if (asked === null || offered === null) return asked;
  return ORDER.slice(0, ORDER.indexOf(asked) + 1).findLast((level) => offered.includes(level)) ?? null;
}

/** The next lower effort; null = without the parameter. */
export const lowerEffort = (effort: Effort): Effort | null =>
  effort === "max" ? "xhigh" : effort === "xhigh" ? "high" : null;

export interface Beginning {
  readonly model: string;
  readonly facts: ModelFacts;
  /** The result of the earlier task; null = there is none. */
  readonly delivered: string | null;
  /** What was done for this task in an earlier conversation; null = nothing. */
  readonly soFar: string | null;
  /** Absent = those of the prompt. */
  readonly pictures?: readonly Picture[];
  /** What was refused in the conversation before; absent = nothing. */
  readonly refused?: readonly Refused[];
}

export function createBegin(context: AgentContext, settings: LoopSettings, beginning: Beginning): Begin {
  const { model, facts, delivered, soFar } = beginning;
  const refused = new Set([...(beginning.refused ?? []), ...(facts.clears ? [] : (["clearing"] as const))]);
  const effort = limitEffort(context.spec.effort, facts.efforts);
  if (effort !== context.spec.effort) reportEffort(context, model, effort);
  const text = firstMessage(context, settings.now(), delivered);
  const asked = context.spec.compactAt ?? settings.compactAt;
  return {
    kind: "begin",
    model,
    effort,
    maxTokens: Math.min(settings.maxTokens, facts.maxOutput),
    maxOutput: facts.maxOutput,
    compactAt:
      asked === null
        ? Math.floor(Math.min(facts.window, MAX_WINDOW) * COMPACT_SHARE)
        : Math.min(asked, Math.floor(facts.window * MOST_SHARE)),
    thinking: facts.thinking,
    ...(refused.size === 0 ? {} : { refused: [...refused] }),
    system: systemPrompt(),
    tools: getTools(context),
    text: soFar === null ? text : `${text}\n\n${soFar}`,
    ...toPictures(beginning.pictures ?? context.pictures),
    ...(context.notes.length === 0 ? {} : { notes: context.notes.map(NOTE) }),
    ...(soFar === null ? {} : { again: true }),
  };
}

export function reportEffort(context: AgentContext, model: string, effort: Effort | null): void {
  const instead = effort === null ? "its own default is used" : `"${effort}" is used`;
  const text = `The model ${model} does not offer the effort "${context.spec.effort}"; ${instead}.`;
  context.emit("notice", { level: "warning", code: "effort_lowered", text });
}

/** What a new conversation must know of the one that it replaces. */
export async function describeWork(context: AgentContext, { conversation }: ConversationLog): Promise<string> {
  return WORK_SO_FAR(conversation.people, formatLog(conversation.messages(), LOG_LIMIT), await context.changes());
}
