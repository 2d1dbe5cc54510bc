/**
 * One life of the coordinator in a simulated world: the real coordinator over faulty ports, from
 * its start to its death. Nothing of it runs after its domain has ended.
 */
import { memoryBus } from "../../../src/app/memory-bus.ts";
import { createCoordinator, DEFAULT_SETTINGS, type Coordinator } from "../../../src/coordinator/coordinator.ts";
import type { DiskSpace } from "../../../src/coordinator/scheduler/workspace-admission.ts";
import { isAbort } from "../../../src/core/error.ts";
import { noCrash } from "../../../src/core/lib/runtime/crashpoint.ts";
import type { Broker, BrokerCallbacks } from "../../../src/core/ports/broker.ts";
import type { Commit, NewTask } from "../../../src/core/ports/store.ts";
import type { Log } from "../../../src/core/ports/runtime.ts";
import { isSettledState } from "../../../src/core/task.ts";
import { openArtifacts } from "./ports/artifacts.ts";
import { openClock } from "./ports/clock.ts";
import { openEngine } from "./ports/engine.ts";
import { openRepositories } from "./ports/repositories.ts";
import { openFaultyStore, readWrite } from "./ports/store.ts";
import { Domain } from "./virtual-time.ts";
import type { Server } from "./wire.ts";
import type { Simulation } from "./simulation.ts";

/** A service manager kills a process that does not stop. */
const STOP_MS = 60_000;

export class CoordinatorProcess implements Server {
  readonly domain: Domain;
  coordinator: Coordinator | null = null;
  /** False once it is asked to stop. */
  isListening = false;
  readonly #world: Simulation;
  readonly #endpoints = new Set<string>();
  readonly #stopping = new AbortController();
  /** Settled tasks that this process knows of. */
  readonly #settled = new Set<string>();
  #callbacks: BrokerCallbacks | null = null;
  #booting: Promise<void> = Promise.resolve();

  constructor(world: Simulation, number: number) {
    this.#world = world;
    this.domain = new Domain(`coordinator ${number}`);
    for (const task of world.rules.history.tasks.values()) if (isSettledState(task.state)) this.#settled.add(task.id);
  }

  get callbacks(): BrokerCallbacks {
    return this.#callbacks!;
  }

  isOpen(taskId: string, attempt: number): boolean {
    return this.isListening && this.#endpoints.has(`${taskId} ${attempt}`);
  }

  /** Rejects when the process cannot start. */
  async start(): Promise<void> {
    const { trace, rules } = this.#world;
    const coordinator = await createCoordinator(this.#deps());
    this.coordinator = coordinator;
    this.isListening = true;
    this.#booting = coordinator.boot(this.#stopping.signal).then(
      ({ adopted }) => trace.add(`booted: ${adopted} adopted`),
      (error: unknown) => {
        if (!isAbort(error)) rules.logged("error", { error }, "the boot failed");
      },
    );
  }

  /** Stops in order, and ends the process. */
  async stop(): Promise<void> {
    const { time, trace } = this.#world;
    trace.add(`stop ${this.domain.name}`);
    const cancel = time.schedule(this.domain, STOP_MS, () => this.kill("it did not stop"));
    this.isListening = false;
    this.#stopping.abort();
    await this.#booting;
    await this.coordinator?.close();
    cancel();
    this.kill("it has stopped");
  }

  kill(why: string): void {
    if (!this.domain.alive) return;
    this.#world.trace.add(`end of ${this.domain.name}: ${why}`);
    this.isListening = false;
    this.domain.end();
  }

  #deps(): Parameters<typeof createCoordinator>[0] {
    const { plan, time, wall, faults, ids } = this.#world;
    return {
      ...this.#ports(),
      bus: memoryBus(),
      broker: (callbacks) => {
        this.#callbacks = callbacks;
        return this.#broker();
      },
      forges: [],
      authFor: () => Promise.resolve(null),
      clock: openClock(time, wall, this.domain),
      ids,
      log: this.#log(),
      crashpoint: noCrash,
      shortage: () => Promise.resolve(faults.hits("disk.low") ? "Too little disk space." : null),
      readSpace: () => Promise.resolve(this.#readSpace()),
      rateLimitedUntil: () => null,
      settings: {
        ...DEFAULT_SETTINGS,
        policy: plan.policy,
        maxConcurrent: plan.maxConcurrent,
        userLimit: plan.userLimit,
        livenessMs: plan.livenessMs,
        agents: ["scripted", "anthropic"],
        model: "sim",
        models: ["sim"],
        clearMs: 6_000,
        abandonMs: 2 * 3_600_000,
        retentionMs: 24 * 3_600_000,
      },
    };
  }

  /** Null = nothing bounds the workspaces. */
  #readSpace(): DiskSpace | null {
    const world = this.#world;
    if (world.faults.hits("disk.nearly_full")) {
      const sizes = world.runningSandboxes().map((name) => [name, world.workspaceMb(name)] as const);
      return { freeMb: 512, usedMb: new Map(sizes) };
    }
    // Room for two workspaces at most while it is low.
    return world.faults.hits("disk.low") ? { freeMb: 10_240, usedMb: new Map() } : null;
  }

  #ports() {
    const { plan, time, trace, faults, upstream, engine, base, kept, rules } = this.#world;
    const { domain } = this;
    const world = this.#world;
    const { seed, policy } = plan;
    const common = { seed, time, trace, faults, domain };
    const writes = {
      ...common,
      onWrite: (name: string, args: readonly unknown[], result: unknown) => this.#onWrite(name, args, result),
      onAnswer: (name: string, args: readonly unknown[]) => this.#onAnswer(name, args),
      onLoop: (name: string) => rules.break("loop", `${name} is read without end, and nothing else runs`),
    };
    return {
      heartbeat: { last: () => world.aliveAt, beat: (at: number) => void (world.aliveAt = at) },
      store: openFaultyStore({ ...writes, base: base.store }, "store"),
      ledger: openFaultyStore({ ...writes, base: base.ledger }, "ledger"),
      artifacts: openArtifacts(kept, faults, time, domain),
      repos: openRepositories({
        ...common,
        upstream,
        policy,
        onBegin: (what, taskId) => rules.effectBegan(what, taskId, this.#settled),
      }),
      sandbox: openEngine({
        ...common,
        engine,
        onEnsure: ({ taskId, name }) => {
          rules.effectBegan("a sandbox", taskId, this.#settled);
          rules.sandboxCreated(taskId, name, this.#world.runningSandboxes(taskId));
        },
      }),
    };
  }

  #onWrite(name: string, args: readonly unknown[], result: unknown): void {
    const write = readWrite(name, args, result);
    if (write === null) return;
    if (name === "create") this.#world.rules.created(write as NewTask);
    else {
      this.#world.rules.committed(write as Commit);
      const { followUp } = write as { followUp?: NewTask };
      if (followUp !== undefined) this.#world.rules.created(followUp);
    }
    this.#world.people.onWrite(write);
  }

  #onAnswer(name: string, args: readonly unknown[]): void {
    if (name !== "commit") return;
    const { taskId, state } = args[0] as Commit;
    if (isSettledState(state)) this.#settled.add(taskId);
  }

  #broker(): Broker {
    const { faults } = this.#world;
    return {
      open: async (taskId, attempt) => {
        if (faults.hits("broker.fails")) throw new Error("listen EMFILE: too many open files");
        this.#endpoints.add(`${taskId} ${attempt}`);
        return { socketDir: `/nowhere/${taskId}/${attempt}`, token: "att_simulated" };
      },
      revoke: async (taskId, attempt) => void this.#endpoints.delete(`${taskId} ${attempt}`),
      reclaim: () => Promise.resolve([]),
      close: () => {
        this.#endpoints.clear();
        return Promise.resolve();
      },
    };
  }

  #log(): Log {
    const { rules } = this.#world;
    return {
      debug: () => undefined,
      info: () => undefined,
      warn: (fields, text) => rules.logged("warn", fields, text),
      error: (fields, text) => rules.logged("error", fields, text),
    };
  }
}
