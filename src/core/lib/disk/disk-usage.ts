import { lstat, opendir, stat } from "node:fs/promises";
import { join } from "node:path";

/** No file system's clock is coarser, ms. */
const SETTLED_MS = 5_000;

/**
 * Bytes on disk of a file or folder, links not followed; 0 when it does not exist.
 * @param isLeftOut what does not count, by name.
 */
export async function diskUsage(path: string, isLeftOut: (name: string) => boolean = () => false): Promise<number> {
  const found = await lstat(path).catch(() => null);
  if (found === null) return 0;
  if (!found.isDirectory()) return found.blocks * 512;
  let sum = found.blocks * 512;
  const folder = await opendir(path).catch(() => null);
  if (folder !== null)
    for await (const { name } of folder) if (!isLeftOut(name)) sum += await diskUsage(join(path, name), isLeftOut);
  return sum;
}

/** A pack that is arriving. */
const isDraft = (name: string): boolean => name.startsWith("tmp_");

/**
 * Sizes of bare git repositories without the packs that are arriving, measured again when a pack
 * came or went. What else changes in them is small.
 */
export class RepositorySizes {
  readonly #known = new Map<string, { readonly stamp: number; readonly bytes: number }>();

  /** Those of these paths; others are forgotten. */
  async measure(paths: readonly string[]): Promise<Map<string, number>> {
    const sizes = new Map<string, number>();
    for (const path of paths) sizes.set(path, await this.#measureOne(path));
    for (const path of this.#known.keys()) if (!sizes.has(path)) this.#known.delete(path);
    return sizes;
  }

  async #measureOne(path: string): Promise<number> {
    const packs = await stat(join(path, "objects", "pack")).catch(() => null);
    const known = this.#known.get(path);
    if (packs !== null && packs.mtimeMs === known?.stamp) return known.bytes;
    const bytes = await diskUsage(path, isDraft);
    // A folder that changes just now may change again within the same tick of its clock.
    if (packs !== null && Date.now() - packs.mtimeMs > SETTLED_MS)
      this.#known.set(path, { stamp: packs.mtimeMs, bytes });
    return bytes;
  }
}
