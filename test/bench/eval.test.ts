/**
 * The evaluation itself: its cases are what they claim to be, and its numbers are the provider's.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { CASES, type Case } from "../../bench/eval/cases.ts";
import { evaluate, formatTable } from "../../bench/eval/main.ts";
import { prove, verifyHere, lay, withFolder } from "../../bench/eval/trial.ts";

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
        lay(folder, one.files);
        expect(await prove(verifyHere, folder, one)).toBe(false);
      });
    },
  );
});

it.each([
  ["range-end", "range.mjs", "export const range = 1;\nprocess.exit(0);\n"],
  ["median", "stats.py", "import os\ndef median(v): pass\nprint('passed')\nos._exit(0)\n"],
  ["names-with-spaces", "count.sh", "kill -9 $PPID; exit 0\n"],
])("%s: a module that ends the process with exit code 0 has not solved it", async (name, path, content) => {
  const one = CASES.find((other) => other.name === name);
  if (one === undefined) throw new Error("no such case");
  await withFolder(async (folder) => {
    lay(folder, { ...one.files, [path]: content });
    expect(await prove(verifyHere, folder, one)).toBe(false);
  });
});

it("the gold agent solves, the null agent does not, and the costs are what the provider billed", async () => {
  const out = mkdtempSync(join(tmpdir(), "sw-eval-out-"));
  const cases = CASES.filter(({ name }) => name === "range-end");
  const report = await evaluate({
    cases,
    agents: ["gold", "null"],
    sandbox: "process",
    real: null,
    out,
    settings: { model: "claude-haiku-5-5", effort: "low", usd: 5 },
    trials: 2,
    signal: never,
    progress: () => undefined,
  });
  expect(report.outcomes.map(({ name, agent, trial, solved }) => [name, agent, trial, solved])).toEqual([
    ["range-end", "gold", 1, true],
    ["range-end", "gold", 2, true],
    ["range-end", "null", 1, false],
    ["range-end", "null", 2, false],
  ]);
  for (const { trajectory } of report.outcomes) {
    const events = readFileSync(trajectory ?? "", "utf8")
      .trim()
      .split("\n");
    expect(events[0]).toContain('"model":"claude-haiku-5-5"');
    expect(events.at(-1)).toMatch(/"push"|finished/);
  }
  expect(readFileSync(join(out, "range-end-gold-1.patch"), "utf8")).toContain("+  for (let i = from; i <= to");
  rmSync(out, { recursive: true });
  const cost = report.outcomes.reduce((sum, { usd }) => sum + usd, 0);
  expect(report.billed).toBeGreaterThan(0);
  expect(Math.abs(cost - (report.billed ?? 0))).toBeLessThan((report.billed ?? 0) / 100);
  const table = formatTable(report);
  for (const { turns, tokens } of report.outcomes) expect(table).toContain(`${turns}      ${tokens}`);
  expect(table).toContain("gold: 2 of 2 solved; null: 0 of 2 solved; 1 of 2 cases at least once, 1 each time");
});

describe("a trial that asks somebody ends, although nobody watches", () => {
  async function ask(gold: Case["gold"], usd?: number) {
    const out = mkdtempSync(join(tmpdir(), "sw-eval-out-"));
    const plan = {
      agents: ["gold"],
      sandbox: "process",
      real: null,
      signal: never,
      progress: () => undefined,
    } as const;
    const cases = [{ ...(CASES.find(({ name }) => name === "range-end") ?? CASES[0]!), gold }];
    const report = await evaluate({ ...plan, cases, out, settings: usd === undefined ? {} : { usd } });
    const patch = readFileSync(join(out, "range-end-gold-1.patch"), "utf8");
    rmSync(out, { recursive: true });
    return { outcome: report.outcomes[0], patch };
  }
  const gold = CASES.find(({ name }) => name === "range-end")?.gold ?? [];

  it("what holds the push back is left out", async () => {
    // As Python does by itself.
    const cached = { tools: [{ name: "write", input: { path: "__pycache__/range.pyc", content: "x" } }] };
    const { outcome, patch } = await ask([cached, ...gold]);
    expect(outcome).toMatchObject({ solved: true, why: "pushed" });
    expect(patch).toContain("range.mjs");
  });

  it("a budget that is used up stays so", async () => {
    const { outcome } = await ask(gold, 0.005);
    expect(outcome).toMatchObject({ solved: false, why: "budget_exceeded" });
    // Exceeded by less than one request.
    expect(outcome?.turns).toBe(1);
  });
});
