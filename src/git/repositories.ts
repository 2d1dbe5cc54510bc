/** The `Repositories` port on real git. */
import { basename, join } from "node:path";
import { diskUsage, RepositorySizes } from "../core/lib/disk/disk-usage.ts";
import { noCrash, type Crashpoint } from "../core/lib/runtime/crashpoint.ts";
import { openDiffReads, validateRange } from "./diff.ts";
import { isCommit, openCommitReads } from "./read.ts";
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
import type { IncompleteRepository, Repositories } from "../core/ports/repositories.ts";

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
      const cwd = validateRange(tasks, taskId, base, head);
      return inspectChange(git, search, { cwd, base, head, rules: guard, secrets }, signal);
    },
    leaveOut: ({ taskId, ...change }, signal) => leaveOut(git, { ...change, cwd: writable(taskId) }, signal),
    sign: ({ taskId, ...work }, signal) => sign({ ...work, cwd: writable(taskId) }, signal),
    push: ({ taskId, repo, auth, sha, branch, expect }, signal) =>
      push(git, trustedHosts, { cwd: writable(taskId), repo, auth, sha, branch, expect }, signal),
    ...openDiffReads(git, dir, tasks),
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
