/** The sandbox port: one isolated environment per attempt. */
import type { GcMode, Garbage, IsNeeded } from "../lib/garbage.ts";
import type { Limits } from "../task.ts";

export interface SandboxSpec {
  /** `slipway-<task>-a<attempt>`; unique per engine, which makes `ensure` idempotent. */
  readonly name: string;
  readonly taskId: string;
  readonly attempt: number;
  /** Directory of the broker's socket `b.sock`: mounted by Docker, used directly by processes. */
  readonly socketDir: string;
  /** The attempt's token; invalid once the attempt is over. */
  readonly token: string;
  readonly limits: Limits;
  /** The task's agent; absent = unknown. Adapters that isolate ignore it. */
  readonly agent?: string;
  /** Canonical name (src/core/values/image-reference.ts); null or absent = Slipway's own image. */
  readonly image?: string | null;
  /**
   * Finds the disk image that the workspace may begin as a copy of (decision 072). Called by
   * adapters that can copy one, before the sandbox exists. Absent = the workspace begins empty.
   */
  readonly findSetupDisk?: (place: SetupDiskPlace) => Promise<SetupDisk | null>;
}

/** Where a disk image of a setup fits. */
export interface SetupDiskPlace {
  /** See SetupPlace. */
  readonly environment: string;
  readonly sizeMb: number;
}

export interface SetupDisk {
  /** Names what is on it. */
  readonly digest: string;
  /** A file that nobody changes; it may disappear. */
  readonly path: string;
}

export interface SandboxExit {
  /** Null when unknown: the sandbox is gone, or something outside Slipway killed it. */
  readonly exitCode: number | null;
  readonly outOfMemory: boolean;
  /** True when the worker failed and its workspace was full. */
  readonly diskFull: boolean;
  /** The end of the worker's log, at most 4,000 characters. */
  readonly tail: string;
}

export interface SandboxInfo {
  readonly name: string;
  readonly taskId: string;
  readonly attempt: number;
  readonly state: "created" | "running" | "exited";
}

/** The pool of workers that are started before their task is known. */
export interface PoolStatus {
  readonly wanted: number;
  readonly ready: number;
  /**
   * Why fewer workers than wanted are ready, as a text for operators; null when enough are ready or
   * being started.
   */
  readonly reason: string | null;
}

export interface SetupPlace {
  /** The same text = the same system, programs and folders. */
  readonly environment: string;
  /** A folder that has another path in each sandbox; null = the paths are the same in all. */
  readonly folder: string | null;
  /** The digest of the disk image that the workspace began as; null or absent = it began empty. */
  readonly digest?: string | null;
  /** The size of the workspace where one may begin as a copy, MiB; null or absent = it may not. */
  readonly sizeMb?: number | null;
}

/** What workspaces take of a disk of this machine. */
export interface WorkspaceUse {
  /** A folder on that disk. */
  readonly dir: string;
  /** Bytes by the name of the sandbox; none of those whose use is not known yet. */
  readonly bytes: ReadonlyMap<string, number>;
}

/** One mechanism that confines a worker. The detail of a `degraded` one states its consequence. */
export interface HardeningCheck {
  readonly name: string;
  readonly state: "full" | "degraded";
  readonly detail: string;
}

/**
 * Runs one worker per attempt. Contract in test/contract/sandbox.ts.
 * - Lifecycle: ensure -> (wait) -> stop -> (salvage) -> remove.
 * - Every call is idempotent, and safe after a crash between any two calls.
 * - Calls may run concurrently; `wait` resolves when `stop` or `remove` ends the sandbox.
 * - Every call that is not documented to never reject rejects with TaskFailure
 *   `sandbox_unavailable` when the engine does not answer, and with the signal's reason when it is
 *   aborted.
 */
export interface Sandbox {
  readonly kind: string;
  /** False when the worker can reach the host; user interfaces show a warning then. */
  readonly isolates: boolean;
  /**
   * False while a sandbox for tasks of this agent cannot be created, so that they wait in the
   * queue. Absent = all agents are alike.
   */
  isAvailableFor?(agent: string): boolean;
  /**
   * False when the sandbox of this name must not run commands that its repository brought (setup,
   * checks, tool servers), because nothing isolates it. Absent = they run.
   */
  runsRepositoryCommands?(name: string): boolean;
  /**
   * What the results of a setup in the sandbox of this name depend on beside its commands. Null or
   * absent = they are of no use to another sandbox.
   */
  setupPlace?(name: string, signal: AbortSignal): Promise<SetupPlace | null>;
  /**
   * Makes a disk image of a setup's archive, which is hostile: it is unpacked where a worker would
   * unpack it. Rejects unless the image is whole.
   */
  makeSetupDisk?(
    place: SetupDiskPlace,
    files: { readonly archive: string; readonly disk: string },
    signal: AbortSignal,
  ): Promise<void>;
  /** Checks that the engine answers. @returns one line that describes it. */
  check(signal?: AbortSignal): Promise<string>;
  /**
   * A local folder on the disk that holds the sandboxes' files; null when it is the data folder's
   * disk or another machine. Never rejects.
   */
  storage(): Promise<string | null>;
  /**
   * What the workspaces take now; null = no room of a disk of this machine. Absent = nothing bounds
   * their sizes.
   */
  workspaces?(): Promise<WorkspaceUse | null>;
  /** The engine's isolation mechanisms, for `doctor`; empty for adapters without any. */
  hardeningChecks(signal?: AbortSignal): Promise<readonly HardeningCheck[]>;
  /**
   * Makes the image ready for `ensure`; null or absent = Slipway's own image. Concurrent calls for
   * one image share the work; `progress` receives texts for people. Rejects with TaskFailure
   * `image_missing` (no such image, or no worker can run in it) or `image_pull_failed`. The caller
   * checks before that the image is allowed (src/core/values/image-reference.ts). Adapters without
   * images ignore `image`.
   */
  prepare(progress: (text: string) => void, signal: AbortSignal, image?: string | null): Promise<void>;
  /**
   * When it resolves, a sandbox of that name is running or has exited. An existing sandbox is
   * adopted, never duplicated, and an exited one is not started again.
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
   * Resolves when the sandbox is not running: it exited, or does not exist (exitCode null). The
   * result is read from the stopped sandbox only.
   */
  wait(name: string, signal: AbortSignal): Promise<SandboxExit>;
  /**
   * Sends SIGTERM, and SIGKILL after `graceMs`. Resolves when the sandbox is not running, also for
   * an unknown name.
   */
  stop(name: string, graceMs: number, signal?: AbortSignal): Promise<void>;
  /** Removes the sandbox and its files, running or not. Resolves for an unknown name. */
  remove(name: string): Promise<void>;
  /**
   * The workspace of a stopped sandbox as a tar with names under `workspace/`, read without running
   * anything inside. Null when the sandbox does not exist or has no files. The content is hostile
   * and unbounded. The caller must read to the end or abort.
   */
  salvage(name: string, signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | null>;
  /** All sandboxes of this installation, running or not. */
  list(): Promise<SandboxInfo[]>;
  /**
   * Removes volumes, networks and folders of this installation whose sandbox `list` does not show
   * and no attempt needs.
   */
  reclaim(isNeeded: IsNeeded, mode: GcMode, signal: AbortSignal): Promise<Garbage[]>;
  /** Removes images that no task will use again. Slower than `reclaim`. */
  reclaimImages(mode: GcMode, signal: AbortSignal): Promise<Garbage[]>;
  /** Ends watchers and connections; running sandboxes stay. */
  close(): Promise<void>;
}
