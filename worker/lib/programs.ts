/** Which programs the sandbox has. */
import { accessSync, constants } from "node:fs";
import { join } from "node:path";

/** Those of the names that are executable files in a folder of PATH, in the order given. */
export function findPrograms(names: readonly string[], path = process.env["PATH"] ?? ""): string[] {
  const folders = path.split(":").filter((folder) => folder !== "");
  return names.filter((name) => folders.some((folder) => isExecutable(join(folder, name))));
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
