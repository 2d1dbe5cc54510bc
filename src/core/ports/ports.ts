/**
 * The outside world as interfaces. Every port is asynchronous, every long wait takes an AbortSignal, every resource has `close()`.
 * The store's is beside this (store-port.ts). Adapters live in store/, bus/, sandbox/, git/, forge/ and are named only by main.ts.
 */
import type { BudgetStanding } from "../budget.ts";
import type { GcMode, Leftover, Wanted } from "../lib/garbage.ts";
import type { Limits } from "../task.ts";
import type { TranscriptDesk } from "./transcripts.ts";
import type { WorkerAck, WorkerBatch, WorkerCommand, WorkerSpec } from "../protocol/worker.ts";

// ---------------------------------------------------------------- time, ids, chance

export interface Clock {
  /** Epoch ms. */
  now(): number;
  /** Resolves after `ms`; rejects with an AbortError when aborted. Never resolves early. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Calls back once after `ms`, never early; the returned function calls it off. Cheaper than a sleep that is aborted. */
  timer(ms: number, wake: () => void): () => void;
}

export interface Ids {
  /** `<prefix>_<26 characters>`: unique, sortable by time of creation within one process. */
  next(prefix: string): string;
  /** 0 <= x < 1. */
  random(): number;
}

/** What verbs and doors write their diary with; pino satisfies it. Fields first, words second. */
export interface Log {
  debug(fields: object, text: string): void;
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
}

/** An address, not data (rule R4): "this task has grown to this seq". */
export interface Hint {
  readonly taskId: string;
  readonly userId: string;
  readonly seq: number;
}

/** A piece of text on its way to the screen; never stored, may be dropped (rule F4). */
export interface Delta {
  readonly taskId: string;
  readonly userId: string;
  readonly messageId: string;
  readonly text: string;
}

/** Carries hints to whoever listens. A lost hint costs latency, never data; listeners must not throw. */
export interface Bus {
  announce(hint: Hint): void;
  whisper(delta: Delta): void;
  onHint(listener: (hint: Hint) => void): () => void;
  onDelta(listener: (delta: Delta) => void): () => void;
  close(): Promise<void>;
}

// ---------------------------------------------------------------- sandbox

export interface SandboxSpec {
  /** `slipway-<task>-a<attempt>`: the fence against a second create. */
  readonly name: string;
  readonly taskId: string;
  readonly attempt: number;
  /** The broker's socket directory; it holds `b.sock`. Mounted (Docker) or used as it is. */
  readonly socketDir: string;
  /** Good for this attempt only. */
  readonly token: string;
  readonly limits: Limits;
  /** Canonical name (src/core/values/image-reference.ts); null or absent = Slipway's own image. */
  readonly image?: string | null;
}

export interface SandboxExit {
  /** Null when it is not known: the sandbox is gone, or was killed from outside without a trace. */
  readonly exitCode: number | null;
  readonly outOfMemory: boolean;
  /** It did not end well, and its workspace had no room left. */
  readonly diskFull: boolean;
  /** Tail of the log, at most 4,000 characters. */
  readonly tail: string;
}

export interface SandboxInfo {
  readonly name: string;
  readonly taskId: string;
  readonly attempt: number;
  readonly state: "created" | "running" | "exited";
}

/** Workers that were started ahead of their task. */
export interface Warmth {
  readonly wanted: number;
  readonly ready: number;
  /** Why there are fewer than wanted, in words for operators; null when there are not, or when it is only a matter of time. */
  readonly reason: string | null;
}

/** One wall around a worker. `weaker`: it is lower than it could be, and the detail says what that means. */
export interface Capability {
  readonly name: string;
  readonly state: "full" | "weaker";
  readonly detail: string;
}

/**
 * Runs one worker per attempt. Lifecycle: ensure -> (wait) -> stop -> (salvage) -> remove. Contract in test/contract/sandbox.ts.
 * - Every call is idempotent and safe after a crash between any two of them.
 * - All reject with TaskFailure `sandbox_unavailable` when the engine does not answer.
 */
export interface Sandbox {
  readonly kind: string;
  /** False when the worker can reach the host: the user is told so. */
  readonly isolates: boolean;
  /** One line for people; rejects with TaskFailure `sandbox_unavailable` when the engine does not answer. */
  check(signal?: AbortSignal): Promise<string>;
  /** The folder of this machine on whose disk the engine keeps what sandboxes write; null = none besides the data folder, or elsewhere. Never rejects. */
  storage(): Promise<string | null>;
  /** What the engine does to keep a worker in its place, for `doctor`; empty where nothing does. Rejects as `check` does. */
  capabilities(signal?: AbortSignal): Promise<readonly Capability[]>;
  /**
   * Makes what a sandbox on this image needs; null or absent: on Slipway's own. Reports progress in words; callers at the same time share the work.
   * Rejects with `image_missing` (no such image, or no worker can run in it) or `image_pull_failed`. Adapters without images ignore `image`.
   * Whether an image may be used is judged before (src/core/values/image-reference.ts).
   */
  prepare(progress: (text: string) => void, signal: AbortSignal, image?: string | null): Promise<void>;
  /**
   * After it resolves a sandbox of that name runs, or has run and exited. One that exists already is adopted, never doubled:
   * the name is unique per engine. An exited one is not started again.
   */
  ensure(spec: SandboxSpec, signal: AbortSignal): Promise<void>;
  /**
   * Keeps ready what can be started ahead of a task, so that `ensure` is quick; removes what is ready and does not fit any more.
   * `hold` = starts nothing. Called over and over; never rejects, because no task depends on it: `warmth` tells what is wrong.
   */
  tend(growth: "grow" | "hold", signal: AbortSignal): Promise<void>;
  /** Null = nothing can be started ahead. Rejects like the other calls. */
  warmth(signal?: AbortSignal): Promise<Warmth | null>;
  /** Resolves when the sandbox is not running: stopped, or gone (exitCode null). Judges only what stopped. */
  wait(name: string, signal: AbortSignal): Promise<SandboxExit>;
  /** SIGTERM, then SIGKILL after `graceMs`. Resolves when it is not running. Unknown name: resolves. */
  stop(name: string, graceMs: number, signal?: AbortSignal): Promise<void>;
  /** Kills it if need be and forgets it. Unknown name: resolves. */
  remove(name: string): Promise<void>;
  /**
   * The workspace of a sandbox that is not running, as a tar whose names begin with `workspace/`; read without running anything in it. Null when
   * the sandbox is gone or keeps no files. Content and order are the worker's: hostile, and larger than anybody wants. Abort it, or read to the end.
   */
  salvage(name: string, signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | null>;
  /** Everything of this installation that exists, running or not. */
  list(): Promise<SandboxInfo[]>;
  /** What belongs to sandboxes of this installation that `list` does not show and nobody wants: volumes, networks, folders. Idempotent. */
  reclaim(wanted: Wanted, mode: GcMode, signal: AbortSignal): Promise<Leftover[]>;
  /** Images that no task will use again. Dearer than `reclaim`. */
  reclaimImages(mode: GcMode, signal: AbortSignal): Promise<Leftover[]>;
  /** Lets go of watchers; running sandboxes stay. */
  close(): Promise<void>;
}

// ---------------------------------------------------------------- git

/** A person's git credential in clear, for the length of one call. Never logged, never in argv, URL, environment of a worker, or on disk. */
export interface GitAuth {
  readonly username: string;
  readonly token: string;
}

export interface RepoTask {
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

export type RepoFile =
  | { readonly kind: "absent" }
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "unusable"; readonly why: string };

/** Refs of a task repository that the worker may write and the coordinator reads. */
export const WORK_REF = "refs/slipway/work";
export const checkpointRef = (attempt: number): string => `refs/slipway/checkpoints/${attempt}`;

/**
 * The upstream's mirror and the per-task repositories. Contract in test/contract/repositories.ts.
 * Failures are TaskFailures: repo_auth, repo_not_found, repo_unreachable, branch_not_found; push_auth, push_rejected, push_workflow_scope, remote_unreachable.
 */
export interface Repos {
  /**
   * Fetches the mirror (serialised per mirror) and makes the task repository from it if absent; idempotent.
   * `parentTaskId`: the parent's saved work (WORK_REF, checkpoints) is fetched into it too.
   * @returns the commit that `base` (null: the default branch) points at, and that branch's name. A repository made before keeps its base.
   */
  prepare(
    task: RepoTask & { readonly base: string | null; readonly parentTaskId: string | null },
    signal: AbortSignal,
  ): Promise<{ baseSha: string; base: string }>;
  /** True when this person's tasks have reached the repository before. */
  known(userId: string, repo: string): Promise<boolean>;
  /** Absolute path of the bare task repository, for the broker to serve. */
  path(taskId: string): string;
  /** The commit that a ref of the task repository points at, or null. */
  resolve(taskId: string, ref: string): Promise<string | null>;
  /**
   * One file of a commit, as the coordinator reads it: nothing is checked out, no filter runs, nothing is followed. Reads at most `maxBytes`.
   * `unusable`: it is there, but is a link, a folder, a submodule, too large or not UTF-8; `why` is a sentence.
   */
  file(taskId: string, sha: string, path: string, maxBytes: number): Promise<RepoFile>;
  /** True when the task repository holds that commit. */
  has(taskId: string, sha: string): Promise<boolean>;
  /**
   * Pushes one commit to one upstream branch by SHA with lease. `expect`: what the branch must point at now if it exists, null = it must not.
   * A branch that is gone is made again (a merged pull request often takes its branch along): there is nothing to overwrite.
   * A branch that points at `sha` already counts as pushed (idempotent).
   */
  push(
    task: RepoTask & { readonly sha: string; readonly branch: string; readonly expect: string | null },
    signal: AbortSignal,
  ): Promise<void>;
  /** Files between two commits of the task repository; patches cut at 256 KiB in all (`truncated`). */
  diff(taskId: string, base: string, head: string): Promise<Diff>;
  /** The same as one patch that `git apply` takes; SlipwayError `payload_too_large` when it is larger than 10 MiB. */
  patch(taskId: string, base: string, head: string): Promise<string>;
  /** Task ids that have a repository here. */
  list(): Promise<string[]>;
  /** Bytes on disk of a task's repository, without what it borrows. */
  size(taskId: string): Promise<number>;
  /** Removes the task repository. Idempotent. */
  remove(taskId: string): Promise<void>;
  /** Mirrors that were last used before `before` (epoch ms) and that no task repository borrows from. Waits for a fetch under way. */
  reclaim(before: number, mode: GcMode, signal: AbortSignal): Promise<Leftover[]>;
}

// ---------------------------------------------------------------- broker

export interface BrokerEndpoint {
  readonly socketDir: string;
  readonly token: string;
}

/** One listener per attempt: the only door that a worker sees. */
export interface Broker {
  /** Idempotent; after a restart the same attempt gets the same address and token, so that a running worker reconnects. */
  open(taskId: string, attempt: number): Promise<BrokerEndpoint>;
  /** Refuses everything from then on. Idempotent. */
  shut(taskId: string, attempt: number): Promise<void>;
  /** What a crash left of attempts that are over. Never touches one that is open. */
  reclaim(wanted: Wanted, mode: GcMode): Promise<Leftover[]>;
  close(): Promise<void>;
}

// ---------------------------------------------------------------- forge

/** Opens pull requests. Find-or-create by head branch, so that doing it twice gives the same one. */
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

// ---------------------------------------------------------------- what the broker calls

/**
 * The verbs behind the worker protocol (implemented by src/coordinator/services/worker.ts, called by the broker and by the in-process link of simulated workers).
 * All throw `stale_attempt` once the attempt is over, and all but that count as a sign of life.
 */
export interface WorkerDesk extends TranscriptDesk {
  /** Waits until the attempt's repository is ready; rejects with the signal's reason. */
  spec(taskId: string, attempt: number, signal: AbortSignal): Promise<WorkerSpec>;
  /** Resolves after the batch is durable. Resent events are dropped. Throws `sequence_gap` (a SequenceGap with `ack`) on a hole; nothing was written then. */
  accept(taskId: string, batch: WorkerBatch): Promise<WorkerAck>;
  /** After the gateway refused a request for the budget. A question that is due is open when it resolves. */
  budget(taskId: string, attempt: number): Promise<BudgetStanding>;
  /** Commands with id > after; waits up to `waitMs` for the first. */
  commands(taskId: string, attempt: number, after: number, waitMs: number, signal: AbortSignal): Promise<WorkerCommand[]>;
}
