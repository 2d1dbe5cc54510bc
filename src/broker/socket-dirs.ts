/**
 * Directories of the broker's sockets: one per attempt, because a container mounts a directory. The
 * path is a function of (base directory, task, attempt) alone, so a restarted coordinator listens
 * on the path that running workers connect to.
 */
import { createHash } from "node:crypto";
import { chmodSync, chownSync, existsSync, lstatSync, mkdirSync, readdirSync, rmdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

/** Linux permits 107 bytes in a socket address; other systems permit fewer. */
const PATH_LIMIT = 100;
const SOCKET = "b.sock";

export interface SocketLocation {
  readonly dir: string;
  readonly path: string;
}

const digest = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 16);
const isRoot = (): boolean => process.getuid?.() === 0;
const isMember = (gid: number): boolean => process.getgroups?.().includes(gid) === true;

export class SocketDirs {
  readonly #fallback: string;
  readonly #dir: string;
  readonly #uid: number | null;
  readonly #gid: number | null;
  /** Of the socket. */
  readonly #mode: number;

  /**
   * @param uid the user that may connect when this process is root, and the group that may when
   * this process is a member of it. When it is neither, every process that reaches the socket may
   * connect: those are the containers that mount its folder, because the parent folder is closed to
   * other users of this machine. Null = only the user of this process.
   */
  constructor(dir: string, instance: string, uid: number | null) {
    this.#dir = dir;
    this.#fallback = join(tmpdir(), `slipway-${digest(`${instance}\0${dir}`)}`);
    this.#uid = uid !== null && isRoot() ? uid : null;
    this.#gid = uid !== null && !isRoot() && isMember(uid) ? uid : null;
    this.#mode = uid === null || isRoot() ? 0o600 : this.#gid === null ? 0o666 : 0o660;
  }

  /** The directory that contains the directories of this installation's attempts. */
  base(): string {
    return dirname(this.locate(`task_${"0".repeat(26)}`, 1).dir);
  }

  /**
   * The attempt's directory, which need not exist. It lies below the system's temporary directory
   * when the path in the data directory is too long for a socket.
   */
  locate(taskId: string, attempt: number): SocketLocation {
    const name = `${taskId}-a${attempt}`;
    const preferred = join(this.#dir, name);
    const dir =
      Buffer.byteLength(join(preferred, SOCKET)) < PATH_LIMIT ? preferred : join(this.#fallback, digest(name));
    const path = join(dir, SOCKET);
    if (Buffer.byteLength(path) >= PATH_LIMIT)
      throw new Error(`the path of the temporary directory is too long for sockets: ${tmpdir()}`);
    return { dir, path };
  }

  /**
   * Creates the directory, inaccessible to other users until `permit`, and removes the socket of an
   * earlier process.
   */
  create({ dir, path }: SocketLocation): void {
    const base = dir.startsWith(this.#fallback) ? this.#fallback : this.#dir;
    mkdirSync(base, { recursive: true, mode: 0o700 });
    this.#assertOwned(base);
    if (this.#mode === 0o666) chmodSync(base, 0o700);
    else if (base === this.#fallback) chmodSync(base, this.#uid === null && this.#gid === null ? 0o700 : 0o711);
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    this.#assertOwned(dir);
    chmodSync(dir, 0o700);
    rmSync(path, { force: true });
  }

  /** Grants access to the socket. Call it after listening. */
  permit({ dir, path }: SocketLocation): void {
    if (this.#gid !== null) chownSync(path, -1, this.#gid);
    chmodSync(path, this.#mode);
    if (this.#uid !== null) chownSync(path, this.#uid, -1);
    chmodSync(dir, 0o711);
  }

  /** Attempts with a directory below the data directory; hashed names are not listed. */
  list(): { readonly taskId: string; readonly attempt: number; readonly dir: string }[] {
    const names = existsSync(this.#dir) ? readdirSync(this.#dir) : [];
    return names.flatMap((name) => {
      const [, taskId, attempt] = /^(task_[0-9a-z]+)-a(\d+)$/i.exec(name) ?? [];
      return taskId === undefined ? [] : [{ taskId, attempt: Number(attempt), dir: join(this.#dir, name) }];
    });
  }

  remove({ dir }: SocketLocation): void {
    rmSync(dir, { recursive: true, force: true });
    if (!dir.startsWith(this.#fallback)) return;
    try {
      rmdirSync(this.#fallback);
    } catch {
      // Not empty, or removed already.
    }
  }

  /** In a shared temporary directory another user may have created the path first. */
  #assertOwned(dir: string): void {
    const stats = lstatSync(dir);
    if (!stats.isDirectory() || (process.getuid !== undefined && stats.uid !== process.getuid())) {
      throw new Error(`${dir} is not a directory of this user; remove it`);
    }
  }
}
