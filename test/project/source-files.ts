/** The files that the tests of the project's own form read. Paths are relative to the top level. */
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path/posix";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** TypeScript and JavaScript below the folders, sorted; example projects of tests are left out. */
export function sourceFiles(folders: readonly string[]): string[] {
  return folders
    .flatMap((folder) => readdirSync(join(ROOT, folder), { withFileTypes: true, recursive: true }))
    .filter((entry) => entry.isFile() && /\.(?:tsx?|mjs)$/.test(entry.name))
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)))
    .filter((file) => !file.includes("/legit/"))
    .sort();
}

export const readSource = (file: string): string => readFileSync(join(ROOT, file), "utf8");
