/**
 * Where the brokers' sockets lie. One folder per attempt, because the folder is what a container
 * mounts; its address is a function of (folder, task, attempt) alone, so that a restarted
 * coordinator listens where running workers knock.
 */
import { createHash } from "node:crypto";
import { chmodSync, chownSync, existsSync, lstatSync, mkdirSync, readdirSync, rmdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

/** The kernel takes 107 bytes; some systems less. */
const PATH_LIMIT = 100;
const SOCKET = "b.sock";

export interface SocketLocation {
  readonly dir: string;
  readonly path: string;
}

const digest = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 16);
const isRoot = (): boolean => process.getuid?.() === 0;

export class SocketDirs {
  readonly #base: string;
  readonly #long: string;
  readonly #uid: number | null;

  /** `uid`: who may dial, when this process is root; else only the user that runs it. */
  constructor(dir: string, instance: string, uid: number | null) {
    this.#long = dir;
    this.#base = join(tmpdir(), `slipway-${digest(`${instance}\0${dir}`)}`);
    this.#uid = uid !== null && isRoot() ? uid : null;
  }

  /** The folder that the places of this installation's attempts lie in. */
  base(): string {
    return dirname(this.locate(`task_${"0".repeat(26)}`, 1).dir);
  }

  /** The attempt's place, whether it exists or not. */
  locate(taskId: string, attempt: number): SocketLocation {
    const name = `${taskId}-a${attempt}`;
    const wanted = join(this.#long, name);
    const dir = Buffer.byteLength(join(wanted, SOCKET)) < PATH_LIMIT ? wanted : join(this.#base, digest(name));
    const path = join(dir, SOCKET);
    if (Buffer.byteLength(path) >= PATH_LIMIT)
      throw new Error(`the folder for temporary files has too long a name for sockets: ${tmpdir()}`);
    return { dir, path };
  }

  /** The folder is there, closed to others until `open`, without a socket of an earlier process. */
  make({ dir, path }: SocketLocation): void {
    const base = dir.startsWith(this.#base) ? this.#base : this.#long;
    mkdirSync(base, { recursive: true, mode: 0o700 });
    this.#own(base);
    if (base === this.#base) chmodSync(base, this.#uid === null ? 0o700 : 0o711);
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    this.#own(dir);
    chmodSync(dir, 0o700);
    rmSync(path, { force: true });
  }

  /** After listening: who is meant to may dial now. */
  open({ dir, path }: SocketLocation): void {
    chmodSync(path, 0o600);
    if (this.#uid !== null) chownSync(path, this.#uid, -1);
    chmodSync(dir, 0o711);
  }

  /** Attempts that have a folder under a name that can be read back. */
  list(): { readonly taskId: string; readonly attempt: number; readonly dir: string }[] {
    const names = existsSync(this.#long) ? readdirSync(this.#long) : [];
    return names.flatMap((name) => {
      const [, taskId, attempt] = /^(task_[0-9a-z]+)-a(\d+)$/i.exec(name) ?? [];
      return taskId === undefined ? [] : [{ taskId, attempt: Number(attempt), dir: join(this.#long, name) }];
    });
  }

  remove({ dir }: SocketLocation): void {
    rmSync(dir, { recursive: true, force: true });
    if (!dir.startsWith(this.#base)) return;
    try {
      rmdirSync(this.#base);
    } catch {
      // Others are in it, or it is gone.
    }
  }

  /** A folder under a public one could have been put there by somebody else. */
  #own(dir: string): void {
    const found = lstatSync(dir);
    if (!found.isDirectory() || (process.getuid !== undefined && found.uid !== process.getuid())) {
      throw new Error(`${dir} belongs to somebody else; remove it`);
    }
  }
}
