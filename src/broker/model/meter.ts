/**
 * What one request costs: so far, at most, and in the end. It begins at the ceiling of the request;
 * each count of the provider replaces the part that it counts.
 *
 * B1 A request whose final count did not arrive is booked with the most that it may be billed: the
 *    provider bills thinking that it does not show, and goes on for a while without a connection.
 * B2 A refusal before any output is not billed.
 */
import type { ModelUsage } from "../../core/ports/usage-ledger.ts";
import type { RequestCeiling } from "./ceiling.ts";
import { computeCeilingPrice, computePrice, type PriceTable } from "./prices.ts";
import { UsageReader, type AnswerUsage } from "./usage.ts";

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

  constructor(model: string, ceiling: RequestCeiling, prices: PriceTable) {
    this.#model = model;
    this.#ceiling = ceiling;
    this.#prices = prices;
    this.#reader = new UsageReader(ceiling.cache);
  }

  get ceilingUsd(): number {
    return computeCeilingPrice(this.#model, this.#ceiling, this.#prices);
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
    return { usd: this.#price(answer), mostUsd: this.#most(answer) };
  }

  /** The booking of the request as it ended. */
  book(): Booking {
    const answer = this.#reader.read();
    const { inputTokens, outputTokens, cacheReadTokens, cacheWrite5mTokens, cacheWrite1hTokens } = answer.usage;
    const cacheWriteTokens = cacheWrite5mTokens + cacheWrite1hTokens;
    const tokens = { inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens };
    const isFree = answer.complete && answer.stopReason === "refusal" && !answer.hasContent;
    const usd = isFree ? 0 : this.#most(answer);
    return { model: this.#model, ...tokens, usd, estimated: !isFree && !isCounted(answer) };
  }

  #price({ usage }: AnswerUsage): number {
    return computePrice(this.#model, usage, this.#prices).usd;
  }

  #most(answer: AnswerUsage): number {
    if (isCounted(answer)) return this.#price(answer);
    const { passes, outputTokens } = this.#ceiling;
    // With several passes, the count at the beginning is that of the first.
    if (!answer.promptCounted || passes > 1) return Math.max(this.ceilingUsd, this.#price(answer));
    const { usage, estimated } = answer;
    const output = estimated ? Math.max(usage.outputTokens, outputTokens) : usage.outputTokens;
    return this.#price({ ...answer, usage: { ...usage, outputTokens: output } });
  }
}

const isCounted = ({ promptCounted, estimated }: AnswerUsage): boolean => promptCounted && !estimated;
