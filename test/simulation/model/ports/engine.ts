/**
 * The sandbox port over the simulated engine, with faults: an engine that is down, hangs, is slow,
 * or does what it was asked to and does not say so.
 */
import { TaskFailure } from "../../../../src/core/failure.ts";
import type { Sandbox, SandboxInfo, SandboxSpec } from "../../../../src/core/ports/sandbox.ts";
import type { SimulatedSandbox } from "../../../../src/sandbox/simulated.ts";
import { Dice } from "../dice.ts";
import type { Faults } from "../faults.ts";
import type { Trace } from "../trace.ts";
import type { Domain, VirtualTime } from "../virtual-time.ts";

export interface EngineDeps {
  readonly seed: number;
  readonly engine: SimulatedSandbox;
  readonly time: VirtualTime;
  readonly trace: Trace;
  readonly faults: Faults;
  readonly domain: Domain;
  /** Called when a sandbox is about to be created. */
  readonly onEnsure: (spec: SandboxSpec) => void;
}

const unavailable = (): TaskFailure => new TaskFailure("sandbox_unavailable", { detail: "Simulated." });

class Calls {
  readonly #deps: EngineDeps;
  readonly #dice: Dice;

  constructor(deps: EngineDeps) {
    this.#deps = deps;
    this.#dice = new Dice(deps.seed, `engine of ${deps.domain.name}`);
  }

  async run<T>(what: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    const { time, trace, faults, domain } = this.#deps;
    const until = faults.until("engine.hangs");
    if (until !== null && faults.hits("engine.hangs")) {
      await time.wait(domain, until - time.now, signal);
      throw unavailable();
    }
    const slow = faults.hits("engine.slow") ? this.#dice.log(500, 8_000) : 0;
    await time.wait(domain, slow + this.#dice.log(1, 60), signal);
    if (faults.hits("engine.down")) throw unavailable();
    const value = await time.deliver(domain, work(), this.#dice.pick([0, 0, 1, 5]));
    if (!faults.hits("engine.answer_lost")) return value;
    trace.add(`${what}: done, and the answer is lost`);
    throw unavailable();
  }

  /** An adapter watches a sandbox through outages of the engine. */
  async watch<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const { time, faults, domain } = this.#deps;
    const value = await time.deliver(domain, work(), this.#dice.log(1, 60));
    for (;;) {
      const until = Math.max(faults.until("engine.down") ?? 0, faults.until("engine.hangs") ?? 0);
      if (until <= time.now) return value;
      await time.wait(domain, until - time.now, signal);
    }
  }
}

export function openEngine(deps: EngineDeps): Sandbox {
  const { engine, trace, onEnsure } = deps;
  const calls = new Calls(deps);
  const running = async (name: string): Promise<SandboxInfo | undefined> =>
    (await engine.list()).find((info) => info.name === name && info.state === "running");
  return {
    ...engine,
    check: (signal) => calls.run("check", signal, () => engine.check(signal)),
    prepare: (progress, signal, image) => calls.run("prepare", signal, () => engine.prepare(progress, signal, image)),
    ensure: (spec, signal) =>
      calls.run(`create ${spec.name}`, signal, () => {
        trace.add(`create ${spec.name}`);
        onEnsure(spec);
        return engine.ensure(spec, signal);
      }),
    wait: (name, signal) => calls.watch(signal, () => engine.wait(name, signal)),
    stop: (name, graceMs, signal) =>
      calls.run(`stop ${name}`, signal, async () => {
        if ((await running(name)) !== undefined) trace.add(`stop ${name}`);
        await engine.stop(name, graceMs, signal);
      }),
    remove: (name) =>
      calls.run(`remove ${name}`, undefined, async () => {
        trace.add(`remove ${name}`);
        await engine.remove(name);
      }),
    list: () => calls.run("list", undefined, () => engine.list()),
    reclaim: (isNeeded, mode, signal) => calls.run("reclaim", signal, () => engine.reclaim(isNeeded, mode, signal)),
    async salvage(name, signal) {
      const found = await calls.run("salvage", signal, () => engine.list());
      return found.some((info) => info.name === name) ? workspace() : null;
    },
  };
}

async function* workspace(): AsyncGenerator<Uint8Array> {
  yield new Uint8Array(10);
}
