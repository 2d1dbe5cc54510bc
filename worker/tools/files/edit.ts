/**
 * Replaces one exact piece of a file.
 *
 * The piece must occur exactly once, unless all occurrences are to be replaced: no match is
 * guessed. Line ends, byte order mark and mode of the file are preserved.
 */
import { readFile, writeFile } from "node:fs/promises";
import { regularFileSize, resolveInWorkspace } from "./paths.ts";
import { stripHidden } from "../../lib/hidden-characters.ts";
import { optionalFlag, requireText, ToolError, type ToolInput, type ToolResult } from "../tool.ts";

const FILE_LIMIT = 20 * 1024 * 1024;
/** Lines shown before and after the nearest line. */
const CONTEXT_LINES = 3;
/** Occurrences whose lines are named. */
const MAX_NAMED_LINES = 10;

/** Input: `path`, `old`, `new`, optional `replaceAll`. */
export async function edit(root: string, input: ToolInput): Promise<ToolResult> {
  const [shown, old, replacement] = [requireText(input, "path"), requireText(input, "old"), requireText(input, "new")];
  if (old === "") throw new ToolError('"old" is empty. Use write to create a file.');
  if (old === replacement) throw new ToolError('"old" and "new" are the same.');
  const path = await resolveInWorkspace(root, shown);
  if ((await regularFileSize(path, shown)) > FILE_LIMIT) throw new ToolError(`"${shown}" is larger than 20 MB.`);
  const text = decode(await readFile(path), shown);
  const crlf = /\r\n/.test(text) && !/(?<!\r)\n/.test(text);
  // A model writes LF; in a file with CRLF alone both texts are converted.
  const [from, to] =
    crlf && !text.includes(old) ? [toCrlf(old), toCrlf(replacement)] : [old, crlf ? toCrlf(replacement) : replacement];
  const first = text.indexOf(from);
  if (first === -1) throw new ToolError(describeMiss(text, from, shown));
  if (optionalFlag(input, "replaceAll")) {
    const pieces = text.split(from);
    await writeFile(path, pieces.join(to));
    return {
      output: `Edited ${shown} at ${pieces.length - 1} places, from line ${toLineNumber(text, first)} on.`,
      exitCode: 0,
      truncated: false,
    };
  }
  if (text.includes(from, first + 1)) throw new ToolError(describeOccurrences(text, from, shown));
  await writeFile(path, text.slice(0, first) + to + text.slice(first + from.length));
  return { output: `Edited ${shown} at line ${toLineNumber(text, first)}.`, exitCode: 0, truncated: false };
}

function decode(bytes: Buffer, shown: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new ToolError(`"${shown}" is not UTF-8 text.`);
  }
}

const toCrlf = (text: string): string => text.replace(/\r?\n/g, "\r\n");
const toLineNumber = (text: string, index: number): number => text.slice(0, index).split("\n").length;

function describeOccurrences(text: string, from: string, shown: string): string {
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
function describeMiss(text: string, from: string, shown: string): string {
  const visible = stripHidden(text).text;
  if (visible !== text && visible.includes(stripHidden(from).text)) {
    const line = toLineNumber(visible, visible.indexOf(stripHidden(from).text));
    return `"old" is in "${shown}" at line ${line}, but with hidden characters in between, which read does not show. Remove them first: bash with perl -CSD -pi -e 's/\\p{Cf}//g'.`;
  }
  const lines = text.split("\n").map((line) => line.trimEnd());
  const wanted = from.split("\n").map((line) => line.trimEnd());
  const trimmedMatch = lines.findIndex((_, index) => wanted.every((line, offset) => lines[index + offset] === line));
  if (trimmedMatch !== -1)
    return `"old" is not in "${shown}" as given; it differs only in white space at line ends, at line ${trimmedMatch + 1}.`;
  const key = wanted.map((line) => line.trim()).find((line) => line !== "") ?? "";
  const scored = lines.map((line, index) => ({ index, score: similarity(line.trim(), key) }));
  const best = scored.reduce((a, b) => (b.score > a.score ? b : a), { index: -1, score: 0 });
  if (best.score < 0.5) return `"old" is not in "${shown}", and no line is similar. Read the file first.`;
  const start = Math.max(0, best.index - CONTEXT_LINES);
  const nearest = lines
    .slice(start, best.index + CONTEXT_LINES + 1)
    .map((line, index) => `${String(start + index + 1).padStart(6)}\t${line.slice(0, 300)}`);
  return `"old" is not in "${shown}". The nearest match is line ${best.index + 1}:\n${nearest.join("\n")}`;
}

/** The share of words that two lines have in common, 0 to 1. */
function similarity(a: string, b: string): number {
  const words = (text: string): Set<string> => new Set(text.slice(0, 2_000).split(/\W+/).filter(Boolean));
  const [left, right] = [words(a), words(b)];
  if (left.size === 0 || right.size === 0) return a === b && a !== "" ? 1 : 0;
  const common = [...left].filter((word) => right.has(word)).length;
  return common / Math.max(left.size, right.size);
}
