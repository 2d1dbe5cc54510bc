/** The most that a request can cost, by where its cache marks stand. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { computeCeilingPrice } from "../../../../src/broker/model/prices.ts";
import { checkRequest, DEFAULT_RULES } from "../../../../src/broker/model/request/policy.ts";
import type { RequestCeiling } from "../../../../src/broker/model/request/ceiling.ts";
import { UsageReader } from "../../../../src/broker/model/usage.ts";
import { createRequest } from "../../../../worker/agents/anthropic/model/request.ts";
import { SEED } from "../../../support/random.ts";

const MODEL = "claude-opus-5-5";
const HOUR = { cache_control: { type: "ephemeral", ttl: "1h" } };
const ceilingOf = (body: object): RequestCeiling =>
  checkRequest({ model: MODEL, max_tokens: 100, ...body }, DEFAULT_RULES).ceiling;
const text = (size: number, mark: object = {}): object => ({ type: "text", text: "0".repeat(size), ...mark });
const user = (...content: object[]): object[] => [{ role: "user", content }];

describe("[G4] what can be written for an hour is reserved at the price of an hour, and nothing else", () => {
  it("of a request of the agent it is the tools and the system prompt", () => {
    const request = createRequest(
      {
        kind: "begin",
        model: MODEL,
        effort: null,
        maxTokens: 100,
        compactAt: 150_000,
        thinking: "default",
        system: "s".repeat(5_000),
        tools: [{ name: "bash", description: "d".repeat(5_000), input_schema: {} }],
        text: "",
      },
      [{ role: "user", content: [{ type: "text", text: "0".repeat(400_000) }] }],
      { taskId: "task", show: () => ({ type: "text" }) },
    );
    const ceiling = ceilingOf(request);
    expect(ceiling.inputTokens).toBeGreaterThan(410_000);
    expect(ceiling.hourTokens).toBeGreaterThan(10_000);
    expect(ceiling.hourTokens).toBeLessThan(15_000);
    const whole = computeCeilingPrice(MODEL, { ...ceiling, hourTokens: ceiling.inputTokens });
    const none = computeCeilingPrice(MODEL, { ...ceiling, hourTokens: 0 });
    const price = computeCeilingPrice(MODEL, ceiling);
    expect(price).toBeGreaterThan(none);
    expect(price).toBeLessThan(none + (whole - none) * 0.05);
  });

  it("a mark of an hour in a message, or of the whole request, may cover everything", () => {
    const system = [text(10, HOUR)];
    for (const body of [
      { system, messages: user(text(9_000, HOUR)) },
      { system, messages: user(text(9_000)), ...HOUR },
      {
        messages: user({ type: "tool_result", tool_use_id: "t", content: [text(9_000, HOUR)] }),
      },
    ]) {
      const ceiling = ceilingOf(body);
      expect(ceiling.hourTokens).toBe(ceiling.inputTokens);
    }
    expect(ceilingOf({ messages: user(text(9_000)), system: [text(10)] })).toMatchObject({
      hourTokens: 0,
      cached: false,
    });
  });

  it("the bytes of tools and system prompt bound their tokens, whatever characters they have", () => {
    const words = fc.string({ unit: "binary", maxLength: 300 });
    fc.assert(
      fc.property(words, words, (system, description) => {
        const ceiling = ceilingOf({
          system: [{ type: "text", text: system, ...HOUR }],
          tools: [{ name: "t", description, input_schema: {} }],
          messages: user(text(20_000)),
        });
        const bytes = Buffer.byteLength(system) + Buffer.byteLength(description);
        expect(ceiling.hourTokens).toBeGreaterThanOrEqual(bytes);
        expect(ceiling.hourTokens).toBeLessThan(ceiling.inputTokens);
      }),
      { seed: SEED },
    );
  });

  it("a count that does not say for how long was written is dear as far as it can be", () => {
    const reader = new UsageReader(700);
    reader.finish(
      JSON.stringify({ content: [], usage: { input_tokens: 1, output_tokens: 1, cache_creation_input_tokens: 1_000 } }),
    );
    expect(reader.read().usage).toMatchObject({ cacheWrite1hTokens: 700, cacheWrite5mTokens: 300 });
  });
});
