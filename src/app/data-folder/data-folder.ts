/** The data folder of an installation: creating it, and what is derived from its path. */
import { createHash } from "node:crypto";
import { accessSync, constants, mkdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { errorMessage, SlipwayError } from "../../core/error.ts";
import { readIfExists, replaceFile } from "../../core/lib/runtime/replace-file.ts";

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
    return created;
  } catch (error) {
    throw new SlipwayError(
      "config_invalid",
      `SLIPWAY_DATA_DIR must be a folder that this user can create and write to, not "${dir}" (${errorMessage(error)}).`,
    );
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

/** Distinguishes installations on one machine; constant across restarts. */
export function deriveInstanceId(dir: string): string {
  return createHash("sha256").update(dir).digest("hex").slice(0, 12);
}

/** Lets the command line on this machine find the server (src/cli/connect.ts). */
export function recordServer(dir: string, url: string): void {
  replaceFile(join(dir, "server.json"), `${JSON.stringify({ url, pid: process.pid })}\n`);
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
