/**
 * Replaces exact pieces of a file: one, or several in one call, all or none.
 *
 * Each piece must occur exactly once, unless all occurrences are to be replaced: no match is
 * guessed. Line ends, byte order mark and mode of the file are preserved. The result shows the new
 * text.
 */
import { readFile, writeFile } from "node:fs/promises";
import { NO_SECRETS, type Redaction } from "../../../src/core/lib/json/redaction.ts";
import { describeMiss, describeOccurrences } from "./edit-hints.ts";
import { regularFileSize, resolveInWorkspace } from "./paths.ts";
import type { SeenFiles } from "./seen-files.ts";
import { optionalFlag, requireText, ToolError, type ToolInput, type ToolResult } from "../tool.ts";

const FILE_LIMIT = 20 * 1024 * 1024;
const MAX_EDITS = 50;
/** Lines shown around a change, and lines and characters that are shown of all changes. */
const CONTEXT_LINES = 2;
const SHOWN_LINES = 80;
const SHOWN_LINE = 300;

interface Replacement {
  readonly old: string;
  readonly text: string;
  readonly all: boolean;
}

/** A piece of the new text: character offsets. */
interface Change {
  readonly at: number;
  readonly length: number;
}

/** Input: `path`; `old`, `new`, optional `replaceAll`, or `edits`: a list of these. */
export async function edit(
  root: string,
  seen: SeenFiles,
  input: ToolInput,
  secrets: Redaction = NO_SECRETS,
): Promise<ToolResult> {
  const shown = requireText(input, "path");
  const replacements = readReplacements(input);
  const path = await resolveInWorkspace(root, shown);
  if ((await regularFileSize(path, shown)) > FILE_LIMIT) throw new ToolError(`"${shown}" is larger than 20 MB.`);
  const bytes = await readFile(path);
  const before = decode(bytes, shown);
  const isStale = seen.hasChanged(path, bytes);
  const crlf = /\r\n/.test(before) && !/(?<!\r)\n/.test(before);
  let text = before;
  let changes: Change[] = [];
  for (const [index, replacement] of replacements.entries()) {
    const which = replacements.length === 1 ? "" : `Edit ${index + 1} of ${replacements.length}: nothing was changed. `;
    const applied = apply(text, replacement, crlf, (problem) => new ToolError(`${which}${problem}`), {
      shown,
      secrets,
    });
    changes = [...changes.map((change) => moveBehind(change, applied.changes, applied.grownBy)), ...applied.changes];
    text = applied.text;
  }
  await writeFile(path, text);
  seen.remember(path, Buffer.from(text));
  const places = changes.length === 1 ? "" : ` at ${changes.length} places`;
  const stale = isStale ? " It had changed since you last saw it: read it again before you rely on the rest." : "";
  return {
    output: `Edited ${shown}${places}.${stale} The new text:\n${showChanges(text, changes, secrets)}`,
    exitCode: 0,
    truncated: false,
  };
}

function readReplacements(input: ToolInput): Replacement[] {
  const { edits } = input;
  if (edits === undefined || edits === null) return [readReplacement(input)];
  if (input["old"] !== undefined) throw new ToolError('Give "old" and "new", or "edits", not both.');
  if (!Array.isArray(edits) || edits.length === 0 || edits.length > MAX_EDITS)
    throw new ToolError(`"edits" must be a list of 1 to ${MAX_EDITS} objects with "old" and "new".`);
  return edits.map((one: unknown) => {
    if (typeof one !== "object" || one === null) throw new ToolError('"edits" must contain objects.');
    return readReplacement(one as ToolInput);
  });
}

function readReplacement(input: ToolInput): Replacement {
  const [old, text] = [requireText(input, "old"), requireText(input, "new")];
  if (old === "") throw new ToolError('"old" is empty. Use write to create a file.');
  if (old === text) throw new ToolError('"old" and "new" are the same.');
  return { old, text, all: optionalFlag(input, "replaceAll") };
}

interface Applied {
  readonly text: string;
  readonly changes: readonly Change[];
  /** Characters that each change adds. */
  readonly grownBy: number;
}

function apply(
  text: string,
  { old, text: replacement, all }: Replacement,
  crlf: boolean,
  fail: (problem: string) => ToolError,
  { shown, secrets }: { readonly shown: string; readonly secrets: Redaction },
): Applied {
  // A model writes LF; in a file with CRLF alone both texts are converted.
  const [from, to] =
    crlf && !text.includes(old) ? [toCrlf(old), toCrlf(replacement)] : [old, crlf ? toCrlf(replacement) : replacement];
  const first = text.indexOf(from);
  if (first === -1) throw fail(describeMiss(text, from, shown, secrets));
  if (!all && text.includes(from, first + 1)) throw fail(describeOccurrences(text, from, shown));
  const grownBy = to.length - from.length;
  const pieces = all ? text.split(from) : [text.slice(0, first), text.slice(first + from.length)];
  const changes: Change[] = [];
  let at = 0;
  for (const piece of pieces.slice(0, -1)) {
    at += piece.length;
    changes.push({ at, length: to.length });
    at += to.length;
  }
  return { text: pieces.join(to), changes, grownBy };
}

/** An earlier change, after later ones have moved it. */
function moveBehind({ at, length }: Change, later: readonly Change[], grownBy: number): Change {
  const before = later.filter((one, index) => one.at - index * grownBy <= at).length;
  return { at: at + before * grownBy, length };
}

/** The lines of each change with their numbers and some lines around. */
function showChanges(text: string, changes: readonly Change[], secrets: Redaction): string {
  const lines = text.split("\n");
  const wanted = new Set<number>();
  for (const { at, length } of changes) {
    const start = countLines(text, at);
    const end = countLines(text, Math.max(at, at + length - 1));
    const last = Math.min(lines.length - 1, end + CONTEXT_LINES);
    for (let line = Math.max(0, start - CONTEXT_LINES); line <= last && wanted.size <= SHOWN_LINES; line += 1)
      wanted.add(line);
  }
  const numbers = [...wanted].toSorted((a, b) => a - b);
  const output: string[] = [];
  for (const [index, line] of numbers.slice(0, SHOWN_LINES).entries()) {
    if (index > 0 && numbers[index - 1] !== line - 1) output.push("     …");
    const content = (lines[line] ?? "").replace(/\r$/, "");
    output.push(`${String(line + 1).padStart(6)}\t${secrets.redact(content).slice(0, SHOWN_LINE)}`);
  }
  if (numbers.length > SHOWN_LINES) output.push("     … more lines follow; read shows them");
  return output.join("\n");
}

/** Lines that end before the offset. */
const countLines = (text: string, offset: number): number => text.slice(0, offset).split("\n").length - 1;

function decode(bytes: Buffer, shown: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new ToolError(`"${shown}" is not UTF-8 text.`);
  }
}

const toCrlf = (text: string): string => text.replace(/\r?\n/g, "\r\n");
