/**
 * The verbs put together over any set of ports, and their boot order (lifecycle.md):
 * list sandboxes -> remove the unknown -> adopt the rest -> overdue deadlines -> only then claim. Listening does not wait for it.
 */
import type { Artifacts } from "../core/ports/artifacts.ts";
import { createCoordinator, type Coordinator } from "./task-log.ts";
import type { Crashpoint } from "../core/lib/crashpoint.ts";
import { createDesk, type Desk } from "./services/worker.ts";
import { createEffects } from "./effects/effects.ts";
import { isAbort, messageOf } from "../core/error.ts";
import { createGate, type Gate, type Withheld } from "./scheduler.ts";
import { createJanitor, type Janitor } from "./deadlines.ts";
import { createOperations, type Operations } from "./services/operations.ts";
import type { Ledger } from "../core/ports/usage-ledger.ts";
import { createOutbound, type Outbound } from "./services/egress.ts";
import type { Store } from "../core/ports/store.ts";
import { createRequests, type Service } from "./services/tasks.ts";
import { createSalvage } from "./effects/salvage.ts";
import { createSpend, type Spend } from "./services/budget.ts";
import { createSupervisor, type Supervisor } from "./supervisor.ts";
import type { Egress, MaxLimits, Policy, Task } from "../core/task.ts";
import { unlessAborted, within } from "../core/lib/async.ts";
import { ABANDON_MS, LIVENESS_MS } from "../core/protocol/worker.ts";
import type { Bus, Clock, Ids, Log } from "../core/ports/runtime.ts";
import type { Sandbox } from "../core/ports/sandbox.ts";
import type { Forge, GitAuth, Repos } from "../core/ports/repositories.ts";
import type { Broker, Desks } from "../core/ports/broker.ts";

export interface KernelDeps {
  readonly store: Store;
  readonly bus: Bus;
  readonly sandbox: Sandbox;
  readonly repos: Repos;
  readonly ledger: Ledger;
  readonly artifacts: Artifacts;
  readonly broker: (desks: Desks) => Broker;
  readonly forges: readonly Forge[];
  readonly authFor: (userId: string, repo: string) => Promise<GitAuth | null>;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  readonly crashpoint: Crashpoint;
  /** Why there is too little disk space to claim, in words; null when there is enough. Never rejects. */
  readonly shortage: () => Promise<string | null>;
  /** Until when the model's provider refuses everybody, epoch ms; null = it does not. */
  readonly rateLimitedUntil: () => number | null;
  readonly settings: KernelSettings;
}

export interface KernelSettings {
  readonly policy: Policy;
  readonly maxConcurrent: number;
  readonly userLimit: number | null;
  readonly agents: readonly string[];
  /** Of the agents those that are programs in the worker's image: name -> shell command. */
  readonly acpCommands: Readonly<Record<string, string>>;
  readonly model: string | null;
  /** Models that tasks may use: names, or beginnings that end in `*`; none = there is no gateway. */
  readonly models: readonly string[];
  /** Policies that a task may have; the first is what one gets that names none. */
  readonly egress: readonly [Egress, ...Egress[]];
  readonly trustedHosts: readonly string[];
  /** Images that may be chosen (src/core/values/image-reference.ts); null = the sandbox has no images. */
  readonly images: readonly string[] | null;
  /** What a task may have at most. */
  readonly maxLimits: MaxLimits;
  /** US dollars that one user, and that all together, may spend on the model per UTC day; null = no limit. */
  readonly userDayUsd: number | null;
  readonly dayUsd: number | null;
  readonly retentionMs: number;
  readonly mirrorMs: number;
  readonly livenessMs: number;
  readonly clearMs: number;
  /** A worker that reached no coordinator for this long gives up, ms. */
  readonly abandonMs: number;
  /** Longest wait for effects to end at shutdown, ms. */
  readonly shutdownMs: number;
  readonly breakerLimit: number;
  readonly breakerWindowMs: number;
  readonly breakerRestMs: number;
  /** Longest wait for the engine where its answer helps but must not hold things up, ms. */
  readonly engineMs: number;
}

export const DEFAULT_SETTINGS = {
  maxConcurrent: 4,
  userLimit: null,
  agents: ["scripted"],
  acpCommands: {},
  model: null,
  models: [],
  egress: ["none"],
  trustedHosts: [],
  images: null,
  maxLimits: { memoryMb: 8_192, cpus: 64, diskMb: 16_384 },
  userDayUsd: null,
  dayUsd: null,
  retentionMs: 30 * 24 * 3_600_000,
  mirrorMs: 30 * 24 * 3_600_000,
  livenessMs: LIVENESS_MS,
  clearMs: 30_000,
  abandonMs: ABANDON_MS,
  shutdownMs: 2_000,
  breakerLimit: 5,
  breakerWindowMs: 60_000,
  breakerRestMs: 15_000,
  engineMs: 3_000,
} as const satisfies Omit<KernelSettings, "policy">;

export interface Kernel {
  readonly coordinator: Coordinator;
  readonly supervisor: Supervisor;
  readonly gate: Gate;
  readonly janitor: Janitor;
  readonly desk: Desk;
  readonly spend: Spend;
  readonly outbound: Outbound;
  readonly service: Service;
  readonly operations: Operations;
  /** Adopts what is there, then claims and ticks until `close`. */
  boot(): Promise<void>;
  /** Stops claiming, ends effects, finishes commits. Sandboxes stay. Ports are the caller's to close. */
  close(): Promise<void>;
}

const DEADLINE_TICK_MS = 200;
const DRIVE_TICK_MS = 1_000;
const WARM_TICK_MS = 1_000;
const LOOK_TICK_MS = 1_000;
const ORPHAN_TICK_MS = 10_000;
const RETENTION_TICK_MS = 3_600_000;

export async function createKernel(deps: KernelDeps): Promise<Kernel> {
  const { store, sandbox, clock, log, settings } = deps;
  const coordinator = createCoordinator(deps);
  const spend = createSpend({ ...deps, ...settings, coordinator });
  const desk = createDesk({ ...deps, ...settings, coordinator, standing: spend.standing });
  const outbound = createOutbound({ ...deps, ...settings, coordinator });
  const broker = deps.broker({ worker: desk, model: spend, egress: outbound });
  const hasModel = (agent: string): boolean => settings.models.length > 0 && agent !== "scripted";
  const limited = settings.userDayUsd !== null || settings.dayUsd !== null;
  async function withheld({ spec, userId }: Task): Promise<Withheld | null> {
    if (!hasModel(spec.agent)) return null;
    if (deps.rateLimitedUntil() !== null) return "model_rate_limited";
    return limited && (await spend.exhausted(userId)) ? "budget" : null;
  }
  const gate = await createGate({ ...deps, coordinator, ...settings, withheld: settings.models.length > 0 ? withheld : null });
  const salvage = createSalvage({ ...deps, coordinator, salvageMs: (settings.clearMs * 2) / 3 });
  const effect = createEffects({ ...deps, ...settings, coordinator, broker, salvage });
  const supervisor = createSupervisor({ ...deps, ...settings, coordinator, gate, effect, lastSeen: desk.lastSeen });
  const janitor = createJanitor({ ...deps, ...settings, coordinator, broker, salvage });
  const stopped = new AbortController();
  const ticks: Promise<void>[] = [];

  /** Repeats `work` with a pause between; a failure is logged and the next round tries again. */
  async function every(ms: number, name: string, work: () => Promise<unknown>): Promise<void> {
    while (!stopped.signal.aborted) {
      try {
        await clock.sleep(ms, stopped.signal);
        await unlessAborted(work(), stopped.signal);
      } catch (error) {
        if (isAbort(error)) return;
        log.error({ error: messageOf(error) }, `${name} failed`);
      }
    }
  }

  /** Names of the sandboxes that run; null = not known. */
  async function running(): Promise<ReadonlySet<string> | null> {
    try {
      return new Set((await sandbox.list()).filter((one) => one.state === "running").map((one) => one.name));
    } catch {
      return null;
    }
  }

  async function boot(): Promise<void> {
    // An engine that is away or hangs must not hold up deadlines and cancels.
    const answers = await gate.probe();
    if (answers)
      await janitor.orphans().catch((error: unknown) => log.warn({ error: messageOf(error) }, "sandboxes could not be listed at boot"));
    await supervisor.boot(answers ? await running() : null);
    await janitor.deadlines();
    gate.open();
    ticks.push(
      every(DEADLINE_TICK_MS, "the deadline tick", () => janitor.deadlines()),
      every(DRIVE_TICK_MS, "the drive tick", async () => {
        await supervisor.endSilent();
        supervisor.driveAll();
      }),
      every(LOOK_TICK_MS, "the look at the engine", () => gate.probe()),
      // Whoever may not claim has no use for a worker in stock.
      every(WARM_TICK_MS, "the warm tick", () => sandbox.tend(gate.state().reason === null ? "grow" : "hold", stopped.signal)),
      every(ORPHAN_TICK_MS, "the orphan tick", () => janitor.orphans()),
      every(RETENTION_TICK_MS, "the retention tick", () => janitor.collect("remove", stopped.signal)),
    );
  }

  return {
    coordinator,
    supervisor,
    gate,
    janitor,
    desk,
    spend,
    outbound,
    service: createRequests({ ...deps, ...settings, coordinator }),
    operations: createOperations({ gate, janitor, store, sandbox, clock, lastSeen: desk.lastSeen, ...settings }),
    boot,
    async close() {
      stopped.abort();
      await gate.shut();
      await Promise.all(ticks);
      // An engine that hangs must not keep the process: what an effect did not finish, the next boot does.
      await within(settings.shutdownMs, supervisor.close(), clock).catch((error: unknown) =>
        log.warn({ error: messageOf(error) }, "an effect did not end"),
      );
      await coordinator.idle();
      await broker.close();
    },
  };
}
