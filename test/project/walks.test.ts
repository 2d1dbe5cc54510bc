/** Holds the walks of decision 086 to the tree: the files that a prompt and an event pass. */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path/posix";
import { describe, expect, it } from "vitest";
import { readSource, ROOT } from "./source-files.ts";

const DECISION = "docs/decisions/086-the-walks-are-lists-that-a-test-reads.md";
/** A walk becomes shorter; where it must become longer, the decision says why. */
const MOST = { prompt: 37, event: 29 };

interface Step {
  readonly number: number;
  readonly file: string;
  /** No import leads to the file: it is reached through a port, or in another thread or process. */
  readonly isMarked: boolean;
  readonly conversions: readonly number[];
}

function readWalk(name: string): Step[] {
  const [, table = ""] = readSource(DECISION).split(`<!-- walk: ${name} -->`);
  const [rows = ""] = table.split("<!-- end of walk -->");
  const cells = rows.matchAll(/^\| (\d+) \| `([^`]+)`( \*(?:port|thread|process)\*)? \|.*\| (.*)\|$/gm);
  return [...cells].map(([, number, file = "", mark, conversion = ""]) => ({
    number: Number(number),
    file,
    isMarked: mark !== undefined,
    conversions: [...conversion.matchAll(/\((\d+)\)/g)].map(([, n]) => Number(n)),
  }));
}

function readImports(file: string): Set<string> {
  const paths = readSource(file).matchAll(/\b(?:from|import)\s*\(?\s*"(\.[^"]+)"/g);
  return new Set([...paths].map(([, path = ""]) => join(dirname(file), path)));
}

/** The steps that no import joins to an earlier one, in either direction. */
function findLoose(steps: readonly Step[]): string[] {
  const imports = new Map(steps.map(({ file }) => [file, readImports(file)]));
  const isJoined = (a: string, b: string): boolean =>
    imports.get(a)?.has(b) === true || imports.get(b)?.has(a) === true;
  const loose = steps.slice(1).filter(({ file }, i) => !steps.slice(0, i + 1).some((one) => isJoined(one.file, file)));
  return loose.map(({ file }) => file);
}

const toNumbers = (length: number): number[] => Array.from({ length }, (_, i) => i + 1);

describe.each(["prompt", "event"] as const)("the walk of the %s", (name) => {
  const steps = readWalk(name);

  it(`names each file once, and at most ${MOST[name]}`, () => {
    expect(steps.length).toBeGreaterThan(20);
    expect(steps.length).toBeLessThanOrEqual(MOST[name]);
    expect(steps.map(({ number }) => number)).toEqual(toNumbers(steps.length));
    expect(new Set(steps.map(({ file }) => file)).size).toBe(steps.length);
    expect(steps.filter(({ file }) => !existsSync(join(ROOT, file)))).toEqual([]);
  });

  it("an import joins each file to an earlier one, except where the decision marks it", () => {
    expect(findLoose(steps)).toEqual(steps.filter(({ isMarked }) => isMarked).map(({ file }) => file));
  });

  it("numbers the conversions without a gap", () => {
    const numbers = steps.flatMap(({ conversions }) => conversions).sort((a, b) => a - b);
    expect(numbers).toEqual(toNumbers(numbers.length));
  });
});
