/**
 * The reviewer's turn: a model reads the task and the change in a fresh context, before the change
 * is delivered.
 *
 * V1 It gets the task, the messages of people and the change; nothing of the agent's conversation.
 * V2 It sends the work back once in a task; after that its objection is a part of the result.
 * V3 A review that is not possible (budget, refusal, outage) is reported and holds nothing up.
 */
import { AgentFailure } from "../agent.ts";
import type { Verified } from "../../workspace/verify.ts";
import type { LoopParts } from "./conversation/compaction.ts";
import type { Block } from "./conversation/records.ts";
import { ModelCaller, type Outcome } from "./model/call.ts";
import type { Params } from "./model/client.ts";
import { REVIEW, REVIEWER } from "./messages.ts";

/** Tokens of the answer. */
const MAX_TOKENS = 8_000;
/** Characters of the change that the reviewer reads. */
const CHANGE_LIMIT = 200_000;
/** How long failing calls are repeated, ms. */
const PATIENCE_MS = 2 * 60_000;
const VERDICT = /^\W*(ACCEPT|SEND BACK)\b\W*/;

/**
 * The review as a check of the change: exit code 0 = accepted. Null = the task asks for none, there
 * is no change, a person interrupted, or no review was possible.
 */
export async function requestReview(parts: LoopParts): Promise<Verified | null> {
  const { context } = parts;
  const { reviewModel: model } = context.spec;
  if (model === undefined) return null;
  const changes = await context.changes(CHANGE_LIMIT);
  if (changes === "") return null;
  const begun = parts.settings.now();
  const answer = await ask(parts, model, changes);
  if (answer === null) return null;
  const verdict = VERDICT.exec(answer.text);
  if (verdict === null) {
    const why = answer.problem ?? "The reviewer gave no verdict.";
    const text = `The change was not reviewed by ${model}: ${why} Review it yourself.`;
    context.emit("notice", { level: "warning", code: "review_missing", text });
    return null;
  }
  const tail = answer.text.slice(verdict[0].length).trim();
  const check = { command: `review by ${model}`, exitCode: verdict[1] === "ACCEPT" ? 0 : 1, tail };
  context.emit("verify", { ...check, ms: Math.max(0, parts.settings.now() - begun) });
  return check;
}

interface ReviewAnswer {
  readonly text: string;
  /** The reason for a missing answer; null = the reviewer answered. */
  readonly problem: string | null;
}

/** Null = a person interrupted. Rejects only with the signal's reason. */
async function ask({ context, log, client, settings }: LoopParts, model: string, changes: string) {
  const { prompt, taskId } = context.spec;
  const params: Params = {
    model,
    max_tokens: MAX_TOKENS,
    system: REVIEWER,
    messages: [{ role: "user", content: REVIEW(prompt, log.conversation.people, changes) }],
    metadata: { user_id: taskId },
  };
  const caller = new ModelCaller(context, { ...settings, patienceMs: Math.min(settings.patienceMs, PATIENCE_MS) });
  const open = (signal: AbortSignal) => client.stream(params, signal);
  try {
    return readOutcome(await caller.attempt(open, { what: "The review", isInterruptible: true, isShown: false }));
  } catch (thrown) {
    if (!(thrown instanceof AgentFailure)) throw thrown;
    return { text: "", problem: thrown.message };
  }
}

function readOutcome(outcome: Outcome): ReviewAnswer | null {
  if (outcome.kind === "interrupted") return null;
  if (outcome.kind === "answer") return { text: readText(outcome.answer.content), problem: null };
  const why = outcome.kind === "too_long" ? "The change is too long for it." : outcome.why;
  return { text: "", problem: why };
}

const readText = (content: readonly Block[]): string =>
  content.flatMap(({ type, text }) => (type === "text" && typeof text === "string" ? [text] : [])).join("\n\n");
