/** The gateway keeps how large the window of a model is, from the answers that pass. */
import { expect, it } from "vitest";
import { WindowReader } from "../../../src/broker/model/window-reader.ts";

/** @returns what is known after one answer, in two parts. */
function read(path: string, body: string, windows = new Map<string, number>()): Map<string, number> {
  const reader = new WindowReader(path, windows);
  const bytes = Buffer.from(body);
  reader.add(bytes.subarray(0, 5));
  reader.add(bytes.subarray(5));
  reader.end();
  return windows;
}

it("the window of one model is kept, by the name that was asked for", () => {
  const windows = read(
    "/v1/models/claude-x?beta=true",
    JSON.stringify({ id: "claude-x-1", max_input_tokens: 1_000_000 }),
  );
  expect([...windows]).toEqual([["claude-x", 1_000_000]]);
  expect([...read("/v1/models/claude-x", JSON.stringify({ max_input_tokens: 5 }), windows)]).toEqual([["claude-x", 5]]);
});

it.each([
  ["/v1/models", { max_input_tokens: 5 }],
  ["/v1/models/", { max_input_tokens: 5 }],
  ["/v1/models/x", { max_input_tokens: "5" }],
  ["/v1/models/x", { max_input_tokens: -5 }],
  ["/v1/models/x", { max_input_tokens: 5, text: "y".repeat(70_000) }],
])("nothing is kept of %s with an answer that does not say it", (path, body) => {
  expect([...read(path, JSON.stringify(body))]).toEqual([]);
});

it("nothing is kept of an answer that is not JSON, and not more than 200 models", () => {
  expect([...read("/v1/models/x", "{ max_input")]).toEqual([]);
  const windows = new Map(Array.from({ length: 200 }, (_, i) => [`m${i}`, 1] as const));
  expect(read("/v1/models/x", JSON.stringify({ max_input_tokens: 5 }), windows).has("x")).toBe(false);
  expect(read("/v1/models/m7", JSON.stringify({ max_input_tokens: 5 }), windows).get("m7")).toBe(5);
});
