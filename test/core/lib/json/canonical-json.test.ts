import { describe, expect, it } from "vitest";
import { canonicalJson } from "../../../../src/core/lib/json/canonical-json.ts";

describe("canonical JSON", () => {
  it("is the same for any order of keys, at every depth", () => {
    expect(canonicalJson({ b: [{ d: 1, c: "x" }], a: null })).toBe('{"a":null,"b":[{"c":"x","d":1}]}');
    expect(canonicalJson({ a: null, b: [{ c: "x", d: 1 }] })).toBe('{"a":null,"b":[{"c":"x","d":1}]}');
  });

  it("keeps the order of arrays", () => {
    expect(canonicalJson([2, 1])).not.toBe(canonicalJson([1, 2]));
  });

  it("leaves out undefined properties, and ignored keys at every depth", () => {
    const value = { a: undefined, mark: 1, b: [{ mark: 2, c: 3 }] };
    expect(canonicalJson(value, new Set(["mark"]))).toBe('{"b":[{"c":3}]}');
    expect(canonicalJson(undefined)).toBe("null");
  });
});
