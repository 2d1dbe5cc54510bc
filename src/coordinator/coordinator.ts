/**
 * The verbs put together over any set of ports, and their boot order (lifecycle.md):
 * list sandboxes -> remove the unknown -> adopt the rest -> overdue deadlines -> only then claim.
 * Listening does not wait for it.
 */
import type { Artifacts } from "../core/ports/artifacts.ts";
import { createTaskLog, type TaskLog } from "./task-log.ts";
import type { Crashpoint } from "../core/lib/crashpoint.ts";
import { createWorkerService, type WorkerService } from "./services/worker.ts";
import { createEffects } from "./effects/effects.ts";
import { isAbort, errorMessage } from "../core/error.ts";
import { createScheduler, type Scheduler, type DeferralReason } from "./scheduler.ts";
import { createHousekeeping, type Housekeeping } from "./deadlines.ts";
import { createOperationsService, type OperationsService } from "./services/operations.ts";
import type { UsageLedger } from "../core/ports/usage-ledger.ts";
import { createEgressService, type EgressService } from "./services/egress.ts";
import type { Store } from "../core/ports/store.ts";
import { createTaskService, type TaskService } from "./services/tasks.ts";
import { createSalvage } from "./effects/salvage.ts";
import { createBudgetService, type BudgetService } from "./services/budget.ts";
import { createSupervisor, type Supervisor } from "./supervisor.ts";
import type { Egress, MaxLimits, Policy, Task } from "../core/task.ts";
import { ignoreAbort, withTimeout } from "../core/lib/async.ts";
import { ABANDON_MS, LIVENESS_MS } from "../core/protocol/worker.ts";
import type { Bus, Clock, Ids, Log } from "../core/ports/runtime.ts";
import type { Sandbox } from "../core/ports/sandbox.ts";
import type { Forge, GitAuth, Repositories } from "../core/ports/repositories.ts";
import type { Broker, BrokerCallbacks } from "../core/ports/broker.ts";

export interface CoordinatorDeps {
  readonly store: Store;
  readonly bus: Bus;
  readonly sandbox: Sandbox;
  readonly repos: Repositories;
  readonly ledger: UsageLedger;
  readonly artifacts: Artifacts;
  readonly broker: (desks: BrokerCallbacks) => Broker;
  readonly forges: readonly Forge[];
  readonly authFor: (userId: string, repo: string) => Promise<GitAuth | null>;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  readonly crashpoint: Crashpoint;
  /**
   * Why there is too little disk space to claim, in words; null when there is enough. Never
   * rejects.
   */
  readonly shortage: () => Promise<string | null>;
  /** Until when the model's provider refuses everybody, epoch ms; null = it does not. */
  readonly rateLimitedUntil: () => number | null;
  readonly settings: CoordinatorSettings;
}

export interface CoordinatorSettings {
  readonly policy: Policy;
  readonly maxConcurrent: number;
  readonly userLimit: number | null;
  readonly agents: readonly string[];
  /** Of the agents those that are programs in the worker's image: name -> shell command. */
  readonly acpCommands: Readonly<Record<string, string>>;
  readonly model: string | null;
  /**
   * Models that tasks may use: names, or beginnings that end in `*`; none = there is no gateway.
   */
  readonly models: readonly string[];
  /** Policies that a task may have; the first is what one gets that names none. */
  readonly egress: readonly [Egress, ...Egress[]];
  readonly trustedHosts: readonly string[];
  /**
   * Images that may be chosen (src/core/values/image-reference.ts); null = the sandbox has no
   * images.
   */
  readonly images: readonly string[] | null;
  /** What a task may have at most. */
  readonly maxLimits: MaxLimits;
  /**
   * US dollars that one user, and that all together, may spend on the model per UTC day; null = no
   * limit.
   */
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
} as const satisfies Omit<CoordinatorSettings, "policy">;

export interface Coordinator {
  readonly taskLog: TaskLog;
  readonly supervisor: Supervisor;
  readonly scheduler: Scheduler;
  readonly housekeeping: Housekeeping;
  readonly workerApi: WorkerService;
  readonly budget: BudgetService;
  readonly egress: EgressService;
  readonly tasks: TaskService;
  readonly operations: OperationsService;
  /** Adopts what is there, then claims and ticks until `close`. */
  boot(): Promise<void>;
  /**
   * Stops claiming, ends effects, finishes commits. Sandboxes stay. Ports are the caller's to
   * close.
   */
  close(): Promise<void>;
}

const DEADLINE_TICK_MS = 200;
const DRIVE_TICK_MS = 1_000;
const WARM_TICK_MS = 1_000;
const LOOK_TICK_MS = 1_000;
const ORPHAN_TICK_MS = 10_000;
const RETENTION_TICK_MS = 3_600_000;

export async function createCoordinator(deps: CoordinatorDeps): Promise<Coordinator> {
  const { store, sandbox, clock, log, settings } = deps;
  const taskLog = createTaskLog(deps);
  const budget = createBudgetService({ ...deps, ...settings, taskLog });
  const workerApi = createWorkerService({ ...deps, ...settings, taskLog, standing: budget.standing });
  const egress = createEgressService({ ...deps, ...settings, taskLog });
  const broker = deps.broker({ worker: workerApi, model: budget, egress: egress });
  const hasModel = (agent: string): boolean => settings.models.length > 0 && agent !== "scripted";
  const limited = settings.userDayUsd !== null || settings.dayUsd !== null;
  async function withheld({ spec, userId }: Task): Promise<DeferralReason | null> {
    if (!hasModel(spec.agent)) return null;
    if (deps.rateLimitedUntil() !== null) return "model_rate_limited";
    return limited && (await budget.isExhausted(userId)) ? "budget" : null;
  }
  const scheduler = await createScheduler({
    ...deps,
    taskLog,
    ...settings,
    deferralOf: settings.models.length > 0 ? withheld : null,
  });
  const salvage = createSalvage({ ...deps, taskLog, salvageMs: (settings.clearMs * 2) / 3 });
  const effect = createEffects({ ...deps, ...settings, taskLog, broker, salvage });
  const supervisor = createSupervisor({
    ...deps,
    ...settings,
    taskLog,
    scheduler: scheduler,
    effect,
    lastSeen: workerApi.lastSeen,
  });
  const housekeeping = createHousekeeping({ ...deps, ...settings, taskLog, broker, salvage });
  const stopped = new AbortController();
  const ticks: Promise<void>[] = [];

  /** Repeats `work` with a pause between; a failure is logged and the next round tries again. */
  async function every(ms: number, name: string, work: () => Promise<unknown>): Promise<void> {
    while (!stopped.signal.aborted) {
      try {
        await clock.sleep(ms, stopped.signal);
        await ignoreAbort(work(), stopped.signal);
      } catch (error) {
        if (isAbort(error)) return;
        log.error({ error: errorMessage(error) }, `${name} failed`);
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
    const answers = await scheduler.checkHealth();
    if (answers)
      await housekeeping
        .removeOrphans()
        .catch((error: unknown) => log.warn({ error: errorMessage(error) }, "sandboxes could not be listed at boot"));
    await supervisor.boot(answers ? await running() : null);
    await housekeeping.fireDeadlines();
    scheduler.start();
    ticks.push(
      every(DEADLINE_TICK_MS, "the deadline tick", () => housekeeping.fireDeadlines()),
      every(DRIVE_TICK_MS, "the drive tick", async () => {
        await supervisor.endSilent();
        supervisor.driveAll();
      }),
      every(LOOK_TICK_MS, "the look at the engine", () => scheduler.checkHealth()),
      // Whoever may not claim has no use for a worker in stock.
      every(WARM_TICK_MS, "the warm tick", () =>
        sandbox.maintainPool({ grow: scheduler.state().reason === null }, stopped.signal),
      ),
      every(ORPHAN_TICK_MS, "the orphan tick", () => housekeeping.removeOrphans()),
      every(RETENTION_TICK_MS, "the retention tick", () => housekeeping.collectGarbage("remove", stopped.signal)),
    );
  }

  return {
    taskLog: taskLog,
    supervisor,
    scheduler: scheduler,
    housekeeping: housekeeping,
    workerApi: workerApi,
    budget,
    egress: egress,
    tasks: createTaskService({ ...deps, ...settings, taskLog }),
    operations: createOperationsService({
      scheduler: scheduler,
      housekeeping: housekeeping,
      store,
      sandbox,
      clock,
      lastSeen: workerApi.lastSeen,
      ...settings,
    }),
    boot,
    async close() {
      stopped.abort();
      await scheduler.stop();
      await Promise.all(ticks);
      // An engine that hangs must not keep the process: what an effect did not finish, the next
      // boot does.
      await withTimeout(settings.shutdownMs, supervisor.close(), clock).catch((error: unknown) =>
        log.warn({ error: errorMessage(error) }, "an effect did not end"),
      );
      await taskLog.idle();
      await broker.close();
    },
  };
}
