/**
 * Finds lines: with ripgrep where it is installed, else with git. Both keep to .gitignore and end
 * by themselves.
 */
import { relative } from "node:path";
import { stat } from "node:fs/promises";
import { inWorkspace } from "../files/paths.ts";
import { search, type Found } from "./search.ts";
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

const LINES = 100;
const MOST_LINES = 1_000;
const MOST_AROUND = 20;

interface Wanted {
  readonly pattern: string;
  readonly place: string;
  readonly glob: string | null;
  readonly mode: "lines" | "files" | "count";
  readonly ignoreCase: boolean;
  readonly literal: boolean;
  readonly around: number;
}

/**
 * Input: `pattern`, optional `path`, `glob`, `mode`, `ignoreCase`, `literal`, `context`, `limit`.
 */
export async function grep(root: string, input: ToolInput, signal: AbortSignal): Promise<ToolResult> {
  const shown = optionalText(input, "path") ?? ".";
  const path = await inWorkspace(root, shown);
  const there = await stat(path).catch(() => null);
  if (there === null) throw new ToolError(`"${shown}" does not exist.`);
  const place = relative(await inWorkspace(root, "."), path) || ".";
  const glob = there.isFile() ? null : optionalText(input, "glob");
  const wanted: Wanted = {
    pattern: requireText(input, "pattern"),
    place,
    // From the workspace on, at any depth unless it names folders.
    glob: glob === null ? null : `${place === "." ? "" : `${place}/`}${glob.includes("/") ? glob : `**/${glob}`}`,
    mode: optionalChoice(input, "mode", ["lines", "files", "count"]) ?? "lines",
    ignoreCase: optionalFlag(input, "ignoreCase"),
    literal: optionalFlag(input, "literal"),
    around: Math.min(optionalCount(input, "context") ?? 0, MOST_AROUND),
  };
  if (wanted.pattern === "") throw new ToolError('"pattern" is empty. Use glob to list files.');
  const limit = Math.min(optionalCount(input, "limit") ?? LINES, MOST_LINES);
  const run = async (program: string, args: readonly string[]): Promise<Found | null> =>
    await search({ program, args, cwd: root, limit, end: "\n" }, signal);
  const found = (await run("rg", ripgrep(wanted))) ?? (await run("git", gitGrep(wanted)));
  if (found === null) throw new ToolError("Neither ripgrep nor git is installed. Use bash with grep.");
  return told(found, wanted, limit);
}

/** In both, options come before what the agent wrote, which is behind `-e` or `--`. */
function ripgrep({ pattern, place, glob, mode, ignoreCase, literal, around }: Wanted): string[] {
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
  if (mode === "lines" && around > 0) args.push(`--context=${around}`);
  if (ignoreCase) args.push("--ignore-case");
  if (literal) args.push("--fixed-strings");
  if (glob !== null) args.push(`--glob=${glob}`);
  return [...args, "-e", pattern, "--", place === "." ? "./" : place];
}

function gitGrep({ pattern, place, glob, mode, ignoreCase, literal, around }: Wanted): string[] {
  const args = ["-c", "core.quotePath=false", "-c", "core.fsmonitor=false", "grep", "--untracked", "--no-color", "-I"];
  args.push({ lines: "-n", files: "-l", count: "-c" }[mode]);
  if (mode === "lines" && around > 0) args.push("-C", String(around));
  if (ignoreCase) args.push("-i");
  return [...args, literal ? "-F" : "-P", "-e", pattern, "--", glob === null ? place : `:(glob)${glob}`];
}

function told({ lines, more, exitCode, errors }: Found, { place, glob, pattern }: Wanted, limit: number): ToolResult {
  if (lines.length === 0) {
    if (exitCode !== 1 && exitCode !== 0)
      throw new ToolError(`The search failed: ${errors.trim() || `exit code ${String(exitCode)}`}`);
    const where = `${place === "." ? "the workspace" : `"${place}"`}${glob === null ? "" : ` in files like ${glob}`}`;
    const output = `Nothing in ${where} matches ${JSON.stringify(pattern)}. Files that git ignores and binaries were not searched.`;
    return { output, exitCode: 0, truncated: false };
  }
  const shown = lines.map((line) => line.replace(/^\.\//, ""));
  if (more)
    shown.push(
      `[there is more after these ${limit} lines; narrow it with "path", "glob" or a longer pattern, or ask for "mode": "count"]`,
    );
  return { output: shown.join("\n"), exitCode: 0, truncated: more };
}
