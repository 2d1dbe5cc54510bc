/**
 * The evaluation itself: its cases are what they claim to be, and its numbers are the provider's.
 */
import { describe, expect, it } from "vitest";
import { CASES } from "../../bench/eval/cases.ts";
import { evaluate, formatTable } from "../../bench/eval/main.ts";
import { verifyHere, lay, withFolder } from "../../bench/eval/trial.ts";

const never = new AbortController().signal;

describe("every case", () => {
  it("there are enough, with names of their own, in four languages", () => {
    expect(CASES.length).toBeGreaterThanOrEqual(8);
    expect(new Set(CASES.map(({ name }) => name)).size).toBe(CASES.length);
    expect(new Set(CASES.map(({ language }) => language)).size).toBe(4);
  });

  it.each(CASES.map((one) => [one.name, one] as const))(
    "%s: its hidden test fails on what the agent is given",
    async (_, one) => {
      await withFolder(async (folder) => {
        lay(folder, { ...one.files, ...one.hidden });
        expect(await verifyHere(one.check, folder)).toBe(false);
      });
    },
  );
});

it(
  "the gold agent solves, the null agent does not, and the costs are what the provider billed",
  { timeout: 120_000 },
  async () => {
    const cases = CASES.filter(({ name }) => ["range-end", "names-with-spaces"].includes(name));
    const report = await evaluate({
      cases,
      agents: ["gold", "null"],
      sandbox: "process",
      real: null,
      signal: never,
      progress: () => undefined,
    });
    expect(report.outcomes.map(({ name, agent, solved }) => [name, agent, solved])).toEqual([
      ["range-end", "gold", true],
      ["range-end", "null", false],
      ["names-with-spaces", "gold", true],
      ["names-with-spaces", "null", false],
    ]);
    const cost = report.outcomes.reduce((sum, { usd }) => sum + usd, 0);
    expect(report.billed).toBeGreaterThan(0);
    expect(Math.abs(cost - (report.billed ?? 0))).toBeLessThan((report.billed ?? 0) / 100);
    const table = formatTable(report);
    for (const { turns, tokens } of report.outcomes) expect(table).toContain(`${turns}      ${tokens}`);
    expect(table).toContain("gold: 2 of 2 solved; null: 0 of 2 solved");
  },
);
