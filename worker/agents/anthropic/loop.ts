/**
 * Runs the agent step by step until there is a result.
 *
 * A1 The next step is a function of the transcript alone (`nextStep`), so that a restarted worker
 *    does what the earlier process would have done.
 * A2 Tools run only when the answer ended with a request for them.
 * A3 Text without a call is not proof of completion: the model is asked to call `finish`, twice at
 *    most; then its text is taken as the report.
 */
import { AgentFailure, type AgentResult } from "../agent.ts";
import { countTokens, type Answer, type Outcome } from "./model/call.ts";
import { learnRefusal, learnSettings } from "./model/learned-settings.ts";
import { runToolCalls } from "./tools/tool-calls.ts";
import { CLEAR_EDIT, planClearing } from "./conversation/clearing.ts";
import { compact, describeWork, type LoopParts } from "./conversation/compaction.ts";
import { withoutBlanks, type Conversation } from "./conversation/conversation.ts";
import { createBegin, createRequest, createShowPicture } from "./model/request.ts";
import type { Begin, Block } from "./conversation/records.ts";
import { Stopwatch } from "./stopwatch.ts";
import { detectLoop } from "./loop-detection.ts";
import { requestReview } from "./review.ts";
import type { Verified } from "../../workspace/verify.ts";
import { readFinish } from "./tools/conversation-tools.ts";
import * as messages from "./messages.ts";

const MAX_NUDGES = 2;
const MAX_REPAIRS = 2;
/** Consecutive answers that were cut off. */
const MAX_CUT_OFF = 3;
/** The share of turns or time after which the model is asked to come to an end. */
const LOW_SHARE = 0.8;
const HOUR_CACHE = ["hour_cache"] as const;
const TITLE_LIMIT = 72;
/** Characters of a notice. */
const NOTICE_LENGTH = 1_000;
/** Characters of a failed check's output that the model gets. */
const CHECK_TAIL = 3_000;
const NO_BUDGET_FOR_SUMMARY = "The budget does not allow a summary of the conversation.";

type Step = "run_calls" | "ask_model" | "conclude" | "continue_answer" | "nudge";

/** A1 */
export function nextStep(conversation: Conversation): Step {
  const { stopReason } = conversation;
  if (conversation.openCalls.length > 0) return "run_calls";
  if (conversation.isEmptyAnswer && stopReason === "max_tokens") return "continue_answer";
  if (conversation.isEmptyAnswer) return conversation.nudges < MAX_NUDGES ? "nudge" : "conclude";
  if (conversation.hasUnsentTexts) return "ask_model";
  if (conversation.finish !== null) return "conclude";
  if (conversation.calls.length > 0 || stopReason === null) return "ask_model";
  if (stopReason === "max_tokens" || stopReason === "pause_turn") return "continue_answer";
  return conversation.nudges < MAX_NUDGES ? "nudge" : "conclude";
}

export class Loop {
  readonly #parts: LoopParts;
  readonly #stopwatch: Stopwatch;
  /** The last request did not fit into the window, and the conversation was summarized since. */
  #compactedForWindow = false;

  constructor(parts: LoopParts) {
    this.#parts = parts;
    this.#stopwatch = new Stopwatch(parts.settings.now);
  }

  /** @throws AgentFailure, or the signal's reason. */
  async run(): Promise<AgentResult> {
    const { context, log } = this.#parts;
    for (;;) {
      context.signal.throwIfAborted();
      const step = nextStep(log.conversation);
      switch (step) {
        case "run_calls":
          await runToolCalls(context, log, this.#stopwatch);
          break;
        case "ask_model":
          await this.#runTurn();
          break;
        case "continue_answer":
          await this.#continueAnswer();
          break;
        case "nudge":
          await log.appendText("nudge", messages.FINISH_FIRST);
          break;
        case "conclude": {
          const result = await this.#conclude();
          if (result !== null) return result;
        }
      }
    }
  }

  get #begin(): Begin {
    const { begin } = this.#parts.log.conversation;
    if (begin === null) throw new Error("the transcript has no begin record");
    return begin;
  }

  /**
   * Before each request: clears or compacts, receives messages, enforces limits, detects loops.
   * What people say after the summary stays as they said it.
   */
  async #runTurn(): Promise<void> {
    const { log } = this.#parts;
    const clearing = planClearing(log.conversation);
    if (clearing !== null) await log.append(clearing);
    else if (log.conversation.tokens >= this.#begin.compactAt && (await compact(this.#parts, this.#begin)) === "budget")
      return await this.#waitForBudget(NO_BUDGET_FOR_SUMMARY);
    await this.#receiveMessages("step");
    await this.#enforceLimits();
    const check = detectLoop(log.conversation.trace);
    if (check.kind === "nudge") {
      this.#notice(
        "warning",
        "agent_circles",
        `The agent repeats itself: ${check.what}. It was asked to change course.`,
      );
      await log.appendText("stuck", messages.CIRCLES(check.what));
    }
    if (check.kind === "stop")
      return await this.#fail("agent_stuck", `The agent kept repeating itself after a warning: ${check.what}.`);
    await this.#askModel();
  }

  async #askModel(): Promise<void> {
    const { context, log, client, caller } = this.#parts;
    const sent = log.conversation.messages();
    const { cutOff, cleared, isClearing } = log.conversation;
    const params = createRequest(this.#begin, sent, {
      taskId: context.spec.taskId,
      cutOff,
      cleared,
      show: createShowPicture(context, log.conversation),
    });
    const outcome = await caller.attempt((signal) => client.stream(params, signal), {
      isInterruptible: true,
    });
    if (outcome.kind === "interrupted") return;
    if (outcome.kind === "budget") return await this.#waitForBudget(outcome.why);
    if (outcome.kind === "fatal") return await this.#changeRequest(outcome);
    if (outcome.kind === "too_long" || outcome.answer.stop_reason === "model_context_window_exceeded")
      return await this.#compactForWindow();
    const { answer, messageId } = outcome;
    if (answer.stop_reason === "refusal") return await this.#onRefusal(answer);
    this.#compactedForWindow = false;
    await log.append({
      kind: "turn",
      content: withoutBlanks(answer.content),
      stop: answer.stop_reason ?? "end_turn",
      tokens: countTokens(answer),
    });
    if (isClearing) this.#reportCleared(answer);
    this.#emitMessage(messageId, answer);
  }

  #reportCleared({ context_management: { applied_edits: edits = [] } = {} }: Answer): void {
    const { cleared_tool_uses: uses = 0 } = edits.find(({ type }) => type === CLEAR_EDIT) ?? {};
    if (uses === 0) return;
    const text = `The results of ${uses} older calls are no longer sent to the model, to make room; the work goes on.`;
    this.#notice("info", "results_cleared", text);
  }

  /** Emits the final message: summarized thinking and text. */
  #emitMessage(id: string, { content }: Answer): void {
    const blocks = content.flatMap((block): { type: "text" | "thinking"; text: string }[] => {
      const text = block.type === "thinking" ? block["thinking"] : block["text"];
      if ((block.type !== "thinking" && block.type !== "text") || typeof text !== "string" || text.trim() === "")
        return [];
      return [{ type: block.type, text }];
    });
    if (blocks.length > 0) this.#parts.context.emit("message", { id, role: "assistant", content: blocks });
  }

  /** @returns true when there were messages of people. */
  async #receiveMessages(point: "step" | "end"): Promise<boolean> {
    const { context, log } = this.#parts;
    const received = await context.receiveMessages(point);
    for (const message of received) await log.appendMessage(message);
    return received.length > 0;
  }

  async #enforceLimits(): Promise<void> {
    const { context, log, settings } = this.#parts;
    const { turns, cutOff, warned } = log.conversation;
    // The gateway counts the turns of a task with a budget for them. Its refusal ends the work,
    // because a person may grant more.
    const { turns: budgetTurns } = context.spec.budget;
    const allowed = budgetTurns ?? settings.turns;
    if (cutOff >= MAX_CUT_OFF)
      return await this.#fail("agent_stuck", `${cutOff} answers in a row were cut off before their end.`);
    if (budgetTurns === undefined && turns >= allowed)
      return await this.#fail("budget_exceeded", `It took ${turns} turns, and ${allowed} were allowed.`);
    if (turns >= allowed * LOW_SHARE && !warned.has(messages.TURNS_LOW)) {
      if (budgetTurns === undefined) this.#notice("warning", "budget_near", `${turns} of ${allowed} turns are used.`);
      await log.appendText("limit", messages.TURNS_LOW);
    }
    // The harness warns people about the time.
    if (this.#stopwatch.elapsed() >= context.spec.wallMs * LOW_SHARE && !warned.has(messages.TIME_LOW))
      await log.appendText("limit", messages.TIME_LOW);
  }

  async #continueAnswer(): Promise<void> {
    const { log } = this.#parts;
    const { stopReason, isEmptyAnswer } = log.conversation;
    const cut = isEmptyAnswer ? messages.LENGTH_USED_UP : messages.GO_ON;
    await log.appendText("go_on", stopReason === "pause_turn" ? messages.PAUSED : cut);
  }

  /** The request did not fit into the window: summarizes the conversation, once. */
  async #compactForWindow(): Promise<void> {
    if (this.#compactedForWindow)
      return await this.#fail(
        "agent_error",
        "The conversation does not fit into the model's window, even as a summary.",
      );
    this.#compactedForWindow = true;
    if ((await compact(this.#parts, this.#begin)) === "budget") await this.#waitForBudget(NO_BUDGET_FOR_SUMMARY);
  }

  /**
   * Handles a request that the provider refused as invalid. Limits of the model are learned before
   * the first answer, limits of caching at any time. A conversation that another attempt or task
   * wrote is restarted once, because it may contain the invalid part.
   * @throws AgentFailure for any other.
   */
  async #changeRequest({ code, why, isInvalid }: Extract<Outcome, { kind: "fatal" }>): Promise<void> {
    const { context, log } = this.#parts;
    const sent = [...HOUR_CACHE, ...(log.conversation.cleared > 0 ? (["clearing"] as const) : [])];
    const lowered = isInvalid && log.conversation.isUnanswered ? learnSettings(this.#begin, why) : null;
    const learned = lowered ?? (isInvalid ? learnRefusal(this.#begin, sent, why) : null);
    if (learned !== null) {
      this.#notice("warning", "model_settings", `The model refused a setting of the request; it is changed. ${why}`);
      return await log.append(learned);
    }
    if (isInvalid && (await this.#withholdPictures(why))) return;
    if (!isInvalid || !log.conversation.isInherited) throw new AgentFailure(code, why);
    const text = `The earlier conversation cannot be continued, so the agent begins again with the work so far. ${why}`;
    this.#notice("warning", "conversation_restarted", text);
    await this.#beginAgain(context.spec.model ?? this.#parts.settings.model);
  }

  /** @returns true when the refusal is about pictures, or new ones may be its reason. */
  async #withholdPictures(why: string): Promise<boolean> {
    const { log } = this.#parts;
    const { unsentPictures, pictures, unreadable } = log.conversation;
    const suspects = (/image/i.test(why) ? pictures : unsentPictures).filter(({ id }) => !unreadable.has(id));
    if (suspects.length === 0) return false;
    const names = suspects.map(({ name }) => name).join(", ");
    const text = `The model could not read what was attached (${names}); the agent has it as files. ${why}`;
    this.#notice("warning", "picture_unreadable", text.slice(0, NOTICE_LENGTH));
    await log.append({ kind: "unreadable", pictures: suspects.map(({ id }) => id) });
    return true;
  }

  async #beginAgain(model: string): Promise<void> {
    const { context, log, client, settings } = this.#parts;
    const [facts, soFar] = [await client.facts(model, context.signal), await describeWork(context, log)];
    const { pictures } = log.conversation;
    const { refused = [] } = this.#begin;
    await log.append(createBegin(context, settings, { model, facts, delivered: null, soFar, pictures, refused }));
  }

  /** The fall-back model of the installation takes over, once. */
  async #onRefusal({ stop_details: details }: Answer): Promise<void> {
    const { fallbackModel = null } = this.#parts.context.spec;
    const { model } = this.#begin;
    if (fallbackModel !== null && fallbackModel !== model) {
      const text = `The model ${model} declined (${details?.category ?? "no category given"}). ${fallbackModel} continues the task.`;
      this.#notice("warning", "fallback_model", text);
      return await this.#beginAgain(fallbackModel);
    }
    const category = details?.category ?? "no category given";
    await this.#fail("refused", `The model declined (${category}). ${details?.explanation ?? ""}`.trim());
  }

  /**
   * Saves the work and waits for the decision of a person. @throws AgentFailure when it is `stop`.
   */
  async #waitForBudget(why: string): Promise<void> {
    const { context, log } = this.#parts;
    await context.checkpoint(log.cursor, "always");
    const decision = await this.#stopwatch.paused(async () => await context.budgetQuestion());
    if (decision === "stop") throw new AgentFailure("budget_exceeded", why);
  }

  /** Saves the work. @throws AgentFailure always. */
  async #fail(code: string, why: string): Promise<void> {
    const { context, log } = this.#parts;
    await context.checkpoint(log.cursor, "now");
    throw new AgentFailure(code, why);
  }

  #notice(level: "info" | "warning", code: string, text: string): void {
    this.#parts.context.emit("notice", { level, code, text });
  }

  /** Runs the checks and the review. @returns null when the model must continue. */
  async #conclude(): Promise<AgentResult | null> {
    const { context, log } = this.#parts;
    const { conversation } = log;
    const verified = await context.verify();
    // A message that interrupts is handled before the results of the checks.
    if (context.isInterrupted && (await this.#receiveMessages("end"))) return null;
    const failing = verified.filter(({ exitCode }) => exitCode !== 0);
    if (failing.length > 0 && conversation.repairs < MAX_REPAIRS) {
      const failures = failing.map(
        ({ command, exitCode, tail }) =>
          `\`${command}\` (${exitCode === null ? "stopped" : `exit code ${exitCode}`}):\n${tail.slice(-CHECK_TAIL)}`,
      );
      const roundsLeft = MAX_REPAIRS - 1 - conversation.repairs;
      await log.appendText("verify", messages.FAILED_CHECKS(failures.join("\n\n"), roundsLeft));
      return null;
    }
    if (await this.#receiveMessages("end")) return null;
    const review = failing.length === 0 ? await requestReview(this.#parts) : null;
    if (await this.#receiveMessages("end")) return null;
    if (review !== null && review.exitCode !== 0 && !conversation.wasSentBack) {
      await log.appendText("review", messages.SENT_BACK(review.tail));
      return null;
    }
    const checks = review === null ? verified : [...verified, review];
    const result = { ...this.#createResult(conversation), verified: checks };
    await context.checkpoint(log.cursor, "now");
    const open = [...describeFailing(failing), ...(review === null ? [] : describeObjection(review))];
    return { ...result, summary: [result.summary, ...open].join("\n\n") };
  }

  /** From the `finish` call; without one, from the last answer (A3). */
  #createResult(conversation: Conversation): AgentResult {
    const finish = conversation.finish === null ? null : readFinish(conversation.finish);
    const { prompt } = this.#parts.context.spec;
    if (finish !== null) return { title: formatTitle(finish.title ?? prompt), summary: finish.summary };
    this.#notice(
      "warning",
      "no_finish",
      "The agent ended with text and did not report the work as finished. Review the result with care.",
    );
    const last = conversation.messages().findLast(({ role }) => role === "assistant");
    const text = (last?.content ?? [])
      .flatMap((block: Block) => (block.type === "text" ? [String(block["text"])] : []))
      .join("\n\n");
    const title = formatTitle(prompt);
    return { title, summary: text === "" ? "The agent ended without a report about its work." : text };
  }
}

function describeFailing(failing: readonly Verified[]): string[] {
  if (failing.length === 0) return [];
  const commands = failing.map(({ command }) => `\`${command}\``).join(", ");
  return [`After ${MAX_REPAIRS} rounds of repair these checks still do not pass: ${commands}.`];
}

const describeObjection = ({ exitCode, tail }: Verified): string[] =>
  exitCode === 0 ? [] : [`The reviewer still objects:\n\n${tail}`];

const formatTitle = (text: string): string =>
  (text.trim().split("\n")[0] ?? "").slice(0, TITLE_LIMIT).trim() || "Changes by the agent";
