/**
 * The single-writer lock of a data folder: an exclusive transaction on a separate database file.
 * The operating system releases it when the process ends.
 */
import { chmodSync, closeSync, existsSync, mkdirSync, openSync, statSync } from "node:fs";
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
 * Creates a file with mode 0600, or sets that mode. An existing file is not opened: closing a
 * second descriptor would release this process's POSIX locks on it.
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
    // A mounted folder may belong to another user; the files in it are private in any case.
    if (!hasCode(error, "EPERM")) throw error;
  }
}

/**
 * A lock that another process holds longer than this is a coordinator's, ms: `isFolderLocked` holds
 * it for less.
 */
const PROBE_MS = 100;

/** True while a coordinator, or a repair, uses the folder. Takes no lock that lasts. */
export function isFolderLocked(dir: string): boolean {
  const path = join(dir, "slipway.lock");
  if (!existsSync(path)) return false;
  const db = new Database(path, { readonly: true, timeout: 0 });
  try {
    db.prepare("SELECT count(*) FROM sqlite_schema").get();
    return false;
  } catch (error) {
    if (hasCode(error, "SQLITE_BUSY")) return true;
    throw error;
  } finally {
    db.close();
  }
}

/**
 * Waits for PROBE_MS at most. @throws SlipwayError `locked` when another process, or another store
 * of this process, holds the folder.
 */
export function lockFolder(dir: string): FolderLock {
  makePrivateFolder(dir);
  const path = join(dir, "slipway.lock");
  makePrivateFile(path);
  const db = new Database(path, { timeout: PROBE_MS });
  try {
    // A journal file would need room on a disk that may be full.
    db.exec("PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE");
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
