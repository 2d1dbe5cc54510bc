/**
 * Finds what the design has colours for in lines of code: the classes of highlight.js, by lowlight.
 *
 * C1 Tokens of a line are in order, do not overlap, and lie inside of it, whatever the text is.
 * C2 Each hunk begins anew: what is open at its end says nothing of the next one.
 */
import { createLowlight } from "lowlight";
import { aliases, grammars } from "./grammars.ts";

export type TokenKind = "key" | "string" | "number" | "comment";
export type Token = readonly [from: number, to: number, kind: TokenKind];

const lowlight = createLowlight(grammars);
lowlight.registerAlias(aliases);

type Node = ReturnType<typeof lowlight.highlight>["children"][number];

/** A longer line stays plain. */
const LINE_LIMIT = 2_000;

/** By class; null = code again, inside of a string. Other classes have the colour around them. */
const KINDS: ReadonlyMap<string, TokenKind | null> = new Map(
  Object.entries({
    key: "keyword built_in type literal name attr attribute meta section bullet selector-tag",
    string: "string regexp code",
    number: "number",
    comment: "comment",
    null: "subst",
  }).flatMap(([kind, classes]) =>
    classes.split(" ").map((name) => [`hljs-${name}`, kind === "null" ? null : (kind as TokenKind)] as const),
  ),
);
/** Names of an object's properties have the class of keys in data, and are none. */
const SCRIPT = /^[cm]?[jt]sx?$/;
/** `this`, `self` and their like have it beside a class. */
const LANGUAGE_WORD = "language_";

/** By the ending of its name, or by the whole name: `Dockerfile`, `Makefile`. Null = plain text. */
export function findLanguage(path: string): string | null {
  const name = path.slice(path.lastIndexOf("/") + 1).toLowerCase();
  const ending = name.slice(name.lastIndexOf(".") + 1);
  return lowlight.registered(ending) ? ending : null;
}

/** @param lines of one side of one hunk. @throws what a grammar throws. */
export function tokenize(language: string, lines: readonly string[]): Token[][] {
  const begin = beginsInComment(lines) ? "/*" : "";
  // A line that stays plain is not read either.
  const read = lines.map((text) => (text.length > LINE_LIMIT ? "" : text.replaceAll(/[\r\n]/g, " ")));
  const { children } = lowlight.highlight(language, begin + read.join("\n"));
  const tokens: Token[][] = lines.map(() => []);
  const isScript = SCRIPT.test(language);
  let line = 0;
  let column = -begin.length;
  const add = (text: string, kind: TokenKind | null): void => {
    for (const [i, part] of text.split("\n").entries()) {
      if (i > 0) [line, column] = [line + 1, 0];
      const from = Math.max(0, column);
      column += part.length;
      if (kind !== null && column > from) addToken(tokens[line], [from, column, kind]);
    }
  };
  const walk = (node: Node, around: TokenKind | null): void => {
    if (node.type === "text") return add(node.value, around);
    if (node.type !== "element") return;
    const kind = toKind(node.properties.className, around, isScript);
    for (const child of node.children) walk(child, kind);
  };
  for (const child of children) walk(child, null);
  return tokens;
}

/** Joins it to the token before, where that has the same colour. */
function addToken(tokens: Token[] = [], [from, to, kind]: Token): void {
  const last = tokens.at(-1);
  if (last?.[1] === from && last[2] === kind) tokens[tokens.length - 1] = [last[0], to, kind];
  else tokens.push([from, to, kind]);
}

function toKind(classes: unknown, around: TokenKind | null, isScript: boolean): TokenKind | null {
  if (!Array.isArray(classes) || (isScript && classes.includes("hljs-attr"))) return around;
  if (classes.includes(LANGUAGE_WORD)) return "key";
  const known = classes.map(String).find((name) => KINDS.has(name));
  return known === undefined ? around : (KINDS.get(known) ?? null);
}

/** A hunk may begin inside of a comment whose lines begin with a star. */
function beginsInComment(lines: readonly string[]): boolean {
  const first = lines.find((line) => line.trim() !== "");
  return first !== undefined && /^\s*\*(?:\s|\/|$)/.test(first);
}
