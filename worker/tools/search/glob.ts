/** Finds files by name among those that git tracks or would track, most recently changed first. */
import { lstat } from "node:fs/promises";
import { join, relative } from "node:path";
import { resolveInWorkspace } from "../files/paths.ts";
import { search } from "./search.ts";
import { optionalCount, optionalText, requireText, ToolError, type ToolInput, type ToolResult } from "../tool.ts";

const DEFAULT_LIMIT = 200;
const MAX_LIMIT = 1_000;
/** Only this many files are found and sorted. */
const MAX_FOUND = 20_000;
/** Patterns that the braces of one pattern may expand to. */
const MAX_PATTERNS = 64;

/** Input: `pattern`, optional `path` and `limit`. */
export async function glob(root: string, input: ToolInput, signal: AbortSignal): Promise<ToolResult> {
  const pattern = requireText(input, "pattern").replace(/^\.?\//, "");
  if (pattern === "" || pattern.split("/").includes(".."))
    throw new ToolError('"pattern" is a pattern below "path", such as src/**/*.ts.');
  const real = await resolveInWorkspace(root, ".");
  const directory = relative(real, await resolveInWorkspace(root, optionalText(input, "path") ?? "."));
  const limit = Math.min(optionalCount(input, "limit") ?? DEFAULT_LIMIT, MAX_LIMIT);
  const specs = expandBraces(pattern).map((expanded) => {
    const anywhere = expanded.includes("/") ? expanded : `**/${expanded}`;
    return `:(glob)${directory === "" ? "" : `${directory}/`}${anywhere}`;
  });
  const args = [
    "-c",
    "core.fsmonitor=false",
    "ls-files",
    "-z",
    "--cached",
    "--others",
    "--exclude-standard",
    "--deduplicate",
    "--",
    ...specs,
  ];
  const found = await search({ program: "git", args, cwd: root, limit: MAX_FOUND, separator: "\0" }, signal);
  if (found === null) throw new ToolError("git is not installed. Use bash with find.");
  if (found.exitCode !== 0 && !found.more) throw new ToolError(`The search failed: ${found.errors.trim()}`);
  const files = await sortNewestFirst(real, found.lines);
  if (files.length === 0) {
    return {
      output: `No file name matches ${JSON.stringify(pattern)}. Files that git ignores were not searched.`,
      exitCode: 0,
      truncated: false,
    };
  }
  const truncated = found.more || files.length > limit;
  const total = found.more ? `more than ${MAX_FOUND}` : String(files.length);
  const shown = files.slice(0, limit);
  if (truncated)
    shown.push(`[the first ${limit} of ${total} files; narrow the search with "path" or a longer pattern]`);
  return { output: shown.join("\n"), exitCode: 0, truncated };
}

async function sortNewestFirst(root: string, names: readonly string[]): Promise<string[]> {
  const found: { readonly name: string; readonly changedAt: number }[] = [];
  for (const name of names) {
    const stat = await lstat(join(root, name)).catch(() => null);
    if (stat !== null) found.push({ name, changedAt: stat.mtimeMs });
  }
  return found.sort((a, b) => b.changedAt - a.changedAt || (a.name < b.name ? -1 : 1)).map(({ name }) => name);
}

/** `a.{ts,js}` -> `a.ts`, `a.js`. */
function expandBraces(pattern: string): string[] {
  const [, before, inside, after] = /^(.*?)\{([^{}]*)\}(.*)$/s.exec(pattern) ?? [];
  if (before === undefined || inside === undefined || after === undefined) return [pattern];
  const all = inside.split(",").flatMap((choice) => expandBraces(`${before}${choice}${after}`));
  if (all.length > MAX_PATTERNS)
    throw new ToolError(`"pattern" expands to more than ${MAX_PATTERNS} patterns. Use a simpler one.`);
  return all;
}
