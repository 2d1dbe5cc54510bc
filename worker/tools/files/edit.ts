/**
 * Replaces one exact piece of a file.
 *
 * The piece must occur exactly once, or all of them are meant; nothing is guessed. Line ends, byte
 * order mark and mode of the file stay as they are.
 */
import { readFile, writeFile } from "node:fs/promises";
import { fileSize, inWorkspace } from "./paths.ts";
import { stripHidden } from "../../lib/hidden-characters.ts";
import { optionalFlag, requireText, ToolError, type ToolInput, type ToolResult } from "../tool.ts";

const FILE_LIMIT = 20 * 1024 * 1024;
const AROUND = 3;
const PLACES = 10;

/** Input: `path`, `old`, `new`, optional `replaceAll`. */
export async function edit(root: string, input: ToolInput): Promise<ToolResult> {
  const [shown, old, replacement] = [requireText(input, "path"), requireText(input, "old"), requireText(input, "new")];
  if (old === "") throw new ToolError('"old" is empty. Use write to make a file.');
  if (old === replacement) throw new ToolError('"old" and "new" are the same.');
  const path = await inWorkspace(root, shown);
  if ((await fileSize(path, shown)) > FILE_LIMIT) throw new ToolError(`"${shown}" is larger than 20 MB.`);
  const text = decode(await readFile(path), shown);
  const crlf = /\r\n/.test(text) && !/(?<!\r)\n/.test(text);
  const [from, to] =
    crlf && !text.includes(old) ? [toCrlf(old), toCrlf(replacement)] : [old, crlf ? toCrlf(replacement) : replacement];
  const first = text.indexOf(from);
  if (first === -1) throw new ToolError(miss(text, from, shown));
  if (optionalFlag(input, "replaceAll")) {
    const pieces = text.split(from);
    await writeFile(path, pieces.join(to));
    return {
      output: `Edited ${shown} at ${pieces.length - 1} places, from line ${lineAt(text, first)} on.`,
      exitCode: 0,
      truncated: false,
    };
  }
  if (text.includes(from, first + 1)) throw new ToolError(several(text, from, shown));
  await writeFile(path, text.slice(0, first) + to + text.slice(first + from.length));
  return { output: `Edited ${shown} at line ${lineAt(text, first)}.`, exitCode: 0, truncated: false };
}

function decode(bytes: Buffer, shown: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new ToolError(`"${shown}" is not UTF-8 text.`);
  }
}

const toCrlf = (text: string): string => text.replace(/\r?\n/g, "\r\n");
const lineAt = (text: string, index: number): number => text.slice(0, index).split("\n").length;

function several(text: string, from: string, shown: string): string {
  let count = 0;
  const lines: number[] = [];
  for (let at = text.indexOf(from); at !== -1; at = text.indexOf(from, at + from.length), count += 1) {
    if (lines.length < PLACES) lines.push(lineAt(text, at));
  }
  const where = `lines ${lines.join(", ")}${count > PLACES ? " and more" : ""}`;
  const places = count < 2 ? "more than once, overlapping" : `${count} times`;
  return `"old" occurs ${places} in "${shown}" (${where}). Give more of the text around it, or "replaceAll": true for all of them.`;
}

/** Says how close the file comes to the text that was not found. */
function miss(text: string, from: string, shown: string): string {
  const plain = stripHidden(text).text;
  if (plain !== text && plain.includes(stripHidden(from).text)) {
    const line = lineAt(plain, plain.indexOf(stripHidden(from).text));
    return `"old" is in "${shown}" at line ${line}, but with hidden characters in between, which read leaves out. Remove them first: bash with perl -CSD -pi -e 's/\\p{Cf}//g'.`;
  }
  const lines = text.split("\n").map((line) => line.trimEnd());
  const wanted = from.split("\n").map((line) => line.trimEnd());
  const loose = lines.findIndex((_, index) => wanted.every((line, offset) => lines[index + offset] === line));
  if (loose !== -1)
    return `"old" is not in "${shown}" as given; it differs only in white space at line ends, at line ${loose + 1}.`;
  const key = wanted.map((line) => line.trim()).find((line) => line !== "") ?? "";
  const scored = lines.map((line, index) => ({ index, score: likeness(line.trim(), key) }));
  const best = scored.reduce((a, b) => (b.score > a.score ? b : a), { index: -1, score: 0 });
  if (best.score < 0.5) return `"old" is not in "${shown}", and no line looks like it. Read the file first.`;
  const begin = Math.max(0, best.index - AROUND);
  const near = lines
    .slice(begin, best.index + AROUND + 1)
    .map((line, index) => `${String(begin + index + 1).padStart(6)}\t${line.slice(0, 300)}`);
  return `"old" is not in "${shown}". The nearest place is line ${best.index + 1}:\n${near.join("\n")}`;
}

/** Share of the words that two lines have in common, 0..1. */
function likeness(a: string, b: string): number {
  const words = (text: string): Set<string> => new Set(text.slice(0, 2_000).split(/\W+/).filter(Boolean));
  const [left, right] = [words(a), words(b)];
  if (left.size === 0 || right.size === 0) return a === b && a !== "" ? 1 : 0;
  const common = [...left].filter((word) => right.has(word)).length;
  return common / Math.max(left.size, right.size);
}
