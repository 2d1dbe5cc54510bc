/** The turns of an agent program: its work, messages of people, and the checks. */
import { truncate, truncateStart } from "../../lib/text.ts";
import type { Verified } from "../../workspace/verify.ts";
import { AgentFailure, type AgentContext, type AgentResult, type ReceivedMessage } from "../agent.ts";
import type { ProgramConversation } from "./conversation.ts";
import { chooseTitle, CONTINUE, failedChecksPrompt, interruptionPrompt, messagePrompt } from "./prompts.ts";

const MAX_CONTINUATIONS = 3;
/** How often a budget may grow, or a message be taken back, in the middle of a turn. */
const MAX_REPEATS = 20;
const MAX_REPAIRS = 2;
const TITLE_LIMIT = 72;
const SUMMARY_LIMIT = 8_000;
/** The program's own position is not known, so the cursor only records that it started. */
export const CURSOR = "program";

export type TurnEnd =
  | { readonly kind: "ended" }
  /** The turn was ended for these messages. */
  | { readonly kind: "interrupted"; readonly messages: readonly ReceivedMessage[] }
  /** The turn was ended by what no longer holds, such as a budget that has grown. */
  | { readonly kind: "again" }
  /** A limit ended the turn; `failure` is for when that happens too often. */
  | { readonly kind: "limit"; readonly failure: AgentFailure };

export interface ProgramTurns {
  readonly context: AgentContext;
  readonly conversation: ProgramConversation;
  /** The program's first prompt of this attempt. */
  readonly first: string;
  /** @param isFirst the prompt is `first`. */
  runTurn(prompt: string, isFirst: boolean): Promise<TurnEnd>;
  /** Saves what the program knows of its conversation. */
  save?(): Promise<void>;
}

/** @returns the results of the checks that ran last, for the harness. */
export async function runTurns(turns: ProgramTurns): Promise<readonly Verified[]> {
  const { context, conversation } = turns;
  if (!conversation.isOwn) conversation.add("task", context.spec.prompt);
  let prompt: string | null = null;
  for (let continuations = 0, repeats = 0, repairs = 0; ;) {
    await conversation.save();
    const end = await runAndSave(turns, prompt);
    await context.checkpoint(CURSOR, "due");
    if (end.kind === "limit" || end.kind === "again") {
      if (end.kind === "limit" && ++continuations > MAX_CONTINUATIONS) throw end.failure;
      if (++repeats > MAX_REPEATS) throw new AgentFailure("agent_error", "The agent's program stops again and again.");
      prompt = CONTINUE;
      continue;
    }
    const messages = end.kind === "interrupted" ? end.messages : await context.receiveMessages("end");
    for (const { id, text } of messages) conversation.add("person", text, id);
    if (messages.length > 0) {
      prompt = end.kind === "interrupted" ? interruptionPrompt(messages) : messagePrompt(messages);
      continue;
    }
    const verified = await context.verify();
    const failing = verified.filter(({ exitCode }) => exitCode !== 0);
    if (failing.length === 0 || repairs === MAX_REPAIRS) return verified;
    repairs += 1;
    prompt = failedChecksPrompt(failing);
    conversation.add("task", prompt);
  }
}

/** What was said and done is saved also when the program fails. */
async function runAndSave({ context, conversation, first, ...turns }: ProgramTurns, prompt: string | null) {
  try {
    return await turns.runTurn(prompt ?? first, prompt === null);
  } finally {
    if (!context.signal.aborted) {
      await conversation.save();
      await turns.save?.();
    }
  }
}

export interface ProgramReport {
  /** The program's last words. */
  readonly summary: string;
  /** False for a log, which gives no title. */
  readonly isReport: boolean;
  readonly verified: readonly Verified[];
}

export async function toResult(
  context: AgentContext,
  { summary, verified, isReport }: ProgramReport,
): Promise<AgentResult> {
  await context.checkpoint(CURSOR, "now");
  const title = formatTitle(chooseTitle(isReport ? summary : "", context.spec.prompt));
  return { title, summary: truncateStart(summary, SUMMARY_LIMIT), verified };
}

function formatTitle(text: string): string {
  return truncate((text.trim().split("\n")[0] ?? "").trim(), TITLE_LIMIT) || "Changes by an agent";
}

/** The gateway's refusal, in a program's words. */
const USED_UP = /\b402\b|budget_exceeded|budget of \S+ is used up/i;

export const isBudgetRefusal = (context: AgentContext, text: string): boolean =>
  context.model !== null && USED_UP.test(text);

/**
 * Waits for a person's decision about a budget that is used up.
 * @returns the end of the turn after more was granted. @throws AgentFailure `budget_exceeded`.
 */
export async function askForBudget(context: AgentContext, evidence: string): Promise<TurnEnd> {
  if ((await context.budgetQuestion()) === "continue") return { kind: "again" };
  throw new AgentFailure("budget_exceeded", "The task's budget is used up.", evidence);
}

/** What a program needs to use the gateway; nothing where the installation has none. */
export function modelEnvironment({ model, spec }: AgentContext): Record<string, string> {
  if (model === null) return {};
  return {
    ANTHROPIC_BASE_URL: model.baseURL,
    ANTHROPIC_API_KEY: model.token,
    ...(spec.model === null ? {} : { ANTHROPIC_MODEL: spec.model }),
  };
}
