/** Colours of code: which tokens are found, that no text breaks them, and that they can be read. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { findLanguage, tokenize } from "../../../web/src/screens/task/changes/syntax/tokens.ts";

const languageOf = (path: string): string => {
  const found = findLanguage(path);
  if (found === null) throw new Error(`no language for ${path}`);
  return found;
};

/** Each token as `kind text`, line by line. */
const read = (path: string, code: string): string[][] => {
  const lines = code.split("\n");
  const tokens = tokenize(languageOf(path), lines);
  return tokens.map((line, i) => line.map(([from, to, kind]) => `${kind} ${lines[i]?.slice(from, to)}`));
};

const FILES =
  "a.ts a.json a.scss a.html a.py a.rb a.sh a.go a.rs a.kt a.swift a.c a.cs a.php a.sql a.yml a.toml a.md a.mk a.lua a.ex a.gql a.proto a.pl Dockerfile".split(
    " ",
  );

describe("the tokens of a line", () => {
  it.each<[string, string, string[][]]>([
    ["a.ts", "const a = 1_0; // b", [["key const", "number 1_0", "comment // b"]]],
    ["a.ts", "x = `a\n${b({ c: `d` })} e`;", [["string `a"], ["string `d`", "string  e`"]]],
    ["a.ts", "a.replace(/[\"'/]/g, 'b') / 2", [["string /[\"'/]/g", "string 'b'", "number 2"]]],
    ["a.tsx", 'const a = <B c="d">it</B>;', [["key const", "key B", 'string "d"', "key B"]]],
    ["a.js", "({ key: 1, it: (a: B) => this.a })", [["number 1", "key this"]]],
    ["a.js", "map.delete(a, this.b)", [["key this"]]],
    // The begin of the comment is above the hunk.
    ["a.ts", " * of it\n */\nlet a", [["comment  * of it"], ["comment  */"], ["key let"]]],
    ["a.ts", "/* a\n const */ if", [["comment /* a"], ["comment  const */", "key if"]]],
    ["a.py", 'def f():\n  """a\n  if"""\n  # b', [["key def"], ['string """a'], ['string   if"""'], ["comment # b"]]],
    ["a.rs", "fn f<'a>(c: &'a str) { '\\n' }", [["key fn", "key str", "string '\\n'"]]],
    ["a.json", '{"a": "b", "c": null}', [['key "a"', 'string "b"', 'key "c"', "key null"]]],
    ["a.sql", "SELECT 'it' -- b", [["key SELECT", "string 'it'", "comment -- b"]]],
    ["a.sh", "echo ${#a} # b", [["key echo", "comment # b"]]],
    [
      "a.yml",
      "a: 'b' # c\n- d: 2",
      [
        ["key a:", "string 'b'", "comment # c"],
        ["key -", "key d:", "number 2"],
      ],
    ],
    ["a.html", `<p class="a">it's</p>`, [["key p", "key class", 'string "a"', "key p"]]],
    ["a.css", "@media (a) { /* b */\n  color: red;", [["key @media", "comment /* b */"], ["key color"]]],
    ["a.md", "# T\n\n* a `b`", [["key # T"], [], ["key *", "string `b`"]]],
    ["src/Dockerfile", "FROM a\nRUN b", [["key FROM"], ["key RUN"]]],
    ["a.go", "func f() { `a\nif` }", [["key func", "string `a"], ["string if`"]]],
  ])("%s: %j", (path, code, expected) => {
    expect(read(path, code)).toEqual(expected);
  });

  it("have no language by other names, and a very long line stays plain", () => {
    for (const name of ["notes.txt", "LICENSE", "a.constructor", "a.__proto__", ""])
      expect(findLanguage(name)).toBeNull();
    for (const name of ["Makefile", "deep/Containerfile", "a.vue", ".env", "A.TS"])
      expect(findLanguage(name)).not.toBeNull();
    expect(read("a.ts", `const a = "${"x".repeat(2_000)}";\nlet b`)).toEqual([[], ["key let"]]);
  });

  it("C1: whatever the lines are, tokens are in order, do not overlap and lie inside of their line", () => {
    const part = fc.constantFrom(
      ..."`'\"/\\*#$-<>=:[](){}\n\r\t 1ea.@!?\u2028".split(""),
      "${",
      "*/",
      "/*",
      '"""',
      "'''",
      "<!--",
      "-->",
      "--[[",
      "return ",
      "\u{1F600}",
      "\u202E",
      "\uD800",
    );
    fc.assert(
      fc.property(fc.constantFrom(...FILES), fc.array(part, { maxLength: 60 }), (path, parts) => {
        const lines = parts.join("").split("\n");
        const found = tokenize(languageOf(path), lines);
        expect(found).toHaveLength(lines.length);
        found.forEach((tokens, i) => {
          let at = 0;
          for (const [from, to] of tokens) {
            expect(from).toBeGreaterThanOrEqual(at);
            expect(to).toBeGreaterThan(from);
            at = to;
          }
          expect(at).toBeLessThanOrEqual(lines[i]?.length ?? 0);
        });
      }),
      { numRuns: 2_000 },
    );
  });
});

/** Of WCAG 2. */
const luminance = (hex: string): number => {
  const [r = 0, g = 0, b = 0] = [1, 3, 5].map((at) => {
    const part = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (a: string, b: string): number => {
  const [dark = 0, light = 0] = [luminance(a), luminance(b)].toSorted((x, y) => x - y);
  return (light + 0.05) / (dark + 0.05);
};

it.each([0, 1])(
  "every colour of code has a contrast of 4.5 on every background of a line, light and dark (%i)",
  (scheme) => {
    const tokens = readFileSync(join(import.meta.dirname, "../../../web/src/styles/tokens.css"), "utf8");
    const colour = (name: string): string => {
      const pair = new RegExp(`--${name}: light-dark\\((#[0-9a-f]{6}), (#[0-9a-f]{6})\\)`).exec(tokens);
      return pair?.[scheme + 1] ?? "";
    };
    const low = ["ink", "syn-key", "syn-str", "syn-num", "syn-dim"].flatMap((ink) =>
      ["surface", "add-tint", "del-tint"].flatMap((ground) => {
        const ratio = contrast(colour(ink), colour(ground));
        return ratio >= 4.5 ? [] : [`${ink} on ${ground}: ${ratio}`];
      }),
    );
    expect(low).toEqual([]);
    for (const mark of ["add-mark", "del-mark"])
      expect(contrast(colour("ink"), colour(mark))).toBeGreaterThanOrEqual(4.5);
  },
);
