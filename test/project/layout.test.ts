/** Holds the tree to the layout and the widths of CONTRIBUTING.md. */
import { readdirSync } from "node:fs";
import { join } from "node:path/posix";
import { describe, expect, it } from "vitest";
import { readSource, ROOT, sourceFiles } from "./source-files.ts";

/** Files and folders in one folder. */
const ENTRIES = 13;
/** Folders with more than ten entries: a new one takes the place of one that was divided. */
const CROWDED = 54;
/** One folder per part of the product and per kind of test; one fixture per state. */
const EXEMPT = new Set(["test", "test/machines/fixtures/v1"]);
const COMMENT_COLUMNS = 100;
const CODE_COLUMNS = 120;

function readFolders(top: string): string[] {
  const below = readdirSync(join(ROOT, top), { withFileTypes: true, recursive: true });
  const folders = below.filter((entry) => entry.isDirectory()).map((entry) => join(entry.parentPath, entry.name));
  return [top, ...folders.map((path) => path.slice(ROOT.length))].filter((path) => !path.includes("/legit"));
}

const isComment = (line: string): boolean => /^\s*(?:\/\/|\/\*|\*[ /]|\*$)/.test(line);

/** A line that cannot be broken without cutting a text or a pattern: the formatter keeps it. */
const isLongLiteral = (line: string): boolean => /(["'`]).{40,}\1|`.{40,}$|^.{40,}`|\/.{40,}\/[a-z]*/.test(line);

/**
 * Lines that are too wide. Lines of a template literal that began on an earlier line are text and
 * are passed over.
 */
function findWideLines(file: string, code: string): string[] {
  let isText = false;
  return code.split("\n").flatMap((line, index) => {
    const wasText = isText;
    if (!isComment(line) && (line.replaceAll("\\`", "").split("`").length - 1) % 2 === 1) isText = !isText;
    const limit = isComment(line) ? COMMENT_COLUMNS : CODE_COLUMNS;
    if (wasText || line.length <= limit || (!isComment(line) && isLongLiteral(line))) return [];
    return [`${file}:${index + 1} has ${line.length} columns, at most ${limit}`];
  });
}

describe("the layout", () => {
  it("src holds folders only", () => {
    const loose = readdirSync(join(ROOT, "src"), { withFileTypes: true }).filter((entry) => !entry.isDirectory());
    expect(loose.map((entry) => entry.name)).toEqual([]);
  });

  it(`no folder has more than ${ENTRIES} entries, and at most ${CROWDED} have more than ten`, () => {
    const folders = ["src", "machines", "worker", "bench", "web/src", "test"].flatMap(readFolders);
    const counted = folders.flatMap((folder) => {
      const count = readdirSync(join(ROOT, folder)).length;
      return count > 10 && !EXEMPT.has(folder) ? [{ folder, count }] : [];
    });
    expect(counted.filter(({ count }) => count > ENTRIES)).toEqual([]);
    expect(counted.length, JSON.stringify(counted)).toBeLessThanOrEqual(CROWDED);
  });

  it("tests mirror the code: each folder of test/ that is named like one of src/ holds folders that src/ has", () => {
    const code = new Set(readFolders("src").map((folder) => folder.slice("src/".length)));
    const tests = readFolders("test").map((folder) => folder.slice("test/".length));
    const mirrored = tests.filter((folder) => code.has(folder.split("/")[0] ?? ""));
    expect(mirrored.length).toBeGreaterThan(10);
    expect(mirrored.filter((folder) => !code.has(folder))).toEqual([]);
  });
});

describe("the widths", () => {
  it(`comments have at most ${COMMENT_COLUMNS} columns, code at most ${CODE_COLUMNS}`, () => {
    const files = sourceFiles(["src", "machines", "worker", "bench", "web/src", "test", "scripts"]);
    expect(files.flatMap((file) => findWideLines(file, readSource(file)))).toEqual([]);
  });

  it("the check finds a wide comment and wide code, and passes over a long text", () => {
    const wide = (columns: number): string => "x ".repeat(columns).slice(0, columns);
    expect(
      findWideLines("a.ts", `// ${wide(98)}\nfoo(${wide(117)});\nfoo("${wide(150)}");\n// ${wide(97)}`),
    ).toHaveLength(2);
  });
});
