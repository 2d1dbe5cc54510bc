/**
 * Simulated sandboxes: the worker's loop runs in this process, and failures can be scripted. For
 * tests, benchmarks and demos. The object plays the engine: it may be passed to several
 * coordinators, one after another. All sandboxes end with the process.
 */
import { rm, readdir } from "node:fs/promises";
import { join } from "node:path";
import { raceAbort } from "../core/lib/concurrency/async.ts";
import { diskUsage } from "../core/lib/disk/disk-usage.ts";
import { TaskFailure } from "../core/failure.ts";
import { removeGarbage, type GcMode, type Garbage, type IsNeeded } from "../core/lib/garbage.ts";
import type {
  HardeningCheck,
  PoolStatus,
  Sandbox,
  SandboxExit,
  SandboxInfo,
  SandboxSpec,
} from "../core/ports/sandbox.ts";
import { WORKSPACE } from "../core/values/artifact.ts";
import { createWorkspaceTar } from "./workspace-tar.ts";

/**
 * - `boot_hangs`: ensure never resolves
 * - `silent`: the worker runs and reports nothing
 * - `exits`: the worker exits at once with code 7 and without a report
 * - `out_of_memory`: the worker is killed at once, as by the out-of-memory killer
 * - `resists_kill`: stop and remove never resolve
 * - `engine_down`: the engine does not answer
 */
export type SimulatedFault = "boot_hangs" | "silent" | "exits" | "out_of_memory" | "resists_kill" | "engine_down";

export interface SimulatedOptions {
  /** The worker's loop. Resolves with its exit code, soon after the signal aborts. */
  readonly run: (spec: SandboxSpec, signal: AbortSignal) => Promise<number>;
  /** Parent of the workers' folders `<dir>/<name>/workspace`; absent = workers write no files. */
  readonly dir?: string;
  /** The fault of this sandbox; null = none. Evaluated at each call. */
  readonly fault?: (spec: SandboxSpec) => SimulatedFault | null;
}

interface Simulated {
  readonly spec: SandboxSpec;
  readonly abort: AbortController;
  readonly exited: Promise<SandboxExit>;
  readonly exit: (exit: SandboxExit) => void;
  state: SandboxInfo["state"];
}

/** Shared by all sandboxes, because it carries no data. */
const ENDED: Error = Object.assign(new Error("the sandbox ended"), { name: "AbortError" });
const NORMAL: SandboxExit = { exitCode: 0, outOfMemory: false, diskFull: false, tail: "" };
const GONE: SandboxExit = { ...NORMAL, exitCode: null };

export interface SimulatedSandbox extends Sandbox {
  /** Ends a sandbox from outside, as an operator would. */
  crash(name: string, exit: Omit<SandboxExit, "diskFull"> & Partial<SandboxExit>): void;
  /** All names ever created, in order. The port forbids duplicates. */
  readonly created: readonly string[];
}

export function openSimulatedSandbox(options: SimulatedOptions): SimulatedSandbox {
  return new SimulatedEngine(options);
}

/** Methods are properties, so that a test can spread the object and override single ones. */
class SimulatedEngine implements SimulatedSandbox {
  readonly kind = "simulated";
  readonly isolates = false;
  readonly created: string[] = [];

  readonly #options: SimulatedOptions;
  readonly #sandboxes = new Map<string, Simulated>();

  constructor(options: SimulatedOptions) {
    this.#options = options;
  }

  readonly check = (): Promise<string> => {
    return Promise.resolve("simulated sandbox: workers run inside the server; nothing is isolated");
  };

  readonly hardeningChecks = (): Promise<readonly HardeningCheck[]> => {
    return Promise.resolve([]);
  };

  readonly storage = (): Promise<null> => {
    return Promise.resolve(null);
  };

  readonly prepare = (): Promise<void> => {
    return Promise.resolve();
  };

  readonly ensure = async (spec: SandboxSpec, signal: AbortSignal): Promise<void> => {
    signal.throwIfAborted();
    const fault = this.#getFault(spec);
    if (fault === "engine_down")
      throw new TaskFailure("sandbox_unavailable", { detail: "The simulated engine is down." });
    if (fault === "boot_hangs") await hang(signal);
    if (!this.#sandboxes.has(spec.name)) this.#create(spec);
  };

  readonly maintainPool = (): Promise<void> => {
    return Promise.resolve();
  };

  readonly poolStatus = (): Promise<PoolStatus | null> => {
    return Promise.resolve(null);
  };

  readonly wait = async (name: string, signal: AbortSignal): Promise<SandboxExit> => {
    const sandbox = this.#sandboxes.get(name);
    return sandbox === undefined ? GONE : await raceAbort(sandbox.exited, signal);
  };

  readonly stop = async (name: string, _graceMs: number, signal?: AbortSignal): Promise<void> => {
    const sandbox = this.#sandboxes.get(name);
    if (sandbox === undefined) return;
    if (this.#getFault(sandbox.spec) === "resists_kill") await hang(signal);
    sandbox.exit({ ...NORMAL, exitCode: 143 });
  };

  readonly remove = async (name: string): Promise<void> => {
    const sandbox = this.#sandboxes.get(name);
    if (sandbox === undefined) return;
    if (this.#getFault(sandbox.spec) === "resists_kill") await hang();
    sandbox.exit(GONE);
    this.#sandboxes.delete(name);
    const { dir } = this.#options;
    if (dir !== undefined) await rm(join(dir, name), { recursive: true, force: true });
  };

  readonly salvage = async (name: string, signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | null> => {
    const sandbox = this.#sandboxes.get(name);
    const { dir } = this.#options;
    if (sandbox === undefined || dir === undefined) return null;
    if (sandbox.state !== "exited") throw new TaskFailure("internal", { detail: `The worker of ${name} still runs.` });
    return await Promise.resolve(createWorkspaceTar(join(dir, name, WORKSPACE), WORKSPACE, signal));
  };

  readonly list = (): Promise<SandboxInfo[]> => {
    const infos = [...this.#sandboxes.values()].map(({ spec: { name, taskId, attempt }, state }) => ({
      name,
      taskId,
      attempt,
      state,
    }));
    return Promise.resolve(infos);
  };

  readonly reclaim = async (isNeeded: IsNeeded, mode: GcMode): Promise<Garbage[]> => {
    const { dir } = this.#options;
    if (dir === undefined) return [];
    const garbage: Garbage[] = [];
    for (const name of await readdir(dir).catch(() => [])) {
      if (this.#sandboxes.has(name) || (await isNeeded(name))) continue;
      const path = join(dir, name);
      const folder = { kind: "folder", name, bytes: await diskUsage(path) } as const;
      garbage.push(await removeGarbage(mode, folder, () => rm(path, { recursive: true, force: true })));
    }
    return garbage;
  };

  readonly reclaimImages = (): Promise<Garbage[]> => {
    return Promise.resolve([]);
  };

  readonly close = (): Promise<void> => {
    return Promise.resolve();
  };

  readonly crash = (name: string, exit: Omit<SandboxExit, "diskFull"> & Partial<SandboxExit>): void => {
    this.#sandboxes.get(name)?.exit({ diskFull: false, ...exit });
  };

  #getFault(spec: SandboxSpec): SimulatedFault | null {
    return this.#options.fault?.(spec) ?? null;
  }

  #create(spec: SandboxSpec): void {
    let resolve: (exit: SandboxExit) => void = () => undefined;
    const exited = new Promise<SandboxExit>((done) => (resolve = done));
    const exit = (how: SandboxExit): void => {
      if (sandbox.state === "exited") return;
      sandbox.state = "exited";
      sandbox.abort.abort(ENDED);
      resolve(how);
    };
    const sandbox: Simulated = { spec, abort: new AbortController(), exited, state: "running", exit };
    this.#sandboxes.set(spec.name, sandbox);
    this.created.push(spec.name);
    const fault = this.#getFault(spec);
    if (fault === "exits") exit({ ...NORMAL, exitCode: 7, tail: "simulated: exit without a report" });
    else if (fault === "out_of_memory")
      exit({ ...NORMAL, exitCode: 137, outOfMemory: true, tail: "simulated: out of memory" });
    else if (fault !== "silent") void this.#runWorker(sandbox);
  }

  async #runWorker({ spec, abort, exit }: Simulated): Promise<void> {
    try {
      exit({ ...NORMAL, exitCode: await this.#options.run(spec, abort.signal) });
    } catch (error) {
      exit({ ...NORMAL, exitCode: 1, tail: String(error).slice(0, 4_000) });
    }
  }
}

/** Never resolves; rejects with the signal's reason. */
function hang(signal: AbortSignal = new AbortController().signal): Promise<never> {
  return raceAbort(new Promise<never>(() => undefined), signal);
}
