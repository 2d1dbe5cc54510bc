/** Reads a text file with line numbers, or lists a directory. */
import { readdir, readFile, stat } from "node:fs/promises";
import { dirname } from "node:path";
import type { Redaction } from "../../../src/core/lib/json/redaction.ts";
import { regularFileSize, resolveInWorkspace } from "./paths.ts";
import type { SeenFiles } from "./seen-files.ts";
import { optionalCount, requireText, ToolError, type ToolInput, type ToolResult } from "../tool.ts";

const FILE_LIMIT = 20 * 1024 * 1024;
const MAX_LINES = 2_000;
/** Characters of the whole output, and of one line. */
const OUTPUT_LIMIT = 40_000;
const LINE_LIMIT = 2_000;
/** Characters of a page of one line. */
const PAGE_LIMIT = 20_000;
const MAX_ENTRIES = 500;
/** A NUL among the first bytes marks a binary file. */
const BINARY_CHECK_BYTES = 8_000;

export interface ReadAccess {
  readonly root: string;
  /** Directories whose files may be read too: the commands' logs, attachments. */
  readonly besides: readonly string[];
  readonly seen: SeenFiles;
  readonly secrets: Redaction;
}

/**
 * Input: `path`, optional `start` and `end` (line numbers from 1, both included), optional `column`
 * (from 1): a page of the line `start`. Columns count without secrets.
 */
export async function read({ root, besides, seen, secrets }: ReadAccess, input: ToolInput): Promise<ToolResult> {
  const shown = requireText(input, "path");
  const path = await resolveInWorkspace(besides.find((dir) => dirname(shown) === dir) ?? root, shown);
  if ((await stat(path).catch(() => null))?.isDirectory()) return await listDirectory(path);
  if ((await regularFileSize(path, shown)) > FILE_LIMIT)
    throw new ToolError(
      `"${shown}" is larger than 20 MB. Read a part of it with bash (head, tail, sed -n) or search it with grep.`,
    );
  const bytes = await readFile(path);
  if (bytes.subarray(0, BINARY_CHECK_BYTES).includes(0))
    throw new ToolError(
      `"${shown}" is a binary file of ${bytes.length} bytes. Use bash (file, xxd, strings) to inspect it.`,
    );
  const [start, end] = [optionalCount(input, "start") ?? 1, optionalCount(input, "end") ?? Infinity];
  seen.remember(path, bytes);
  if (end < start) throw new ToolError(`"end" (${end}) is before "start" (${start}).`);
  const text = bytes.toString("utf8").replace(/^\ufeff/, "");
  const column = optionalCount(input, "column");
  const lines = text.split("\n").map((line) => secrets.redact(line.replace(/\r$/, "")));
  return column === null ? numberLines(lines, start, end) : showLongLine(lines, start, column);
}

async function listDirectory(path: string): Promise<ToolResult> {
  const entries = (await readdir(path, { withFileTypes: true })).sort((a, b) => (a.name < b.name ? -1 : 1));
  const names = entries.slice(0, MAX_ENTRIES).map((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.name));
  const truncated = entries.length > MAX_ENTRIES;
  if (truncated) names.push(`... and ${entries.length - MAX_ENTRIES} more; find names with glob`);
  return { output: names.join("\n") || "[an empty directory]", exitCode: 0, truncated };
}

/** A page of one line. */
function showLongLine(lines: readonly string[], number: number, column: number): ToolResult {
  const line = lines[number - 1] ?? "";
  if (number > lines.length) throw new ToolError(`The file has only ${lines.length} lines.`);
  if (column > line.length) throw new ToolError(`Line ${number} has only ${line.length} characters.`);
  const end = Math.min(line.length, column - 1 + PAGE_LIMIT);
  const rest = end < line.length ? `\n... continue with "start": ${number}, "column": ${end + 1}` : "";
  const output = `Line ${number}, characters ${column} to ${end} of ${line.length}:\n${line.slice(column - 1, end)}${rest}`;
  return { output, exitCode: 0, truncated: end < line.length };
}

function numberLines(all: readonly string[], start: number, end: number): ToolResult {
  const lines = all.at(-1) === "" ? all.slice(0, -1) : all;
  if (lines.length === 0) return { output: "[an empty file]", exitCode: 0, truncated: false };
  if (start > lines.length) throw new ToolError(`The file has only ${lines.length} lines.`);
  const output: string[] = [];
  let [size, hasCutLines] = [0, false];
  const last = Math.min(lines.length, end);
  let next = start;
  for (; next <= last && output.length < MAX_LINES && size < OUTPUT_LIMIT; next += 1) {
    const line = lines[next - 1] ?? "";
    const isLong = line.length > LINE_LIMIT;
    const more = `... (${line.length} characters; continue with "start": ${next}, "column": ${LINE_LIMIT + 1})`;
    const shown = isLong ? `${line.slice(0, LINE_LIMIT)}${more}` : line;
    hasCutLines ||= isLong;
    output.push(`${String(next).padStart(6)}\t${shown}`);
    size += shown.length + 8;
  }
  const isIncomplete = next <= last;
  if (isIncomplete) output.push(`... lines ${next} to ${lines.length} are not shown; continue with "start": ${next}`);
  return { output: output.join("\n"), exitCode: 0, truncated: isIncomplete || hasCutLines };
}
