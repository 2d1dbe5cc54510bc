/** A simulated world: a machine with an engine, an upstream, workers, people and a coordinator. */
import type { UsageLedger } from "../../../src/core/ports/records/usage-ledger.ts";
import type { Store } from "../../../src/core/ports/store.ts";
import type { SandboxSpec } from "../../../src/core/ports/sandbox.ts";
import { parseSandboxName } from "../../../src/core/task.ts";
import { openSimulatedSandbox, type SimulatedSandbox } from "../../../src/sandbox/simulated.ts";
import { seededIds } from "../../support/manual-clock.ts";
import type { Plan } from "../plan.ts";
import { Rules } from "../rules/during.ts";
import type { Misfortune } from "../rules/history.ts";
import type { Kept } from "./ports/artifacts.ts";
import { drawBehaviour } from "./behaviour.ts";
import type { WallClock } from "./ports/clock.ts";
import { CoordinatorProcess } from "./coordinator-process.ts";
import { Dice } from "./dice.ts";
import { Faults } from "./faults.ts";
import { People } from "./people.ts";
import { Trace } from "./trace.ts";
import { Upstream } from "./upstream.ts";
import { Domain, VirtualTime } from "./virtual-time.ts";
import { Wire } from "./wire.ts";
import { Worker } from "./worker.ts";

export interface Base {
  readonly store: Store;
  readonly ledger: UsageLedger;
}

/** A service manager starts a process again that could not start. */
const RESTART_MS = 1_000;

export class Simulation {
  readonly plan: Plan;
  readonly base: Base;
  readonly time: VirtualTime;
  readonly trace: Trace;
  readonly faults: Faults;
  readonly upstream: Upstream;
  readonly rules: Rules;
  readonly people: People;
  readonly engine: SimulatedSandbox;
  readonly wall: WallClock = { offset: Date.UTC(2026, 0, 1) };
  readonly kept: Kept = new Map();
  readonly ids: ReturnType<typeof seededIds>;
  readonly machine = new Domain("machine");
  /** The last sign of life of a coordinator, by the wall clock; kept on its disk. */
  aliveAt: number | null = null;
  /** The coordinator's process; null = there is none. */
  process: CoordinatorProcess | null = null;
  /** Until then a start is not tried, virtual ms. */
  #downUntil = 0;
  #starts = 0;

  constructor(plan: Plan, base: Base) {
    this.plan = plan;
    this.base = base;
    this.time = new VirtualTime(plan.seed);
    this.trace = new Trace(this.time);
    this.faults = new Faults(this.time, plan.seed);
    this.upstream = new Upstream(() => this.time.now);
    this.rules = new Rules({ ...this, plan });
    this.people = new People(this);
    this.ids = seededIds(plan.seed);
    this.engine = openSimulatedSandbox({ run: (spec, signal) => this.#runWorker(spec, signal) });
  }

  start(): void {
    const process = new CoordinatorProcess(this, (this.#starts += 1));
    this.process = process;
    this.trace.add(`start of ${process.domain.name}`);
    process.start().catch((error: unknown) => {
      process.kill(`it could not start: ${String(error)}`);
      this.#startLater(process, RESTART_MS);
    });
  }

  /** Ends the coordinator's process and starts another one after `downMs`. */
  kill(downMs: number, why: string): void {
    const { process } = this;
    process?.kill(why);
    this.#startLater(process, downMs);
  }

  stop(downMs: number): void {
    const { process } = this;
    if (process === null || !process.isListening) return this.kill(downMs, "stopped in its start");
    process.domain.onEnd(() => this.#startLater(process, downMs));
    process.stop().catch((error: unknown) => this.rules.break("stop", String(error)));
  }

  runningSandboxes(taskId?: string): string[] {
    return [...this.#running].filter((name) => taskId === undefined || parseSandboxName(name)?.taskId === taskId);
  }

  /** The same for one name in each run. */
  workspaceMb(name: string): number {
    return new Dice(this.plan.seed, `workspace ${name}`).int(1, 4_000);
  }

  /** Ends one sandbox, or all, from outside. */
  endSandboxes(names: readonly string[], exitCode: number | null): void {
    for (const name of names) {
      this.trace.add(`sandbox ${name} ends: ${exitCode}`);
      this.misfortune(name, exitCode === null ? "vanished" : "killed");
      this.engine.crash(name, { exitCode, outOfMemory: false, tail: "" });
    }
  }

  misfortune(name: string, what: Misfortune): void {
    const { taskId, attempt } = parseSandboxName(name) ?? { taskId: "", attempt: 0 };
    this.trace.add(`misfortune of ${name}: ${what}`);
    this.faults.count(`worker: ${what}`);
    this.rules.history.attempt(taskId, attempt)?.misfortunes.add(what);
  }

  readonly #running = new Set<string>();

  #startLater(process: CoordinatorProcess | null, downMs: number): void {
    if (process !== this.process) return;
    this.process = null;
    this.faults.open("down", downMs);
    this.#downUntil = Math.max(this.#downUntil, this.time.now + downMs);
    this.time.schedule(this.machine, this.#downUntil - this.time.now, () => {
      if (this.process === null) this.start();
    });
  }

  async #runWorker(sandbox: SandboxSpec, signal: AbortSignal): Promise<number> {
    const { name, taskId, attempt } = sandbox;
    const { plan, time, faults, upstream } = this;
    this.#running.add(name);
    const domain = new Domain(name);
    const task = await this.base.store.task(taskId);
    const label = `worker ${task?.spec.prompt} ${task?.parentId === null} ${attempt}`;
    const dice = new Dice(plan.seed, label);
    const behaviour = drawBehaviour(dice, plan.policy, plan.badWorkers, task?.spec.agent === "anthropic");
    const wire = new Wire({ time, faults, server: () => this.process }, dice, domain, taskId, attempt);
    const worker = new Worker({
      time,
      wire,
      domain,
      dice,
      upstream,
      behaviour,
      sandbox,
      pollMs: plan.livenessMs / 4,
      onMisdeed: (misdeed) => this.misfortune(name, misdeed),
    });
    const ended = new Promise<number>((resolve) => {
      const end = (): void => {
        this.#running.delete(name);
        domain.end();
        resolve(143);
      };
      if (signal.aborted) end();
      else signal.addEventListener("abort", end, { once: true });
    });
    const exitCode = await Promise.race([worker.run(), ended]);
    this.trace.add(`worker ${name} exits: ${exitCode}`);
    this.#running.delete(name);
    domain.end();
    return exitCode;
  }
}
