import { lstat, opendir } from "node:fs/promises";
import { join } from "node:path";

/** Bytes on disk of a file or folder, links not followed; 0 when it does not exist. */
export async function diskUsage(path: string): Promise<number> {
  const found = await lstat(path).catch(() => null);
  if (found === null) return 0;
  if (!found.isDirectory()) return found.blocks * 512;
  let sum = found.blocks * 512;
  const folder = await opendir(path).catch(() => null);
  if (folder !== null) for await (const child of folder) sum += await diskUsage(join(path, child.name));
  return sum;
}
