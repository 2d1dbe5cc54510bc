/**
 * Cache of upstream repositories: one bare mirror per credential owner and repository. Task
 * repositories borrow its objects through `alternates`, so nothing in a mirror is pruned (gc and
 * maintenance are off).
 *
 * M1 Fetches of one mirror run one after another; fetches of other mirrors run in parallel.
 * M2 A commit that the mirror holds is not fetched again: the tip of the base is read first.
 * M3 Each use sets the time of `slipway-used`. A mirror is removed under its own lock, and only if
 *    no task repository borrows from it and its last use is old: a task that has just fetched
 *    creates its repository, which borrows, only afterwards.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import PQueue from "p-queue";
import { untilBegun } from "../core/lib/concurrency/async.ts";
import { KeyedMutex } from "../core/lib/concurrency/keyed-mutex.ts";
import { diskUsage } from "../core/lib/disk-usage.ts";
import { TaskFailure } from "../core/failure.ts";
import { removeGarbage, type GcMode, type Garbage } from "../core/lib/garbage.ts";
import { resolvePin } from "./host-pinning.ts";
import { GitError } from "../core/lib/git-error.ts";
import { removeStaleLocks, type Git } from "./git-process.ts";
import { classifyFetchError } from "./git-errors.ts";
import type { GitAuth } from "../core/ports/repositories.ts";

export interface MirrorSource {
  readonly userId: string;
  readonly repo: string;
  readonly auth: GitAuth | null;
  /** Null = the default branch. */
  readonly base: string | null;
}

export interface FetchedMirror {
  /** Absolute path of the mirror. */
  readonly path: string;
  readonly base: string;
  readonly baseSha: string;
}

export interface Mirrors {
  fetch(source: MirrorSource, signal: AbortSignal): Promise<FetchedMirror>;
  has(userId: string, repo: string): boolean;
  /**
   * Removes (or, in a dry run, only lists) the mirrors that were last used before `before` (epoch
   * ms). `borrowed` is called while the mirror is locked.
   */
  reclaim(before: number, borrowed: () => ReadonlySet<string>, mode: GcMode, signal: AbortSignal): Promise<Garbage[]>;
}

const USED = "slipway-used";

/** Attempts to fetch a branch that moves between `ls-remote` and the fetch. */
const FETCH_ATTEMPTS = 3;
/** Concurrent `ls-remote` calls per repository. */
const READS_AT_ONCE = 4;

export function openMirrors(git: Git, dir: string, trustedHosts: readonly string[]): Mirrors {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  return new MirrorCache(git, dir, trustedHosts);
}

class MirrorCache implements Mirrors {
  readonly #git: Git;
  readonly #dir: string;
  readonly #trustedHosts: readonly string[];
  readonly #writes = new KeyedMutex();
  readonly #reads = new Map<string, PQueue>();

  constructor(git: Git, dir: string, trustedHosts: readonly string[]) {
    this.#git = git;
    this.#dir = dir;
    this.#trustedHosts = trustedHosts;
  }

  has(userId: string, repo: string): boolean {
    return existsSync(this.#getPath({ userId, repo }));
  }

  async fetch(source: MirrorSource, signal: AbortSignal): Promise<FetchedMirror> {
    try {
      return await this.#fetch(source, signal);
    } catch (error) {
      throw classifyFetchError(error);
    }
  }

  #write<T>(path: string, work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    return this.#writes.run(path, work, signal);
  }

  #read<T>(path: string, work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const queue = this.#reads.get(path) ?? new PQueue({ concurrency: READS_AT_ONCE });
    this.#reads.set(path, queue);
    return untilBegun((begin, queued) => queue.add(begin, { signal: queued }), work, signal);
  }

  #getPath({ userId, repo }: Pick<MirrorSource, "userId" | "repo">): string {
    const name = createHash("sha256")
      .update(`${userId}\n${repo.replace(/\.git$/, "")}`)
      .digest("hex")
      .slice(0, 32);
    return join(this.#dir, `${name}.git`);
  }

  /** Creates the mirror atomically: it gets its final name by a rename. */
  async #make(path: string): Promise<void> {
    if (existsSync(path)) return;
    const draft = `${path}.new`;
    rmSync(draft, { recursive: true, force: true });
    await this.#git({ cwd: this.#dir, args: ["init", "--quiet", "--bare", "--template=", draft] });
    renameSync(draft, path);
  }

  async #holds(path: string, sha: string): Promise<boolean> {
    try {
      await this.#git({ cwd: path, args: ["cat-file", "-e", `${sha}^{commit}`] });
      return true;
    } catch (error) {
      if (error instanceof GitError) return false;
      throw error;
    }
  }

  /**
   * Reads the upstream tip of the base. At most READS_AT_ONCE calls per repository run at a time,
   * so that the first callers finish early.
   */
  async #readUpstreamTip(source: MirrorSource, signal: AbortSignal) {
    const { repo, auth, base } = source;
    const pin = await resolvePin(repo, this.#trustedHosts, signal);
    const wanted = base === null ? "HEAD" : `refs/heads/${base}`;
    const listRemote = (): ReturnType<Git> =>
      this.#git({ cwd: this.#dir, auth, pin, signal, args: ["ls-remote", "--symref", "--", repo, wanted] });
    const { text } = await this.#read(this.#getPath(source), listRemote, signal);
    return readTip(text, base);
  }

  /**
   * @returns true if the mirror now holds the commit; false if the branch moved after its tip was
   * read.
   */
  async #update({ repo, auth }: MirrorSource, path: string, sha: string, signal: AbortSignal): Promise<boolean> {
    await this.#make(path);
    writeFileSync(join(path, USED), "");
    if (await this.#holds(path, sha)) return true;
    removeStaleLocks(path);
    const pin = await resolvePin(repo, this.#trustedHosts, signal);
    // `--prune` removes only refs of deleted branches; the objects stay for the task repositories
    // that borrow them.
    const args = ["fetch", "--progress", "--prune", "--no-tags", "--force", "--", repo, "+refs/heads/*:refs/heads/*"];
    await this.#git({ cwd: path, auth, pin, signal, args });
    return await this.#holds(path, sha);
  }

  async #fetch(source: MirrorSource, signal: AbortSignal): Promise<FetchedMirror> {
    const path = this.#getPath(source);
    for (let round = 0; round < FETCH_ATTEMPTS; round += 1) {
      const tip = await this.#readUpstreamTip(source, signal);
      if (await this.#write(path, () => this.#update(source, path, tip.baseSha, signal), signal))
        return { path, ...tip };
    }
    throw new TaskFailure("repo_unreachable", {
      detail: "The base branch moved before each of the fetch attempts.",
    });
  }

  #lastUse(path: string): number {
    const mark = join(path, USED);
    return statSync(existsSync(mark) ? mark : path).mtimeMs;
  }

  /** Renames before it removes, so that a crash leaves no partial mirror under the final name. */
  async #drop(path: string): Promise<void> {
    const gone = `${path}.gone`;
    rmSync(gone, { recursive: true, force: true });
    renameSync(path, gone);
    await rm(gone, { recursive: true, force: true, maxRetries: 3 });
  }

  async reclaim(
    before: number,
    borrowed: () => ReadonlySet<string>,
    mode: GcMode,
    signal: AbortSignal,
  ): Promise<Garbage[]> {
    const found: Garbage[] = [];
    for (const name of readdirSync(this.#dir)) {
      const path = join(this.#dir, name);
      const isUnused = (): boolean =>
        existsSync(path) && this.#lastUse(path) < before && !borrowed().has(resolve(path));
      const removeUnused = async (): Promise<Garbage[]> => {
        if (!isUnused()) return [];
        const remove = (): Promise<void> =>
          name.endsWith(".git") ? this.#drop(path) : rm(path, { recursive: true, force: true });
        return [
          await removeGarbage(
            mode,
            { kind: "mirror", name: basename(name, ".git"), bytes: await diskUsage(path) },
            remove,
          ),
        ];
      };
      found.push(...(await this.#write(path, removeUnused, signal)));
    }
    return found;
  }
}

/**
 * Parses the tip from the output of `ls-remote --symref`. Its pattern also matches longer ref names
 * with the same suffix.
 */
function readTip(text: string, asked: string | null): { base: string; baseSha: string } {
  const lines = text.split("\n").map((line) => line.split("\t"));
  const ref = asked === null ? "HEAD" : `refs/heads/${asked}`;
  const baseSha = lines.find(([value = "", name]) => name === ref && /^[0-9a-f]{40,64}$/.test(value))?.[0];
  const target = lines.find(([value = "", name]) => name === "HEAD" && value.startsWith("ref: refs/heads/"))?.[0];
  const base = asked ?? target?.slice("ref: refs/heads/".length) ?? null;
  if (base !== null && baseSha !== undefined) return { base, baseSha };
  throw new TaskFailure("branch_not_found", {
    detail:
      asked === null ? "The repository is empty, or has no default branch." : `The requested branch is "${asked}".`,
  });
}
