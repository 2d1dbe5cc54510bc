/**
 * Socket folders of pooled containers, `pool-<id>` beside the attempts' socket folders. A claim
 * moves the folder to the attempt's path; the container's mount follows the move.
 */
import { randomBytes } from "node:crypto";
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import type { Assignment } from "../../../core/protocol/worker.ts";
import { SOCKET_TARGET, WORKER_UID } from "../container-spec.ts";

/** The file that assigns an attempt to a pooled worker. */
export const ASSIGNMENT = "attempt.json";
const PREFIX = "pool-";
const POOL_DIR = /^pool-[0-9a-f]{12}$/;
/** A folder without a container may belong to one that is being created until this age, ms. */
const STALE_MS = 60_000;

interface Mount {
  readonly Destination: string;
  readonly Source: string;
}

/** The pool id of a container, from the socket folder that it was created with. */
export function getPoolId(mounts: readonly Mount[]): string {
  return getDirName(mounts).slice(PREFIX.length);
}

function getDirName(mounts: readonly Mount[]): string {
  return basename(mounts.find(({ Destination }) => Destination === SOCKET_TARGET)?.Source ?? "");
}

export class SocketDirs {
  readonly #root: string;
  readonly #crashpoint: (name: string) => void;

  constructor(root: string, crashpoint: (name: string) => void) {
    this.#root = resolve(root);
    this.#crashpoint = crashpoint;
  }

  /** True when an attempt's socket folder is one that a pooled folder can be moved to. */
  contains(socketDir: string): boolean {
    return dirname(resolve(socketDir)) === this.#root;
  }

  exists(id: string): boolean {
    return existsSync(this.#getPath(id));
  }

  create(id: string): string {
    mkdirSync(this.#root, { recursive: true, mode: 0o700 });
    if (!lstatSync(this.#root).isDirectory()) throw new Error(`${this.#root} is not a folder`);
    const dir = this.#getPath(id);
    mkdirSync(dir);
    // Readable, because the worker watches it.
    chmodSync(dir, 0o755);
    return dir;
  }

  delete(id: string): void {
    rmSync(this.#getPath(id), { recursive: true, force: true });
  }

  /**
   * Moves the container's folder to the attempt's path and writes the assignment. Safe to repeat
   * after a crash at any step: an existing pool folder means that the move is still to be done.
   * @returns false when the container had ended before it was assigned.
   */
  assign(mounts: readonly Mount[], isAlive: boolean, socketDir: string, assignment: Assignment): boolean {
    const target = resolve(socketDir);
    const source = join(this.#root, getDirName(mounts));
    if (existsSync(source)) {
      if (!isAlive) {
        rmSync(source, { recursive: true, force: true });
        return false;
      }
      this.#move(source, target);
    } else if (existsSync(join(target, ASSIGNMENT))) return true;
    else if (!isAlive) return false;
    this.#crashpoint("sandbox.moved");
    writeAssignment(target, assignment);
    return true;
  }

  /**
   * Deletes folders of removed containers: those in `removed`, and stale ones that no container
   * mounts.
   */
  deleteUnused(mounted: ReadonlySet<string>, removed: ReadonlySet<string>): void {
    if (!existsSync(this.#root)) return;
    for (const name of readdirSync(this.#root).filter((entry) => POOL_DIR.test(entry))) {
      const dir = join(this.#root, name);
      const id = name.slice(PREFIX.length);
      if (removed.has(id)) rmSync(dir, { recursive: true, force: true });
      else if (!mounted.has(id)) ignoreMissing(() => deleteIfStale(dir));
    }
  }

  #getPath(id: string): string {
    return join(this.#root, PREFIX + id);
  }

  /** First moves the files at the attempt's path (the socket) into the folder that is mounted. */
  #move(source: string, target: string): void {
    ignoreMissing(() => {
      for (const name of readdirSync(target)) ignoreMissing(() => renameSync(join(target, name), join(source, name)));
    });
    this.#crashpoint("sandbox.emptied");
    ignoreMissing(() => renameSync(source, target));
  }
}

function deleteIfStale(dir: string): void {
  if (Date.now() - statSync(dir).ctimeMs > STALE_MS) rmSync(dir, { recursive: true, force: true });
}

/** Of two processes that do the same step, the later one finds nothing to do. */
function ignoreMissing(step: () => void): void {
  try {
    step();
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
  }
}

/**
 * Writes the assignment as the last step and atomically, because the worker starts when the file
 * appears. Only the worker can read it. Without root the file belongs to the worker's group, or, if
 * this process is not a member of it, is readable by all; the parent folder is closed to other
 * users of this machine.
 */
function writeAssignment(dir: string, assignment: Assignment): void {
  const draft = join(dir, `.${randomBytes(6).toString("hex")}`);
  const isRoot = process.getuid?.() === 0;
  const isMember = process.getgroups?.().includes(WORKER_UID) === true;
  writeFileSync(draft, JSON.stringify(assignment), { mode: isRoot ? 0o400 : isMember ? 0o440 : 0o444 });
  if (isRoot) chownSync(draft, WORKER_UID, WORKER_UID);
  else if (isMember) chownSync(draft, -1, WORKER_UID);
  renameSync(draft, join(dir, ASSIGNMENT));
}
