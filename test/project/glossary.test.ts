/** Holds file names and exported identifiers to docs/glossary.md. */
import { readFileSync } from "node:fs";
import { basename } from "node:path/posix";
import { describe, expect, it } from "vitest";
import { readSource, sourceFiles } from "./source-files.ts";

const page = readFileSync(new URL("../../docs/glossary.md", import.meta.url), "utf8");

/** Names of the published client and of texts that are about a retired word. */
const KEPT = new Set(["Leftovers", "nudge"]);

function readRetiredWords(): ReadonlySet<string> {
  const rows = page.split("## Retired words")[1]?.split("\n") ?? [];
  const cells = rows
    .filter((row) => row.startsWith("| ") && !row.startsWith("| retired"))
    .map((row) => row.split("|")[1]);
  return new Set(cells.flatMap((cell) => (cell ?? "").split(",").map((word) => word.trim())));
}

/** `openHTTPDoor`, `door-options.ts` and `DOOR_MS` all give their words in lower case. */
function splitWords(name: string): string[] {
  return name
    .replaceAll(/([a-z0-9])([A-Z])/g, "$1 $2")
    .replaceAll(/([A-Z]+)([A-Z][a-z])/g, "$1 $2")
    .split(/[^A-Za-z0-9]+/)
    .map((word) => word.toLowerCase());
}

/** Names of declarations and of re-exports; the names of members are not looked at. */
function readExports(code: string): string[] {
  const declared = code.matchAll(
    /^export\s+(?:declare\s+|abstract\s+|async\s+)*(?:function\*?|const|let|class|interface|type|enum)\s+([\w$]+)/gm,
  );
  const listed = [...code.matchAll(/^export\s+(?:type\s+)?\{([^}]*)\}/gm)].flatMap((match) =>
    (match[1] ?? "").split(","),
  );
  return [
    ...[...declared].flatMap((match) => match[1] ?? []),
    ...listed.flatMap((item) => /(?:\bas\s+)?([\w$]+)\s*$/.exec(item.trim())?.[1] ?? []),
  ];
}

const retired = readRetiredWords();
const findRetired = (name: string): string[] =>
  KEPT.has(name) ? [] : splitWords(name).filter((word) => retired.has(word));
const files = sourceFiles(["src", "machines", "worker", "bench", "web/src", "test", "scripts"]);

describe("docs/glossary.md", () => {
  it("lists every retired word once, and defines the words that stay once", () => {
    expect(retired.size).toBeGreaterThan(30);
    const terms = [...(page.split("## Retired words")[0] ?? "").matchAll(/^\| \*\*([^*]+)\*\* \|/gm)].map(
      (match) => match[1],
    );
    expect(terms.length).toBeGreaterThanOrEqual(20);
    expect(new Set(terms).size).toBe(terms.length);
  });

  it("no file name contains a retired word", () => {
    expect(files.length).toBeGreaterThan(300);
    expect(files.flatMap((file) => findRetired(basename(file)).map((word) => `${file}: ${word}`))).toEqual([]);
  });

  it("no exported identifier contains a retired word", () => {
    const names = files.flatMap((file) => readExports(readSource(file)).map((name) => ({ file, name })));
    expect(names.length).toBeGreaterThan(500);
    expect(names.flatMap(({ file, name }) => findRetired(name).map((word) => `${file}: ${name} (${word})`))).toEqual(
      [],
    );
  });
});

describe("the check itself", () => {
  it("finds a retired word in each spelling of a name", () => {
    expect(["openDesk", "DESK_MS", "worker-desk.test.ts", "HTTPDoor"].map(findRetired)).toEqual([
      ["desk"],
      ["desk"],
      ["desk"],
      ["door"],
    ]);
    expect(["deskew", "outdoor", "sayonara"].flatMap(findRetired)).toEqual([]);
  });

  it("finds every kind of export", () => {
    const code =
      "export async function a() {}\nexport const b = 1;\nexport abstract class C {}\nexport interface D {}\nexport type E = 1;\nexport { f, type G, h as i } from './x.ts';\nconst j = 1;";
    expect(readExports(code)).toEqual(["a", "b", "C", "D", "E", "f", "G", "i"]);
  });
});
