/** Small files that are written as a whole, and private ones. */
import { chmodSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { SlipwayError } from "../../error.ts";

/**
 * Writes the file by rename, unless it has this content and mode. A write that fails, on a full
 * disk for example, leaves the file as it was. One writer at a time. @throws the system's error.
 */
export function replaceFile(path: string, text: string, mode = 0o600): void {
  if (readIfExists(path) === text) {
    if ((statSync(path).mode & 0o777) !== mode) chmodSync(path, mode);
    return;
  }
  const draft = `${path}.new`;
  try {
    writeFileSync(draft, text, { mode, flush: true });
    // The mode of a new file is reduced by the umask, and a draft may be there already.
    chmodSync(draft, mode);
    renameSync(draft, path);
  } catch (error) {
    rmSync(draft, { force: true });
    throw error;
  }
}

/** The content; null when there is no such file. */
export function readIfExists(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw error;
  }
}

/** Bits of the mode that a private file must not have: it is its owner's alone. */
const OTHERS = 0o077;

/** @throws SlipwayError `config_invalid` when other users can read the file. It must exist. */
export function assertPrivate(path: string): void {
  if (process.platform !== "win32" && (statSync(path).mode & OTHERS) !== 0)
    throw new SlipwayError("config_invalid", `Other users can read ${path}. Run: chmod 600 ${path}`);
}
