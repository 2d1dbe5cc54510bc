/**
 * Cache of upstream repositories: one bare mirror per credential owner and repository. Task
 * repositories borrow its objects through `alternates`, so nothing in a mirror is pruned (gc and
 * maintenance are off).
 *
 * M1 Fetches of one mirror run one after another; fetches of other mirrors run in parallel.
 * M2 A branch whose tip the mirror has is not fetched again: the tip is read first. The mirror has
 *    a tip if its own ref points at it and a proof holds (bare/completeness.ts): a commit object
 *    alone proves nothing about its trees and files.
 * M3 Each use sets the time of `slipway-used`. A mirror is removed under its own lock, and only if
 *    no task repository borrows from it and its last use is old: a task that has just fetched
 *    creates its repository, which borrows, only afterwards.
 * M4 A mirror with holes is fetched in full beside itself, and the packs are added to it: what it
 *    has stays, because task repositories borrow it meanwhile.
 * M5 Tasks that need the same branch of a mirror share one fetch. It goes on for LINGER_MS after
 *    the last of them has left, so that the next attempt finds it further on or done.
 * M6 Only the branches that tasks asked for are fetched. Their refs here have derived names,
 *    because a host may announce any number of names of any form, which would become files here.
 * M7 Remains of an interrupted fetch are removed at once, remains of a killed process when the
 *    mirrors are opened.
 * M8 Each fetch leaves one pack; small ones are merged without the mirror's lock (bare/packs.ts).
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import PQueue from "p-queue";
import { SharedRuns } from "../core/lib/concurrency/shared-runs.ts";
import { untilBegun } from "../core/lib/concurrency/async.ts";
import { KeyedMutex } from "../core/lib/concurrency/keyed-mutex.ts";
import { diskUsage } from "../core/lib/disk/disk-usage.ts";
import { TaskFailure } from "../core/failure.ts";
import { removeGarbage, type GcMode, type Garbage } from "../core/lib/garbage.ts";
import { isRepository, readRef } from "./bare/bare-repository.ts";
import { dropProof, findMissing, isProven, isSuspect, setSuspect, writeProof } from "./bare/completeness.ts";
import { TransferWatch } from "./transfer-watch.ts";
import { readTip, type Tip } from "./branch/remote-tip.ts";
import { adoptContents, removeHalfPacks } from "./bare/packs.ts";
import { resolvePin } from "./host-pinning.ts";
import { GitError } from "../core/lib/git/git-error.ts";
import { removeStaleLocks, type Git } from "./git-process.ts";
import { classifyFetchError, isDamaged } from "./git-errors.ts";
import type { GitAuth, IncompleteRepository, StoredRepository } from "../core/ports/repositories.ts";

export interface MirrorSource {
  readonly userId: string;
  readonly repo: string;
  readonly auth: GitAuth | null;
  /** Null = the default branch. */
  readonly base: string | null;
  /** See Repositories.prepare. */
  readonly getAllowance?: (() => Promise<number | null>) | undefined;
}

export interface FetchedMirror {
  /** Absolute path of the mirror. */
  readonly path: string;
  readonly base: string;
  readonly baseSha: string;
}

type NamedSource = MirrorSource & { readonly base: string };
type Progress = (text: string) => void;

type MirrorUse = Pick<StoredRepository, "owner" | "repo">;

export interface Mirrors {
  fetch(source: MirrorSource, signal: AbortSignal, progress?: Progress): Promise<FetchedMirror>;
  has(userId: string, repo: string): boolean;
  /**
   * Removes (or, in a dry run, only lists) the mirrors that were last used before `before` (epoch
   * ms). `borrowed` is called while the mirror is locked.
   */
  reclaim(before: number, borrowed: () => ReadonlySet<string>, mode: GcMode, signal: AbortSignal): Promise<Garbage[]>;
  /** The mirrors with holes. */
  check(signal: AbortSignal): Promise<IncompleteRepository[]>;
  /** The mirror's next use fetches it in full. */
  distrust(name: string): void;
  /** Paths of all mirrors. */
  list(): string[];
  /** Null = not known since an earlier version. */
  use(path: string): Promise<MirrorUse>;
  /**
   * Removes the mirrors of a person, but for those that are in use. Idempotent.
   * @returns true when none is left.
   */
  removePerson(userId: string, borrowed: () => ReadonlySet<string>): Promise<boolean>;
  close(): Promise<void>;
}

/**
 * A file in the mirror. Its content is the owner and the repository, its modification time the last
 * use.
 */
const USED = "slipway-used";

/** Attempts to fetch a branch that moves between `ls-remote` and the fetch. */
const FETCH_ATTEMPTS = 3;
/** Concurrent `ls-remote` calls per repository. */
const READS_AT_ONCE = 4;
/** How long a fetch goes on that no task waits for, ms. */
const LINGER_MS = 120_000;
/** More refs than this, as of an earlier version that fetched all branches, are packed. */
const LOOSE_REFS = 64;
const MIRROR_NAME = /^[0-9a-f]{32}$/;

function markUse(path: string, { userId, repo }: Pick<MirrorSource, "userId" | "repo">): void {
  writeFileSync(join(path, USED), `${userId}\n${repo}`);
}

const countEntries = (folder: string): number => (existsSync(folder) ? readdirSync(folder).length : 0);

/** The ref of a branch in its mirror (M6). */
function mirrorRef(base: string): string {
  return `refs/heads/slipway-base-${createHash("sha256").update(base).digest("hex").slice(0, 40)}`;
}

export function openMirrors(
  git: Git,
  dir: string,
  trustedHosts: readonly string[],
  watch: TransferWatch = new TransferWatch({ dir, floorMb: 0 }),
): Mirrors {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  return new MirrorCache(git, dir, trustedHosts, watch);
}

/** Removes what a killed process has left (M7). To be called by the owner of the data folder. */
export function cleanMirrors(dir: string): void {
  for (const path of existsSync(dir) ? readdirSync(dir).map((name) => join(dir, name)) : []) {
    clean(path);
    if (path.endsWith(".git")) removeHalfPacks(path);
  }
}

/**
 * Removes the remains of an interrupted fetch (M7). No fetch into the mirror may run at the same
 * time. An unfinished mirror is removed as a whole.
 */
function clean(path: string): void {
  if (/\.(?:new|heal|gone|merge)$/.test(path)) rmSync(path, { recursive: true, force: true });
  else if (path.endsWith(".git")) removeStaleLocks(path);
}

class MirrorCache implements Mirrors {
  readonly #git: Git;
  readonly #dir: string;
  readonly #trustedHosts: readonly string[];
  readonly #watch: TransferWatch;
  readonly #writes = new KeyedMutex();
  readonly #fetches = new SharedRuns(LINGER_MS);
  readonly #reads = new Map<string, PQueue>();

  constructor(git: Git, dir: string, trustedHosts: readonly string[], watch: TransferWatch) {
    this.#git = git;
    this.#dir = dir;
    this.#trustedHosts = trustedHosts;
    this.#watch = watch;
  }

  has(userId: string, repo: string): boolean {
    return existsSync(this.#getPath({ userId, repo }));
  }

  async fetch(source: MirrorSource, signal: AbortSignal, progress?: Progress): Promise<FetchedMirror> {
    try {
      return await this.#fetch(source, signal, progress);
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

  /** Creates an empty repository, replacing what has that name. */
  async #init(path: string): Promise<void> {
    rmSync(path, { recursive: true, force: true });
    await this.#git({ cwd: this.#dir, args: ["init", "--quiet", "--bare", "--template=", path] });
  }

  /** Creates the mirror atomically: it gets its final name by a rename. */
  async #make(path: string): Promise<void> {
    if (existsSync(path)) return;
    const draft = `${path}.new`;
    await this.#init(draft);
    writeProof(draft);
    renameSync(draft, path);
  }

  /** True when the mirror has that tip of the base (M2). Marks the mirror as used. */
  #has(path: string, tip: Tip, source: MirrorSource): boolean {
    if (!existsSync(path)) return false;
    markUse(path, source);
    return isRepository(path) && isProven(path) && readRef(path, mirrorRef(tip.base)) === tip.baseSha;
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
      this.#git({
        cwd: this.#dir,
        kind: "remote",
        auth,
        pin,
        signal,
        args: ["ls-remote", "--symref", "--", repo, wanted],
      });
    const { text } = await this.#read(this.#getPath(source), listRemote, signal);
    return readTip(text, base);
  }

  /**
   * Fetches the mirror unless it has that tip. Joins the fetch of another task (M5).
   * @returns true if the mirror now has the tip; false if the branch moved after its tip was read.
   */
  async #update(source: MirrorSource, tip: Tip, signal: AbortSignal, progress?: Progress): Promise<boolean> {
    const path = this.#getPath(source);
    const key = `${path}\n${tip.base}`;
    const has = (): Promise<boolean> => this.#write(path, async () => this.#has(path, tip, source), signal);
    const start = (stop: AbortSignal, report: Progress): Promise<void> =>
      this.#write(path, () => this.#refresh({ ...source, base: tip.base }, path, stop, report), stop);
    for (;;) {
      if (!this.#fetches.isRunning(key) && (await has())) return true;
      // The fetch of another task may have begun before this tip existed.
      const isJoined = this.#fetches.isRunning(key);
      await this.#fetches.join(key, start, signal, progress);
      if (!isJoined) return await has();
    }
  }

  /** Makes the mirror complete and current. The caller holds its lock. */
  async #refresh(source: NamedSource, path: string, signal: AbortSignal, progress: Progress): Promise<void> {
    await this.#make(path);
    markUse(path, source);
    removeStaleLocks(path);
    if (countEntries(join(path, "refs", "heads")) > LOOSE_REFS)
      await this.#git({ cwd: path, signal, args: ["pack-refs", "--all"] });
    if (!(await this.#isComplete(path, signal, progress))) return await this.#heal(source, path, signal, progress);
    try {
      await this.#download(source, path, signal, progress);
    } catch (error) {
      if (!(error instanceof GitError) || !isDamaged(error)) throw error;
      return await this.#heal(source, path, signal, progress);
    }
    writeProof(path);
  }

  async #isComplete(path: string, signal: AbortSignal, progress: Progress): Promise<boolean> {
    if (isProven(path)) return true;
    return !isSuspect(path) && (await findMissing(this.#git, path, "nothing", signal, progress)) === null;
  }

  async #download(source: NamedSource, cwd: string, signal: AbortSignal, progress: Progress): Promise<void> {
    const { repo, auth, base, userId, getAllowance } = source;
    const pin = await resolvePin(repo, this.#trustedHosts, signal);
    const refspec = `+refs/heads/${base}:${mirrorRef(base)}`;
    const args = ["fetch", "--progress", "--no-tags", "--force", "--", repo, refspec];
    const allowedBytes = (await getAllowance?.()) ?? null;
    const fetch = (stop: AbortSignal): ReturnType<Git> =>
      this.#git({ cwd, kind: "transfer", auth, pin, signal: stop, args, progress });
    try {
      await this.#watch.run(cwd, signal, fetch, { userId, allowedBytes });
    } catch (error) {
      clean(cwd);
      throw error;
    }
  }

  /**
   * Fetches everything again (M4). Killed at any point, the mirror has no proof, and its next use
   * begins anew.
   */
  async #heal(source: NamedSource, path: string, signal: AbortSignal, progress: Progress): Promise<void> {
    const draft = `${path}.heal`;
    dropProof(path);
    await this.#init(draft);
    await this.#download(source, draft, signal, progress);
    adoptContents(draft, path);
    setSuspect(path, false);
    writeProof(path);
    rmSync(draft, { recursive: true, force: true });
  }

  async #fetch(source: MirrorSource, signal: AbortSignal, progress?: Progress): Promise<FetchedMirror> {
    for (let round = 0; round < FETCH_ATTEMPTS; round += 1) {
      const tip = await this.#readUpstreamTip(source, signal);
      if (await this.#update(source, tip, signal, progress)) return { path: this.#getPath(source), ...tip };
    }
    throw new TaskFailure("repo_unreachable", {
      detail: "The base branch moved before each of the fetch attempts.",
    });
  }

  async check(signal: AbortSignal): Promise<IncompleteRepository[]> {
    const found: IncompleteRepository[] = [];
    for (const path of this.list()) {
      const problem = await findMissing(this.#git, path, "nothing", signal);
      if (problem !== null) found.push({ kind: "mirror", name: basename(path, ".git"), problem });
    }
    return found;
  }

  list(): string[] {
    return readdirSync(this.#dir).flatMap((name) => (name.endsWith(".git") ? [join(this.#dir, name)] : []));
  }

  async use(path: string): Promise<MirrorUse> {
    const [owner = "", repo = ""] = (await readFile(join(path, USED), "utf8").catch(() => "")).split("\n");
    return { owner: owner || null, repo: repo || null };
  }

  async removePerson(userId: string, borrowed: () => ReadonlySet<string>): Promise<boolean> {
    let isDone = true;
    for (const path of this.list()) {
      if ((await this.use(path)).owner !== userId) continue;
      if (this.#writes.isBusy(path) || borrowed().has(resolve(path))) isDone = false;
      else await this.#writes.run(path, () => this.#drop(path));
    }
    return isDone;
  }

  distrust(name: string): void {
    if (!MIRROR_NAME.test(name)) throw new Error("invalid mirror name");
    setSuspect(join(this.#dir, `${name}.git`), true);
  }

  close(): Promise<void> {
    return this.#fetches.close();
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
