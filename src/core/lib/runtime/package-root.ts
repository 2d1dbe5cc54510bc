import { existsSync } from "node:fs";
import { dirname, join } from "node:path";

/**
 * The folder of Slipway's package.json: the nearest one above this file, in the sources as well as
 * in dist/.
 */
export function packageRoot(): string {
  for (let dir = import.meta.dirname; ; dir = dirname(dir)) {
    if (existsSync(join(dir, "package.json"))) return dir;
    if (dir === dirname(dir)) throw new Error(`no package.json above ${import.meta.dirname}`);
  }
}
