/**
 * Resolves the paths of the file tools. A path never leads out of the workspace, not even by a
 * link.
 */
import { lstat, realpath, stat } from "node:fs/promises";
import { dirname, isAbsolute, join, relative, resolve, sep } from "node:path";
import { ToolError } from "../tool.ts";

/**
 * The real path; its last parts need not exist. @throws ToolError for a path outside the workspace.
 */
export async function resolveInWorkspace(root: string, path: string): Promise<string> {
  if (path === "" || path.includes("\0")) throw new ToolError("The path is empty or not valid.");
  const realRoot = await realpath(root);
  const wanted = isAbsolute(path) ? resolveAbsolute(root, realRoot, path) : resolve(realRoot, path);
  const [real, missing] = await resolveExistingPart(wanted);
  const full = missing === "" ? real : join(real, missing);
  if (!isInside(realRoot, full)) throw new ToolError(`"${path}" is outside the workspace. Use a path below ${root}.`);
  return full;
}

/** `root` may itself lie behind a link: a path below it is resolved below its real path. */
function resolveAbsolute(root: string, realRoot: string, path: string): string {
  const inside = relative(root, resolve(path));
  return inside.startsWith("..") || isAbsolute(inside) ? resolve(path) : resolve(realRoot, inside);
}

function isInside(root: string, path: string): boolean {
  return path === root || path.startsWith(root.endsWith(sep) ? root : root + sep);
}

/**
 * Splits a path into the real path of its deepest part that exists, and the rest. @throws ToolError
 * for a dangling link: writing through it would create its target.
 */
async function resolveExistingPart(path: string): Promise<[real: string, missing: string]> {
  let missing = "";
  for (let current = path; ;) {
    try {
      return [await realpath(current), missing];
    } catch (thrown) {
      const code = thrown instanceof Error && "code" in thrown ? thrown.code : "";
      if (code === "ELOOP") throw new ToolError(`"${path}" is a loop of links.`);
      if (code === "ENOTDIR") throw new ToolError(`A part of "${path}" is a file, not a directory.`);
      if (code !== "ENOENT") throw new ToolError(`"${path}" cannot be used (${String(code)}).`);
      const dangling = await lstat(current).catch(() => null);
      if (dangling !== null) throw new ToolError(`"${current}" is a link whose target does not exist.`);
      const name = relative(dirname(current), current);
      missing = missing === "" ? name : join(name, missing);
      current = dirname(current);
    }
  }
}

/** Bytes. @throws ToolError for anything but a regular file: a pipe or a device would block. */
export async function regularFileSize(path: string, shown: string): Promise<number> {
  const found = await stat(path).catch(() => null);
  if (found === null) throw new ToolError(`"${shown}" does not exist.`);
  if (!found.isFile()) throw new ToolError(`"${shown}" is not a regular file.`);
  return found.size;
}
