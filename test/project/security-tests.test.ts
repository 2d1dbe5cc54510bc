/** docs/security-tests.md names a test for each hole and each hostile input; each one exists. */
import { existsSync } from "node:fs";
import { join, normalize } from "node:path";
import { expect, it } from "vitest";
import { readSource, ROOT } from "./source-files.ts";

const PAGE = "docs/security-tests.md";
const HOLES = ["C", "M", "L"].flatMap((kind) =>
  Array.from({ length: kind === "L" ? 9 : 8 }, (_, i) => `${kind}${i + 1}`),
);
const ITEMS = 91;

interface Row {
  readonly cells: readonly string[];
  /** Of the last cell, by file. */
  readonly cited: readonly { readonly file: string; readonly names: readonly string[] }[];
}

function readRows(page: string): Row[] {
  const lines = page.split("\n").filter((line) => line.startsWith("| ") && !line.startsWith("| -"));
  return lines.map((line) => {
    const cells = line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim());
    // A link, and the names up to the next link.
    const groups = (cells.at(-1) ?? "").matchAll(/\]\(([^)]+)\)((?:(?!; \[[\w/-]+\]\()[^|])*)/g);
    const cited = [...groups].map(([, target = "", text = ""]) => ({
      file: normalize(join("docs", target)),
      names: [...text.matchAll(/"([^"]+)"/g)].map(([, name = ""]) => name),
    }));
    return { cells, cited };
  });
}

/** The names of tests and groups in a file, as they are written. */
function readNames(code: string): Set<string> {
  const calls = code.matchAll(
    /\b(?:it|test|describe|describeWith\w+|inFullRuns\(\w+\))(?:\.\w+)*(?:\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))?\s*\(\s*(["'`])((?:\\.|(?!\1)[^])*?)\1/g,
  );
  return new Set([...calls].map(([, , name = ""]) => name.replaceAll("\\`", "`")));
}

function findBroken(rows: readonly Row[]): string[] {
  return rows.flatMap(({ cells, cited }) =>
    cited.flatMap(({ file, names }) => {
      if (!existsSync(join(ROOT, file))) return [`${cells[0]}: ${file}`];
      const known = readNames(readSource(file));
      const missing = names.filter((name) => !known.has(name)).map((name) => `${cells[0]}: ${file}: ${name}`);
      return names.length === 0 ? [`${cells[0]}: ${file} without a name`] : missing;
    }),
  );
}

/** `1-18` stands for eighteen. */
function listItems(cell: string): number[] {
  const [first = NaN, last = first] = cell.split("-").map(Number);
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

const rows = readRows(readSource(PAGE));

it("each hole and each hostile input has a test, or a reason why it needs none", () => {
  const holes = rows.filter(({ cells }) => /^[CML]\d$/.test(cells[0] ?? ""));
  expect(holes.map(({ cells }) => cells[0])).toEqual(HOLES);
  const items = rows.filter(({ cells }) => /^\d+(?:-\d+)?$/.test(cells[0] ?? ""));
  expect(items.flatMap(({ cells }) => listItems(cells[0] ?? ""))).toEqual(
    Array.from({ length: ITEMS }, (_, i) => i + 1),
  );
  const bare = [...holes, ...items].filter(({ cited }) => cited.length === 0).map(({ cells }) => cells.at(-1));
  expect(bare.filter((reason) => !reason?.startsWith("not applicable: "))).toEqual([]);
});

it("each test that docs/security-tests.md names exists under that name", () => {
  expect(rows.flatMap(({ cited }) => cited.flatMap(({ names }) => names)).length).toBeGreaterThan(120);
  expect(findBroken(rows)).toEqual([]);
  const places = [...readSource(PAGE).matchAll(/`((?:src|worker|test)\/[^`]+)`/g)].map(([, path = ""]) => path);
  expect(places.length).toBeGreaterThan(30);
  expect(places.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
});

it("the check finds a file, a name and a row that is not whole", () => {
  const file = "../test/project/security-tests.test.ts";
  const page = `| C1 | x | [a](../test/nowhere.test.ts) "x"; [b](${file}) "no such test", "${PAGE}" |\n| 3-4 | y | [c](${file}) |`;
  expect(findBroken(readRows(page))).toEqual([
    "C1: test/nowhere.test.ts",
    "C1: test/project/security-tests.test.ts: no such test",
    `C1: test/project/security-tests.test.ts: ${PAGE}`,
    "3-4: test/project/security-tests.test.ts without a name",
  ]);
  expect(listItems("3-4")).toEqual([3, 4]);
  expect(readNames('it.each([1, f(2)])("a %s", g); describeWithDocker("b", h); it(`c ${d}`, i);')).toEqual(
    new Set(["a %s", "b", "c ${d}"]),
  );
});
