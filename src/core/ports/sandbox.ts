/** The sandbox port: one isolated environment per attempt. */
import type { GcMode, Garbage, IsNeeded } from "../lib/garbage.ts";
import type { Limits } from "../task.ts";

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
export interface PoolStatus {
  readonly wanted: number;
  readonly ready: number;
  /**
   * Why there are fewer than wanted, in words for operators; null when there are not, or when it is
   * only a matter of time.
   */
  readonly reason: string | null;
}

/** One mechanism that confines a worker. The detail of a `degraded` one states its consequence. */
export interface HardeningCheck {
  readonly name: string;
  readonly state: "full" | "degraded";
  readonly detail: string;
}

/**
 * Runs one worker per attempt. Lifecycle: ensure -> (wait) -> stop -> (salvage) -> remove. Contract
 * in test/contract/sandbox.ts.
 * - Every call is idempotent and safe after a crash between any two of them.
 * - All reject with TaskFailure `sandbox_unavailable` when the engine does not answer.
 */
export interface Sandbox {
  readonly kind: string;
  /** False when the worker can reach the host: the user is told so. */
  readonly isolates: boolean;
  /**
   * One line for people; rejects with TaskFailure `sandbox_unavailable` when the engine does not
   * answer.
   */
  check(signal?: AbortSignal): Promise<string>;
  /**
   * The folder of this machine on whose disk the engine keeps what sandboxes write; null = none
   * besides the data folder, or elsewhere. Never rejects.
   */
  storage(): Promise<string | null>;
  /**
   * What the engine does to keep a worker in its place, for `doctor`; empty where nothing does.
   * Rejects as `check` does.
   */
  hardeningChecks(signal?: AbortSignal): Promise<readonly HardeningCheck[]>;
  /**
   * Makes what a sandbox on this image needs; null or absent: on Slipway's own. Reports progress in
   * words; callers at the same time share the work. Rejects with `image_missing` (no such image, or
   * no worker can run in it) or `image_pull_failed`. Adapters without images ignore `image`.
   * Whether an image may be used is judged before (src/core/values/image-reference.ts).
   */
  prepare(progress: (text: string) => void, signal: AbortSignal, image?: string | null): Promise<void>;
  /**
   * After it resolves a sandbox of that name runs, or has run and exited. One that exists already
   * is adopted, never doubled: the name is unique per engine. An exited one is not started again.
   */
  ensure(spec: SandboxSpec, signal: AbortSignal): Promise<void>;
  /**
   * Starts workers ahead of their task if `grow` is set, so that `ensure` is quick, and removes
   * pooled workers whose settings are outdated. Called periodically. Never rejects, because no task
   * depends on it: `poolStatus` reports failures.
   */
  maintainPool(options: { readonly grow: boolean }, signal: AbortSignal): Promise<void>;
  /** Null = nothing can be started ahead. Rejects like the other calls. */
  poolStatus(signal?: AbortSignal): Promise<PoolStatus | null>;
  /**
   * Resolves when the sandbox is not running: stopped, or gone (exitCode null). Judges only what
   * stopped.
   */
  wait(name: string, signal: AbortSignal): Promise<SandboxExit>;
  /**
   * SIGTERM, then SIGKILL after `graceMs`. Resolves when it is not running. Unknown name: resolves.
   */
  stop(name: string, graceMs: number, signal?: AbortSignal): Promise<void>;
  /** Kills it if need be and forgets it. Unknown name: resolves. */
  remove(name: string): Promise<void>;
  /**
   * The workspace of a sandbox that is not running, as a tar whose names begin with `workspace/`;
   * read without running anything in it. Null when the sandbox is gone or keeps no files. Content
   * and order are the worker's: hostile, and larger than anybody wants. Abort it, or read to the
   * end.
   */
  salvage(name: string, signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | null>;
  /** Everything of this installation that exists, running or not. */
  list(): Promise<SandboxInfo[]>;
  /**
   * What belongs to sandboxes of this installation that `list` does not show and nobody wants:
   * volumes, networks, folders. Idempotent.
   */
  reclaim(wanted: IsNeeded, mode: GcMode, signal: AbortSignal): Promise<Garbage[]>;
  /** Images that no task will use again. Dearer than `reclaim`. */
  reclaimImages(mode: GcMode, signal: AbortSignal): Promise<Garbage[]>;
  /** Lets go of watchers; running sandboxes stay. */
  close(): Promise<void>;
}
