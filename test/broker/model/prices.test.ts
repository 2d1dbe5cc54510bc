import { describe, expect, it } from "vitest";
import { mergePrices, priceTableSchema, PRICES } from "../../../src/broker/model/price-table.ts";
import { computePrice, isPriced } from "../../../src/broker/model/prices.ts";
import { NO_TOKENS } from "../../../src/broker/model/usage.ts";

const million = 1_000_000;

describe("[G1] a request is priced by its own size", () => {
  it("each class of tokens has its price", () => {
    const price = (part: object): number => computePrice("claude-opus-5-5", { ...NO_TOKENS, ...part });
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
    expect(small).toBeCloseTo((60_000 * 0.1 + 40_000 * 0.01 + 1_000 * 0.5) / million, 10);
    expect(large).toBeCloseTo((60_000 * 0.5 + 40_001 * 0.05 + 1_000 * 2.5) / million, 10);
  });

  it.each([
    ["claude-opus-5-5", 4, 20, 5, 8, 0.2],
    ["claude-opus-5", 5, 25, 6.25, 10, 0.5],
    ["claude-opus-4-8", 5, 25, 6.25, 10, 0.5],
    ["claude-opus-4-5", 5, 25, 6.25, 10, 0.5],
    ["claude-sonnet-5-5", 2, 10, 2.5, 4, 0.1],
    ["claude-sonnet-5", 2, 10, 2.5, 4, 0.2],
    ["claude-sonnet-4-5", 3, 15, 3.75, 6, 0.3],
    ["claude-haiku-4-5", 1, 5, 1.25, 2, 0.1],
    ["claude-haiku-5-5", 0.1, 0.5, 0.125, 0.2, 0.01],
    ["claude-fable-5-2", 8, 40, 10, 16, 0.2],
    ["claude-fable-5-1", 10, 50, 12.5, 20, 0.25],
    ["claude-fable-5", 10, 50, 12.5, 20, 1],
    ["claude-mythos-5-2", 8, 40, 10, 16, 0.2],
    ["claude-mythos-5-1", 10, 50, 12.5, 20, 0.25],
    ["claude-mythos-5", 10, 50, 12.5, 20, 1],
  ])("%s has the vendor's list prices", (model, ...prices) => {
    const classes = ["inputTokens", "outputTokens", "cacheWrite5mTokens", "cacheWrite1hTokens", "cacheReadTokens"];
    for (const [index, name] of classes.entries())
      expect(computePrice(model, { ...NO_TOKENS, [name]: 1_000 }) * 1_000, name).toBeCloseTo(prices[index] ?? 0, 8);
  });

  it("a dated name is the model's; a name that only begins alike is not, nor is another version", () => {
    const usage = { ...NO_TOKENS, inputTokens: million };
    expect(computePrice("claude-opus-5-5-20261015", usage)).toBe(4);
    expect(computePrice("claude-opus-5-20260101", usage)).toBe(5);
    for (const unknown of ["claude-opus-5x", "claude-opus-5-9", "claude-opus-5-10-20270101", "some-new-model"])
      expect(isPriced(unknown, {}, PRICES), unknown).toBe(false);
  });

  it("the faster service and a region of a workspace have their own prices", () => {
    const usage = { ...NO_TOKENS, inputTokens: million, outputTokens: million };
    expect(computePrice("claude-opus-5-5", usage, PRICES, { fast: true })).toBe(48);
    expect(computePrice("claude-opus-5-5", usage, PRICES, { region: "global" })).toBe(24);
    expect(computePrice("claude-opus-5-5", usage, PRICES, { region: "us" })).toBeCloseTo(26.4, 8);
    expect(isPriced("claude-sonnet-5-5", { fast: true }, PRICES)).toBe(false);
  });

  it("an operator's prices replace those of the same names, and add others", () => {
    const own = { input: 1, output: 1, cacheWrite5m: 1, cacheWrite1h: 1, cacheRead: 1 };
    const table = mergePrices({ asOf: "2027-01-01", models: { "claude-opus-5-5": [own], "house-model": [own] } });
    const usage = { ...NO_TOKENS, inputTokens: million };
    expect(computePrice("claude-opus-5-5", usage, table)).toBe(1);
    expect(computePrice("house-model", usage, table)).toBe(1);
    expect(computePrice("claude-opus-5", usage, table)).toBe(5);
  });

  it("the built-in table satisfies the schema of an operator's table", () => {
    expect(priceTableSchema.parse(PRICES)).toEqual(PRICES);
    expect(priceTableSchema.safeParse({ asOf: "2026-11-22", models: { m: [{ input: -1 }] } }).success).toBe(false);
  });
});
