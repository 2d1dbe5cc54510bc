/** Writes a complete file and creates its directories. An existing file keeps its mode. */
import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { regularFileSize, resolveInWorkspace } from "./paths.ts";
import type { SeenFiles } from "./seen-files.ts";
import { requireText, ToolError, type ToolInput, type ToolResult } from "../tool.ts";

/** Larger files are replaced without a comparison with their content. */
const CHECKED_BYTES = 20 * 1024 * 1024;

/** Input: `path`, `content`. A file that has changed since the agent saw it is not replaced. */
export async function write(root: string, seen: SeenFiles, input: ToolInput): Promise<ToolResult> {
  const [shown, content] = [requireText(input, "path"), requireText(input, "content")];
  const path = await resolveInWorkspace(root, shown);
  const found = await stat(path).catch(() => null);
  if (found?.isDirectory()) throw new ToolError(`"${shown}" is a directory.`);
  if (
    found !== null &&
    (await regularFileSize(path, shown)) <= CHECKED_BYTES &&
    seen.hasChanged(path, await readFile(path))
  )
    throw new ToolError(`"${shown}" has changed since you last saw it. Read it again before you replace it.`);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, content);
  seen.remember(path, Buffer.from(content));
  const bytes = Buffer.byteLength(content);
  return {
    output: `${found === null ? "Created" : "Replaced"} ${shown} (${bytes} bytes).`,
    exitCode: 0,
    truncated: false,
  };
}
