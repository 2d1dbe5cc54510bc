/** Finds files by name: what git tracks or would track, newest first. */
import { lstat } from "node:fs/promises";
import { join, relative } from "node:path";
import { inWorkspace } from "../files/paths.ts";
import { search } from "./search.ts";
import { optionalCount, optionalText, requireText, ToolError, type ToolInput, type ToolResult } from "../tool.ts";

const FILES = 200;
const MOST_FILES = 1_000;
/** More than this are not sorted by time. */
const LOOKED_AT = 20_000;
const ALTERNATIVES = 64;

/** Input: `pattern`, optional `path` and `limit`. */
export async function glob(root: string, input: ToolInput, signal: AbortSignal): Promise<ToolResult> {
  const pattern = requireText(input, "pattern").replace(/^\.?\//, "");
  if (pattern === "" || pattern.split("/").includes(".."))
    throw new ToolError('"pattern" is a pattern below "path", such as src/**/*.ts.');
  const real = await inWorkspace(root, ".");
  const place = relative(real, await inWorkspace(root, optionalText(input, "path") ?? "."));
  const limit = Math.min(optionalCount(input, "limit") ?? FILES, MOST_FILES);
  const specs = alternatives(pattern).map(
    (one) => `:(glob)${place === "" ? "" : `${place}/`}${one.includes("/") ? one : `**/${one}`}`,
  );
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
  const found = await search({ program: "git", args, cwd: root, limit: LOOKED_AT, end: "\0" }, signal);
  if (found === null) throw new ToolError("git is not installed. Use bash with find.");
  if (found.exitCode !== 0 && !found.more) throw new ToolError(`The search failed: ${found.errors.trim()}`);
  const files = await newestFirst(real, found.lines);
  if (files.length === 0) {
    return {
      output: `No file is called like ${JSON.stringify(pattern)}. Files that git ignores were not looked at.`,
      exitCode: 0,
      truncated: false,
    };
  }
  const truncated = found.more || files.length > limit;
  const rest = found.more ? `more than ${LOOKED_AT}` : String(files.length);
  const shown = files.slice(0, limit);
  if (truncated) shown.push(`[the first ${limit} of ${rest} files; narrow it with "path" or a longer pattern]`);
  return { output: shown.join("\n"), exitCode: 0, truncated };
}

async function newestFirst(root: string, names: readonly string[]): Promise<string[]> {
  const found: { readonly name: string; readonly at: number }[] = [];
  for (const name of names) {
    const stat = await lstat(join(root, name)).catch(() => null);
    if (stat !== null) found.push({ name, at: stat.mtimeMs });
  }
  return found.sort((a, b) => b.at - a.at || (a.name < b.name ? -1 : 1)).map(({ name }) => name);
}

/** `a.{ts,js}` -> `a.ts`, `a.js`. */
function alternatives(pattern: string): string[] {
  const [, before, inside, after] = /^(.*?)\{([^{}]*)\}(.*)$/s.exec(pattern) ?? [];
  if (before === undefined || inside === undefined || after === undefined) return [pattern];
  const all = inside.split(",").flatMap((one) => alternatives(`${before}${one}${after}`));
  if (all.length > ALTERNATIVES)
    throw new ToolError(`"pattern" stands for more than ${ALTERNATIVES} patterns. Use a simpler one.`);
  return all;
}
