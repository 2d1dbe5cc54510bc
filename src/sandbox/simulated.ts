/**
 * Sandboxes that are promises: the worker's loop runs in this process, and failures can be
 * scripted. For tests, benches and looking around. They end with the process, as containers do when
 * a machine loses power. Whoever holds the object is the "engine": several coordinators, one after
 * another, may be given the same one.
 */
import { rm, readdir } from "node:fs/promises";
import { join } from "node:path";
import { diskUsage } from "../core/lib/disk-usage.ts";
import { TaskFailure } from "../core/failure.ts";
import { removeGarbage, type Garbage } from "../core/lib/garbage.ts";
import { createWorkspaceTar } from "./workspace-tar.ts";
import type { Sandbox, SandboxExit, SandboxInfo, SandboxSpec } from "../core/ports/sandbox.ts";
import { WORKSPACE } from "../core/values/artifact.ts";

/**
 * `boot_hangs`: ensure never ends. `silent`: it runs and says nothing. `exits`: it ends at once
 * with code 7 and without a report. `out_of_memory`: the kernel kills it at once. `resists_kill`:
 * stop and remove never end. `engine_down`: the engine does not answer.
 */
export type SimulatedFault = "boot_hangs" | "silent" | "exits" | "out_of_memory" | "resists_kill" | "engine_down";

export interface SimulatedOptions {
  /** The worker's loop: resolves with its exit code; must end soon after the signal. */
  readonly run: (spec: SandboxSpec, signal: AbortSignal) => Promise<number>;
  /**
   * Where workers have a folder of their own, `<dir>/<name>` with `workspace` in it; absent = they
   * write no files.
   */
  readonly dir?: string;
  /** What goes wrong with this sandbox; null = nothing. Asked at each call that concerns it. */
  readonly fault?: (spec: SandboxSpec) => SimulatedFault | null;
}

interface Simulated {
  readonly spec: SandboxSpec;
  readonly abort: AbortController;
  readonly exited: Promise<SandboxExit>;
  readonly exit: (exit: SandboxExit) => void;
  state: SandboxInfo["state"];
}

/** One error for all ends: it carries nothing. */
const ENDED: Error = Object.assign(new Error("the sandbox ended"), { name: "AbortError" });
const GONE: SandboxExit = { exitCode: null, outOfMemory: false, diskFull: false, tail: "" };

export interface SimulatedSandbox extends Sandbox {
  /** Ends one from outside, as an operator or the kernel would. */
  crash(name: string, exit: Omit<SandboxExit, "diskFull"> & Partial<SandboxExit>): void;
  /** Every name that was ever created, in order: the contract is that none comes twice. */
  readonly created: readonly string[];
}

export function openSimulatedSandbox(options: SimulatedOptions): SimulatedSandbox {
  const boxes = new Map<string, Simulated>();
  const created: string[] = [];
  const faultOf = (spec: SandboxSpec): SimulatedFault | null => options.fault?.(spec) ?? null;

  function create(spec: SandboxSpec): Simulated {
    const { promise: exited, resolve } = withResolvers<SandboxExit>();
    const box: Simulated = { spec, abort: new AbortController(), exited, state: "running", exit };
    function exit(how: SandboxExit): void {
      if (box.state === "exited") return;
      box.state = "exited";
      box.abort.abort(ENDED);
      resolve(how);
    }
    boxes.set(spec.name, box);
    created.push(spec.name);
    const fault = faultOf(spec);
    if (fault === "exits")
      exit({ exitCode: 7, outOfMemory: false, diskFull: false, tail: "simulated: exit without a report" });
    else if (fault === "out_of_memory")
      exit({ exitCode: 137, outOfMemory: true, diskFull: false, tail: "simulated: out of memory" });
    else if (fault !== "silent") void runWorker(box);
    return box;
  }

  async function runWorker({ spec, abort, exit }: Simulated): Promise<void> {
    try {
      exit({ exitCode: await options.run(spec, abort.signal), outOfMemory: false, diskFull: false, tail: "" });
    } catch (error) {
      exit({ exitCode: 1, outOfMemory: false, diskFull: false, tail: String(error).slice(0, 4_000) });
    }
  }

  function known(name: string): Simulated | null {
    return boxes.get(name) ?? null;
  }

  return {
    kind: "simulated",
    isolates: false,
    created,
    hardeningChecks: () => Promise.resolve([]),
    check: () => Promise.resolve("simulated sandbox: workers run inside the server; nothing is isolated"),
    prepare: () => Promise.resolve(),
    storage: () => Promise.resolve(null),
    maintainPool: () => Promise.resolve(),
    poolStatus: () => Promise.resolve(null),
    async ensure(spec, signal) {
      signal.throwIfAborted();
      const fault = faultOf(spec);
      if (fault === "engine_down")
        throw new TaskFailure("sandbox_unavailable", { detail: "The simulated engine is down." });
      if (fault === "boot_hangs") await aborted(signal);
      if (known(spec.name) === null) create(spec);
    },
    async wait(name, signal) {
      const box = known(name);
      if (box === null) return GONE;
      return Promise.race([box.exited, aborted(signal)]);
    },
    async stop(name, _graceMs, signal) {
      const box = known(name);
      if (box === null) return;
      if (faultOf(box.spec) === "resists_kill") await aborted(signal ?? new AbortController().signal);
      box.exit({ exitCode: 143, outOfMemory: false, diskFull: false, tail: "" });
    },
    async remove(name) {
      const box = known(name);
      if (box === null) return;
      if (faultOf(box.spec) === "resists_kill") await aborted(new AbortController().signal);
      box.exit(GONE);
      boxes.delete(name);
      if (options.dir !== undefined) await rm(join(options.dir, name), { recursive: true, force: true });
    },
    salvage(name, signal) {
      const box = known(name);
      if (box === null || options.dir === undefined) return Promise.resolve(null);
      if (box.state !== "exited")
        return Promise.reject(new TaskFailure("internal", { detail: `The worker of ${name} still runs.` }));
      return Promise.resolve(createWorkspaceTar(join(options.dir, name, WORKSPACE), WORKSPACE, signal));
    },
    reclaimImages: () => Promise.resolve([]),
    async reclaim(wanted, mode) {
      const found: Garbage[] = [];
      const { dir } = options;
      for (const name of dir === undefined ? [] : await readdir(dir).catch(() => [])) {
        if (dir === undefined || boxes.has(name) || (await wanted(name))) continue;
        const remove = (): Promise<void> => rm(join(dir, name), { recursive: true, force: true });
        found.push(
          await removeGarbage(mode, { kind: "folder", name, bytes: await diskUsage(join(dir, name)) }, remove),
        );
      }
      return found;
    },
    list: () =>
      Promise.resolve(
        [...boxes.values()].map(({ spec, state }) => ({
          name: spec.name,
          taskId: spec.taskId,
          attempt: spec.attempt,
          state,
        })),
      ),
    crash: (name, exit) => known(name)?.exit({ diskFull: false, ...exit }),
    close: () => Promise.resolve(),
  };
}

/** Rejects when the signal aborts; never resolves. */
function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    const fail = (): void => reject(signal.reason instanceof Error ? signal.reason : new Error("aborted"));
    if (signal.aborted) fail();
    else signal.addEventListener("abort", fail, { once: true });
  });
}

function withResolvers<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => undefined;
  const promise = new Promise<T>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
