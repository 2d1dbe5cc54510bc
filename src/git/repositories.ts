/** The `Repositories` port on real git. */
import { basename, join } from "node:path";
import { BoundedCache } from "../core/lib/concurrency/bounded-cache.ts";
import { diskUsage, RepositorySizes } from "../core/lib/disk/disk-usage.ts";
import { SlipwayError } from "../core/error.ts";
import { noCrash, type Crashpoint } from "../core/lib/runtime/crashpoint.ts";
import { replaceFile } from "../core/lib/runtime/replace-file.ts";
import { isCommit, openCommitReads, readDiff, readFilePatch, readPatch, requireCommit } from "./read.ts";
import { DEFAULT_GUARD, type GuardRules } from "../core/values/push-guard.ts";
import { cleanMirrors, openMirrors } from "./mirrors.ts";
import { compareBranch } from "./branch/compare.ts";
import { inspectChange } from "./branch/guard/inspect.ts";
import { leaveOut } from "./branch/guard/leave-out.ts";
import { SecretSearch } from "./branch/guard/secret-search.ts";
import { RepositoryProber } from "./branch/probe.ts";
import { push } from "./branch/push.ts";
import { readRef } from "./bare/bare-repository.ts";
import { mergeAll } from "./bare/packs.ts";
import { openSigning } from "./branch/sign.ts";
import { openGit, removeOldLocks, type GitKind, type GitLimits } from "./git-process.ts";
import { TransferWatch } from "./transfer-watch.ts";
import { openTaskRepositories } from "./task-repositories.ts";
import type { Diff, IncompleteRepository, Repositories } from "../core/ports/repositories.ts";

export interface RepositoriesOptions {
  readonly dir: string;
  /** `host[:port]` that may be plain http and at private addresses. */
  readonly trustedHosts: readonly string[];
  /** By default those of an installation without settings. */
  readonly limits?: Readonly<Record<GitKind, GitLimits>>;
  /** Fetches are ended while less room is free, MiB; 0 (default) = never. */
  readonly floorMb?: number;
  readonly guard?: GuardRules;
  /**
   * Whether this process alone writes here (default). Otherwise it may only read, and what seems to
   * be left by a killed process stays: a running one may need it.
   */
  readonly isOwner?: boolean;
  readonly crashpoint?: Crashpoint;
  /** The SSH key that signs what is pushed; absent = nothing is signed. */
  readonly signingKeyFile?: string | undefined;
}

/** Comparisons at once: each may take some hundred MiB and one core. */
const COMPARISONS = { concurrency: 2, maxWaiting: 32, maxSize: 32 * 2 ** 20 } as const;

/** UTF-16 units, and a constant for the rest of each file. */
function sizeOfDiff({ files }: Diff): number {
  return files.reduce((sum, { path, oldPath, patch }) => {
    return sum + path.length + (oldPath?.length ?? 0) + (patch?.length ?? 0) + 200;
  }, 0);
}

export function openRepositories({
  dir,
  trustedHosts,
  limits,
  guard = DEFAULT_GUARD,
  floorMb = 0,
  isOwner = true,
  crashpoint = noCrash,
  signingKeyFile,
}: RepositoriesOptions): Repositories {
  const git = openGit(dir, limits);
  const sign = openSigning(git, signingKeyFile);
  const search = new SecretSearch();
  const openedAt = Date.now();
  const allBinary = join(dir, "binary.attributes");
  replaceFile(allBinary, "* -diff\n");
  const comparisons = new BoundedCache(COMPARISONS);
  const watch = new TransferWatch({ dir, floorMb });
  if (isOwner) cleanMirrors(join(dir, "mirrors"));
  const mirrors = openMirrors(git, join(dir, "mirrors"), trustedHosts, watch);
  const tasks = openTaskRepositories(git, join(dir, "tasks"));
  const sizes = new RepositorySizes();
  const prober = new RepositoryProber(git, trustedHosts, dir);

  /** The path of a task repository without the locks of processes that were killed. */
  function writable(taskId: string): string {
    const path = tasks.path(taskId);
    removeOldLocks(path, openedAt);
    return path;
  }

  /** Validates both SHAs and returns the path of the task repository. */
  function validateRange(taskId: string, base: string, head: string): string {
    [base, head].forEach(requireCommit);
    if (!tasks.exists(taskId))
      throw new SlipwayError("expired", "The task's repository is no longer kept. The pushed branch has the work.");
    return tasks.path(taskId);
  }

  async function readCachedDiff(taskId: string, base: string, head: string): Promise<Diff> {
    const cwd = validateRange(taskId, base, head);
    return await comparisons.get(`diff ${taskId} ${base} ${head}`, () => readDiff(git, cwd, base, head), sizeOfDiff);
  }

  function distrust(kind: IncompleteRepository["kind"], name: string): void {
    const paths = kind === "mirror" ? [name] : tasks.distrust(name);
    for (const path of paths) mirrors.distrust(basename(path, ".git"));
  }

  return {
    async prepare({ taskId, userId, repo, auth, base, parentTaskId, getAllowance }, signal, progress) {
      const fetched = await mirrors.fetch({ userId, repo, auth, base, getAllowance }, signal, progress);
      crashpoint("mirror.fetched");
      const made = await tasks.make(taskId, fetched, parentTaskId, signal);
      crashpoint("repository.made");
      return made;
    },
    probe: (request, signal) => prober.probe(request, signal),
    hasMirror: (userId, repo) => Promise.resolve(mirrors.has(userId, repo)),
    path: writable,
    resolve: async (taskId, ref) => readRef(tasks.path(taskId), ref) ?? (await tasks.resolve(taskId, ref)),
    ...openCommitReads(git, tasks),
    has: async (taskId, sha) => isCommit(sha) && (await tasks.resolve(taskId, sha)) !== null,
    compareBranch: ({ taskId, ...call }, signal) =>
      compareBranch(git, trustedHosts, { ...call, cwd: writable(taskId) }, signal),
    inspect: (taskId, base, head, signal, secrets = []) => {
      const cwd = validateRange(taskId, base, head);
      return inspectChange(git, search, { cwd, base, head, rules: guard, secrets }, signal);
    },
    leaveOut: ({ taskId, ...change }, signal) => leaveOut(git, { ...change, cwd: writable(taskId) }, signal),
    sign: ({ taskId, ...work }, signal) => sign({ ...work, cwd: writable(taskId) }, signal),
    push: ({ taskId, repo, auth, sha, branch, expect }, signal) =>
      push(git, trustedHosts, { cwd: writable(taskId), repo, auth, sha, branch, expect }, signal),
    diff: readCachedDiff,
    async diffFile(taskId, base, head, path) {
      const file = (await readCachedDiff(taskId, base, head)).files.find((changed) => changed.path === path);
      if (file === undefined) throw new SlipwayError("not_found", "The task did not change a file of that name.");
      if (file.patch !== null || file.binary) return file;
      const cwd = tasks.path(taskId);
      const read = async (): Promise<string> => (await readFilePatch(git, cwd, { base, head }, file)) ?? "";
      const patch = await comparisons.get(`file ${taskId} ${base} ${head} ${path}`, read, (text) => text.length);
      return { ...file, patch: patch === "" ? null : patch };
    },
    async patch(taskId, base, head) {
      const cwd = validateRange(taskId, base, head);
      const read = (): Promise<string> => readPatch(git, cwd, base, head, allBinary);
      return await comparisons.get(`patch ${taskId} ${base} ${head}`, read, (text) => text.length);
    },
    list: () => Promise.resolve(tasks.list()),
    async usage() {
      const all = [
        ...(await Promise.all(
          mirrors.list().map(async (path) => ({ kind: "mirror" as const, path, ...(await mirrors.use(path)) })),
        )),
        ...tasks.list().map((owner) => ({ kind: "task" as const, path: tasks.path(owner), owner, repo: null })),
      ];
      const bytes = await sizes.measure(all.map(({ path }) => path));
      return all.map(({ path, ...one }) => ({ ...one, bytes: bytes.get(path) ?? 0 }));
    },
    removePerson: (userId) => mirrors.removePerson(userId, tasks.borrowed),
    size: (taskId) => diskUsage(tasks.path(taskId)),
    remove: tasks.remove,
    reclaim: (before, mode, signal) => mirrors.reclaim(before, tasks.borrowed, mode, signal),
    mergePacks: (signal) => {
      const found = [
        ...mirrors.list().map((path) => ({ kind: "mirror" as const, path })),
        ...tasks.list().map((taskId) => ({ kind: "task" as const, path: tasks.path(taskId) })),
      ];
      return mergeAll({ git, watch, crashpoint }, found, signal);
    },
    check: async (signal) => [...(await mirrors.check(signal)), ...(await tasks.check(signal))],
    distrust: ({ kind, name }) => Promise.resolve(distrust(kind, name)),
    async isBaseUnreadable(taskId, signal) {
      if (!(await tasks.isBaseUnreadable(taskId, signal))) return false;
      distrust("task", taskId);
      return true;
    },
    async close() {
      await search.close();
      await mirrors.close();
    },
  };
}
