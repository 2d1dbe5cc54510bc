/**
 * Workers as processes of this machine: no isolation, no engine. A worker and its keeper (box.ts)
 * run in a session of their own with their output in a file, so they survive the coordinator, and
 * the next one finds them in the folder.
 */
import { spawn } from "node:child_process";
import { mkdir, open, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { errorMessage } from "../../core/error.ts";
import { TaskFailure } from "../../core/failure.ts";
import { diskUsage } from "../../core/lib/disk-usage.ts";
import { removeGarbage, type GcMode, type Garbage, type IsNeeded } from "../../core/lib/garbage.ts";
import { WORKER_ENV } from "../../core/protocol/worker.ts";
import {
  truncateLog,
  listProcessDirs,
  reserve,
  readClaim,
  readExit,
  SUPERVISOR_SCRIPT,
  createProcessDir,
  readOwner,
  recordExit,
  removeProcessDir,
  readLogTail,
} from "./process-dir.ts";
import { createWorkspaceTar } from "../workspace-tar.ts";
import { isAlive, killFollowers, sendSignal, type ProcessId } from "./processes.ts";
import type { Sandbox, SandboxExit, SandboxInfo, SandboxSpec } from "../../core/ports/sandbox.ts";
import { WORKSPACE } from "../../core/values/artifact.ts";

export interface ProcessSandboxOptions {
  /** Scratch folders are made below it. One coordinator at a time. */
  readonly dir: string;
  /** What `node` runs. */
  readonly workerFile: string;
  /** Sandboxes of other installations are neither listed nor adopted. */
  readonly instance: string;
  /** For the crash suite: called between the steps of ensure. */
  readonly crashpoint?: (name: string) => void;
}

const POLL_MS = 50;
/** Longest time from the start of a keeper to its claim, ms. */
const CLAIM_MS = 15_000;
/** Longest time from the death of the worker to the keeper's note of it, ms. */
const NOTE_MS = 3_000;
const GONE: SandboxExit = { exitCode: null, outOfMemory: false, diskFull: false, tail: "" };

type Look =
  | { readonly state: "absent" }
  | { readonly state: "created" }
  | { readonly state: "running"; readonly keeper: ProcessId }
  | { readonly state: "exited"; readonly exit: number | "lost" };

function pause(ms: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  return new Promise((done, failed) => {
    const stop = (): void => {
      clearTimeout(timer);
      failed(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      done();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

function unavailable(error: unknown): TaskFailure {
  if (error instanceof TaskFailure) return error;
  return new TaskFailure("sandbox_unavailable", { detail: errorMessage(error), cause: error });
}

/** What a worker sees of this machine's environment, and nothing else. */
function workerEnv(dir: string, spec: SandboxSpec): Record<string, string> {
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

/**
 * A process of a box is known by either of these in its environment, also when it left the worker's
 * session.
 */
function marksOf(dir: string): string[] {
  return [`SLIPWAY_BOX=${dir}`, `HOME=${join(dir, "home")}`];
}

export function openProcessSandbox(options: ProcessSandboxOptions): Sandbox {
  const root = join(resolve(options.dir), "sandboxes");
  const workerFile = resolve(options.workerFile);
  const crashpoint = options.crashpoint ?? (() => undefined);
  const closing = new AbortController();
  const folder = (name: string): string => {
    if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,120}$/.test(name))
      throw new TaskFailure("internal", { detail: `${name} is no name of a sandbox.` });
    return join(root, name);
  };

  /**
   * Also settles what nobody saw the end of: a dead keeper without a note means that worker and
   * keeper were killed together.
   */
  async function look(dir: string): Promise<Look> {
    const exit = await readExit(dir);
    if (exit !== null) return { state: "exited", exit };
    const keeper = await readClaim(dir);
    if (keeper === null) return { state: (await readOwner(dir)) === null ? "absent" : "created" };
    if (keeper.pid !== 0 && (await isAlive(keeper))) return { state: "running", keeper };
    const noted = await readExit(dir);
    if (noted !== null) return { state: "exited", exit: noted };
    await killFollowers(0, marksOf(dir));
    await recordExit(dir, "lost");
    return { state: "exited", exit: (await readExit(dir)) ?? "lost" };
  }

  async function startKeeper(dir: string, spec: SandboxSpec, signal: AbortSignal): Promise<void> {
    const log = await open(join(dir, "log"), "a", 0o600);
    try {
      const keeper = spawn("/bin/sh", ["-c", SUPERVISOR_SCRIPT, "keeper", dir, process.execPath, workerFile], {
        cwd: dir,
        env: workerEnv(dir, spec),
        detached: true,
        stdio: ["ignore", log.fd, log.fd],
      });
      const failed = new Promise<never>((_, reject) => keeper.once("error", reject));
      failed.catch(() => undefined);
      keeper.unref();
      crashpoint("sandbox.spawned");
      await Promise.race([failed, claimed(dir, signal)]);
    } finally {
      await log.close();
    }
  }

  async function claimed(dir: string, signal: AbortSignal): Promise<void> {
    for (let waited = 0; waited < CLAIM_MS; waited += 10) {
      if ((await readClaim(dir)) !== null) return;
      await pause(10, signal);
    }
    throw new TaskFailure("sandbox_unavailable", {
      detail: "The worker process did not start.",
      evidence: await readLogTail(dir),
    });
  }

  async function ensure(spec: SandboxSpec, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const dir = folder(spec.name);
    const mine = { instance: options.instance, taskId: spec.taskId, attempt: spec.attempt };
    await createProcessDir(root, spec.name, mine);
    crashpoint("sandbox.created");
    const owner = await readOwner(dir);
    if (owner?.instance !== mine.instance || owner.taskId !== mine.taskId || owner.attempt !== mine.attempt) {
      throw new TaskFailure("sandbox_unavailable", {
        detail: `A sandbox named ${spec.name} belongs to something else.`,
      });
    }
    if ((await look(dir)).state === "created") await startKeeper(dir, spec, signal);
  }

  async function wait(name: string, signal: AbortSignal): Promise<SandboxExit> {
    const dir = folder(name);
    const stop = AbortSignal.any([signal, closing.signal]);
    for (let round = 0; ; round++) {
      stop.throwIfAborted();
      const seen = await look(dir);
      if (seen.state === "absent" || seen.state === "exited") await killFollowers(0, marksOf(dir));
      if (seen.state === "absent") return GONE;
      if (seen.state === "exited") {
        return {
          exitCode: seen.exit === "lost" ? null : seen.exit,
          outOfMemory: false,
          diskFull: false,
          tail: await readLogTail(dir),
        };
      }
      if (round % 100 === 0) await truncateLog(dir);
      await pause(POLL_MS, stop);
    }
  }

  /** @returns true when it is not running within `ms`. */
  async function ended(dir: string, ms: number, signal?: AbortSignal): Promise<boolean> {
    const until = Date.now() + ms;
    for (;;) {
      if ((await look(dir)).state !== "running") return true;
      if (Date.now() >= until) return false;
      await pause(Math.min(POLL_MS, Math.max(1, until - Date.now())), signal);
    }
  }

  /** The keeper is spared at first: it knows the exit code. */
  async function kill(dir: string, keeper: ProcessId): Promise<void> {
    await killFollowers(keeper.pid, marksOf(dir));
    if (!(await ended(dir, NOTE_MS)) && (await isAlive(keeper))) {
      await recordExit(dir, 137);
      sendSignal(-keeper.pid, "SIGKILL");
    }
    await killFollowers(0, marksOf(dir));
  }

  async function stop(name: string, graceMs: number, signal?: AbortSignal): Promise<void> {
    const dir = folder(name);
    if ((await look(dir)).state === "created") await reserve(dir);
    const seen = await look(dir);
    if (seen.state === "running") {
      sendSignal(-seen.keeper.pid, "SIGTERM");
      if (!(await ended(dir, graceMs, signal))) await kill(dir, seen.keeper);
    }
    await killFollowers(0, marksOf(dir));
  }

  async function remove(name: string): Promise<void> {
    const dir = folder(name);
    if ((await look(dir)).state === "created") await reserve(dir);
    const seen = await look(dir);
    if (seen.state === "running") await kill(dir, seen.keeper);
    await killFollowers(0, marksOf(dir));
    await removeProcessDir(root, name);
  }

  async function list(): Promise<SandboxInfo[]> {
    const found: SandboxInfo[] = [];
    for (const name of await listProcessDirs(root)) {
      const owner = await readOwner(join(root, name));
      const { state } = await look(join(root, name));
      if (owner === null || state === "absent" || owner.instance !== options.instance) continue;
      found.push({ name, taskId: owner.taskId, attempt: owner.attempt, state });
    }
    return found;
  }

  async function salvage(name: string, signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | null> {
    const dir = folder(name);
    const { state } = await look(dir);
    if (state === "absent") return null;
    if (state === "running") throw new TaskFailure("internal", { detail: `The worker of ${name} still runs.` });
    return createWorkspaceTar(join(dir, "workspace"), WORKSPACE, signal);
  }

  /**
   * A folder that tells nothing about its owner is no sandbox: a maker or remover was killed over
   * it.
   */
  async function reclaim(wanted: IsNeeded, mode: GcMode): Promise<Garbage[]> {
    const found: Garbage[] = [];
    for (const name of await listProcessDirs(root)) {
      const dir = join(root, name);
      if ((await readOwner(dir).catch(() => null)) !== null || (await wanted(name))) continue;
      found.push(
        await removeGarbage(mode, { kind: "folder", name, bytes: await diskUsage(dir) }, () =>
          removeProcessDir(root, name),
        ),
      );
    }
    return found;
  }

  return {
    kind: "process",
    isolates: false,
    hardeningChecks: () => Promise.resolve([]),
    async check() {
      await mkdir(root, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
        throw unavailable(error);
      });
      return "worker processes: NOT ISOLATED - agents run as this user with this machine's files and network; memory and CPU limits are not enforced";
    },
    storage: () => Promise.resolve(null),
    maintainPool: () => Promise.resolve(),
    poolStatus: () => Promise.resolve(null),
    async prepare(_progress, signal) {
      signal.throwIfAborted();
      const found = await stat(workerFile).catch(() => null);
      if (found?.isFile() !== true) {
        throw new TaskFailure("image_missing", {
          detail: "The worker's program is missing: run `npm run build`.",
          evidence: workerFile,
        });
      }
    },
    ensure: (spec, signal) => guarded(() => ensure(spec, signal), signal),
    wait: (name, signal) => guarded(() => wait(name, signal), signal),
    stop: (name, graceMs, signal) => guarded(() => stop(name, graceMs, signal), signal),
    remove: (name) => guarded(() => remove(name)),
    salvage: (name, signal) => guarded(() => salvage(name, signal), signal),
    list: () => guarded(list),
    reclaimImages: () => Promise.resolve([]),
    reclaim: (wanted, mode) => guarded(() => reclaim(wanted, mode)),
    close() {
      closing.abort();
      return Promise.resolve();
    },
  };
}

/** A full disk or a missing shell is the engine's failure here; an abort stays an abort. */
async function guarded<T>(run: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (signal?.aborted === true || (error instanceof Error && error.name === "AbortError")) throw error;
    throw unavailable(error);
  }
}
