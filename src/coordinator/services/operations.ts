/**
 * For operators: why a task waits, which tasks are stuck and why, containers compared with rows.
 */
import { effectOf } from "../../../machines/fold.ts";
import { errorMessage } from "../../core/error.ts";
import { surveyDrain, type Drain } from "../scheduler/drain.ts";
import type { QueueMode } from "../scheduler/queue-mode.ts";
import type { QueueState, Scheduler } from "../scheduler/scheduler.ts";
import type { WorkspaceAdmission, WorkspaceRules, WorkspaceSurvey } from "../scheduler/workspace-admission.ts";
import type { BootStatus, IncompletePart } from "../boot-status.ts";
import type { GarbageCollector } from "../garbage-collector.ts";
import { readTasks } from "../read-lists.ts";
import type { StoredRepository } from "../../core/ports/repositories.ts";
import type { Store } from "../../core/ports/store.ts";
import { OPEN_STATES, type Task, type TaskState, type Wait } from "../../core/task.ts";
import { withTimeout } from "../../core/lib/concurrency/async.ts";
import type { Clock } from "../../core/ports/runtime.ts";
import type { Sandbox, PoolStatus } from "../../core/ports/sandbox.ts";
import type { GcMode, Garbage } from "../../core/lib/garbage.ts";
import type { PersonStorage } from "./people/person-storage.ts";

/** Disk space that belongs to the store alone. */
export interface StoreReserve {
  readonly mb: number;
  /** False from when it was given up on a full disk until it could be made again. */
  readonly held: boolean;
}

export interface OperationDeps {
  readonly scheduler: Scheduler;
  readonly bootStatus: BootStatus;
  readonly garbageCollector: Pick<GarbageCollector, "collect">;
  readonly admission: Pick<WorkspaceAdmission, "survey">;
  readonly workspaces: WorkspaceRules;
  readonly storage: Pick<PersonStorage, "largest">;
  /** Null or absent = the store has no reserve. */
  readonly readReserve?: (() => Promise<StoreReserve | null>) | undefined;
  readonly store: Store;
  readonly sandbox: Sandbox;
  readonly clock: Clock;
  readonly maxConcurrent: number;
  /** As in SupervisorDeps. */
  readonly lastSeen: (taskId: string, attempt: number) => number | null;
  readonly livenessMs: number;
  /** Longest wait for the engine's list, ms. */
  readonly engineMs: number;
}

/** A deadline that is overdue by more than this was missed by the tick. */
const OVERDUE_MS = 10_000;
const QUIET_MS = 120_000;
const ACTIVE = OPEN_STATES.filter((state) => state !== "queued");

export function createOperationsService(deps: OperationDeps): OperationsService {
  const { scheduler, store, sandbox, clock } = deps;

  const findWaits: OperationsService["waits"] = (tasks) => {
    const queued = tasks.filter(({ state }) => state === "queued");
    return queued.length === 0 ? Promise.resolve(new Map()) : scheduler.waits(queued);
  };

  function findStuckReason(task: Task): Stuck | null {
    const c = task.snapshot.context;
    const now = clock.now();
    if (c.dueAt !== null && now - c.dueAt > OVERDUE_MS)
      return { reason: "its deadline passed and nothing happened", since: c.dueAt };
    if (effectOf(task.snapshot) === "supervise") {
      const seen = deps.lastSeen(task.id, c.attempt);
      const silentMs = seen === null ? 0 : clock.monotonic() - seen;
      if (silentMs > deps.livenessMs / 2)
        return { reason: "the worker gives no sign of life", since: Math.round(now - silentMs) };
      if (c.question !== null)
        return now - c.question.askedAt > QUIET_MS
          ? { reason: "it waits for an answer", since: c.question.askedAt }
          : null;
      if (now - c.activeAt > QUIET_MS)
        return { reason: "the worker has reported nothing for a while", since: c.activeAt };
    }
    if (task.state === "provisioning" && now - c.activeAt > QUIET_MS / 2) {
      const open = c.steps.findLast((step) => step.endedAt === null)?.name;
      return { reason: open ? `the step "${open}" takes long` : "provisioning takes long", since: c.activeAt };
    }
    return null;
  }

  async function stuckTasks() {
    const found: { id: string; state: Task["state"]; reason: string; since: number }[] = [];
    for (const { id, reason } of await store.setAside())
      found.push({
        id,
        state: "failed",
        reason: `set aside: ${reason}`,
        since: (await store.task(id))?.updatedAt ?? 0,
      });
    for await (const task of readTasks(store, { userId: null, states: ACTIVE })) {
      const why = findStuckReason(task);
      if (why !== null) found.push({ id: task.id, state: task.state, ...why });
    }
    return found;
  }

  return {
    waits: findWaits,
    wait: async (task) => (await findWaits([task])).get(task.id) ?? null,
    stuck: findStuckReason,
    stuckTasks,
    queue: () => scheduler.state(),
    boot: () => deps.bootStatus.incomplete(),
    setAside: async () => (await store.setAside()).length,
    setQueueMode: (state) => scheduler.setMode(state),
    drain: () => surveyDrain(scheduler, store),
    collect: (mode, signal) => deps.garbageCollector.collect(mode, signal),
    async storage() {
      const { floorMb, lowMb } = deps.workspaces;
      const [reserve, workspaces] = await Promise.all([deps.readReserve?.() ?? null, deps.admission.survey()]);
      return { floorMb, lowMb, reserve, workspaces, repositories: deps.storage.largest() };
    },
    slots: async () => ({ used: await store.slotsHeld(), max: deps.maxConcurrent }),
    async sandbox() {
      const { kind, isolates } = sandbox;
      const expected = await store.slotsHeld();
      try {
        const [found, warm] = await withTimeout(
          deps.engineMs,
          Promise.all([sandbox.list(), sandbox.poolStatus()]),
          clock,
        );
        const containers = found.filter(({ state }) => state === "running").length;
        return { kind, isolates, containers, expected, warm, error: null };
      } catch (error) {
        return { kind, isolates, containers: 0, expected, warm: null, error: errorMessage(error) };
      }
    },
  };
}

/** Why a task is stuck, for operators. */
export interface Stuck {
  readonly reason: string;
  readonly since: number;
}

export interface StorageSurvey {
  /** Least free space with which a task starts, MiB. */
  readonly floorMb: number;
  /** With less free space fetches and pushes end, and so do running tasks, MiB. */
  readonly lowMb: number;
  readonly reserve: StoreReserve | null;
  readonly workspaces: WorkspaceSurvey | null;
  /** The largest ones; null until the first measurement has ended. */
  readonly repositories: readonly StoredRepository[] | null;
}

export interface OperationsService {
  /** Why the queued ones of these tasks wait, by id. */
  waits(tasks: readonly Task[]): Promise<ReadonlyMap<string, Wait>>;
  /** Why this queued task waits; null when it is not queued. */
  wait(task: Task): Promise<Wait | null>;
  stuck(task: Task): Stuck | null;
  /** Every open task that is stuck, and every task that is set aside. */
  stuckTasks(): Promise<{ id: string; state: TaskState; reason: string; since: number }[]>;
  queue(): QueueState;
  /** The parts of the boot that are not complete yet. */
  boot(): readonly IncompletePart[];
  /** How many tasks this version cannot read (rule M11). */
  setAside(): Promise<number>;
  /** As Scheduler.setMode. */
  setQueueMode(state: QueueMode["state"]): Promise<void>;
  /** What a drain waits for; null while the queue does not drain. */
  drain(): Promise<Drain | null>;
  /**
   * Garbage collection (GarbageCollector.collect). May take minutes when there is much to remove.
   */
  collect(mode: GcMode, signal: AbortSignal): Promise<Garbage[]>;
  /** The room on the disks, and what takes it. */
  storage(): Promise<StorageSurvey>;
  slots(): Promise<{ used: number; max: number }>;
  /** `warm`: the pool of warm workers; null when this kind of sandbox has none. */
  sandbox(): Promise<{
    kind: string;
    isolates: boolean;
    containers: number;
    expected: number;
    warm: PoolStatus | null;
    error: string | null;
  }>;
}
