/**
 * What the fake model says: a list of turns as data, each with what it thinks, says and calls, and
 * with the faults that come before it succeeds.
 */
import { z } from "zod";

const after = z.int().min(0).max(10_000);

/**
 * Something that goes wrong with one request. `times`: that many requests for this turn fail, then
 * it succeeds. `after`: so many events of the stream pass first.
 */
export const faultSchema = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("status"),
    status: z.int().min(400).max(599),
    /** The `type` inside of the error body; by default the one that belongs to the status. */
    type: z.string().optional(),
    message: z.string().optional(),
    /** Seconds, as a `retry-after` header. */
    retryAfter: z.number().min(0).optional(),
    times: z.int().positive().optional(),
  }),
  /** The socket breaks. */
  z.strictObject({ kind: z.literal("drop"), after, times: z.int().positive().optional() }),
  /** Nothing more comes, and the socket stays open. */
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
   * The turn's last tool call is cut by the token limit: stop reason `max_tokens`, half of its
   * JSON.
   */
  z.strictObject({ kind: z.literal("cut_tool_json"), times: z.int().positive().optional() }),
  /** The turn's last tool call has an input that is not JSON. */
  z.strictObject({ kind: z.literal("invalid_tool_json"), times: z.int().positive().optional() }),
  /** The window is full: refused before the stream (`error`), or noticed at its end (`stop`). */
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
  /** Replaces parts of the simulated count. */
  usage: z
    .strictObject({
      input_tokens: z.int().min(0).optional(),
      output_tokens: z.int().min(0).optional(),
      cache_read_input_tokens: z.int().min(0).optional(),
      cache_creation_input_tokens: z.int().min(0).optional(),
    })
    .optional(),
  /** Gone through in order: each until its `times` (1) are over. */
  faults: z.array(faultSchema).max(20).optional(),
  /** Between two events of the stream, ms. */
  delayMs: z.number().min(0).max(60_000).optional(),
});
export type Turn = z.infer<typeof turnSchema>;

export const scenarioSchema = z.strictObject({
  turns: z.array(turnSchema).min(1).max(1_000),
  /** What follows the last turn: that one again for ever, or (the default) a closing word. */
  afterwards: z.enum(["again", "end"]).optional(),
  /**
   * Requests for the provider's own summary: answered (the default), or refused as by a model that
   * has none.
   */
  compaction: z.enum(["offered", "refused"]).optional(),
});
export type Scenario = z.infer<typeof scenarioSchema>;

/**
 * A prompt chooses its scenario with this: `[scenario:NAME]`; one that names none gets `default`.
 */
export const SCENARIO_MARK = /\[scenario:([\w.-]{1,64})\]/;

/** The turn of this number (from 0). */
export function getTurn(scenario: Scenario, index: number): Turn {
  const turn = scenario.turns[index] ?? (scenario.afterwards === "again" ? scenario.turns.at(-1) : undefined);
  return turn ?? { say: "The scenario is over." };
}

/** The fault of the `tried`th request (from 0) for this turn; null = it succeeds. */
export function getFault(turn: Turn, tried: number): Fault | null {
  let left = tried;
  for (const fault of turn.faults ?? []) {
    const times = fault.times ?? 1;
    if (left < times) return fault;
    left -= times;
  }
  return null;
}
