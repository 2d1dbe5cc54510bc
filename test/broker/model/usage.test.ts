import fc from "fast-check";
import { expect, it } from "vitest";
import { UsageReader } from "../../../src/broker/model/usage.ts";

const frame = (event: { type: string; [key: string]: unknown }): string =>
  `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
const START = {
  type: "message_start",
  message: {
    model: "claude-opus-5-5",
    usage: { input_tokens: 10, cache_read_input_tokens: 700, cache_creation_input_tokens: 30, output_tokens: 1 },
  },
};
const text = (words: string): { type: string; [key: string]: unknown } => ({
  type: "content_block_delta",
  index: 0,
  delta: { type: "text_delta", text: words },
});
const END = { type: "message_delta", delta: { stop_reason: "end_turn" }, usage: { output_tokens: 42 } };
const WHOLE = [START, { type: "ping" }, text("Grüße, 世界 🚀 ".repeat(9)), END, { type: "message_stop" }]
  .map(frame)
  .join("");

function read(stream: string, cuts: readonly number[] = []): ReturnType<UsageReader["read"]> {
  const reader = new UsageReader();
  const bytes = Buffer.from(stream);
  const ends = [...new Set([...cuts.map((cut) => cut % bytes.length), bytes.length])].toSorted((a, b) => a - b);
  ends.reduce((from, to) => {
    reader.feed(bytes.subarray(from, to));
    return to;
  }, 0);
  return reader.read();
}

it("[G2] usage is the same however the bytes of a stream are cut", () => {
  const whole = read(WHOLE);
  expect(whole).toMatchObject({
    estimated: false,
    complete: true,
    stopReason: "end_turn",
    model: "claude-opus-5-5",
    errorType: null,
  });
  expect(whole.usage).toEqual({
    inputTokens: 10,
    outputTokens: 42,
    cacheReadTokens: 700,
    cacheWrite5mTokens: 30,
    cacheWrite1hTokens: 0,
  });
  fc.assert(
    fc.property(fc.array(fc.nat(10_000), { maxLength: 40 }), (cuts) => {
      expect(read(WHOLE, cuts)).toEqual(whole);
    }),
  );
});

it("[G2] a stream that was cut is estimated from the text that passed", () => {
  const cut = read([START, text("x".repeat(300))].map(frame).join(""));
  expect(cut.estimated).toBe(true);
  expect(cut.complete).toBe(false);
  expect(cut.usage.outputTokens).toBe(100);
});

it("[G2] an error in mid-stream is recorded, and malformed events are ignored", () => {
  const odd = `: comment\n\ndata: not json\n\nevent: x\ndata: {"type":5}\n\n${frame({ type: "error", error: { type: "overloaded_error" } })}`;
  expect(read(frame(START) + odd)).toMatchObject({
    errorType: "overloaded_error",
    complete: false,
    usage: { inputTokens: 10 },
  });
});

it("[G2] the iterations of one answer are summed, and one-hour cache writes are counted separately", () => {
  const reader = new UsageReader();
  const part = {
    input_tokens: 5,
    output_tokens: 6,
    cache_read_input_tokens: 7,
    cache_creation: { ephemeral_5m_input_tokens: 1, ephemeral_1h_input_tokens: 2 },
  };
  reader.finish(
    JSON.stringify({
      model: "m",
      stop_reason: "end_turn",
      usage: { input_tokens: 1, output_tokens: 1, iterations: [part, part] },
    }),
  );
  expect(reader.read()).toMatchObject({
    estimated: false,
    usage: { inputTokens: 10, outputTokens: 12, cacheReadTokens: 14, cacheWrite5mTokens: 2, cacheWrite1hTokens: 4 },
  });
});
