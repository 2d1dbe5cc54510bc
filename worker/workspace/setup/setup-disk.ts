/**
 * What a setup made, on a workspace that began as a copy of a disk with it: moved into place, which
 * takes one call for each folder that the commit does not have.
 */
import { chmodSync, createReadStream, existsSync, lstatSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { SETUP_FOLDER } from "../../../src/core/protocol/worker.ts";
import type { SetupArchive } from "./setup-archive.ts";

const OWNER_WRITES = 0o200;

export class SetupDisk {
  readonly #root: string;
  readonly #folder: string;

  /** @param root the checkout. */
  constructor(root: string) {
    this.#root = root;
    this.#folder = join(root, SETUP_FOLDER);
  }

  /**
   * Files of the commit stay, as in `SetupArchive.unpack`. Rejects where the disk began empty, and
   * may have moved a part then.
   */
  async moveIntoPlace(archive: Pick<SetupArchive, "unpack">, signal: AbortSignal): Promise<void> {
    if (!existsSync(this.#folder)) throw new Error("the disk does not have it");
    const home = join(this.#folder, "home.tar");
    if (existsSync(home)) await archive.unpack(createReadStream(home), signal);
    merge(join(this.#folder, "workspace"), this.#root);
    this.discard();
  }

  /** Idempotent. */
  discard(): void {
    if (existsSync(this.#folder)) removeTree(this.#folder);
  }
}

function merge(from: string, to: string): void {
  const source = lstatSync(from, { throwIfNoEntry: false });
  if (source === undefined) return;
  const target = lstatSync(to, { throwIfNoEntry: false });
  if (target === undefined) return move(from, to, source.mode);
  if (!source.isDirectory() || !target.isDirectory()) return;
  for (const name of readdirSync(from)) merge(join(from, name), join(to, name));
}

/** A folder that its owner may not write to cannot be moved to another one. */
function move(from: string, to: string, mode: number): void {
  try {
    renameSync(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EACCES") throw error;
    chmodSync(from, mode | OWNER_WRITES);
    renameSync(from, to);
    chmodSync(to, mode);
  }
}

function removeTree(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch {
    makeWritable(path);
    rmSync(path, { recursive: true, force: true });
  }
}

function makeWritable(path: string): void {
  const { mode } = lstatSync(path);
  chmodSync(path, mode | 0o700);
  for (const entry of readdirSync(path, { withFileTypes: true }))
    if (entry.isDirectory()) makeWritable(join(path, entry.name));
}
