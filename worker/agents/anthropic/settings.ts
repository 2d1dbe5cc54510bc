/** The limits of the loop. The defaults are for real work; tests use smaller ones. */
import { DEFAULT_MODEL } from "../../../src/core/values/defaults.ts";

export interface LoopSettings {
  /** The model of a task whose spec names none. */
  readonly model: string;
  /** Tokens of one answer, thinking included. */
  readonly maxTokens: number;
  /**
   * The longest silence within one model call, ms: without a byte, pings included.
   */
  readonly idleMs: number;
  /** The first and the longest pause between two tries, ms. */
  readonly backoffMs: number;
  readonly backoffCapMs: number;
  /** The longest pause that the provider may request, ms. */
  readonly retryAfterCapMs: number;
  /** The time from the first failure of a call to giving up, ms. */
  readonly patienceMs: number;
  /** Turns of a task without `budget.turns`; the coordinator enforces `budget.turns` itself. */
  readonly turns: number;
  /** The conversation is summarized at this many tokens; null = derived from the model's window. */
  readonly compactAt: number | null;
  /** `provider`: the provider's summary where it has one, else a turn; `own`: always a turn. */
  readonly compaction: "provider" | "own";
  /** Epoch ms. */
  now(): number;
  /** 0 <= x < 1. */
  random(): number;
}

export const DEFAULT_SETTINGS: LoopSettings = {
  model: DEFAULT_MODEL,
  maxTokens: 32_000,
  idleMs: 180_000,
  backoffMs: 1_000,
  backoffCapMs: 60_000,
  retryAfterCapMs: 5 * 60_000,
  patienceMs: 15 * 60_000,
  turns: 200,
  compactAt: null,
  compaction: "provider",
  now: () => Date.now(),
  random: () => Math.random(),
};
