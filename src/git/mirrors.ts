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
import { GitError, removeStaleLocks, type Git } from "./git-process.ts";
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
  return new MirrorFolder(git, dir, trustedHosts);
}

class MirrorFolder implements Mirrors {
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
      throw classifyFetchError(error) as Error;
    }
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
      const isUnused = (): boolean => existsSync(path) && readLastUse(path) < before && !borrowed().has(resolve(path));
      const removeUnused = async (): Promise<Garbage[]> => {
        if (!isUnused()) return [];
        const garbage = { kind: "mirror", name: basename(name, ".git"), bytes: await diskUsage(path) } as const;
        return [await removeGarbage(mode, garbage, () => removeMirror(path))];
      };
      found.push(...(await this.#writes.run(path, removeUnused, signal)));
    }
    return found;
  }

  async #fetch(source: MirrorSource, signal: AbortSignal): Promise<FetchedMirror> {
    const path = this.#getPath(source);
    for (let round = 0; round < FETCH_ATTEMPTS; round += 1) {
      const tip = await this.#readTip(source, signal);
      const update = (): Promise<boolean> => this.#update(source, path, tip.baseSha, signal);
      if (await this.#writes.run(path, update, signal)) return { path, ...tip };
    }
    throw new TaskFailure("repo_unreachable", {
      detail: "The base branch moved each time that it was about to be fetched.",
    });
  }

  /** Reads the tip of the base upstream, a few at a time per repository. */
  async #readTip(source: MirrorSource, signal: AbortSignal) {
    const { repo, auth, base } = source;
    const pin = await resolvePin(repo, this.#trustedHosts, signal);
    const ref = base === null ? "HEAD" : `refs/heads/${base}`;
    const path = this.#getPath(source);
    const queue = this.#reads.get(path) ?? new PQueue({ concurrency: READS_AT_ONCE });
    this.#reads.set(path, queue);
    const list = (): ReturnType<Git> =>
      this.#git({ cwd: this.#dir, auth, pin, signal, args: ["ls-remote", "--symref", "--", repo, ref] });
    const { text } = await untilBegun((begin, queued) => queue.add(begin, { signal: queued }), list, signal);
    return parseTip(text, base);
  }

  /**
   * @returns whether the mirror has the commit; the branch may have moved since its tip was read.
   */
  async #update({ repo, auth }: MirrorSource, path: string, sha: string, signal: AbortSignal): Promise<boolean> {
    await this.#create(path);
    writeFileSync(join(path, USED), "");
    if (await this.#hasCommit(path, sha)) return true;
    removeStaleLocks(path);
    const pin = await resolvePin(repo, this.#trustedHosts, signal);
    // A pruned branch loses its name only: its objects stay for repositories that borrow them.
    const args = ["fetch", "--progress", "--prune", "--no-tags", "--force", "--", repo, "+refs/heads/*:refs/heads/*"];
    await this.#git({ cwd: path, auth, pin, signal, args });
    return await this.#hasCommit(path, sha);
  }

  /** Atomic: a folder under the final name is a complete repository. */
  async #create(path: string): Promise<void> {
    if (existsSync(path)) return;
    const draft = `${path}.new`;
    rmSync(draft, { recursive: true, force: true });
    await this.#git({ cwd: this.#dir, args: ["init", "--quiet", "--bare", "--template=", draft] });
    renameSync(draft, path);
  }

  async #hasCommit(path: string, sha: string): Promise<boolean> {
    try {
      await this.#git({ cwd: path, args: ["cat-file", "-e", `${sha}^{commit}`] });
      return true;
    } catch (error) {
      if (error instanceof GitError) return false;
      throw error;
    }
  }

  #getPath({ userId, repo }: Pick<MirrorSource, "userId" | "repo">): string {
    const name = createHash("sha256")
      .update(`${userId}\n${repo.replace(/\.git$/, "")}`)
      .digest("hex")
      .slice(0, 32);
    return join(this.#dir, `${name}.git`);
  }
}

function readLastUse(path: string): number {
  const mark = join(path, USED);
  return statSync(existsSync(mark) ? mark : path).mtimeMs;
}

/** Renames a mirror first, so that a crash leaves no half mirror under its name. */
async function removeMirror(path: string): Promise<void> {
  if (!path.endsWith(".git")) return rm(path, { recursive: true, force: true });
  const gone = `${path}.gone`;
  rmSync(gone, { recursive: true, force: true });
  renameSync(path, gone);
  await rm(gone, { recursive: true, force: true, maxRetries: 3 });
}

/** Parses `ls-remote --symref`, whose pattern also matches longer names with the same end. */
function parseTip(text: string, asked: string | null): { base: string; baseSha: string } {
  const lines = text.split("\n").map((line) => line.split("\t"));
  const ref = asked === null ? "HEAD" : `refs/heads/${asked}`;
  const baseSha = lines.find(([value = "", name]) => name === ref && /^[0-9a-f]{40,64}$/.test(value))?.[0];
  const target = lines.find(([value = "", name]) => name === "HEAD" && value.startsWith("ref: refs/heads/"))?.[0];
  const base = asked ?? target?.slice("ref: refs/heads/".length) ?? null;
  if (base !== null && baseSha !== undefined) return { base, baseSha };
  throw new TaskFailure("branch_not_found", {
    detail: asked === null ? "The repository is empty, or has no default branch." : `It was looked for as "${asked}".`,
  });
}
