/** Hints for an edit whose text is missing from the file or occurs more than once. */
import type { Redaction } from "../../../src/core/lib/json/redaction.ts";
import { stripHidden } from "../../lib/hidden-characters.ts";

/** Lines shown before and after the nearest line. */
const CONTEXT_LINES = 3;
/** Occurrences whose lines are named. */
const MAX_NAMED_LINES = 10;
/** Characters of a text that is almost there. */
const VARIANT_LIMIT = 2_000;
/** Characters of a line near it. */
const NEAR_LINE = 300;

const toLineNumber = (text: string, index: number): number => text.slice(0, index).split("\n").length;

export function describeOccurrences(text: string, from: string, shown: string): string {
  let count = 0;
  const lines: number[] = [];
  for (let offset = text.indexOf(from); offset !== -1; offset = text.indexOf(from, offset + from.length), count += 1) {
    if (lines.length < MAX_NAMED_LINES) lines.push(toLineNumber(text, offset));
  }
  const where = `lines ${lines.join(", ")}${count > MAX_NAMED_LINES ? " and more" : ""}`;
  const places = count < 2 ? "more than once, overlapping" : `${count} times`;
  return `"old" occurs ${places} in "${shown}" (${where}). Give more of the text around it, or "replaceAll": true for all of them.`;
}

/** The error message for a text that was not found: where the file comes closest to it, and how. */
export function describeMiss(text: string, from: string, shown: string, secrets: Redaction): string {
  const visible = stripHidden(text).text;
  if (visible !== text && visible.includes(stripHidden(from).text)) {
    const line = toLineNumber(visible, visible.indexOf(stripHidden(from).text));
    return `"old" is in "${shown}" at line ${line}, but with hidden characters in between, which read does not show. Remove them first: bash with perl -CSD -pi -e 's/\\p{Cf}//g'.`;
  }
  const lines = text.split("\n").map((line) => line.trimEnd());
  const wanted = from.split("\n").map((line) => line.trimEnd());
  const pick = (line: number): string =>
    secrets.redact(
      text
        .split("\n")
        .slice(line, line + wanted.length)
        .join("\n"),
    );
  const trimmedMatch = findLines(lines, wanted);
  if (trimmedMatch !== -1)
    return describeVariant(pick(trimmedMatch), trimmedMatch, shown, "in white space at line ends");
  const bare = (line: string): string => line.replaceAll(/\s+/g, " ").trim();
  const spacedMatch = findLines(lines.map(bare), wanted.map(bare));
  if (spacedMatch !== -1 && wanted.some((line) => bare(line) !== ""))
    return describeVariant(pick(spacedMatch), spacedMatch, shown, "in tabs and spaces");
  const key = wanted.map((line) => line.trim()).find((line) => line !== "") ?? "";
  const scored = lines.map((line, index) => ({ index, score: similarity(line.trim(), key) }));
  const best = scored.reduce((a, b) => (b.score > a.score ? b : a), { index: -1, score: 0 });
  if (best.score < 0.5) return `"old" is not in "${shown}", and no line is similar. Read the file first.`;
  const start = Math.max(0, best.index - CONTEXT_LINES);
  const nearest = lines
    .slice(start, best.index + CONTEXT_LINES + 1)
    .map((line, index) => `${String(start + index + 1).padStart(6)}\t${secrets.redact(line).slice(0, NEAR_LINE)}`);
  return `"old" is not in "${shown}". The nearest match is line ${best.index + 1}:\n${nearest.join("\n")}`;
}

/** The first line at which all wanted lines follow one another; -1 = nowhere. */
const findLines = (lines: readonly string[], wanted: readonly string[]): number =>
  lines.findIndex((_, index) => wanted.every((line, offset) => lines[index + offset] === line));

/** What the file has in place of a text that is almost there. */
function describeVariant(found: string, line: number, shown: string, how: string): string {
  const exact = found.slice(0, VARIANT_LIMIT);
  const marked = exact.replaceAll("\t", "→").replaceAll(/ +(?=\r?$)/gm, (spaces) => "·".repeat(spaces.length));
  return `"old" is not in "${shown}" as given; it differs only ${how}, at line ${line + 1}. The file has (→ is a tab, · a space at a line end):\n${marked}`;
}

/** The share of words that two lines have in common, 0 to 1. */
function similarity(a: string, b: string): number {
  const words = (text: string): Set<string> => new Set(text.slice(0, 2_000).split(/\W+/).filter(Boolean));
  const [left, right] = [words(a), words(b)];
  if (left.size === 0 || right.size === 0) return a === b && a !== "" ? 1 : 0;
  const common = [...left].filter((word) => right.has(word)).length;
  return common / Math.max(left.size, right.size);
}
