/** The git ports: mirrors, task repositories, pushes, and the forge that opens pull requests. */
import type { TaskFailure } from "../failure.ts";
import type { GcMode, Garbage } from "../lib/garbage.ts";
import type { Diff, DiffFile, DiffSide } from "./diff.ts";
import type { TokenAnswer } from "../protocol/repositories.ts";
import type { Finding, KnownSecret } from "../values/push-guard.ts";
import type { PullRequest, PullRequestMode } from "../task.ts";

/**
 * A user's git credential in clear, held for the duration of one call. It never appears in logs,
 * argv, URLs, a worker's environment, or on disk.
 */
export interface GitAuth {
  readonly username: string;
  readonly token: string;
}

/** User name beside a token, where the person names none. */
export const TOKEN_USER = "x-access-token";

export interface TaskRepository {
  readonly taskId: string;
  /** The credential owner. There is one mirror per owner and repository. */
  readonly userId: string;
  readonly repo: string;
  readonly auth: GitAuth | null;
}

export type RepositoryFile =
  | { readonly kind: "absent" }
  | { readonly kind: "text"; readonly text: string }
  /** Present, but a link, a directory, a submodule, too large or not UTF-8; `why` is a sentence. */
  | { readonly kind: "unusable"; readonly why: string };

export interface FileId {
  readonly path: string;
  /** The same for the same content. */
  readonly id: string;
}

/** A repository on this server that lacks objects which its refs reach, or that git cannot read. */
export interface IncompleteRepository {
  readonly kind: "mirror" | "task";
  /** The mirror's file name without its ending, or the task id. */
  readonly name: string;
  /** Git's own words, at most a few lines. */
  readonly problem: string;
}

/** What a repository takes on this server, without what it borrows. */
export interface StoredRepository {
  readonly kind: IncompleteRepository["kind"];
  /** The task; of a mirror the person, null = unknown until its next use. */
  readonly owner: string | null;
  /** What a mirror is of; null = a task's, or unknown until its next use. */
  readonly repo: string | null;
  readonly bytes: number;
}

export interface MergedPacks extends Pick<IncompleteRepository, "kind" | "name"> {
  /** How many became one. */
  readonly packs: number;
  /** Why they could not be merged; null when they were. */
  readonly error: string | null;
}

export interface BranchCommit {
  readonly sha: string;
  readonly author: string;
  readonly title: string;
}

/**
 * The upstream branch compared with the work that a task begins from, or with the base if it has
 * none.
 */
export interface BranchComparison {
  /** Its commit; null = the branch does not exist. */
  readonly tip: string | null;
  /** The tip is in the work, or the work is in the tip, or neither. */
  readonly relation: "absent" | "behind" | "ahead" | "apart";
  /**
   * This task, or one that it continues, has pushed the tip, and the work lacks no commit of others
   * that the tip contains.
   */
  readonly isOurs: boolean;
  /** What this lineage pushed last: `expect`, or else a commit that the tip contains; or null. */
  readonly pushed: string | null;
  /** The tip contains it. */
  readonly keepsPushed: boolean;
  /** The base has all changes of the work: it was merged, perhaps squashed. */
  readonly isMerged: boolean;
  /** The same of what was pushed last. */
  readonly wasMerged: boolean;
  /** The commit since which the work has changes that the tip lacks. */
  readonly carryFrom: string | null;
  /** The newest commits that the tip has beyond the work, and how many there are. */
  readonly commits: readonly BranchCommit[];
  readonly commitCount: number;
  /** The first files that they change. */
  readonly files: readonly string[];
  /** The newest commit of the base that the work, or the tip, contains. */
  readonly workFork: string | null;
  readonly tipFork: string | null;
  /** Why the upstream would refuse a push; null = it would not, or that is not known. */
  readonly refusal: TaskFailure | null;
}

/** What a host says about a repository to one credential. */
export interface RepositoryProbe {
  /** Null = the repository has none, or one whose name cannot be used. */
  readonly defaultBranch: string | null;
  /** At most 500: the default branch first, branches that Slipway made last. */
  readonly branches: readonly string[];
  /** There are more branches. */
  readonly isTruncated: boolean;
  /** The asked base, or the default branch, exists. */
  readonly hasBase: boolean;
  /** Whether a push would be let in, as far as a host says so before one. */
  readonly push: { readonly kind: "allowed" } | { readonly kind: "refused" | "unknown"; readonly failure: TaskFailure };
}

/** Refs of a task repository that the worker may write and the coordinator reads. */
export const WORK_REF = "refs/slipway/work";

export const checkpointRef = (attempt: number): string => `refs/slipway/checkpoints/${attempt}`;

/**
 * Mirrors of upstream repositories, and one bare repository per task that borrows objects from a
 * mirror. Contract in test/contract/repositories.ts.
 * - Lifecycle of a task repository: prepare -> (read, push)* -> remove.
 * - `prepare` rejects with TaskFailure `repo_auth`, `repo_not_found`, `repo_unreachable` or
 *   `branch_not_found`; `push` with `push_auth`, `push_rejected`, `push_workflow_scope` or
 *   `remote_unreachable`. An aborted call rejects with the signal's reason.
 */
export interface Repositories {
  /**
   * Fetches the mirror, one fetch per mirror at a time, and creates the task repository if it does
   * not exist. Idempotent: an existing repository keeps its base. With `parentTaskId`, the parent's
   * saved work (WORK_REF, checkpoints) is fetched into it as well.
   *
   * The mirror is complete when it resolves: every object that the base reaches is there. A mirror
   * with holes, or one that `distrust` has marked, is fetched again in full.
   *
   * An aborted call leaves its fetch running for a short time, so that the next call continues it.
   * `progress` gets a line of git's own progress at most once per second, and only while bytes
   * arrive.
   * @returns the name of the base branch (`base`, or the default branch when it is null) and the
   * commit that it points at.
   */
  prepare(
    task: TaskRepository & {
      readonly base: string | null;
      readonly parentTaskId: string | null;
      /**
       * Called before something is fetched: how many bytes all fetches of the person that run may
       * receive; absent or null = no limit. Above it rejects with `repo_too_large`.
       */
      readonly getAllowance?: () => Promise<number | null>;
    },
    signal: AbortSignal,
    progress?: (text: string) => void,
  ): Promise<{ baseSha: string; base: string }>;
  /**
   * Asks the host, without a task: keeps nothing, changes nothing upstream. Rejects like `prepare`
   * when the repository cannot be read.
   * @param request.branch the branch that would receive the work.
   */
  probe(
    request: {
      readonly repo: string;
      readonly auth: GitAuth | null;
      readonly base: string | null;
      readonly branch: string;
    },
    signal: AbortSignal,
  ): Promise<RepositoryProbe>;
  /** True when an earlier task of this user has fetched the repository. */
  hasMirror(userId: string, repo: string): Promise<boolean>;
  /**
   * Absolute path of the bare task repository, for the broker to serve. Removes lock files that a
   * killed git has left there.
   */
  path(taskId: string): string;
  /** The commit that a ref of the task repository points at, or null. */
  resolve(taskId: string, ref: string): Promise<string | null>;
  /**
   * Reads one file of a commit, at most `maxBytes`, from the object database: no checkout, no
   * filters, no links followed.
   */
  file(taskId: string, sha: string, path: string, maxBytes: number): Promise<RepositoryFile>;
  /**
   * The files of a commit, each with the id of its content. Null when there are too many to read.
   */
  fileIds(taskId: string, sha: string): Promise<readonly FileId[] | null>;
  /** True when the task repository holds that commit. */
  has(taskId: string, sha: string): Promise<boolean>;
  /**
   * Compares the upstream branch with `work`, a commit of the task repository (null = `baseSha`),
   * and asks whether a push would be let in. Rejects like `prepare`; changes nothing upstream.
   */
  compareBranch(
    task: TaskRepository & {
      readonly branch: string;
      readonly baseSha: string;
      readonly work: string | null;
      readonly expect: string | null;
    },
    signal: AbortSignal,
  ): Promise<BranchComparison>;
  /**
   * What the guard (src/core/values/push-guard.ts) finds in the new commits up to `head`.
   * @param secrets whose values, in a file, a name or a message, are findings under any rules.
   */
  inspect(
    taskId: string,
    base: string,
    head: string,
    signal: AbortSignal,
    secrets?: readonly KnownSecret[],
  ): Promise<Finding[]>;
  /**
   * The change without these files and folders, as one commit on what the upstream has. Gives the
   * same commit each time. @throws TaskFailure `push_held` when nothing would be left.
   */
  leaveOut(
    change: {
      readonly taskId: string;
      readonly base: string;
      readonly head: string;
      readonly expect: string | null;
      readonly paths: readonly string[];
    },
    signal: AbortSignal,
  ): Promise<string>;
  /**
   * The same commits with the signature of the installation, where it has a key. Those that the
   * base, the upstream or `expect` has stay as they are. Gives the same commit each time.
   */
  sign(
    work: {
      readonly taskId: string;
      readonly base: string;
      readonly head: string;
      readonly expect: string | null;
    },
    signal: AbortSignal,
  ): Promise<string>;
  /**
   * Pushes one commit to one upstream branch by SHA, with lease. The branch may point at `expect`,
   * at a commit that this task or one that it continues has pushed (with or without an answer), or
   * at an ancestor of `sha`. Other work is never replaced, also where the lineage's own commits
   * stand on it. Idempotent: a branch that contains `sha` counts as pushed, and so does one that
   * was deleted after it had contained it. Rejects with `repo_incomplete` when objects are missing
   * here.
   */
  push(
    task: TaskRepository & { readonly sha: string; readonly branch: string; readonly expect: string | null },
    signal: AbortSignal,
  ): Promise<void>;
  /**
   * The changed files between two commits. All patches together are cut at 256 KiB, and `truncated`
   * is set.
   */
  diff(taskId: string, base: string, head: string): Promise<Diff>;
  /**
   * One changed file by its new path, its patch up to 2 MiB (`null` above). @throws SlipwayError
   * `not_found` when it did not change, or is not among the first 3,000 files.
   */
  diffFile(taskId: string, base: string, head: string, path: string): Promise<DiffFile>;
  /**
   * The bytes of a changed file, by its new path. @throws SlipwayError `not_found` when it did not
   * change or is no file on that side, `payload_too_large` above 10 MiB.
   */
  diffContent(taskId: string, base: string, head: string, path: string, side: DiffSide): Promise<Buffer>;
  /**
   * The same changes as one patch for `git apply`. @throws SlipwayError `payload_too_large` above
   * 10 MiB.
   */
  patch(taskId: string, base: string, head: string): Promise<string>;
  /** Task ids that have a repository here. */
  list(): Promise<string[]>;
  /** All mirrors and task repositories, without what is arriving. */
  usage(): Promise<StoredRepository[]>;
  /**
   * Removes the mirrors of a person, but for those that are in use. Idempotent.
   * @returns true when none is left.
   */
  removePerson(userId: string): Promise<boolean>;
  /** Bytes on disk of a task repository, without the mirror's objects. */
  size(taskId: string): Promise<number>;
  /** Removes the task repository. Idempotent. */
  remove(taskId: string): Promise<void>;
  /**
   * Removes mirrors that were last used before `before` (epoch ms) and from which no task
   * repository borrows. Waits for a fetch of the same mirror.
   */
  reclaim(before: number, mode: GcMode, signal: AbortSignal): Promise<Garbage[]>;
  /**
   * Merges small packs of the mirrors and task repositories that have many, so that their number is
   * bounded. Fetches, pushes and reads go on meanwhile. Rejects only when aborted.
   * @returns the repositories whose packs were merged, or could not be.
   */
  mergePacks(signal: AbortSignal): Promise<MergedPacks[]>;
  /**
   * All mirrors and task repositories that are not complete. Changes nothing; reads every commit
   * and tree of each mirror, so it takes seconds on a large one. A task repository is compared with
   * its mirror only.
   */
  check(signal: AbortSignal): Promise<IncompleteRepository[]>;
  /**
   * Marks a repository whose objects cannot be read: its mirror is fetched again in full at its
   * next use, and a task repository with holes of its own is created anew. Idempotent.
   */
  distrust(repository: Pick<IncompleteRepository, "kind" | "name">): Promise<void>;
  /**
   * True when the base of the task repository cannot be read in full; then it is also marked as by
   * `distrust`. Costs as much as a checkout's enumeration of objects.
   */
  isBaseUnreadable(taskId: string, signal: AbortSignal): Promise<boolean>;
  /** Ends the fetches that still run. */
  close(): Promise<void>;
}

/** A pull request to open; `head` and `base` are branches of the same repository. */
export interface PullRequestRequest {
  readonly repo: string;
  readonly auth: GitAuth | null;
  readonly head: string;
  /** The commit that was pushed to `head`. */
  readonly headSha: string;
  readonly base: string;
  readonly title: string;
  /** Markdown. Contains `marker`. */
  readonly body: string;
  readonly draft: boolean;
  /** Text that no other task's pull request contains. */
  readonly marker: string;
}

/** The checks of the newest commit of a pull request: statuses and check runs. */
export interface PullRequestChecks {
  readonly passed: number;
  readonly failed: number;
  /** Not ended yet. */
  readonly running: number;
  /** Names of those that failed, at most ten. */
  readonly failing: readonly string[];
}

export interface PullRequestStatus {
  /** `open`, `draft`, `closed` or `merged`. */
  readonly state: string;
  /** Null when the credential may not read them. */
  readonly checks: PullRequestChecks | null;
}

/**
 * Opens pull requests in the repositories of one host. Contract in test/contract/forge.ts.
 * - `openPullRequest` is idempotent: it adopts the open pull request of the head branch, whoever
 *   opened it, and leaves its title and body as they are. A closed or merged one is adopted when it
 *   has the marker, or was merged with the same commit.
 * - It rejects with TaskFailure `pull_request_auth`, `pull_request_rejected`, `forge_unreachable`
 *   or `forge_rate_limited`; an aborted call with the signal's reason.
 */
export interface Forge {
  /** For people, such as "GitHub". */
  readonly name: string;
  /** `host` or `host:port` of its repositories. */
  readonly host: string;
  /** True when this forge serves the repository. */
  serves(repo: string): boolean;
  openPullRequest(request: PullRequestRequest, signal: AbortSignal): Promise<PullRequest>;
  /** As it is now. At most three calls; the first 100 checks count. Rejects as the other does. */
  readPullRequest(
    request: Pick<PullRequestRequest, "repo" | "auth"> & { readonly number: number },
    signal: AbortSignal,
  ): Promise<PullRequestStatus>;
  /** Whose token it is. Rejects with `forge_unreachable` or `forge_rate_limited`. */
  readToken(auth: GitAuth, signal: AbortSignal): Promise<TokenAnswer>;
}

/** How this installation opens pull requests. */
export interface PullRequestOptions {
  /** Origin under which people reach this server; absent = pull requests link no task. */
  readonly publicUrl?: string | null;
  /** Of tasks that do not say, where a forge serves their repository; absent = none. */
  readonly pullRequest?: PullRequestMode;
}
