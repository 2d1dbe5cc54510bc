/** The data folder of an installation: creating it, and what is derived from its path. */
import { accessSync, constants, existsSync, mkdirSync, rmSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { errorMessage, SlipwayError } from "../../core/error.ts";
import { DATABASE_FILE } from "./backup-format.ts";
import { readIfExists, replaceFile } from "../../core/lib/runtime/replace-file.ts";
import type { Log } from "../../core/ports/runtime.ts";

/**
 * Creates the folder, and its missing parents, for this user alone.
 * @returns whether it is new.
 * @throws SlipwayError config_invalid when it cannot be created, is not a folder, or is not
 * writable.
 */
export function openDataFolder(dir: string): boolean {
  try {
    const created = createFolder(dir);
    accessSync(dir, constants.R_OK | constants.W_OK | constants.X_OK);
    const database = join(dir, DATABASE_FILE);
    if (existsSync(database)) accessSync(database, constants.R_OK | constants.W_OK);
    return created;
  } catch (error) {
    throw new SlipwayError(
      "config_invalid",
      `SLIPWAY_DATA_DIR must be a folder that this user can create and write to, not "${dir}" (${errorMessage(error)}).${adviseOwner(dir)}`,
    );
  }
}

/** What to do when the folder is another user's, such as that of a server that ran as root. */
function adviseOwner(dir: string): string {
  const [uid, gid] = [process.getuid?.(), process.getgid?.()];
  const owner = [dir, join(dir, DATABASE_FILE)].map(readOwner).find((one) => one !== null && one !== uid);
  if (uid === undefined || owner === undefined) return "";
  return ` It belongs to user ${owner}, and the server runs as user ${uid}: chown -R ${uid}:${gid} ${dir}`;
}

/** Null for what is not there or cannot be seen. */
function readOwner(path: string): number | null {
  try {
    return statSync(path).uid;
  } catch {
    return null;
  }
}

/**
 * Level by level instead of mkdir's `recursive`, which never returns for a path such as /proc/x:
 * the parent exists, and creating the folder fails with ENOENT again and again.
 */
function createFolder(dir: string): boolean {
  if (statSync(dir, { throwIfNoEntry: false })?.isDirectory() === true) return false;
  const parent = dirname(dir);
  if (parent !== dir) createFolder(parent);
  mkdirSync(dir, { mode: 0o700 });
  return true;
}

/**
 * Lets the command line on this machine find the server (src/cli/connect.ts). Never throws: a
 * server that starts on a full disk serves without this file. What an earlier server recorded is
 * removed then, because its address and its process are gone.
 */
export function recordServer(dir: string, url: string, log: Log): void {
  const path = join(dir, "server.json");
  try {
    replaceFile(path, `${JSON.stringify({ url, pid: process.pid })}\n`);
  } catch (error) {
    rmSync(path, { force: true });
    log.warn(
      { error: errorMessage(error) },
      `the server's address was not recorded: the command line needs --url ${url}`,
    );
  }
}

/** Where the server that recorded itself last listens, or did. Null = none. */
export function readServerUrl(dir: string): string | null {
  const [, url] = /"url":"([^"]+)"/.exec(readIfExists(join(dir, "server.json")) ?? "") ?? [];
  return url ?? null;
}

/** The process that recorded itself last; it may have ended. Null = none. */
export function readServerPid(dir: string): number | null {
  const [, pid] = /"pid":(\d+)/.exec(readIfExists(join(dir, "server.json")) ?? "") ?? [];
  return pid === undefined ? null : Number(pid);
}
