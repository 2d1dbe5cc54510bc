/**
 * What is read and written of our own bare repositories without a process. A git is started by a
 * fork of the whole server, which holds the event loop for longer the more memory the server has.
 *
 * R1 Only repositories that git made here with refs as files (`GIT_DEFAULT_REF_FORMAT`).
 * R2 A ref is written as git writes it: a lock that only one writer can make, on disk, renamed. The
 *    caller knows that the commit is there.
 */
import { existsSync, readFileSync } from "node:fs";
import { mkdir, open, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { errorMessage } from "../../core/error.ts";
import { GitError } from "../../core/lib/git/git-error.ts";
import type { Git } from "../git-process.ts";

const COMMIT = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;
/** What `git init --bare --template=` makes. */
const FOLDERS = ["objects/info", "objects/pack", "refs/heads", "refs/tags"];

/** Makes empty bare repositories. The first one is git's, and the others are like it. */
export class BareRepositories {
  readonly #git: Git;
  readonly #dir: string;
  #config: Promise<string> | null = null;

  /** @param dir where there is room for a repository that is removed at once. */
  constructor(git: Git, dir: string) {
    this.#git = git;
    this.#dir = dir;
  }

  /** @param branch what HEAD names, valid as a branch. @param path where nothing is. */
  async make(path: string, branch: string): Promise<void> {
    const config = await this.#readConfig();
    for (const folder of FOLDERS) await mkdir(join(path, folder), { recursive: true });
    await writeFile(join(path, "HEAD"), `ref: refs/heads/${branch}\n`);
    await writeFile(join(path, "config"), config);
  }

  #readConfig(): Promise<string> {
    this.#config ??= this.#askGit();
    this.#config.catch(() => (this.#config = null));
    return this.#config;
  }

  async #askGit(): Promise<string> {
    const path = join(this.#dir, "init.new");
    try {
      await rm(path, { recursive: true, force: true });
      await this.#git({ cwd: this.#dir, args: ["init", "--quiet", "--bare", "--template=", path] });
      return readFileSync(join(path, "config"), "utf8");
    } finally {
      await rm(path, { recursive: true, force: true });
    }
  }
}

/** Whether git takes the folder for a repository: HEAD names something, and it has both folders. */
export function isRepository(path: string): boolean {
  const head = readIfFile(join(path, "HEAD"))?.trim() ?? "";
  const isWhole = head.startsWith("ref: refs/") || COMMIT.test(head);
  return isWhole && ["objects", "refs"].every((folder) => existsSync(join(path, folder)));
}

/** The object that a ref names; null when there is no such ref, or it names another ref. */
export function readRef(repository: string, ref: string): string | null {
  const loose = readIfFile(join(repository, ref))?.trim();
  if (loose !== undefined) return COMMIT.test(loose) ? loose : null;
  const packed = readIfFile(join(repository, "packed-refs"))?.split("\n") ?? [];
  const line = packed.find((one) => !one.startsWith("#") && one.endsWith(` ${ref}`));
  const [found = ""] = line?.split(" ") ?? [];
  return COMMIT.test(found) ? found : null;
}

function readIfFile(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

/** File system errors that git reports as "cannot lock ref". */
const CONFLICTS: ReadonlySet<string | undefined> = new Set(["EEXIST", "ENOTDIR", "EISDIR", "ENOTEMPTY"]);

/** @throws GitError when the ref is locked, or cannot be beside the refs that are there. */
export async function writeRef(repository: string, ref: string, sha: string): Promise<void> {
  if (!COMMIT.test(sha)) throw new Error("refs are written with full names of commits");
  const path = join(repository, ref);
  const lock = `${path}.lock`;
  let isLocked = false;
  try {
    await mkdir(dirname(path), { recursive: true });
    const file = await open(lock, "wx");
    isLocked = true;
    try {
      await file.writeFile(`${sha}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(lock, path);
  } catch (error) {
    // Of another writer when it was there before.
    if (isLocked) await rm(lock, { force: true });
    if (!CONFLICTS.has((error as NodeJS.ErrnoException).code)) throw error;
    throw new GitError(`cannot lock ref '${ref}': ${errorMessage(error)}`);
  }
}
