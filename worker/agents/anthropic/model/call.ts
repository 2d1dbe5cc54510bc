/**
 * One model call, until there is an answer or a reason to stop.
 *
 * M1 Every failed try is a notice with the time of the next one. Nothing of a try that failed is
 *    kept.
 * M2 A call never waits without bound: a silent stream is given up after `idleMs`, failing tries
 *    after `patienceMs`.
 * M3 What the model thinks and says is on the screen as it comes.
 */
import { z } from "zod";
import { AgentFailure, type AgentContext } from "../../agent.ts";
import type { ModelStream } from "./client.ts";
import { classifyFault, type Fault } from "./faults.ts";
import type { LoopSettings } from "../settings.ts";

const answerSchema = z.looseObject({
  content: z.array(z.looseObject({ type: z.string() })),
  stop_reason: z.string().nullable(),
  stop_details: z.looseObject({ category: z.string().nullish(), explanation: z.string().nullish() }).nullish(),
  usage: z.looseObject({
    input_tokens: z.number(),
    output_tokens: z.number(),
    cache_creation_input_tokens: z.number().nullish(),
    cache_read_input_tokens: z.number().nullish(),
  }),
});
export type Answer = z.infer<typeof answerSchema>;

export type Outcome =
  | {
      readonly kind: "answer";
      readonly answer: Answer;
      /** The message that is on the screen already. */ readonly messageId: string;
    }
  | Extract<Fault, { kind: "too_long" | "budget" }>
  /** Only for calls that may be refused: a refusal that trying again does not change. */
  | Extract<Fault, { kind: "fatal" }>;

const GARBLED_TRIES = 3;

export const countTokens = ({ usage }: Answer): number =>
  usage.input_tokens +
  (usage.cache_creation_input_tokens ?? 0) +
  (usage.cache_read_input_tokens ?? 0) +
  usage.output_tokens;

const deltaSchema = z.looseObject({ type: z.string(), text: z.string().optional(), thinking: z.string().optional() });

export class ModelCaller {
  readonly #context: AgentContext;
  readonly #settings: LoopSettings;

  constructor(context: AgentContext, settings: LoopSettings) {
    this.#context = context;
    this.#settings = settings;
  }

  /**
   * @throws AgentFailure when trying again makes no sense any more; the signal's reason when
   * aborted.
   */
  async call(open: (signal: AbortSignal) => ModelStream): Promise<Exclude<Outcome, { kind: "fatal" }>> {
    const outcome = await this.attempt(open);
    if (outcome.kind === "fatal") throw new AgentFailure(outcome.code, outcome.why);
    return outcome;
  }

  /** The same for a call that the provider may not know: its refusal is an outcome. */
  async attempt(open: (signal: AbortSignal) => ModelStream): Promise<Outcome> {
    const { now, patienceMs } = this.#settings;
    let firstFailure: number | null = null;
    let garbled = 0;
    for (let tries = 1; ; tries += 1) {
      const outcome = await this.#once(open);
      if (outcome.kind !== "again" && outcome.kind !== "garbled") return outcome;
      firstFailure ??= now();
      if (outcome.kind === "garbled" && ++garbled >= GARBLED_TRIES)
        throw new AgentFailure("agent_error", `${outcome.why} It was asked ${garbled} times.`);
      const pause = this.#pause(outcome, tries);
      if (now() + pause - firstFailure > patienceMs)
        throw new AgentFailure(
          "model_overloaded",
          `${outcome.why} Tried ${tries} times in ${Math.round((now() - firstFailure) / 1_000)} s.`,
        );
      this.#tell(outcome.why, pause);
      await this.#context.sleep(pause);
    }
  }

  /** What the provider asks for, within reason; else growing pauses with full jitter. */
  #pause(fault: Fault, tries: number): number {
    const { backoffMs, backoffCapMs, retryAfterCapMs, random } = this.#settings;
    const asked = fault.kind === "again" ? fault.afterMs : null;
    if (asked !== null) return Math.min(asked, retryAfterCapMs);
    const ceiling = Math.min(backoffCapMs, backoffMs * 2 ** Math.min(tries, 20));
    return Math.round(backoffMs / 2 + random() * (ceiling - backoffMs / 2));
  }

  #tell(why: string, pause: number): void {
    const at = new Date(this.#settings.now() + pause).toISOString().slice(11, 19);
    const text = `${why} Next try at ${at} UTC, in ${(pause / 1_000).toFixed(pause < 10_000 ? 1 : 0)} s.`;
    this.#context.emit("notice", { level: "warning", code: "model_retry", text });
  }

  async #once(
    open: (signal: AbortSignal) => ModelStream,
  ): Promise<Outcome | Extract<Fault, { kind: "again" | "garbled" }>> {
    const { signal } = this.#context;
    signal.throwIfAborted();
    const stop = new AbortController();
    const both = AbortSignal.any([signal, stop.signal]);
    let timer: NodeJS.Timeout | undefined;
    const watch = (): void => {
      clearTimeout(timer);
      timer = setTimeout(() => stop.abort(), this.#settings.idleMs);
    };
    const messageId = this.#context.newId("msg");
    try {
      watch();
      const stream = open(both);
      stream.on("streamEvent", (event) => {
        watch();
        if (event.type === "content_block_delta") this.#show(messageId, event.delta);
      });
      const answer = answerSchema.safeParse(await stream.finalMessage());
      if (!answer.success) return { kind: "garbled", why: "The model's answer could not be read." };
      return { kind: "answer", answer: answer.data, messageId };
    } catch (thrown) {
      if (signal.aborted) throw signal.reason;
      if (stop.signal.aborted) {
        const why = `The model said nothing for ${Math.round(this.#settings.idleMs / 1_000)} s.`;
        return { kind: "again", why, afterMs: null };
      }
      return classifyFault(thrown, this.#settings.now());
    } finally {
      clearTimeout(timer);
    }
  }

  #show(messageId: string, delta: unknown): void {
    const { data } = deltaSchema.safeParse(delta);
    const text = data?.text ?? data?.thinking ?? "";
    if (text !== "") this.#context.delta(messageId, text);
  }
}
