import { describe, expect, it } from "vitest";
import { parseJson, type JsonProblem } from "../../../../src/core/lib/json/json-limits.ts";

const LIMITS = { depth: 3, values: 6 };

describe("JSON within limits", () => {
  it.each<[string, unknown]>([
    ["[[[1]]]", [[[1]]]],
    ['{"a":{"b":[1,2]}}', { a: { b: [1, 2] } }],
    [String.raw`"[[[[{,,,,,,,\"[[[["`, '[[[[{,,,,,,,"[[[['],
    [String.raw`["\\",[[1]]]`, ["\\", [[1]]]],
    ["7", 7],
  ])("%s is parsed", (text, value) => {
    expect(parseJson(Buffer.from(text), LIMITS)).toEqual({ state: "parsed", value });
  });

  it.each<[string, Buffer, JsonProblem]>([
    ["an array below the last level", Buffer.from("[[[[]]]]"), "too_deep"],
    ["an object below the last level", Buffer.from('[{"a":[{}]}]'), "too_deep"],
    ["a million levels", Buffer.from("[".repeat(1_000_000)), "too_deep"],
    ["one value too many", Buffer.from("[1,2,3,4,5,6]"), "too_many_values"],
    ["a byte that is not UTF-8", Buffer.from([0x22, 0xff, 0x22]), "not_utf8"],
    ["an open string", Buffer.from('["a]'), "not_json"],
    ["no text", Buffer.alloc(0), "not_json"],
  ])("%s is refused", (_name, bytes, problem) => {
    expect(parseJson(bytes, LIMITS)).toEqual({ state: "refused", problem });
  });

  it("the number of values is unlimited unless a limit is given", () => {
    expect(parseJson(Buffer.from(`[${"1,".repeat(10_000)}1]`), { depth: 1 })).toMatchObject({ state: "parsed" });
  });

  it("the text is edited after the limits are checked and before it is parsed", () => {
    const edited = parseJson(Buffer.from('"secret"'), LIMITS, (text) => text.replace("secret", "[token]"));
    expect(edited).toEqual({ state: "parsed", value: "[token]" });
  });
});
