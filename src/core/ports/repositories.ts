/** The git ports: mirrors, task repositories, pushes, and the forge that opens pull requests. */
import type { GcMode, Garbage } from "../lib/garbage.ts";

/**
 * A person's git credential in clear, for the length of one call. Never logged, never in argv, URL,
 * environment of a worker, or on disk.
 */
export interface GitAuth {
  readonly username: string;
  readonly token: string;
}

export interface TaskRepository {
  readonly taskId: string;
  /** Whose mirror: one per credential owner and repository. */
  readonly userId: string;
  readonly repo: string;
  readonly auth: GitAuth | null;
}

export interface DiffFile {
  readonly path: string;
  readonly oldPath: string | null;
  readonly status: "added" | "modified" | "deleted" | "renamed" | "copied" | "type_changed";
  readonly additions: number;
  readonly deletions: number;
  readonly binary: boolean;
  readonly patch: string | null;
}

export interface Diff {
  readonly base: string;
  readonly head: string;
  readonly files: readonly DiffFile[];
  readonly truncated: boolean;
}

export type RepositoryFile =
  | { readonly kind: "absent" }
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "unusable"; readonly why: string };

/** Refs of a task repository that the worker may write and the coordinator reads. */
export const WORK_REF = "refs/slipway/work";

export const checkpointRef = (attempt: number): string => `refs/slipway/checkpoints/${attempt}`;

/**
 * The upstream's mirror and the per-task repositories. Contract in test/contract/repositories.ts.
 * Failures are TaskFailures: repo_auth, repo_not_found, repo_unreachable, branch_not_found;
 * push_auth, push_rejected, push_workflow_scope, remote_unreachable.
 */
export interface Repositories {
  /**
   * Fetches the mirror (serialised per mirror) and makes the task repository from it if absent;
   * idempotent. `parentTaskId`: the parent's saved work (WORK_REF, checkpoints) is fetched into it
   * too.
   * @returns the commit that `base` (null: the default branch) points at, and that branch's name. A
   * repository made before keeps its base.
   */
  prepare(
    task: TaskRepository & { readonly base: string | null; readonly parentTaskId: string | null },
    signal: AbortSignal,
  ): Promise<{ baseSha: string; base: string }>;
  /** True when this person's tasks have reached the repository before. */
  hasMirror(userId: string, repo: string): Promise<boolean>;
  /** Absolute path of the bare task repository, for the broker to serve. */
  path(taskId: string): string;
  /** The commit that a ref of the task repository points at, or null. */
  resolve(taskId: string, ref: string): Promise<string | null>;
  /**
   * One file of a commit, as the coordinator reads it: nothing is checked out, no filter runs,
   * nothing is followed. Reads at most `maxBytes`. `unusable`: it is there, but is a link, a
   * folder, a submodule, too large or not UTF-8; `why` is a sentence.
   */
  file(taskId: string, sha: string, path: string, maxBytes: number): Promise<RepositoryFile>;
  /** True when the task repository holds that commit. */
  has(taskId: string, sha: string): Promise<boolean>;
  /**
   * Pushes one commit to one upstream branch by SHA with lease. `expect`: what the branch must
   * point at now if it exists, null = it must not. A branch that is gone is made again (a merged
   * pull request often takes its branch along): there is nothing to overwrite. A branch that points
   * at `sha` already counts as pushed (idempotent).
   */
  push(
    task: TaskRepository & { readonly sha: string; readonly branch: string; readonly expect: string | null },
    signal: AbortSignal,
  ): Promise<void>;
  /**
   * Files between two commits of the task repository; patches cut at 256 KiB in all (`truncated`).
   */
  diff(taskId: string, base: string, head: string): Promise<Diff>;
  /**
   * The same as one patch that `git apply` takes; SlipwayError `payload_too_large` when it is
   * larger than 10 MiB.
   */
  patch(taskId: string, base: string, head: string): Promise<string>;
  /** Task ids that have a repository here. */
  list(): Promise<string[]>;
  /** Bytes on disk of a task's repository, without what it borrows. */
  size(taskId: string): Promise<number>;
  /** Removes the task repository. Idempotent. */
  remove(taskId: string): Promise<void>;
  /**
   * Mirrors that were last used before `before` (epoch ms) and that no task repository borrows
   * from. Waits for a fetch under way.
   */
  reclaim(before: number, mode: GcMode, signal: AbortSignal): Promise<Garbage[]>;
}

/**
 * Opens pull requests. Find-or-create by head branch, so that doing it twice gives the same one.
 */
export interface Forge {
  /** True when this forge serves the repository. */
  serves(repo: string): boolean;
  openPullRequest(
    request: {
      readonly repo: string;
      readonly auth: GitAuth | null;
      readonly head: string;
      readonly base: string;
      readonly title: string;
      readonly body: string;
      readonly draft: boolean;
    },
    signal: AbortSignal,
  ): Promise<{ url: string; number: number; state: string }>;
}
