/**
 * From step to step until there is a result.
 *
 * A1 What happens next is a function of the transcript alone (`nextStep`), so that a life which
 *    begins in the middle does what the one before would have done.
 * A2 Tools run only when the answer ended by asking for them.
 * A3 Words without a call are a report, not a proof: the model is asked to finish, twice; then its
 *    words are taken as its report.
 */
import { AgentFailure, type AgentResult } from "../agent.ts";
import { countTokens, type Answer } from "./model/call.ts";
import { runToolCalls } from "./tools/tool-calls.ts";
import { compact, type CompactParts } from "./conversation/compaction.ts";
import { withoutBlanks, type Conversation } from "./conversation/conversation.ts";
import { needsBeta, createRequest } from "./model/request.ts";
import type { Begin, Block } from "./conversation/records.ts";
import { Stopwatch } from "./stopwatch.ts";
import { detectLoop } from "./loop-detection.ts";
import { readFinish } from "./tools/conversation-tools.ts";
import * as words from "./messages.ts";

const NUDGES = 2;
const REPAIRS = 2;
/** Answers in a row that were cut off. */
const CUT_OFFS = 3;
/** The part of a budget after which the model is told to come to an end. */
const LOW = 0.8;
const TITLE_LIMIT = 72;
const TAIL = 3_000;

type Step = "run_calls" | "ask_model" | "conclude" | "go_on" | "nudge";

/** A1 */
export function nextStep(view: Conversation): Step {
  if (view.open.length > 0) return "run_calls";
  if (view.empty) return view.nudges < NUDGES ? "nudge" : "conclude";
  if (view.hasNews) return "ask_model";
  if (view.finish !== null) return "conclude";
  if (view.calls.length > 0 || view.stop === null) return "ask_model";
  if (view.stop === "max_tokens" || view.stop === "pause_turn") return "go_on";
  return view.nudges < NUDGES ? "nudge" : "conclude";
}

export class Loop {
  readonly #parts: CompactParts;
  readonly #watch: Stopwatch;
  /** The window was full at the last call, and the conversation has been summed up since. */
  #squeezed = false;

  constructor(parts: CompactParts) {
    this.#parts = parts;
    this.#watch = new Stopwatch(parts.settings.now);
  }

  /** @throws AgentFailure, or the signal's reason. */
  async run(): Promise<AgentResult> {
    const { context, memory } = this.#parts;
    for (;;) {
      context.signal.throwIfAborted();
      const step = nextStep(memory.view);
      switch (step) {
        case "run_calls":
          await runToolCalls(context, memory, this.#watch);
          break;
        case "ask_model":
          await this.#turn();
          break;
        case "go_on":
          await this.#goOn();
          break;
        case "nudge":
          await memory.tell("nudge", words.FINISH_FIRST);
          break;
        case "conclude": {
          const result = await this.#conclude();
          if (result !== null) return result;
        }
      }
    }
  }

  get #begin(): Begin {
    const { begin } = this.#parts.memory.view;
    if (begin === null) throw new Error("the transcript has no beginning");
    return begin;
  }

  /**
   * A safe point: what people said, what the limits say, whether it goes in circles. Then the model
   * is asked.
   */
  async #turn(): Promise<void> {
    const { memory } = this.#parts;
    await this.#hear("step");
    await this.#limits();
    const verdict = detectLoop(memory.view.trace);
    if (verdict.kind === "nudge") {
      this.#notice("warning", "agent_circles", `The agent goes in circles: ${verdict.what}. It was told.`);
      await memory.tell("stuck", words.CIRCLES(verdict.what));
    }
    if (verdict.kind === "stop") return await this.#stop("agent_stuck", `It was told and went on: ${verdict.what}.`);
    if (memory.view.tokens >= this.#begin.compactAt && (await compact(this.#parts, this.#begin)) === "budget")
      return await this.#outOfMoney("There is nothing left to sum the conversation up with.");
    await this.#ask();
  }

  async #ask(): Promise<void> {
    const { context, memory, client, caller } = this.#parts;
    const messages = memory.view.messages();
    const params = createRequest(this.#begin, messages, context.spec.taskId);
    const outcome = await caller.call((signal) =>
      client.stream(params, needsBeta(messages) ? "compact" : "plain", signal),
    );
    if (outcome.kind === "budget") return await this.#outOfMoney(outcome.why);
    if (outcome.kind === "too_long" || outcome.answer.stop_reason === "model_context_window_exceeded")
      return await this.#squeeze();
    const { answer, messageId } = outcome;
    if (answer.stop_reason === "refusal") return await this.#refused(answer);
    this.#squeezed = false;
    await memory.write({
      kind: "turn",
      content: withoutBlanks(answer.content),
      stop: answer.stop_reason ?? "end_turn",
      tokens: countTokens(answer),
    });
    this.#show(messageId, answer);
  }

  /** The message as it stays: what was thought, in summary, and what was said. */
  #show(id: string, { content }: Answer): void {
    const shown = content.flatMap((block): { type: "text" | "thinking"; text: string }[] => {
      const text = block.type === "thinking" ? block["thinking"] : block["text"];
      if ((block.type !== "thinking" && block.type !== "text") || typeof text !== "string" || text.trim() === "")
        return [];
      return [{ type: block.type, text }];
    });
    if (shown.length > 0) this.#parts.context.emit("message", { id, role: "assistant", content: shown });
  }

  /** @returns true when somebody said something. */
  async #hear(at: "step" | "end"): Promise<boolean> {
    const { context, memory } = this.#parts;
    const messages = await context.receiveMessages(at);
    for (const message of messages) await memory.hear(message);
    return messages.length > 0;
  }

  async #limits(): Promise<void> {
    const { context, memory, settings } = this.#parts;
    const { turns, cutOff, warned } = memory.view;
    // Turns that the task was given are counted by the gateway, and a person may grant more: the
    // gateway's refusal is what ends them.
    const { turns: given } = context.spec.budget;
    const allowed = given ?? settings.turns;
    if (cutOff >= CUT_OFFS)
      return await this.#stop("agent_stuck", `${cutOff} answers in a row were cut off before their end.`);
    if (given === undefined && turns >= allowed)
      return await this.#stop("budget_exceeded", `It took ${turns} turns, and ${allowed} were allowed.`);
    if (turns >= allowed * LOW && !warned.has(words.TURNS_LOW)) {
      if (given === undefined) this.#notice("warning", "budget_near", `${turns} of ${allowed} turns are used.`);
      await memory.tell("limit", words.TURNS_LOW);
    }
    // People hear of it from the harness.
    if (this.#watch.elapsed() >= context.spec.wallMs * LOW && !warned.has(words.TIME_LOW))
      await memory.tell("limit", words.TIME_LOW);
  }

  async #goOn(): Promise<void> {
    const { view } = this.#parts.memory;
    await this.#parts.memory.tell("go_on", view.stop === "pause_turn" ? words.PAUSED : words.GO_ON);
  }

  /** The window is full: once more with a summary in place of the conversation. */
  async #squeeze(): Promise<void> {
    if (this.#squeezed)
      return await this.#stop(
        "agent_error",
        "The conversation does not fit into the model's window, even as a summary.",
      );
    this.#squeezed = true;
    if ((await compact(this.#parts, this.#begin)) === "budget")
      await this.#outOfMoney("There is nothing left to sum the conversation up with.");
  }

  async #refused({ stop_details: details }: Answer): Promise<void> {
    const category = details?.category ?? "no category given";
    await this.#stop("refused", `The model declined (${category}). ${details?.explanation ?? ""}`.trim());
  }

  /** The work is saved first; then a person decides. */
  async #outOfMoney(why: string): Promise<void> {
    const { context, memory } = this.#parts;
    await context.checkpoint(memory.cursor, "always");
    const decision = await this.#watch.paused(async () => await context.budgetQuestion());
    if (decision === "stop") throw new AgentFailure("budget_exceeded", why);
  }

  async #stop(code: string, why: string): Promise<void> {
    const { context, memory } = this.#parts;
    await context.checkpoint(memory.cursor, "now");
    throw new AgentFailure(code, why);
  }

  #notice(level: "info" | "warning", code: string, text: string): void {
    this.#parts.context.emit("notice", { level, code, text });
  }

  /** @returns null when there is more to do. */
  async #conclude(): Promise<AgentResult | null> {
    const { context, memory } = this.#parts;
    const { view } = memory;
    const verified = await context.verify();
    const failing = verified.filter(({ exitCode }) => exitCode !== 0);
    if (failing.length > 0 && view.repairs < REPAIRS) {
      const failures = failing.map(
        ({ command, exitCode, tail }) =>
          `\`${command}\` (${exitCode === null ? "stopped" : `exit code ${exitCode}`}):\n${tail.slice(-TAIL)}`,
      );
      await memory.tell("verify", words.FAILED_CHECKS(failures.join("\n\n"), REPAIRS - 1 - view.repairs));
      return null;
    }
    if (await this.#hear("end")) return null;
    const result = { ...this.#resultOf(view), verified };
    await context.checkpoint(memory.cursor, "now");
    if (failing.length === 0) return result;
    const open = `After ${REPAIRS} rounds of repair these checks still do not pass: ${failing.map(({ command }) => `\`${command}\``).join(", ")}.`;
    return { ...result, summary: `${result.summary}\n\n${open}` };
  }

  #resultOf(view: Conversation): AgentResult {
    const finished = view.finish === null ? null : readFinish(view.finish);
    if (finished !== null) return { title: titleOf(finished.title), summary: finished.summary };
    this.#notice(
      "warning",
      "no_finish",
      "The agent ended with words and did not say that the work is finished. Look at the result with care.",
    );
    const last = view.messages().findLast(({ role }) => role === "assistant");
    const said = (last?.content ?? [])
      .flatMap((block: Block) => (block.type === "text" ? [String(block["text"])] : []))
      .join("\n\n");
    const title = titleOf(this.#parts.context.spec.prompt);
    return { title, summary: said === "" ? "The agent ended without a word about its work." : said };
  }
}

const titleOf = (text: string): string =>
  (text.trim().split("\n")[0] ?? "").slice(0, TITLE_LIMIT).trim() || "Changes by the agent";
