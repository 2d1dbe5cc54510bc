import { describe, expect, it } from "vitest";
import { formatLimit } from "../../../src/core/budget.ts";
import { formatSeconds, formatShareOfTime, formatTime, formatUsd } from "../../../src/core/lib/figures.ts";

describe("[G6] what is more than nothing never reads as nothing", () => {
  it.each([
    [formatUsd(0), "$0.00"],
    [formatUsd(12.5), "$12.50"],
    [formatUsd(0.035), "$0.0350"],
    [formatUsd(0.000_123), "$0.00012"],
    [formatShareOfTime(2_880_000, 3_600_000), "48 of 60 minutes"],
    [formatShareOfTime(288_000, 360_000), "4.8 of 6 minutes"],
    [formatShareOfTime(2_400, 3_000), "2.4 of 3 seconds"],
    [formatShareOfTime(480, 600), "480 of 600 ms"],
    [formatTime(5_400_000), "90 minutes"],
    [formatTime(60_000), "1 minute"],
    [formatTime(600), "600 ms"],
    [formatLimit("minutes", 0.05), "3 seconds"],
    [formatLimit("usd", 0.0004), "$0.00040"],
    [formatSeconds(42), "42 ms"],
    [formatSeconds(1_234), "1.2 s"],
  ])("%s", (text, expected) => expect(text).toBe(expected));

  it("at any size", () => {
    for (let amount = 1e-8; amount < 1e4; amount *= 3.7) expect(formatUsd(amount)).toMatch(/[1-9]/);
    for (let ms = 1; ms < 1e9; ms *= 1.9)
      for (const text of [formatTime(ms), formatSeconds(ms), formatShareOfTime(ms * 0.8, ms)])
        expect(text).toMatch(/^[\d.]*[1-9]/);
  });
});
