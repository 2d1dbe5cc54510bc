/**
 * What a git that was killed without warning leaves in a bare repository: lock files, on which
 * every later write fails, and half packs, which only cost space. To be called where nothing else
 * writes to the repository.
 */
import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";

export function removeStaleLocks(repository: string): void {
  const drop = (folder: string, unwanted: (name: string) => boolean, recursive = false): void => {
    const path = join(repository, folder);
    if (!existsSync(path)) return;
    for (const name of readdirSync(path, { recursive, encoding: "utf8" })) {
      if (unwanted(name)) rmSync(join(path, name), { recursive: true, force: true });
    }
  };
  drop("", (name) => name.endsWith(".lock"));
  drop("refs", (name) => name.endsWith(".lock"), true);
  drop("objects", (name) => name.startsWith("tmp_objdir-"));
  drop("objects/pack", (name) => name.startsWith("tmp_"));
}
