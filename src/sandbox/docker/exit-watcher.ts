/**
 * Waits for the end of a container and reports how it ended. Only a stopped container is
 * classified: while it runs, its out-of-memory flag may refer to a child process.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { SandboxExit } from "../../core/ports/sandbox.ts";
import { getState, type ContainerInfo, type Containers } from "./containers.ts";
import type { WorkspaceDisks } from "./disk/workspace-disk.ts";
import type { Engine } from "./engine.ts";
import { waitUntil, type EngineEvents } from "./engine-events.ts";
import { readLogTail } from "./transport/stream-demux.ts";
import type { WorkerTransport } from "./transport/transport.ts";

const KILLED = 137;
/**
 * A forced removal kills the container first. For this long a killed container may still turn out
 * to be one that is being removed, ms.
 */
const REMOVAL_MS = 500;

const GONE: SandboxExit = { exitCode: null, outOfMemory: false, diskFull: false, tail: "" };

export interface ExitWatcherDeps {
  readonly engine: Engine;
  readonly events: EngineEvents;
  readonly containers: Containers;
  readonly disks: WorkspaceDisks;
  readonly transport: WorkerTransport;
  /** Tolerated outage of the engine (it may be restarting), ms. */
  readonly outageMs: number;
  /** Longest time between two checks without an event, ms. */
  readonly pollMs: number;
}

/** Waits for one container. Until then keeps its tunnel open and enforces its disk limit. */
export class ExitWatcher {
  readonly #deps: ExitWatcherDeps;
  readonly #name: string;
  readonly #signal: AbortSignal;
  #failingSince: number | null = null;
  #isMeasured = true;
  #measureAt = 0;

  constructor(deps: ExitWatcherDeps, name: string, signal: AbortSignal) {
    this.#deps = deps;
    this.#name = name;
    this.#signal = signal;
  }

  wait(): Promise<SandboxExit> {
    const { events, pollMs } = this.#deps;
    const interval = (): number =>
      this.#isMeasured ? Math.min(pollMs, Math.max(1, this.#measureAt - Date.now())) : pollMs;
    return waitUntil(events, this.#name, interval, this.#signal, () => this.#check());
  }

  /** Errors count as an outage and are thrown once it lasts longer than `outageMs`. */
  async #check(): Promise<SandboxExit | null> {
    try {
      const info = await this.#deps.containers.inspect(this.#name, this.#signal);
      this.#deps.transport.connect(this.#name, info);
      this.#failingSince = null;
      if (info === null) return GONE;
      if (getState(info) === "stopped") return await this.#classifyExit(info);
      await this.#enforceDiskLimit(info);
      return null;
    } catch (error) {
      if (this.#signal.aborted) throw error;
      this.#failingSince ??= Date.now();
      if (Date.now() - this.#failingSince >= this.#deps.outageMs) throw error;
      return null;
    }
  }

  /** Kills a container whose `watch` workspace is over its limit; `#classifyExit` reports it. */
  async #enforceDiskLimit(info: ContainerInfo): Promise<void> {
    const { containers, disks } = this.#deps;
    this.#isMeasured = getState(info) === "running" && disks.isWatched(info);
    if (!this.#isMeasured || Date.now() < this.#measureAt) return;
    if (await disks.isFull(info)) await containers.sendSignal(this.#name, "SIGKILL", this.#signal);
    this.#measureAt = Date.now() + disks.pauseMs(info);
  }

  async #isBeingRemoved(): Promise<boolean> {
    await delay(REMOVAL_MS, undefined, { signal: this.#signal });
    const info = await this.#deps.containers.inspect(this.#name, this.#signal);
    return info === null || info.State.Status === "removing";
  }

  async #classifyExit(info: ContainerInfo): Promise<SandboxExit> {
    const { engine, disks } = this.#deps;
    const { ExitCode: exitCode, OOMKilled } = info.State;
    const outOfMemory = OOMKilled && exitCode !== 0;
    if (exitCode === KILLED && !outOfMemory && (await this.#isBeingRemoved())) return GONE;
    const diskFull = !outOfMemory && exitCode !== 0 && (await disks.isFull(info));
    return { exitCode, outOfMemory, diskFull, tail: await readLogTail(engine, this.#name) };
  }
}
