/**
 * The single-writer lock of a data folder: an exclusive lock on a database of its own, which the
 * operating system lets go of when its holder dies.
 */
import { chmodSync, closeSync, mkdirSync, openSync, statSync } from "node:fs";
import { join } from "node:path";
import Database from "./driver.ts";
import { SlipwayError } from "../../core/error.ts";

export interface FolderLock {
  /** Idempotent. */
  release(): void;
}

const hasCode = (error: unknown, code: string): boolean =>
  error instanceof Error && "code" in error && error.code === code;

/**
 * Makes a file that only its owner reads. An existing one is not opened: closing a second
 * descriptor would drop this process's locks on it.
 */
export function makePrivateFile(path: string): void {
  try {
    closeSync(openSync(path, "wx", 0o600));
  } catch (error) {
    if (!hasCode(error, "EEXIST")) throw error;
    if ((statSync(path).mode & 0o077) !== 0) chmodSync(path, 0o600);
  }
}

function makePrivateFolder(dir: string): void {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  if ((statSync(dir).mode & 0o077) === 0) return;
  try {
    chmodSync(dir, 0o700);
  } catch (error) {
    // A mounted folder may belong to another user; the files in it are private all the same.
    if (!hasCode(error, "EPERM")) throw error;
  }
}

/**
 * @throws SlipwayError locked, at once, when another process (or another store of this one) holds
 * the folder.
 */
export function lockFolder(dir: string): FolderLock {
  makePrivateFolder(dir);
  const path = join(dir, "slipway.lock");
  makePrivateFile(path);
  const db = new Database(path, { timeout: 0 });
  try {
    db.exec("BEGIN EXCLUSIVE");
  } catch (error) {
    db.close();
    if (hasCode(error, "SQLITE_BUSY")) {
      throw new SlipwayError("locked", `Another coordinator uses ${dir}. Stop it first, or name another data folder.`, {
        cause: error,
      });
    }
    throw error;
  }
  return { release: () => void db.close() };
}
