/**
 * The cost of one request: current, highest possible and final. It starts at the ceiling of the
 * request; each count of the provider replaces the corresponding part.
 *
 * B1 A request whose final count did not arrive is booked with the most that it may be billed: the
 *    provider bills thinking that it does not show, and goes on for a while without a connection.
 *    The estimate of output is the smaller of `max_tokens` and the tokens that a model can write in
 *    the elapsed time at five times the usual speed.
 * B2 A refusal before any output is not billed.
 */
import type { ModelUsage } from "../../core/ports/records/usage-ledger.ts";
import type { PriceTable } from "./price-table.ts";
import { computeCeilingPrice, computePrice } from "./prices.ts";
import type { RequestCeiling } from "./request/ceiling.ts";
import { UsageReader, type AnswerUsage } from "./usage.ts";

/** No model writes faster. */
const TOKENS_PER_SECOND = 1_000;
/** The provider notices a broken connection within this time. */
const NOTICE_SECONDS = 10;

/** How a request ended, for the usage ledger. */
export type Booking = Omit<ModelUsage, "id" | "taskId" | "userId" | "attempt" | "at">;

export interface Cost {
  /** Of what has passed, US dollars. */
  readonly usd: number;
  /** The most that the request can still cost in all, US dollars. */
  readonly mostUsd: number;
}

export class Meter {
  readonly #model: string;
  readonly #ceiling: RequestCeiling;
  readonly #prices: PriceTable;
  readonly #reader: UsageReader;
  #sentAt = performance.now();

  constructor(model: string, ceiling: RequestCeiling, prices: PriceTable) {
    this.#model = model;
    this.#ceiling = ceiling;
    this.#prices = prices;
    this.#reader = new UsageReader(ceiling.hourTokens);
  }

  get ceilingUsd(): number {
    return computeCeilingPrice(this.#model, this.#ceiling, this.#prices);
  }

  /** Called when the request is sent. */
  start(): void {
    this.#sentAt = performance.now();
  }

  /** Bytes of a stream (`text/event-stream`). */
  feed(bytes: Uint8Array): void {
    this.#reader.feed(bytes);
  }

  /** The whole answer (`application/json`). */
  finish(text: string): void {
    this.#reader.finish(text);
  }

  cost(): Cost {
    const answer = this.#reader.read();
    return { usd: this.#price(answer), mostUsd: this.#most(answer, this.#ceiling.outputTokens) };
  }

  /** The booking of the request as it ended. */
  book(): Booking {
    const answer = this.#reader.read();
    const { inputTokens, outputTokens, cacheReadTokens, cacheWrite5mTokens, cacheWrite1hTokens } = answer.usage;
    const cacheWriteTokens = cacheWrite5mTokens + cacheWrite1hTokens;
    const tokens = { inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens };
    const isFree = answer.complete && answer.stopReason === "refusal" && !answer.hasContent;
    const usd = isFree ? 0 : this.#most(answer, this.#writable());
    return { model: this.#model, ...tokens, usd, estimated: !isFree && !isCounted(answer) };
  }

  /** Tokens of output that the provider can have written by now, or until it stops. */
  #writable(): number {
    const seconds = (performance.now() - this.#sentAt) / 1_000 + NOTICE_SECONDS;
    return Math.min(this.#ceiling.outputTokens, Math.ceil(seconds * TOKENS_PER_SECOND));
  }

  #price({ usage, speed, region }: AnswerUsage): number {
    const fast = this.#ceiling.fast && speed !== "standard";
    return computePrice(this.#model, usage, this.#prices, { fast, region });
  }

  /** @param output tokens of output in one pass, at most. */
  #most(answer: AnswerUsage, output: number): number {
    const usd = this.#price(answer);
    if (isCounted(answer)) return usd;
    // With several passes, the count at the beginning is that of the first.
    if (!answer.promptCounted || this.#ceiling.passes > 1)
      return Math.max(usd, computeCeilingPrice(this.#model, { ...this.#ceiling, outputTokens: output }, this.#prices));
    const { usage, estimated } = answer;
    const outputTokens = estimated ? Math.max(usage.outputTokens, output) : usage.outputTokens;
    return this.#price({ ...answer, usage: { ...usage, outputTokens } });
  }
}

const isCounted = ({ promptCounted, estimated }: AnswerUsage): boolean => promptCounted && !estimated;
