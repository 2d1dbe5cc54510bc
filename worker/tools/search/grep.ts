/**
 * Finds lines in files: with ripgrep where it is installed, else with git. Both obey .gitignore.
 */
import type { Redaction } from "../../../src/core/lib/json/redaction.ts";
import { relative } from "node:path";
import { stat } from "node:fs/promises";
import { resolveInWorkspace } from "../files/paths.ts";
import { search, type SearchResult } from "./search.ts";
import {
  optionalCount,
  optionalFlag,
  optionalChoice,
  optionalText,
  requireText,
  ToolError,
  type ToolInput,
  type ToolResult,
} from "../tool.ts";

const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 1_000;
const MAX_CONTEXT = 20;

interface Query {
  readonly pattern: string;
  /** Relative to the workspace; "." = all of it. */
  readonly path: string;
  readonly glob: string | null;
  readonly mode: "lines" | "files" | "count";
  readonly ignoreCase: boolean;
  readonly literal: boolean;
  readonly context: number;
}

/**
 * Input: `pattern`, optional `path`, `glob`, `mode`, `ignoreCase`, `literal`, `context`, `limit`.
 */
export async function grep(
  root: string,
  input: ToolInput,
  signal: AbortSignal,
  secrets: Redaction,
): Promise<ToolResult> {
  const shown = optionalText(input, "path") ?? ".";
  const realPath = await resolveInWorkspace(root, shown);
  const found = await stat(realPath).catch(() => null);
  if (found === null) throw new ToolError(`"${shown}" does not exist.`);
  const path = relative(await resolveInWorkspace(root, "."), realPath) || ".";
  const glob = found.isFile() ? null : optionalText(input, "glob");
  const query: Query = {
    pattern: requireText(input, "pattern"),
    path,
    // Relative to the workspace. A pattern without folders matches at any depth.
    glob: glob === null ? null : `${path === "." ? "" : `${path}/`}${glob.includes("/") ? glob : `**/${glob}`}`,
    mode: optionalChoice(input, "mode", ["lines", "files", "count"]) ?? "lines",
    ignoreCase: optionalFlag(input, "ignoreCase"),
    literal: optionalFlag(input, "literal"),
    context: Math.min(optionalCount(input, "context") ?? 0, MAX_CONTEXT),
  };
  if (query.pattern === "") throw new ToolError('"pattern" is empty. Use glob to list files.');
  const limit = Math.min(optionalCount(input, "limit") ?? DEFAULT_LIMIT, MAX_LIMIT);
  const run = async (program: string, args: readonly string[]): Promise<SearchResult | null> =>
    await search({ program, args, cwd: root, limit, separator: "\n", secrets }, signal);
  const result = (await run("rg", ripgrepArguments(query))) ?? (await run("git", gitGrepArguments(query)));
  if (result === null) throw new ToolError("Neither ripgrep nor git is installed. Use bash with grep.");
  return formatResult(result, query, limit);
}

/** The agent's texts follow `-e` or `--`, so that they are never read as options. */
function ripgrepArguments({ pattern, path, glob, mode, ignoreCase, literal, context }: Query): string[] {
  const args = [
    "--no-config",
    "--color=never",
    "--no-heading",
    "--with-filename",
    "--hidden",
    "--glob=!.git",
    "--sort=path",
  ];
  args.push({ lines: "--line-number", files: "--files-with-matches", count: "--count" }[mode]);
  if (mode === "lines" && context > 0) args.push(`--context=${context}`);
  if (ignoreCase) args.push("--ignore-case");
  if (literal) args.push("--fixed-strings");
  if (glob !== null) args.push(`--glob=${glob}`);
  return [...args, "-e", pattern, "--", path === "." ? "./" : path];
}

function gitGrepArguments({ pattern, path, glob, mode, ignoreCase, literal, context }: Query): string[] {
  const args = ["-c", "core.quotePath=false", "-c", "core.fsmonitor=false", "grep", "--untracked", "--no-color", "-I"];
  args.push({ lines: "-n", files: "-l", count: "-c" }[mode]);
  if (mode === "lines" && context > 0) args.push("-C", String(context));
  if (ignoreCase) args.push("-i");
  return [...args, literal ? "-F" : "-P", "-e", pattern, "--", glob === null ? path : `:(glob)${glob}`];
}

function formatResult(
  { lines, more, exitCode, errors }: SearchResult,
  { path, glob, pattern }: Query,
  limit: number,
): ToolResult {
  if (lines.length === 0) {
    if (exitCode !== 1 && exitCode !== 0)
      throw new ToolError(`The search failed: ${errors.trim() || `exit code ${String(exitCode)}`}`);
    const where = `${path === "." ? "the workspace" : `"${path}"`}${glob === null ? "" : ` in files like ${glob}`}`;
    const output = `Nothing in ${where} matches ${JSON.stringify(pattern)}. Files that git ignores and binaries were not searched.`;
    return { output, exitCode: 0, truncated: false };
  }
  const shown = lines.map((line) => line.replace(/^\.\//, ""));
  if (more)
    shown.push(
      `[there is more after these ${limit} lines; narrow the search with "path", "glob" or a longer pattern, or ask for "mode": "count"]`,
    );
  return { output: shown.join("\n"), exitCode: 0, truncated: more };
}
