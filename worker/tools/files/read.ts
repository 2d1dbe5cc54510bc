/** Reads a text file with line numbers, or lists a directory. */
import { readdir, readFile, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { fileSize, inWorkspace } from "./paths.ts";
import { optionalCount, requireText, ToolError, type ToolInput, type ToolResult } from "../tool.ts";

const FILE_LIMIT = 20 * 1024 * 1024;
const LINES = 2_000;
const CHARACTERS = 40_000;
const LINE_LIMIT = 2_000;
const ENTRIES = 500;
const SNIFF = 8_000;

/**
 * Input: `path`, optional `start` and `end` (line numbers from 1, both included). `logs`: the
 * folder of the commands' logs, which may be read too.
 */
export async function read(root: string, logs: string, input: ToolInput): Promise<ToolResult> {
  const shown = requireText(input, "path");
  const path = dirname(shown) === logs ? await inWorkspace(logs, shown) : await inWorkspace(root, shown);
  if ((await stat(path).catch(() => null))?.isDirectory()) return await list(path);
  if ((await fileSize(path, shown)) > FILE_LIMIT)
    throw new ToolError(
      `"${shown}" is larger than 20 MB. Look at a part of it with bash (head, tail, sed -n) or search it with grep.`,
    );
  const bytes = await readFile(path);
  if (bytes.subarray(0, SNIFF).includes(0))
    throw new ToolError(
      `"${shown}" is a binary file of ${bytes.length} bytes. Use bash (file, xxd, strings) to look into it.`,
    );
  const [start, end] = [optionalCount(input, "start") ?? 1, optionalCount(input, "end") ?? Infinity];
  if (end < start) throw new ToolError(`"end" (${end}) is before "start" (${start}).`);
  return numbered(bytes.toString("utf8").replace(/^\ufeff/, ""), start, end);
}

async function list(path: string): Promise<ToolResult> {
  const entries = (await readdir(path, { withFileTypes: true })).sort((a, b) => (a.name < b.name ? -1 : 1));
  const names = entries.slice(0, ENTRIES).map((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.name));
  const truncated = entries.length > ENTRIES;
  if (truncated) names.push(`... and ${entries.length - ENTRIES} more; find names with glob`);
  return { output: names.join("\n") || "[an empty directory]", exitCode: 0, truncated };
}

function numbered(text: string, start: number, end: number): ToolResult {
  const lines = text.split("\n");
  if (lines.at(-1) === "") lines.pop();
  if (lines.length === 0) return { output: "[an empty file]", exitCode: 0, truncated: false };
  if (start > lines.length) throw new ToolError(`The file has only ${lines.length} lines.`);
  const out: string[] = [];
  let [size, cutLines] = [0, false];
  const last = Math.min(lines.length, end);
  let at = start;
  for (; at <= last && out.length < LINES && size < CHARACTERS; at += 1) {
    const whole = (lines[at - 1] ?? "").replace(/\r$/, "");
    const kept = whole.length > LINE_LIMIT ? `${whole.slice(0, LINE_LIMIT)}... (${whole.length} characters)` : whole;
    cutLines ||= kept !== whole;
    out.push(`${String(at).padStart(6)}\t${kept}`);
    size += kept.length + 8;
  }
  const left = at <= last;
  if (left) out.push(`... lines ${at} to ${lines.length} are not shown; go on with "start": ${at}`);
  return { output: out.join("\n"), exitCode: 0, truncated: left || cutLines };
}
