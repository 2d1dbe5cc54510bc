/**
 * Workers as processes of this machine, without isolation. A worker and its supervisor
 * (process-dir.ts) run in their own session with their output in a file, so they survive the
 * coordinator, and the next one finds them by their folder.
 */
import { setMaxListeners } from "node:events";
import { mkdir, open, stat } from "node:fs/promises";
import { release } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { errorMessage, isAbort } from "../../core/error.ts";
import { TaskFailure } from "../../core/failure.ts";
import { withAnySignal } from "../../core/lib/concurrency/async.ts";
import { diskUsage } from "../../core/lib/disk/disk-usage.ts";
import { createMark, type ProcessMark } from "../../core/lib/runtime/process-mark.ts";
import { startProcess } from "../../core/lib/runtime/process-group.ts";
import { removeGarbage, type GcMode, type Garbage, type IsNeeded } from "../../core/lib/garbage.ts";
import { WORKER_ENV } from "../../core/protocol/worker.ts";
import type {
  HardeningCheck,
  PoolStatus,
  Sandbox,
  SandboxExit,
  SandboxInfo,
  SandboxSpec,
  SetupPlace,
} from "../../core/ports/sandbox.ts";
import { WORKSPACE } from "../../core/values/artifact.ts";
import { createWorkspaceTar } from "../workspace-tar.ts";
import {
  createProcessDir,
  listProcessDirs,
  readClaim,
  readExit,
  readLogTail,
  readOwner,
  recordExit,
  removeProcessDir,
  reserve,
  SUPERVISOR_SCRIPT,
  truncateLog,
} from "./process-dir.ts";
import { isAlive, killFollowers, sendSignal, startTicks, type Marks, type ProcessId } from "./processes.ts";

export interface ProcessSandboxOptions {
  /** Parent of the sandboxes' folders. Used by one coordinator at a time. */
  readonly dir: string;
  /** The worker's program, run by `node`. */
  readonly workerFile: string;
  /** Sandboxes of other installations are neither listed nor adopted. */
  readonly instance: string;
  /** For the crash suite: called between the steps of ensure. */
  readonly crashpoint?: (name: string) => void;
}

const POLL_MS = 50;
/** Longest time from the start of a supervisor to its claim, ms. */
const CLAIM_MS = 15_000;
/** Longest time from the worker's death until the supervisor has recorded its exit, ms. */
const RECORD_MS = 3_000;
const GONE: SandboxExit = { exitCode: null, outOfMemory: false, diskFull: false, tail: "" };

type ProcessState =
  | { readonly state: "absent" }
  | { readonly state: "created" }
  | { readonly state: "running"; readonly supervisor: ProcessId }
  | { readonly state: "exited"; readonly exit: number | "lost" };

export function openProcessSandbox(options: ProcessSandboxOptions): Sandbox {
  return new ProcessSandbox(options);
}

class ProcessSandbox implements Sandbox {
  readonly kind = "process";
  readonly isolates = false;

  readonly #root: string;
  readonly #workerFile: string;
  readonly #instance: string;
  readonly #crashpoint: (name: string) => void;
  readonly #closing = new AbortController();

  constructor({ dir, workerFile, instance, crashpoint = () => undefined }: ProcessSandboxOptions) {
    // One for each wait.
    setMaxListeners(0, this.#closing.signal);
    this.#root = join(resolve(dir), "sandboxes");
    this.#workerFile = resolve(workerFile);
    this.#instance = instance;
    this.#crashpoint = crashpoint;
  }

  async check(): Promise<string> {
    await withTaskFailures(() => mkdir(this.#root, { recursive: true, mode: 0o700 }));
    return "worker processes: NOT ISOLATED - agents run as this user with this machine's files and network; memory and CPU limits are not enforced";
  }

  setupPlace(name: string): Promise<SetupPlace> {
    const { platform, arch, version } = process;
    const environment = `process ${platform} ${release()} ${arch} ${version} ${process.env["PATH"] ?? ""}`;
    return Promise.resolve({ environment, folder: this.#getDir(name) });
  }

  hardeningChecks(): Promise<readonly HardeningCheck[]> {
    return Promise.resolve([]);
  }

  storage(): Promise<null> {
    return Promise.resolve(null);
  }

  async prepare(_progress: (text: string) => void, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const stats = await stat(this.#workerFile).catch(() => null);
    if (stats?.isFile() === true) return;
    throw new TaskFailure("image_missing", {
      detail: "The worker's program is missing: run `npm run build`.",
      evidence: this.#workerFile,
    });
  }

  ensure(spec: SandboxSpec, signal: AbortSignal): Promise<void> {
    return withTaskFailures(() => this.#ensure(spec, signal), signal);
  }

  maintainPool(): Promise<void> {
    return Promise.resolve();
  }

  poolStatus(): Promise<PoolStatus | null> {
    return Promise.resolve(null);
  }

  wait(name: string, signal: AbortSignal): Promise<SandboxExit> {
    const signals = [signal, this.#closing.signal];
    return withTaskFailures(() => withAnySignal(signals, (stop) => this.#wait(this.#getDir(name), stop)), signal);
  }

  stop(name: string, graceMs: number, signal?: AbortSignal): Promise<void> {
    return withTaskFailures(() => this.#stop(this.#getDir(name), graceMs, signal), signal);
  }

  remove(name: string): Promise<void> {
    return withTaskFailures(() => this.#remove(name));
  }

  salvage(name: string, signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | null> {
    return withTaskFailures(() => this.#salvage(name, signal), signal);
  }

  list(): Promise<SandboxInfo[]> {
    return withTaskFailures(() => this.#list());
  }

  reclaim(isNeeded: IsNeeded, mode: GcMode): Promise<Garbage[]> {
    return withTaskFailures(() => this.#reclaim(isNeeded, mode));
  }

  reclaimImages(): Promise<Garbage[]> {
    return Promise.resolve([]);
  }

  close(): Promise<void> {
    this.#closing.abort();
    return Promise.resolve();
  }

  #getDir(name: string): string {
    if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,120}$/.test(name))
      throw new TaskFailure("internal", { detail: `${name} is not a valid sandbox name.` });
    return join(this.#root, name);
  }

  async #ensure(spec: SandboxSpec, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const dir = this.#getDir(spec.name);
    const expected = { instance: this.#instance, taskId: spec.taskId, attempt: spec.attempt };
    await createProcessDir(this.#root, spec.name, expected);
    this.#crashpoint("sandbox.created");
    const owner = await readOwner(dir);
    const isOwned =
      owner?.instance === expected.instance && owner.taskId === expected.taskId && owner.attempt === expected.attempt;
    if (!isOwned) {
      throw new TaskFailure("sandbox_unavailable", {
        detail: `A sandbox named ${spec.name} belongs to something else.`,
      });
    }
    if ((await readState(dir)).state === "created") await this.#startSupervisor(dir, spec, signal);
  }

  async #startSupervisor(dir: string, spec: SandboxSpec, signal: AbortSignal): Promise<void> {
    const log = await open(join(dir, "log"), "a", 0o600);
    try {
      const args = [
        "-c",
        SUPERVISOR_SCRIPT,
        "keeper",
        dir,
        process.execPath,
        this.#workerFile,
        createSandboxMark(dir).kib,
      ];
      const supervisor = await startProcess("/bin/sh", args, {
        cwd: dir,
        env: createWorkerEnv(dir, spec),
        detached: true,
        stdio: ["ignore", log.fd, log.fd],
      });
      supervisor.unref();
      this.#crashpoint("sandbox.spawned");
      await waitForClaim(dir, signal);
    } finally {
      await log.close();
    }
  }

  async #wait(dir: string, signal: AbortSignal): Promise<SandboxExit> {
    for (let round = 0; ; round++) {
      signal.throwIfAborted();
      const current = await readState(dir);
      if (current.state === "absent" || current.state === "exited") await killFollowers(0, await readMarks(dir));
      if (current.state === "absent") return GONE;
      if (current.state === "exited") {
        const exitCode = current.exit === "lost" ? null : current.exit;
        return { exitCode, outOfMemory: false, diskFull: false, tail: await readLogTail(dir) };
      }
      if (round % 100 === 0) await truncateLog(dir);
      await pause(POLL_MS, signal);
    }
  }

  async #stop(dir: string, graceMs: number, signal?: AbortSignal): Promise<void> {
    if ((await readState(dir)).state === "created") await reserve(dir);
    const current = await readState(dir);
    if (current.state === "running") {
      sendSignal(-current.supervisor.pid, "SIGTERM");
      this.#crashpoint("sandbox.stopping");
      if (!(await waitForEnd(dir, graceMs, signal))) await kill(dir, current.supervisor);
    }
    await killFollowers(0, await readMarks(dir));
  }

  async #remove(name: string): Promise<void> {
    const dir = this.#getDir(name);
    if ((await readState(dir)).state === "created") await reserve(dir);
    const current = await readState(dir);
    if (current.state === "running") await kill(dir, current.supervisor);
    await killFollowers(0, await readMarks(dir));
    this.#crashpoint("sandbox.ended");
    await removeProcessDir(this.#root, name);
  }

  async #list(): Promise<SandboxInfo[]> {
    const sandboxes: SandboxInfo[] = [];
    for (const name of await listProcessDirs(this.#root)) {
      const dir = join(this.#root, name);
      const owner = await readOwner(dir);
      const { state } = await readState(dir);
      if (owner === null || state === "absent" || owner.instance !== this.#instance) continue;
      sandboxes.push({ name, taskId: owner.taskId, attempt: owner.attempt, state });
    }
    return sandboxes;
  }

  async #salvage(name: string, signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | null> {
    const dir = this.#getDir(name);
    const { state } = await readState(dir);
    if (state === "absent") return null;
    if (state === "running") throw new TaskFailure("internal", { detail: `The worker of ${name} still runs.` });
    return createWorkspaceTar(join(dir, "workspace"), WORKSPACE, signal);
  }

  /** A folder without a readable owner is not a sandbox: creation or removal was interrupted. */
  async #reclaim(isNeeded: IsNeeded, mode: GcMode): Promise<Garbage[]> {
    const garbage: Garbage[] = [];
    for (const name of await listProcessDirs(this.#root)) {
      const dir = join(this.#root, name);
      if ((await readOwner(dir).catch(() => null)) !== null || (await isNeeded(name))) continue;
      const folder = { kind: "folder", name, bytes: await diskUsage(dir) } as const;
      garbage.push(await removeGarbage(mode, folder, () => removeProcessDir(this.#root, name)));
    }
    return garbage;
  }
}

/**
 * Reads the state from the folder. A dead supervisor without a recorded exit means that worker and
 * supervisor were killed together; this is recorded as "lost".
 */
async function readState(dir: string): Promise<ProcessState> {
  const exit = await readExit(dir);
  if (exit !== null) return { state: "exited", exit };
  const supervisor = await readClaim(dir);
  if (supervisor === null) return { state: (await readOwner(dir)) === null ? "absent" : "created" };
  if (supervisor.pid !== 0 && (await isAlive(supervisor))) return { state: "running", supervisor };
  // The supervisor may have recorded the exit after the first read.
  const recorded = await readExit(dir);
  if (recorded !== null) return { state: "exited", exit: recorded };
  await killFollowers(0, await readMarks(dir));
  await recordExit(dir, "lost");
  return { state: "exited", exit: (await readExit(dir)) ?? "lost" };
}

async function waitForClaim(dir: string, signal: AbortSignal): Promise<void> {
  for (let waited = 0; waited < CLAIM_MS; waited += 10) {
    if ((await readClaim(dir)) !== null) return;
    await pause(10, signal);
  }
  throw new TaskFailure("sandbox_unavailable", {
    detail: "The worker process did not start.",
    evidence: await readLogTail(dir),
  });
}

/** @returns true when it is not running within `ms`. */
async function waitForEnd(dir: string, ms: number, signal?: AbortSignal): Promise<boolean> {
  const until = Date.now() + ms;
  for (;;) {
    if ((await readState(dir)).state !== "running") return true;
    if (Date.now() >= until) return false;
    await pause(Math.min(POLL_MS, Math.max(1, until - Date.now())), signal);
  }
}

/** Kills the worker first, so that the supervisor can record its exit code. */
async function kill(dir: string, supervisor: ProcessId): Promise<void> {
  await killFollowers(supervisor.pid, await readMarks(dir));
  if (!(await waitForEnd(dir, RECORD_MS)) && (await isAlive(supervisor))) {
    await recordExit(dir, 137);
    sendSignal(-supervisor.pid, "SIGKILL");
  }
  await killFollowers(0, await readMarks(dir));
}

/** The complete environment of a worker. */
function createWorkerEnv(dir: string, spec: SandboxSpec): Record<string, string> {
  return {
    PATH: process.env["PATH"] ?? "/usr/local/bin:/usr/bin:/bin",
    LANG: process.env["LANG"] ?? "C.UTF-8",
    HOME: join(dir, "home"),
    TMPDIR: join(dir, "tmp"),
    SLIPWAY_BOX: dir,
    [WORKER_ENV.socket]: join(spec.socketDir, "b.sock"),
    [WORKER_ENV.token]: spec.token,
    [WORKER_ENV.attempt]: String(spec.attempt),
    [WORKER_ENV.workspace]: join(dir, "workspace"),
    [WORKER_ENV.state]: join(dir, "state"),
  };
}

const createSandboxMark = (dir: string): ProcessMark => createMark("hard", dir);

/** What identifies the worker's processes, even outside of its session. */
async function readMarks(dir: string): Promise<Marks> {
  const supervisor = await readClaim(dir);
  return {
    environment: [`SLIPWAY_BOX=${dir}`, `HOME=${join(dir, "home")}`],
    limit: createSandboxMark(dir),
    since: supervisor === null ? 0 : startTicks(supervisor),
  };
}

/** Rejects with the reason of `signal`. */
async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  await delay(ms, undefined, signal === undefined ? {} : { signal }).catch((error: unknown) => {
    signal?.throwIfAborted();
    throw error;
  });
}

/** Errors of the machine become `sandbox_unavailable`; an abort stays an abort. */
async function withTaskFailures<T>(run: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (signal?.aborted === true || isAbort(error) || error instanceof TaskFailure) throw error;
    throw new TaskFailure("sandbox_unavailable", { detail: errorMessage(error), cause: error });
  }
}
