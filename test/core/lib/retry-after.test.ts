import { expect, it } from "vitest";
import { parseRetryAfter } from "../../../src/core/lib/retry-after.ts";

const NOW = Date.parse("2026-11-28T00:00:00Z");

it.each([
  [{}, null],
  [{ "retry-after": "" }, null],
  [{ "retry-after": " " }, null],
  [{ "retry-after": "soon" }, null],
  [{ "retry-after": "3" }, 3_000],
  [{ "retry-after": "0.5" }, 500],
  [{ "retry-after": "-3" }, 0],
  [{ "retry-after": "Sat, 28 Nov 2026 00:01:00 GMT" }, 60_000],
  [{ "retry-after": "Fri, 27 Nov 2026 00:00:00 GMT" }, 0],
  [{ "retry-after-ms": "250", "retry-after": "9" }, 250],
  [{ "retry-after-ms": "-1", "retry-after": "9" }, 9_000],
  [{ "retry-after-ms": "", "retry-after": "9" }, 9_000],
])("%j asks to wait %s ms", (headers: Record<string, string>, ms) => {
  expect(parseRetryAfter((name) => headers[name], NOW)).toBe(ms);
});
