import { describe, expect, it } from "vitest";
import { computePrice, priceTableSchema, PRICES } from "../../../src/broker/model/prices.ts";
import { NO_TOKENS } from "../../../src/broker/model/usage.ts";

const million = 1_000_000;

describe("[G1] a request is priced by its own size", () => {
  it("each class of tokens has its price", () => {
    const price = (part: object): number => computePrice("claude-opus-5-5", { ...NO_TOKENS, ...part }).usd;
    expect(price({ inputTokens: million })).toBe(4);
    expect(price({ outputTokens: million })).toBe(20);
    expect(price({ cacheReadTokens: million })).toBeCloseTo(0.2);
    expect(price({ cacheWrite5mTokens: million })).toBe(5);
    expect(price({ cacheWrite1hTokens: million })).toBe(8);
  });

  it("a model with bands is priced by the size of the whole prompt", () => {
    const small = computePrice("claude-haiku-5-5", {
      ...NO_TOKENS,
      inputTokens: 60_000,
      cacheReadTokens: 40_000,
      outputTokens: 1_000,
    });
    const large = computePrice("claude-haiku-5-5", {
      ...NO_TOKENS,
      inputTokens: 60_000,
      cacheReadTokens: 40_001,
      outputTokens: 1_000,
    });
    expect(small.usd).toBeCloseTo((60_000 * 0.1 + 40_000 * 0.01 + 1_000 * 0.5) / million, 10);
    expect(large.usd).toBeCloseTo((60_000 * 0.5 + 40_001 * 0.05 + 1_000 * 2.5) / million, 10);
  });

  it("a dated name is the model's; a name that only begins alike is not", () => {
    const usage = { ...NO_TOKENS, inputTokens: million };
    expect(computePrice("claude-opus-5-5-20261015", usage)).toEqual({ usd: 4, known: true });
    expect(computePrice("claude-opus-5-20260101", usage)).toEqual({ usd: 5, known: true });
    expect(computePrice("claude-opus-5x", usage).known).toBe(false);
  });

  it("an unknown model costs the highest price and is marked as unknown", () => {
    const { usd, known } = computePrice("some-new-model", {
      ...NO_TOKENS,
      inputTokens: million,
      outputTokens: million,
    });
    expect(known).toBe(false);
    expect(usd).toBe(48);
  });

  it("the built-in table satisfies the schema of an operator's table", () => {
    expect(priceTableSchema.parse(PRICES)).toEqual(PRICES);
    expect(priceTableSchema.safeParse({ asOf: "2026-11-22", models: { m: [{ input: -1 }] } }).success).toBe(false);
  });
});
