/**
 * docs/spec.md and the names of the tests are one list: no rule without a test, no citation without
 * a rule.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { SETTINGS } from "../../src/app/options.ts";

const tests = join(import.meta.dirname, "..");
const page = readFileSync(join(import.meta.dirname, "../../docs/spec.md"), "utf8");
const [inForce = "", later = ""] = page.split("## Not yet in force");
const readRules = (text: string): string[] =>
  [...text.matchAll(/^- \*\*([A-Z]\d+)\*\*/gm)].flatMap((match) => match[1] ?? []);

/** `[T1]` and `[T1] [T2]` at the start of the name of a test or of a group. */
function readCitations(code: string): string[] {
  const names = code.matchAll(
    /\b(?:it|test|describe)(?:\.\w+)*(?:\((?:[^()]|\([^()]*\))*\))?\s*\(\s*(["'`])((?:\[[A-Z]\d+\]\s*)+)/g,
  );
  return [...names].flatMap((match) =>
    [...(match[2] ?? "").matchAll(/\[([A-Z]\d+)\]/g)].flatMap((rule) => rule[1] ?? []),
  );
}

const files = readdirSync(tests, { recursive: true, encoding: "utf8" }).filter(
  (name) => name.endsWith(".ts") && name !== "project/spec.test.ts",
);
const cited = new Map<string, string[]>();
for (const file of files) {
  for (const rule of readCitations(readFileSync(join(tests, file), "utf8")))
    cited.set(rule, [...(cited.get(rule) ?? []), file]);
}

it("docs/spec.md numbers each rule once", () => {
  const rules = [...readRules(inForce), ...readRules(later)];
  expect(rules.length).toBeGreaterThan(30);
  expect(new Set(rules).size).toBe(rules.length);
});

it("every rule in force is cited by a test", () => {
  expect(readRules(inForce).filter((rule) => !cited.has(rule))).toEqual([]);
});

it("no test cites a rule that docs/spec.md does not have", () => {
  const known = new Set([...readRules(inForce), ...readRules(later)]);
  expect([...cited].filter(([rule]) => !known.has(rule))).toEqual([]);
});

it("finds citations in every kind of test name, and only there", () => {
  const code =
    'it("[A1] x", f); it.each([1, 2])("[A2] [A3] x", f);\ndescribe.each(list)(\n  `[A4] x`, f); test.skipIf(no)("[A5] x", f); expect(x).toBe("[A6]"); it.each(cases(1))("[A7] x", f);';
  expect(readCitations(code)).toEqual(["A1", "A2", "A3", "A4", "A5", "A7"]);
});

it("docs/operate.md lists every setting with its flag", () => {
  const operate = readFileSync(join(import.meta.dirname, "../../docs/operate.md"), "utf8");
  const missing = Object.values(SETTINGS).filter(
    ({ env, flag }) => !operate.includes(`| \`${env}\` | \`--${flag}\` |`),
  );
  expect(missing).toEqual([]);
});

it("links within docs lead somewhere", () => {
  const docs = join(import.meta.dirname, "../../docs");
  const pages = readdirSync(docs, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".md"));
  const links = pages.flatMap((name) =>
    [...readFileSync(join(docs, name), "utf8").matchAll(/\]\(([^)#:]+\.md)/g)].map((match) =>
      join(docs, name, "..", match[1] ?? ""),
    ),
  );
  expect(links.length).toBeGreaterThan(3);
  expect(links.filter((path) => !existsSync(path))).toEqual([]);
});
