/**
 * One model call, repeated until there is an answer or a reason to stop.
 *
 * M1 Every failed try emits a notice with the time of the next one. Its partial answer is
 *    discarded.
 * M2 Every wait is bounded: a silent stream by `idleMs`, failing tries by `patienceMs`.
 * M3 Thinking and text are emitted as deltas while they arrive.
 * M4 A call that takes long shows signs of life: deltas are none, because they may be lost.
 */
import { formatSeconds } from "../../../../src/core/lib/figures.ts";
import { z } from "zod";
import { AgentFailure, type AgentContext } from "../../agent.ts";
import type { ModelStream } from "./client.ts";
import { classifyFault, type Fault } from "./faults.ts";
import type { LoopSettings } from "../settings.ts";

const answerSchema = z.looseObject({
  content: z.array(z.looseObject({ type: z.string() })),
  stop_reason: z.string().nullable(),
  stop_details: z.looseObject({ category: z.string().nullish(), explanation: z.string().nullish() }).nullish(),
  context_management: z
    .looseObject({
      applied_edits: z.array(z.looseObject({ type: z.string(), cleared_tool_uses: z.number().optional() })).optional(),
    })
    .nullish()
    .transform((value) => value ?? undefined)
    .optional(),
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
      /** The id under which the deltas were emitted. */
      readonly messageId: string;
    }
  | Extract<Fault, { kind: "too_long" | "budget" }>
  /** A person interrupted: what had arrived is dropped. */
  | { readonly kind: "interrupted" }
  /** A refusal that a retry does not change. */
  | Extract<Fault, { kind: "fatal" }>;

export interface CallOptions {
  /** For signs of life; by default an answer of the model. */
  readonly what?: string;
  /** A person's interruption ends the answer; by default it does not. */
  readonly isInterruptible?: boolean;
  /** The answer is emitted while it arrives; by default it is. */
  readonly isShown?: boolean;
}

const MAX_GARBLED = 3;

export const countTokens = ({ usage }: Answer): number =>
  usage.input_tokens +
  (usage.cache_creation_input_tokens ?? 0) +
  (usage.cache_read_input_tokens ?? 0) +
  usage.output_tokens;

const deltaSchema = z.looseObject({ type: z.string(), text: z.string().optional(), thinking: z.string().optional() });

export class ModelCaller {
  readonly #context: AgentContext;
  readonly #settings: LoopSettings;
  /** Of the try that runs. */
  #characters = 0;

  constructor(context: AgentContext, settings: LoopSettings) {
    this.#context = context;
    this.#settings = settings;
  }

  /**
   * A refusal that a retry does not change is an outcome. @throws AgentFailure when it is too late
   * for a retry; the signal's reason when aborted.
   */
  async attempt(open: (signal: AbortSignal) => ModelStream, options: CallOptions = {}): Promise<Outcome> {
    const progress = (): string =>
      this.#characters === 0 ? "" : `${this.#characters.toLocaleString("en")} characters so far.`;
    const what = options.what ?? "The model's answer";
    return await this.#context.alive(what, () => this.#attempt(open, options), progress);
  }

  async #attempt(open: (signal: AbortSignal) => ModelStream, options: CallOptions): Promise<Outcome> {
    const { now, patienceMs } = this.#settings;
    let firstFailure: number | null = null;
    let garbled = 0;
    for (let tries = 1; ; tries += 1) {
      const outcome = await this.#tryOnce(open, options);
      if (outcome.kind !== "again" && outcome.kind !== "garbled") return outcome;
      firstFailure ??= now();
      if (outcome.kind === "garbled" && ++garbled >= MAX_GARBLED)
        throw new AgentFailure("agent_error", `${outcome.why} It was requested ${garbled} times.`);
      const pause = this.#pause(outcome, tries);
      if (now() + pause - firstFailure > patienceMs)
        throw new AgentFailure(
          "model_overloaded",
          `${outcome.why} Tried ${tries} times in ${Math.round((now() - firstFailure) / 1_000)} s.`,
        );
      this.#reportRetry(outcome.why, pause);
      await this.#context.sleep(pause);
    }
  }

  /** The pause that the provider requests, up to a cap; else exponential backoff with jitter. */
  #pause(fault: Fault, tries: number): number {
    const { backoffMs, backoffCapMs, retryAfterCapMs, random } = this.#settings;
    const requested = fault.kind === "again" ? fault.afterMs : null;
    if (requested !== null) return Math.min(requested, retryAfterCapMs);
    const ceiling = Math.min(backoffCapMs, backoffMs * 2 ** Math.min(tries, 20));
    return Math.round(backoffMs / 2 + random() * (ceiling - backoffMs / 2));
  }

  #reportRetry(why: string, pause: number): void {
    const time = new Date(this.#settings.now() + pause).toISOString().slice(11, 19);
    const text = `${why} Next try at ${time} UTC, in ${formatSeconds(pause)}.`;
    this.#context.emit("notice", { level: "warning", code: "model_retry", text });
  }

  async #tryOnce(
    open: (signal: AbortSignal) => ModelStream,
    { isInterruptible = false, isShown = true }: CallOptions,
  ): Promise<Outcome | Extract<Fault, { kind: "again" | "garbled" }>> {
    const { signal } = this.#context;
    signal.throwIfAborted();
    const idle = new AbortController();
    const interrupt = this.#context.watchInterrupt();
    const stops = [signal, idle.signal, ...(isInterruptible ? [interrupt.signal] : [])];
    let timer: NodeJS.Timeout | undefined;
    const restartTimer = (): void => {
      clearTimeout(timer);
      timer = setTimeout(() => idle.abort(), this.#settings.idleMs);
    };
    const messageId = this.#context.newId("msg");
    this.#characters = 0;
    try {
      restartTimer();
      const stream = open(AbortSignal.any(stops));
      stream.onBytes(restartTimer);
      stream.on("streamEvent", (event) => {
        if (event.type === "content_block_delta") this.#noteDelta(event.delta, isShown ? messageId : null);
      });
      const answer = answerSchema.safeParse(await stream.finalMessage());
      if (!answer.success) return { kind: "garbled", why: "The model's answer could not be read." };
      return { kind: "answer", answer: answer.data, messageId };
    } catch (thrown) {
      if (signal.aborted) throw signal.reason;
      if (isInterruptible && interrupt.signal.aborted) return { kind: "interrupted" };
      if (idle.signal.aborted) {
        const why = `The model sent nothing for ${Math.round(this.#settings.idleMs / 1_000)} s.`;
        return { kind: "again", why, afterMs: null };
      }
      return classifyFault(thrown, this.#settings.now());
    } finally {
      clearTimeout(timer);
      interrupt.stop();
    }
  }

  /** @param messageId null = it is not shown. */
  #noteDelta(delta: unknown, messageId: string | null): void {
    const { data } = deltaSchema.safeParse(delta);
    const text = data?.text ?? data?.thinking ?? "";
    this.#characters += text.length;
    if (text !== "" && messageId !== null) this.#context.delta(messageId, text);
  }
}
