/** Paths of the file tools: always below the workspace, also behind symbolic links. */
import { lstat, realpath, stat } from "node:fs/promises";
import { dirname, isAbsolute, join, relative, resolve, sep } from "node:path";
import { ToolError } from "../tool.ts";

/**
 * The real path; the last parts may not exist yet. Throws a ToolError for whatever leads out of the
 * workspace.
 */
export async function inWorkspace(root: string, path: string): Promise<string> {
  if (path === "" || path.includes("\0")) throw new ToolError("The path is empty or not valid.");
  const realRoot = await realpath(root);
  const wanted = isAbsolute(path) ? rebased(root, realRoot, path) : resolve(realRoot, path);
  const [real, missing] = await deepest(wanted);
  const full = missing === "" ? real : join(real, missing);
  if (!below(realRoot, full)) throw new ToolError(`"${path}" is outside of the workspace. Use a path below ${root}.`);
  return full;
}

/** An absolute path that names the workspace by its other name. */
function rebased(root: string, realRoot: string, path: string): string {
  const inside = relative(root, resolve(path));
  return inside.startsWith("..") || isAbsolute(inside) ? resolve(path) : resolve(realRoot, inside);
}

function below(root: string, path: string): boolean {
  return path === root || path.startsWith(root.endsWith(sep) ? root : root + sep);
}

/**
 * The real path of the deepest part that exists, and what is left. A dangling link is refused:
 * writing through it would create its target.
 */
async function deepest(path: string): Promise<[real: string, missing: string]> {
  let missing = "";
  for (let at = path; ;) {
    try {
      return [await realpath(at), missing];
    } catch (thrown) {
      const code = thrown instanceof Error && "code" in thrown ? thrown.code : "";
      if (code === "ELOOP") throw new ToolError(`"${path}" is a loop of links.`);
      if (code === "ENOTDIR") throw new ToolError(`A part of "${path}" is a file, not a directory.`);
      if (code !== "ENOENT") throw new ToolError(`"${path}" cannot be used (${String(code)}).`);
      const dangling = await lstat(at).catch(() => null);
      if (dangling !== null) throw new ToolError(`"${at}" is a link to nothing.`);
      missing = missing === "" ? relative(dirname(at), at) : join(relative(dirname(at), at), missing);
      at = dirname(at);
    }
  }
}

/**
 * The size of a regular file. Throws a ToolError for everything else: a pipe or device would block.
 */
export async function fileSize(path: string, shown: string): Promise<number> {
  const found = await stat(path).catch(() => null);
  if (found === null) throw new ToolError(`"${shown}" does not exist.`);
  if (!found.isFile()) throw new ToolError(`"${shown}" is not a regular file.`);
  return found.size;
}
