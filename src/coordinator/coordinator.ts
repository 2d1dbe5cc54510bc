/**
 * Wires the coordinator over any set of ports, and boots it in this order: list sandboxes -> adopt
 * open tasks -> fire overdue deadlines -> only then claim. Sandboxes that no task needs are removed
 * beside it. The server listens while this runs.
 */
import { setMaxListeners } from "node:events";
import type { Artifacts } from "../core/ports/files/artifacts.ts";
import { createTaskLog, type TaskLog } from "./task-log.ts";
import type { Crashpoint } from "../core/lib/runtime/crashpoint.ts";
import { AttemptVariables, type VariablesDeps } from "./services/worker/variables.ts";
import { createWorkerService, type WorkerService, type WorkerServiceDeps } from "./services/worker.ts";
import type { GetAuth } from "./effects/upstream.ts";
import { createEffects } from "./effects/effects.ts";
import { isAbort, errorMessage } from "../core/error.ts";
import { createDeferral } from "./scheduler/deferral.ts";
import { WorkspaceAdmission, type WorkspaceAdmissionDeps } from "./scheduler/workspace-admission.ts";
import { createScheduler, type Scheduler } from "./scheduler/scheduler.ts";
import { fireDeadlines, keepTime } from "./deadlines.ts";
import { WorkingTime, type Heartbeat } from "./working-time.ts";
import { BootStatus } from "./boot-status.ts";
import { startClaiming } from "./scheduler/claim-start.ts";
import { GarbageCollector } from "./garbage-collector.ts";
import { createOperationsService, type OperationDeps, type OperationsService } from "./services/operations.ts";
import type { UsageLedger } from "../core/ports/records/usage-ledger.ts";
import { createEgressService, type EgressService, type EgressSettings } from "./services/egress.ts";
import type { Store } from "../core/ports/store.ts";
import { createTaskService, type TaskServiceDeps } from "./services/tasks.ts";
import type { ServerOptions } from "./services/tasks/task-spec.ts";
import { createUnreadPlanner } from "./services/tasks/unread-messages.ts";
import { createSalvage } from "./effects/salvage.ts";
import { createBudgetService, type BudgetService } from "./services/budget.ts";
import { createSupervisor, type Supervisor } from "./supervisor.ts";
import type { MaxLimits, Policy } from "../core/task.ts";
import { ignoreAbort, raceAbort, withTimeout } from "../core/lib/concurrency/async.ts";
import { ABANDON_MS, LIVENESS_MS } from "../core/protocol/worker.ts";
import type { Bus, Clock, Ids, Log } from "../core/ports/runtime.ts";
import { PersonStorage } from "./services/people/person-storage.ts";
import { NO_QUOTAS, type QuotaSettings } from "../core/quotas.ts";
import type { Sandbox } from "../core/ports/sandbox.ts";
import type { Forge, PullRequestOptions, Repositories } from "../core/ports/repositories.ts";
import type { Broker, BrokerCallbacks } from "../core/ports/broker.ts";

type FileDeps = Pick<TaskServiceDeps, "attachments" | "audit"> & Pick<WorkerServiceDeps, "setupCaches">;
type SpaceDeps = Pick<WorkspaceAdmissionDeps, "readSpace"> & Pick<OperationDeps, "readReserve">;
export interface CoordinatorDeps extends FileDeps, VariablesDeps, SpaceDeps {
  readonly store: Store;
  readonly bus: Bus;
  readonly sandbox: Sandbox;
  readonly repos: Repositories;
  readonly ledger: UsageLedger;
  readonly artifacts: Artifacts;
  readonly broker: (callbacks: BrokerCallbacks) => Broker;
  readonly forges: readonly Forge[];
  readonly authFor: GetAuth;
  /** The e-mail address of a person; absent = none is known. */
  readonly emailOf?: WorkerServiceDeps["emailOf"];
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  readonly crashpoint: Crashpoint;
  /** Absent = at a start, the last event of each task is the last sign of life. */
  readonly heartbeat?: Heartbeat;
  /**
   * Why there is too little disk space to claim, for people; null when there is enough. Never
   * rejects.
   */
  readonly shortage: () => Promise<string | null>;
  /** When the provider's rate limit of a model ends, epoch ms; null = there is none now. */
  readonly rateLimitedUntil: (model: string) => number | null;
  readonly settings: CoordinatorSettings;
}

type AgentOptions = Pick<WorkerServiceDeps, "programs" | "compactAt" | "fallbackModel" | "gitAuthor">;
type AgentPrices = Pick<ServerOptions, "prices" | "windows" | "signsCommits" | "threadUsd" | "tasksExpireDays">;
type Bounds = EgressSettings & QuotaSettings & Pick<WorkspaceAdmissionDeps, "workspaces">;
export interface CoordinatorSettings extends PullRequestOptions, AgentOptions, AgentPrices, Bounds {
  readonly policy: Policy;
  readonly maxConcurrent: number;
  readonly userLimit: number | null;
  readonly agents: readonly string[];
  readonly model: string | null;
  /** Models that tasks may use: names, or prefixes followed by `*`; none = the gateway is off. */
  readonly models: readonly string[];
  /** Models that have a price; absent = any. */
  readonly knownModels?: readonly string[];
  readonly trustedHosts: readonly string[];
  /**
   * Images that may be chosen (src/core/values/image-reference.ts); null = the sandbox has no
   * images.
   */
  readonly images: readonly string[] | null;
  /** What a task may have at most. */
  readonly maxLimits: MaxLimits;
  /** Model budget per UTC day of all users together, US dollars; null = no limit. */
  readonly dayUsd: number | null;
  readonly retentionMs: number;
  readonly mirrorMs: number;
  readonly livenessMs: number;
  /** A coordinator that did nothing for this long was stopped: the time does not count, ms. */
  readonly pauseMs: number;
  readonly clearMs: number;
  /** A worker that could not reach a coordinator for this long gives up, ms. */
  readonly abandonMs: number;
  /** Longest wait for effects to end at shutdown, ms. */
  readonly shutdownMs: number;
  readonly breakerLimit: number;
  readonly breakerWindowMs: number;
  readonly breakerRestMs: number;
  /** Longest wait for an engine answer that is not required to proceed, ms. */
  readonly engineMs: number;
}

export const DEFAULT_SETTINGS = {
  maxConcurrent: 4,
  userLimit: null,
  agents: ["scripted"],
  programs: {},
  model: null,
  models: [],
  egress: ["none"],
  trustedHosts: [],
  images: null,
  maxLimits: { memoryMb: 8_192, cpus: 64, diskMb: 16_384 },
  workspaces: { defaultMb: 4_096, floorMb: 2_048, lowMb: 1_024, overcommit: 1 },
  quotas: NO_QUOTAS,
  userDayUsd: null,
  dayUsd: null,
  retentionMs: 30 * 24 * 3_600_000,
  mirrorMs: 30 * 24 * 3_600_000,
  livenessMs: LIVENESS_MS,
  pauseMs: 5_000,
  clearMs: 30_000,
  abandonMs: ABANDON_MS,
  shutdownMs: 2_000,
  breakerLimit: 5,
  breakerWindowMs: 60_000,
  breakerRestMs: 15_000,
  engineMs: 3_000,
} as const satisfies Omit<CoordinatorSettings, "policy">;

/** What a boot found. */
export interface BootReport {
  /** Open tasks. */
  readonly adopted: number;
}

export interface Coordinator {
  readonly taskLog: TaskLog;
  readonly supervisor: Supervisor;
  readonly scheduler: Scheduler;
  readonly garbageCollector: GarbageCollector;
  readonly workerApi: WorkerService;
  readonly budget: BudgetService;
  readonly egress: EgressService;
  readonly tasks: ReturnType<typeof createTaskService>;
  readonly operations: OperationsService;
  /**
   * Adopts what exists, then claims and ticks until `close`. What fails is tried again; only
   * claiming waits for all of it. Rejects with an AbortError when the signal is aborted first.
   */
  boot(signal?: AbortSignal): Promise<BootReport>;
  /**
   * Stops claiming, ends effects, finishes commits. Sandboxes stay. The caller closes the ports.
   */
  close(): Promise<void>;
}

const DEADLINE_TICK_MS = 200;
const TIME_TICK_MS = 1_000;
const DRIVE_TICK_MS = 1_000;
const RECONCILE_TICK_MS = 1_000;
const POOL_TICK_MS = 1_000;
const HEALTH_TICK_MS = 1_000;
const DISK_TICK_MS = 1_000;
const ORPHAN_TICK_MS = 10_000;
const RETENTION_TICK_MS = 3_600_000;
const BOOT_RETRY_MS = 1_000;
/** Share of `clearMs` that a salvage may take; the rest is for the removal. */
const SALVAGE_SHARE = 2 / 3;

export async function createCoordinator(deps: CoordinatorDeps): Promise<Coordinator> {
  const { settings } = deps;
  const workingTime = new WorkingTime({ ...deps, ...settings, aliveAt: deps.heartbeat?.last() ?? null });
  const planUnread = createUnreadPlanner({ ...deps, policy: settings.policy });
  const taskLog = createTaskLog({ ...deps, workingTime, planUnread });
  const budget = createBudgetService({ ...deps, ...settings, taskLog });
  const standing: WorkerServiceDeps["standing"] = (task) => budget.standing(task);
  const variables = new AttemptVariables({ ...deps, taskLog });
  const egress = createEgressService({ ...deps, ...settings, taskLog, variables });
  const setupEgress: WorkerServiceDeps["setupEgress"] = (task) => egress.setupEgress(task);
  const workerApi = createWorkerService({ ...deps, ...settings, taskLog, standing, setupEgress, variables });
  const broker = deps.broker({ worker: workerApi, model: budget, egress, secrets: variables });
  const getDeferral = createDeferral(deps, budget);
  const admission = new WorkspaceAdmission({ ...deps, ...settings, taskLog });
  const scheduler = await createScheduler({ ...deps, ...settings, taskLog, getDeferral, admission });
  const salvage = createSalvage({ ...deps, taskLog, salvageMs: settings.clearMs * SALVAGE_SHARE });
  const storage = new PersonStorage({ ...deps, ...settings });
  const effect = createEffects({ ...deps, ...settings, taskLog, broker, salvage, variables, storage, workerApi });
  const lastSeen: WorkerService["lastSeen"] = (taskId, attempt) => workerApi.lastSeen(taskId, attempt);
  const supervisor = createSupervisor({ ...deps, ...settings, taskLog, scheduler, effect, lastSeen, workingTime });
  const garbageCollector = new GarbageCollector({ ...deps, ...settings, broker, salvage });
  const bootStatus = new BootStatus();
  const watched = { scheduler, garbageCollector, lastSeen, bootStatus, admission, storage };
  return new RunningCoordinator(deps, broker, workingTime, bootStatus, {
    admission,
    taskLog,
    supervisor,
    scheduler,
    garbageCollector,
    workerApi,
    budget,
    egress,
    tasks: createTaskService({ ...deps, ...settings, taskLog, storage }),
    operations: createOperationsService({ ...deps, ...settings, ...watched }),
  });
}

type Parts = Omit<Coordinator, "boot" | "close"> & { readonly admission: WorkspaceAdmission };

class RunningCoordinator implements Coordinator {
  readonly taskLog: TaskLog;
  readonly supervisor: Supervisor;
  readonly scheduler: Scheduler;
  readonly garbageCollector: GarbageCollector;
  readonly workerApi: WorkerService;
  readonly budget: BudgetService;
  readonly egress: EgressService;
  readonly tasks: ReturnType<typeof createTaskService>;
  readonly operations: OperationsService;
  readonly #admission: WorkspaceAdmission;
  readonly #deps: CoordinatorDeps;
  readonly #broker: Broker;
  readonly #workingTime: WorkingTime;
  readonly #bootStatus: BootStatus;
  /** The losses that every open task has; -1 until the first pass over all of them. */
  #caughtUp = -1;
  readonly #stopped = new AbortController();
  readonly #ticks: Promise<void>[] = [];
  #orphans: Promise<unknown> = Promise.resolve();
  #hasTicks = false;
  #hasOrphanTick = false;

  constructor(deps: CoordinatorDeps, broker: Broker, workingTime: WorkingTime, bootStatus: BootStatus, parts: Parts) {
    this.taskLog = parts.taskLog;
    this.supervisor = parts.supervisor;
    this.scheduler = parts.scheduler;
    this.garbageCollector = parts.garbageCollector;
    this.workerApi = parts.workerApi;
    this.budget = parts.budget;
    this.egress = parts.egress;
    this.tasks = parts.tasks;
    this.operations = parts.operations;
    this.#admission = parts.admission;
    this.#deps = deps;
    this.#broker = broker;
    this.#workingTime = workingTime;
    this.#bootStatus = bootStatus;
    // Each tick waits on it, and each call of the engine in a tick.
    setMaxListeners(0, this.#stopped.signal);
  }

  async boot(signal: AbortSignal = this.#stopped.signal): Promise<BootReport> {
    const { clock, log } = this.#deps;
    this.#startOrphanTick();
    for (;;) {
      try {
        const report = await this.#bootOnce(signal);
        this.#bootStatus.set("tasks", null);
        startClaiming(this.scheduler, this.#orphans, clock, this.#stopped.signal);
        this.#startTicks();
        return report;
      } catch (error) {
        if (signal.aborted || isAbort(error)) throw error;
        log.error({ error: errorMessage(error) }, "the boot is not complete; it is tried again");
        this.#bootStatus.set("tasks", `${errorMessage(error)}. It is tried again.`);
        startClaiming(this.scheduler, this.#orphans, clock, this.#stopped.signal);
        this.#startTicks();
        await clock.sleep(BOOT_RETRY_MS, signal);
      }
    }
  }

  /** Idempotent. Rejects when a part fails, such as the adoption of one task. */
  async #bootOnce(signal: AbortSignal): Promise<BootReport> {
    // Bounded: deadlines and cancels do not wait for an engine that does not answer.
    const isEngineUp = await raceAbort(this.#checkEngine(), signal);
    const running = isEngineUp ? await raceAbort(this.#listRunning(), signal) : null;
    await raceAbort(this.supervisor.boot(running), signal);
    const adopted = this.supervisor.size();
    await raceAbort(this.#fireDeadlines(), signal);
    return { adopted };
  }

  async close(): Promise<void> {
    const { clock, log, settings } = this.#deps;
    this.#stopped.abort();
    await this.scheduler.stop();
    await Promise.all(this.#ticks);
    // Bounded, because an engine may hang: the next boot finishes interrupted effects.
    await withTimeout(settings.shutdownMs, Promise.all([this.supervisor.close(), this.workerApi.close()]), clock).catch(
      (error: unknown) => log.warn({ error: errorMessage(error) }, "an effect did not end"),
    );
    await this.taskLog.idle();
    if (this.#caughtUp >= 0 && !this.#workingTime.isStoreFailing) this.#deps.heartbeat?.beat(clock.now());
    this.#caughtUp = -1;
    await this.#broker.close();
  }

  /** Idempotent. */
  #startTicks(): void {
    if (this.#hasTicks) return;
    this.#hasTicks = true;
    const { sandbox } = this.#deps;
    const { signal } = this.#stopped;
    this.#startTick(DEADLINE_TICK_MS, "the deadline tick", () => this.#fireDeadlines());
    this.#startTick(TIME_TICK_MS, "the time tick", () => this.#keepTime());
    this.#startTick(DRIVE_TICK_MS, "the drive tick", async () => {
      if (!this.#workingTime.isStoreFailing) await this.supervisor.endSilent();
      this.supervisor.driveAll();
    });
    this.#startTick(RECONCILE_TICK_MS, "the tick for unknown commits", () => this.taskLog.reconcile());
    this.#startTick(RECONCILE_TICK_MS, "the deletion tick", () => this.tasks.resumeDeletions(signal));
    this.#startTick(HEALTH_TICK_MS, "the health check of the engine", () => this.#checkEngine());
    this.#startTick(DRIVE_TICK_MS, "the tick of slots that wait for an answer", () => this.scheduler.yieldSlots());
    this.#startTick(DISK_TICK_MS, "the disk tick", () => this.#admission.relieve());
    // The pool of warm workers does not grow while claiming is paused.
    this.#startTick(POOL_TICK_MS, "the pool tick", () =>
      sandbox.maintainPool({ grow: this.scheduler.state().reason === null }, signal),
    );
    this.#startTick(RETENTION_TICK_MS, "the retention tick", () => this.garbageCollector.collect("remove", signal));
  }

  /** Runs beside the boot, at once and then on each tick. Idempotent. */
  #startOrphanTick(): void {
    if (this.#hasOrphanTick) return;
    this.#hasOrphanTick = true;
    const { signal } = this.#stopped;
    this.#orphans = ignoreAbort(this.#removeOrphans(), signal);
    this.#ticks.push(
      this.#orphans.then(() => this.#repeat(ORPHAN_TICK_MS, "the orphan tick", () => this.#removeOrphans())),
    );
  }

  #startTick(ms: number, name: string, work: () => Promise<unknown>): void {
    this.#ticks.push(this.#repeat(ms, name, work));
  }

  /**
   * Repeats `work` with a pause before each run. A failure is logged, and the next run tries again.
   */
  async #repeat(ms: number, name: string, work: () => Promise<unknown>): Promise<void> {
    const { clock, log } = this.#deps;
    const { signal } = this.#stopped;
    while (!signal.aborted) {
      try {
        await clock.sleep(ms, signal);
        await ignoreAbort(work(), signal);
      } catch (error) {
        if (isAbort(error)) return;
        log.error({ error: errorMessage(error) }, `${name} failed`);
      }
    }
  }

  async #keepTime(): Promise<void> {
    const deps = { ...this.#deps, taskLog: this.taskLog, workingTime: this.#workingTime };
    this.#caughtUp = await keepTime(deps, this.#caughtUp);
  }

  #fireDeadlines(): Promise<void> {
    return fireDeadlines({ ...this.#deps, taskLog: this.taskLog, workingTime: this.#workingTime });
  }

  /** Never rejects. */
  async #removeOrphans(): Promise<void> {
    const { signal } = this.#stopped;
    try {
      const failed = await this.garbageCollector.removeOrphans(signal);
      this.#bootStatus.set("orphans", failed === 0 ? null : `${failed} sandboxes could not be removed.`);
    } catch (error) {
      if (signal.aborted) return;
      this.#bootStatus.set("orphans", `Sandboxes could not be listed (${errorMessage(error)}).`);
      this.#deps.log.warn({ error: errorMessage(error) }, "sandboxes that no task needs could not be listed");
    }
  }

  async #checkEngine(): Promise<boolean> {
    const isUp = await this.scheduler.checkHealth();
    this.#bootStatus.set("engine", isUp ? null : "The sandbox engine does not answer.");
    return isUp;
  }

  /** Names of the sandboxes that run; null when the engine does not answer. */
  async #listRunning(): Promise<ReadonlySet<string> | null> {
    const { sandbox, clock, settings } = this.#deps;
    const found = await withTimeout(settings.engineMs, sandbox.list(), clock).catch(() => null);
    const running = found?.filter((info) => info.state === "running");
    return running === undefined ? null : new Set(running.map(({ name }) => name));
  }
}
