/** The bounds of the loop. The defaults are for real work; tests give smaller ones. */
import { DEFAULT_MODEL } from "../../../src/core/values/defaults.ts";

export interface LoopSettings {
  /** For a task whose spec names none. */
  readonly model: string;
  /** Tokens of one answer, thinking included. */
  readonly maxTokens: number;
  /**
   * Longest silence within one model call, ms. A provider's pings are not seen here, so it is
   * generous.
   */
  readonly idleMs: number;
  /**
   * First pause between two tries, its largest, and the longest pause that a provider may ask for,
   * ms.
   */
  readonly backoffMs: number;
  readonly backoffCapMs: number;
  readonly retryAfterCapMs: number;
  /** From the first failure of one call to giving up, ms. */
  readonly patienceMs: number;
  /**
   * Model turns of a task that sets no `budget.turns`; one that does is stopped by the coordinator.
   */
  readonly turns: number;
  /** Tokens of the conversation from which on it is summed up; null = by the model's window. */
  readonly compactAt: number | null;
  /** Who sums up: the provider where it can, else a turn of our own; or always our own. */
  readonly compaction: "provider" | "own";
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
