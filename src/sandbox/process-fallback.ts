/**
 * Docker where an engine answers; until one has ever answered, plain processes for the scripted
 * agent.
 *
 * F1 The fallback exists only for a data folder that was new when no engine answered, and only
 *    until one does. Otherwise this is the Docker adapter: an engine that is down makes tasks wait,
 *    it never lowers isolation.
 * F2 Only the scripted agent runs as a process: it runs the steps of its script and nothing else.
 *    Commands of a repository (setup, checks, tool servers) do not run there.
 * F3 A sandbox stays with the adapter that created it, also when an engine appears while it runs.
 */
import { errorMessage } from "../core/error.ts";
import { TaskFailure } from "../core/failure.ts";
import type { Sandbox, SandboxSpec, SetupPlace } from "../core/ports/sandbox.ts";

/** The only agent that may run without isolation. */
const UNISOLATED_AGENT = "scripted";
/** Longest wait for an engine that has never answered, ms. */
const FIRST_ANSWER_MS = 2_000;

export interface ProcessFallbackOptions {
  readonly docker: Sandbox;
  readonly process: Sandbox;
  /** True when the process adapter has, or had, the sandbox of this name. */
  readonly isProcess: (name: string) => boolean;
  /** True when an engine has answered for this data folder before, or may have. */
  readonly hadEngine: boolean;
  /**
   * Called once, when an engine answers for the first time. It must be durable when it resolves.
   */
  readonly rememberEngine: () => Promise<void>;
}

export class ProcessFallback implements Sandbox {
  readonly kind = "docker";
  readonly #docker: Sandbox;
  readonly #process: Sandbox;
  readonly #isProcess: (name: string) => boolean;
  readonly #rememberEngine: () => Promise<void>;
  #hadEngine: boolean;

  constructor({ docker, process, isProcess, hadEngine, rememberEngine }: ProcessFallbackOptions) {
    this.#docker = docker;
    this.#process = process;
    this.#isProcess = isProcess;
    this.#hadEngine = hadEngine;
    this.#rememberEngine = rememberEngine;
  }

  get isolates(): boolean {
    return this.#hadEngine;
  }

  isAvailableFor(agent: string): boolean {
    return this.#hadEngine || agent === UNISOLATED_AGENT;
  }

  runsRepositoryCommands(name: string): boolean {
    return !this.#isProcess(name);
  }

  setupPlace = (name: string, signal: AbortSignal): Promise<SetupPlace | null> =>
    this.#owner(name).setupPlace?.(name, signal) ?? Promise.resolve(null);

  makeSetupDisk: NonNullable<Sandbox["makeSetupDisk"]> = async (place, files, signal) =>
    this.#docker.makeSetupDisk?.(place, files, signal);

  async check(signal?: AbortSignal): Promise<string> {
    if (this.#hadEngine) return this.#docker.check(signal);
    const timeout = AbortSignal.timeout(FIRST_ANSWER_MS);
    let line: string;
    try {
      line = await this.#docker.check(signal === undefined ? timeout : AbortSignal.any([signal, timeout]));
    } catch (error) {
      signal?.throwIfAborted();
      return describeMissingEngine(errorMessage(error));
    }
    await this.#rememberEngine();
    this.#hadEngine = true;
    return line;
  }

  storage: Sandbox["storage"] = async () => (this.#hadEngine ? this.#docker.storage() : null);

  workspaces: NonNullable<Sandbox["workspaces"]> = async () =>
    this.#hadEngine ? ((await this.#docker.workspaces?.()) ?? null) : null;

  hardeningChecks: Sandbox["hardeningChecks"] = (signal) => this.#current().hardeningChecks(signal);

  prepare: Sandbox["prepare"] = (progress, signal, image) => this.#current().prepare(progress, signal, image);

  async ensure(spec: SandboxSpec, signal: AbortSignal): Promise<void> {
    if (!this.#isProcess(spec.name) && !this.isAvailableFor(spec.agent ?? ""))
      throw new TaskFailure("sandbox_unavailable", { detail: "No Docker engine answers." });
    await this.#owner(spec.name).ensure(spec, signal);
  }

  maintainPool: Sandbox["maintainPool"] = (growth, signal) => this.#current().maintainPool(growth, signal);

  poolStatus: Sandbox["poolStatus"] = (signal) => this.#current().poolStatus(signal);

  wait: Sandbox["wait"] = (name, signal) => this.#owner(name).wait(name, signal);

  stop: Sandbox["stop"] = (name, graceMs, signal) => this.#owner(name).stop(name, graceMs, signal);

  remove: Sandbox["remove"] = (name) => this.#owner(name).remove(name);

  salvage: Sandbox["salvage"] = (name, signal) => this.#owner(name).salvage(name, signal);

  async list() {
    const processes = await this.#process.list();
    return this.#hadEngine ? [...processes, ...(await this.#docker.list())] : processes;
  }

  async reclaim(...args: Parameters<Sandbox["reclaim"]>) {
    const garbage = await this.#process.reclaim(...args);
    return this.#hadEngine ? [...garbage, ...(await this.#docker.reclaim(...args))] : garbage;
  }

  async reclaimImages(...args: Parameters<Sandbox["reclaimImages"]>) {
    return this.#hadEngine ? this.#docker.reclaimImages(...args) : [];
  }

  async close(): Promise<void> {
    await Promise.all([this.#docker.close(), this.#process.close()]);
  }

  /** The adapter of a new sandbox. */
  #current(): Sandbox {
    return this.#hadEngine ? this.#docker : this.#process;
  }

  /** The adapter that has the sandbox of this name; that of a new one when none has. */
  #owner(name: string): Sandbox {
    return this.#isProcess(name) ? this.#process : this.#current();
  }
}

/** For the start, the overview and `doctor`: what works without an engine, and how to get one. */
function describeMissingEngine(reason: string): string {
  return (
    `No Docker engine answers (${reason.replace(/\.$/, "")}). Scripted tasks run as plain processes, NOT ISOLATED; ` +
    "tasks of other agents wait until an engine answers. Install one: `sudo apt-get install -y docker.io` on Debian and " +
    "Ubuntu, Docker Desktop or colima on macOS."
  );
}
