/**
 * A scenario of the fake model: a list of turns as data. Each turn has thinking, text, tool calls,
 * and the faults that precede its success.
 */
import { z } from "zod";

const after = z.int().min(0).max(10_000);

/**
 * A fault of one request. `times`: number of requests for the turn that fail before one succeeds.
 * `after`: number of stream events that are sent first.
 */
export const faultSchema = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("status"),
    status: z.int().min(400).max(599),
    /** `error.type` of the body; by default derived from the status. */
    type: z.string().optional(),
    message: z.string().optional(),
    /** Seconds, as a `retry-after` header. */
    retryAfter: z.number().min(0).optional(),
    times: z.int().positive().optional(),
  }),
  /** The connection is destroyed. */
  z.strictObject({ kind: z.literal("drop"), after, times: z.int().positive().optional() }),
  /** The stream stops and the connection stays open. */
  z.strictObject({ kind: z.literal("stall"), after, times: z.int().positive().optional() }),
  /** An `error` event in mid-stream. */
  z.strictObject({
    kind: z.literal("error_event"),
    after,
    type: z.string().optional(),
    times: z.int().positive().optional(),
  }),
  /** The stream ends cleanly without `message_stop`. */
  z.strictObject({ kind: z.literal("no_message_stop"), times: z.int().positive().optional() }),
  z.strictObject({ kind: z.literal("refusal"), category: z.string().optional(), times: z.int().positive().optional() }),
  /**
   * The turn's last tool call is truncated by the token limit: incomplete JSON, stop reason
   * `max_tokens`.
   */
  z.strictObject({ kind: z.literal("cut_tool_json"), times: z.int().positive().optional() }),
  /**
   * The answer is the turn's thinking and its text without its calls; a turn without text has no
   * other.
   */
  z.strictObject({ kind: z.literal("only_thinking"), times: z.int().positive().optional() }),
  /** The turn's last tool call has an input that is not JSON. */
  z.strictObject({ kind: z.literal("invalid_tool_json"), times: z.int().positive().optional() }),
  /** The context window is full: an error instead of the stream, or a stop reason at its end. */
  z.strictObject({
    kind: z.literal("context_limit"),
    form: z.enum(["error", "stop"]),
    times: z.int().positive().optional(),
  }),
]);
export type Fault = z.infer<typeof faultSchema>;

export const turnSchema = z.strictObject({
  think: z.string().optional(),
  say: z.string().optional(),
  tools: z
    .array(z.strictObject({ name: z.string().min(1), input: z.record(z.string(), z.unknown()) }))
    .max(64)
    .optional(),
  /** By default `tool_use` with tools, else `end_turn`. */
  stop: z.string().optional(),
  /** Overrides fields of the simulated usage. */
  usage: z
    .strictObject({
      input_tokens: z.int().min(0).optional(),
      output_tokens: z.int().min(0).optional(),
      cache_read_input_tokens: z.int().min(0).optional(),
      cache_creation_input_tokens: z.int().min(0).optional(),
    })
    .optional(),
  /** Applied in order, each `times` (default 1) requests long. */
  faults: z.array(faultSchema).max(20).optional(),
  /** Pings that precede the first block of the answer, `delayMs` apart. */
  pings: z.int().positive().max(1_000).optional(),
  /** Delay between two stream events, ms. */
  delayMs: z.number().min(0).max(60_000).optional(),
});
export type Turn = z.infer<typeof turnSchema>;

export const scenarioSchema = z.strictObject({
  turns: z.array(turnSchema).min(1).max(1_000),
  /** After the last turn: repeat it, or (default) answer that the scenario is over. */
  afterwards: z.enum(["again", "end"]).optional(),
  /**
   * Requests for a provider-side summary: answered (default), or refused as by a model without the
   * feature.
   */
  compaction: z.enum(["offered", "refused"]).optional(),
  /** `calls_first`: asked for a summary in a turn, the model first calls a tool. */
  summary: z.enum(["calls_first"]).optional(),
  /** The answers to requests for a review, the last one repeated; by default the change passes. */
  reviews: z.array(turnSchema).min(1).max(20).optional(),
});
export type Scenario = z.infer<typeof scenarioSchema>;

/** A prompt selects its scenario with `[scenario:NAME]`; without it, `default` applies. */
export const SCENARIO_MARK = /\[scenario:([\w.-]{1,64})\]/;

/** @param index from 0. */
export function getTurn(scenario: Scenario, index: number): Turn {
  const turn = scenario.turns[index] ?? (scenario.afterwards === "again" ? scenario.turns.at(-1) : undefined);
  return turn ?? { say: "The scenario is over." };
}

/** @param tried earlier requests for this turn. @returns null when the request succeeds. */
export function getFault(turn: Turn, tried: number): Fault | null {
  let remaining = tried;
  for (const fault of turn.faults ?? []) {
    const times = fault.times ?? 1;
    if (remaining < times) return fault;
    remaining -= times;
  }
  return null;
}
