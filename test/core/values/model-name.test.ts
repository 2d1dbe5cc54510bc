import { describe, expect, it } from "vitest";
import { PRICES } from "../../../src/broker/model/price-table.ts";
import { familyOf, findModel, findNearest, resolveAlias } from "../../../src/core/values/model-name.ts";

const KNOWN = Object.keys(PRICES.models);

describe("names of models", () => {
  it.each([
    ["claude-opus-5-5", "claude-opus-5-5"],
    ["claude-opus-5-5-20261015", "claude-opus-5-5"],
    ["claude-opus-5-latest", "claude-opus-5"],
    ["claude-opus-5-9", null],
    ["claude-opus-50", null],
    ["claude-opus", null],
  ])("%s is %s", (name, expected) => {
    expect(findModel(KNOWN, name)).toBe(expected);
  });

  it.each([
    ["claude-opus-5-5", "opus"],
    ["claude-3-5-haiku-20241022", "haiku"],
    ["anthropic/claude-sonnet-4-6", "sonnet"],
    ["house-model", "house-model"],
  ])("%s is of the family %s", (name, family) => {
    expect(familyOf(name)).toBe(family);
  });

  it.each([
    ["opus", ["claude-*"], "claude-opus-5-5"],
    ["sonnet", ["claude-*"], "claude-sonnet-5-5"],
    ["haiku", ["claude-*"], "claude-haiku-5-5"],
    ["opus", ["claude-opus-5", "claude-opus-4-*"], "claude-opus-5"],
    ["opus", ["claude-haiku-*"], null],
    ["claude-opus-5-5", ["claude-*"], null],
  ])("%s among %j stands for %s", (alias, offered, expected) => {
    expect(resolveAlias(KNOWN, offered, alias)).toBe(expected);
  });

  it.each([
    ["claude-opus-5.5", "claude-opus-5-5"],
    ["claude-sonet-5-5", "claude-sonnet-5-5"],
    ["haiku-4-5", "claude-haiku-4-5"],
    ["gpt-5", null],
  ])("nearest to %s is %s", (typed, expected) => {
    expect(findNearest(KNOWN, typed)).toBe(expected);
  });
});
