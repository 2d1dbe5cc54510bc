/** Writes a complete file and creates its directories. An existing file keeps its mode. */
import { mkdir, stat, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { regularFileSize, resolveInWorkspace } from "./paths.ts";
import { requireText, ToolError, type ToolInput, type ToolResult } from "../tool.ts";

/** Input: `path`, `content`. */
export async function write(root: string, input: ToolInput): Promise<ToolResult> {
  const [shown, content] = [requireText(input, "path"), requireText(input, "content")];
  const path = await resolveInWorkspace(root, shown);
  const found = await stat(path).catch(() => null);
  if (found?.isDirectory()) throw new ToolError(`"${shown}" is a directory.`);
  if (found !== null) await regularFileSize(path, shown);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, content);
  const bytes = Buffer.byteLength(content);
  return {
    output: `${found === null ? "Created" : "Replaced"} ${shown} (${bytes} bytes).`,
    exitCode: 0,
    truncated: false,
  };
}
