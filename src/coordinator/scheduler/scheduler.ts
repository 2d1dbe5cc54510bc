/**
 * Claims queued tasks: when, how many, and in which order.
 *
 * G1 Three counts, each from one place: what is claimable and in which order comes from the store
 *    (rule D8), how many slots are free from the queue of the slots (decision 029), and how many
 *    rows hold one from the store again, before each batch (rule D4). No more tasks are claimed
 *    than slots are free, so a claim never waits in the queue while the store's order changes.
 * G2 A slot is held from the claim until the attempt's sandbox is cleared, however the attempt ends
 *    (rule D5).
 * G3 Batches of claims run one at a time, so two batches never count the same free slot.
 * G4, G5 The engine's breaker (engine-breaker.ts) pauses claiming (rule D9).
 * G6 While there is too little free disk space no task is claimed, and none fails for it. Free
 *    space is checked before claims and at each health check (rule D10).
 * G7 A task whose model provider refuses all requests for now, or whose daily budget is used up,
 *    waits without a slot and does not block the tasks behind it.
 * G8 After a claim that could not be read or written nothing is claimed for `REST_MS`: the store is
 *    unlikely to work a moment later, and a claim that is repeated at once would occupy the process
 *    and its log.
 */
import PQueue from "p-queue";
import { isSettled } from "../../../machines/fold.ts";
import { findNewerWork } from "../services/tasks/retry-and-follow-up.ts";
import type { TaskLog } from "../task-log.ts";
import { errorMessage } from "../../core/error.ts";
import type { Store } from "../../core/ports/store.ts";
import type { Task, Wait, WaitReason } from "../../core/task.ts";
import { withTimeout } from "../../core/lib/concurrency/async.ts";
import { UNBOUNDED, type WorkspaceAdmission, type Promises } from "./workspace-admission.ts";
import { EngineBreaker, type EngineBreakerDeps } from "./engine-breaker.ts";
import { readQueueMode, writeQueueMode, type QueueMode } from "./queue-mode.ts";
import { Slots } from "./slots.ts";
import { yieldSlots } from "./yielding.ts";

export interface SchedulerDeps extends EngineBreakerDeps {
  readonly taskLog: TaskLog;
  readonly store: Pick<
    Store,
    "claimable" | "positions" | "slotsHeld" | "threadAhead" | "task" | "tasks" | "setting" | "setSetting"
  >;
  readonly maxConcurrent: number;
  /** Slots that one user may hold; null = no limit. */
  readonly userLimit: number | null;
  /**
   * Why a slot would be of no use to the task now; null when it would be. Null instead of the
   * function = no task is ever deferred.
   */
  readonly getDeferral: ((task: Task) => Promise<DeferralReason | null>) | null;
  /** Why there is too little disk space, for people; null when there is enough. */
  readonly shortage: () => Promise<string | null>;
  /** The promises to workspaces. */
  readonly admission: Pick<WorkspaceAdmission, "promises">;
}

/** Reasons for which a task waits without blocking the tasks behind it. */
export type DeferralReason = Extract<WaitReason, "budget" | "model_rate_limited" | "sandbox_unavailable">;

export interface QueueState {
  readonly paused: boolean;
  readonly breaker: "closed" | "open";
  /** "low" while there is too little free disk space to claim. */
  readonly disk: "ok" | "low";
  /** "failing" from a claim that could not be read or written until one could be (G8). */
  readonly store: "ok" | "failing";
  /** Why claiming is paused, for people; null when it is not. */
  readonly reason: string | null;
}

export interface Scheduler {
  /** Claims what can be claimed now. Safe to call at any time, any number of times. */
  schedule(): void;
  /** Begins claiming, after boot. */
  start(): void;
  /** Ends claiming; resolves when no claim is under way. */
  stop(): Promise<void>;
  /** Takes a slot for a task that holds one by its state (adoption at boot). Idempotent. */
  adopt(taskId: string): void;
  /** Gives the task's slot back. Idempotent. */
  release(taskId: string): void;
  /**
   * Durable: holds over restarts. Idempotent: a drain keeps the time at which it began. Once a
   * pause or a drain has resolved, no claim that was under way follows.
   */
  setMode(state: QueueMode["state"]): Promise<void>;
  mode(): QueueMode;
  noteInfraFailure(): void;
  /**
   * Checks the engine if that is due: opens the breaker when it does not answer, closes it when it
   * does and the pause is over. Ends within `engineMs`. @returns whether the engine answered the
   * latest check.
   */
  checkHealth(): Promise<boolean>;
  /**
   * Parks tasks that have kept their slots for an answer for too long, one for each task that waits
   * for a slot (rule D14); while the queue drains, all that wait for an answer (rule D15). Never
   * rejects.
   */
  yieldSlots(): Promise<void>;
  state(): QueueState;
  /** Why each of these queued tasks waits, by id; without those that are no longer queued. */
  waits(tasks: readonly Task[]): Promise<ReadonlyMap<string, Wait>>;
  slotsUsed(): number;
}

/** Most claims of one batch. */
const BATCH = 64;
/** How many queued tasks are examined when some of the first ones are deferred. */
const LOOK_AHEAD = 1_000;
/** How long one answer about free disk space is used, ms. */
const DISK_MS = 1_000;
/** Pause after a claim that failed, ms. */
const REST_MS = 1_000;
const REASONS: Readonly<Record<QueueMode["state"], string | null>> = {
  open: null,
  paused: "An operator paused the queue.",
  draining: "An operator drains the queue: no further task starts.",
};

/**
 * @param queue limits the slots; by default its concurrency is `maxConcurrent`.
 */
export async function createScheduler(
  deps: SchedulerDeps,
  queue = new PQueue({ concurrency: deps.maxConcurrent }),
): Promise<Scheduler> {
  return new TaskScheduler(deps, queue, await readQueueMode(deps.store));
}

class TaskScheduler implements Scheduler {
  readonly #deps: SchedulerDeps;
  readonly #breaker: EngineBreaker;
  readonly #slots: Slots;
  #mode: QueueMode;
  #isStarted = false;
  /** The batches under way. */
  #claiming: Promise<void> | null = null;
  /** `schedule` was called while batches were under way. */
  #isRescheduled = false;
  #disk: { readonly checkedAt: number; readonly shortage: string | null } = { checkedAt: -Infinity, shortage: null };
  /** The last batch passed over deferred tasks. */
  #hasDeferred = false;
  /** How to end the rest after a failure (G8); null while claiming does not rest. */
  #rest: { readonly cancel: () => void } | null = null;
  /** Why the last claim failed; null after one that did not. Outlives the rest. */
  #failure: string | null = null;

  constructor(deps: SchedulerDeps, queue: PQueue, mode: QueueMode) {
    this.#deps = deps;
    this.#breaker = new EngineBreaker(deps);
    this.#slots = new Slots(queue, () => this.schedule());
    this.#mode = mode;
    // A task without a slot (in pushing, for example) may hold back others of its thread.
    deps.taskLog.onCommit((task) => {
      if (isSettled(task.snapshot)) this.schedule();
    });
  }

  schedule(): void {
    if (this.#claiming !== null) {
      this.#isRescheduled = true;
      return;
    }
    if (this.#isBlocked() || this.#slots.free === 0) return;
    this.#claiming = this.#claimBatches()
      .catch((error: unknown) => {
        this.#deps.log.error({ error: errorMessage(error) }, "claiming failed");
        this.#restAfter(error);
      })
      .finally(() => {
        this.#claiming = null;
        if (this.#isRescheduled) this.schedule();
      });
  }

  start(): void {
    this.#isStarted = true;
    this.schedule();
  }

  async stop(): Promise<void> {
    this.#isStarted = false;
    await this.#claiming;
    this.#rest?.cancel();
  }

  adopt(taskId: string): void {
    this.#slots.adopt(taskId);
  }

  release(taskId: string): void {
    this.#slots.release(taskId);
  }

  async setMode(state: QueueMode["state"]): Promise<void> {
    const { store, clock } = this.#deps;
    const before = this.#mode;
    const since = before.state === "draining" ? before.since : clock.now();
    const mode = state === "draining" ? { state, since } : { state };
    await writeQueueMode(store, mode);
    this.#mode = mode;
    if (state === "open") this.schedule();
    else await this.#claiming;
  }

  mode(): QueueMode {
    return this.#mode;
  }

  noteInfraFailure(): void {
    this.#breaker.noteFailure();
  }

  async checkHealth(): Promise<boolean> {
    if (!(await this.#breaker.checkIfDue())) return false;
    const wasLow = this.#disk.shortage !== null;
    if (((await this.#hasDiskSpace()) && wasLow) || this.#hasDeferred) this.schedule();
    if (this.#breaker.closeIfRested()) this.schedule();
    return true;
  }

  async yieldSlots(): Promise<void> {
    if (this.#mode.state === "draining") return yieldSlots(this.#deps, this.#slots.ids, Infinity, 0);
    if (this.#isBlocked() || this.#disk.shortage !== null || this.#slots.free > 0) return;
    try {
      const waiting = await this.#nextClaims(this.#deps.maxConcurrent);
      if (waiting.length > 0) await yieldSlots(this.#deps, this.#slots.ids, waiting.length);
    } catch (error) {
      this.#deps.log.warn({ error: errorMessage(error) }, "the tasks that wait for a slot could not be listed");
    }
  }

  state(): QueueState {
    const engine = this.#breaker.reason;
    const { shortage } = this.#disk;
    return {
      paused: this.#mode.state !== "open",
      breaker: engine === null ? "closed" : "open",
      disk: shortage === null ? "ok" : "low",
      store: this.#failure === null ? "ok" : "failing",
      reason: REASONS[this.#mode.state] ?? engine ?? shortage ?? this.#failure,
    };
  }

  async waits(tasks: readonly Task[]): Promise<ReadonlyMap<string, Wait>> {
    const positions = await this.#deps.store.positions(tasks.map(({ id }) => id));
    const waits = new Map<string, Wait>();
    const promises = await this.#deps.admission.promises();
    const areFull = new Map<string, Promise<boolean>>();
    const isUserFull = (userId: string): Promise<boolean> => {
      let isFull = areFull.get(userId);
      if (isFull === undefined) areFull.set(userId, (isFull = this.#isUserFull(userId)));
      return isFull;
    };
    for (const task of tasks) {
      const position = positions.get(task.id);
      if (position === undefined) continue;
      waits.set(task.id, { reason: await this.#waitReason(task, promises, isUserFull), position });
    }
    return waits;
  }

  async #isUserFull(userId: string): Promise<boolean> {
    const { store, userLimit } = this.#deps;
    return userLimit !== null && (await store.slotsHeld(userId)) >= userLimit;
  }

  async #waitReason(
    task: Task,
    promises: Promises,
    isUserFull: (userId: string) => Promise<boolean>,
  ): Promise<WaitReason> {
    const { store, getDeferral } = this.#deps;
    if (this.#mode.state !== "open") return "paused";
    if (this.#breaker.reason !== null) return "sandbox_unavailable";
    if (this.#disk.shortage !== null) return "disk_low";
    const deferral = (await getDeferral?.(task)) ?? null;
    if (deferral !== null) return deferral;
    // While all slots are taken, the end of one gives room as well.
    if (this.#slots.free > 0 && !promises.fits(task, false)) return "disk_low";
    // Nothing of a thread is older than the task that began it.
    if (task.threadId !== task.id && (await store.threadAhead(task.id)) !== null) return "thread_busy";
    return (await isUserFull(task.userId)) ? "user_limit" : "concurrency";
  }

  slotsUsed(): number {
    return this.#slots.used;
  }

  #isBlocked(): boolean {
    return !this.#isStarted || this.#mode.state !== "open" || this.#breaker.reason !== null || this.#rest !== null;
  }

  /** Nothing is claimed for a while after a failure of the store (G8). */
  #restAfter(error: unknown): void {
    this.#failure = `A claim could not be stored (${errorMessage(error)}).`;
    if (this.#rest !== null) return;
    const end = (): void => {
      this.#rest = null;
      this.schedule();
    };
    const cancel = this.#deps.clock.timer(REST_MS, end);
    this.#rest = { cancel };
  }

  async #claimBatches(): Promise<void> {
    do {
      this.#isRescheduled = false;
      if (this.#isBlocked() || !(await this.#hasDiskSpace()) || this.#isBlocked()) return;
      if (!(await this.#breaker.checkIfSuspect()) || this.#isBlocked()) return;
      const { store, maxConcurrent } = this.#deps;
      // The slots and the rows differ while a sandbox is being cleared: the smaller number counts.
      const free = Math.min(BATCH, this.#slots.free, maxConcurrent - (await store.slotsHeld()));
      if (free <= 0) return;
      const taskIds = await this.#nextClaims(free);
      if (taskIds.length === 0) this.#failure = null;
      await Promise.all(taskIds.map((taskId) => this.#slots.take(taskId, () => this.#claim(taskId))));
      this.#isRescheduled ||= taskIds.length === free;
    } while (this.#isRescheduled);
  }

  /** @returns true when the task was claimed. Never rejects. */
  async #claim(taskId: string): Promise<boolean> {
    try {
      const { store, taskLog } = this.#deps;
      const { events } = await taskLog.record(taskId, async (task) => {
        const continues = await findNewerWork(store, task);
        const data = { reason: "claimed", ...(continues === null ? {} : { continues }) };
        return [{ type: "task.state", data, attempt: task.snapshot.context.attempt + 1 }];
      });
      this.#failure = null;
      return events.length > 0;
    } catch (error) {
      this.#deps.log.error({ task: taskId, error: errorMessage(error) }, "a claim failed");
      this.#restAfter(error);
      return false;
    }
  }

  /** At most `free` tasks to claim, in the store's order. */
  async #nextClaims(free: number): Promise<readonly string[]> {
    const first = await this.#listClaimable(free, free);
    this.#hasDeferred = first.hasDeferred;
    return first.hasDeferred ? (await this.#listClaimable(LOOK_AHEAD, free)).taskIds : first.taskIds;
  }

  /** At most `free` of the first `limit` tasks of the queue. */
  async #listClaimable(limit: number, free: number): Promise<{ taskIds: readonly string[]; hasDeferred: boolean }> {
    const { store, userLimit, getDeferral, admission } = this.#deps;
    const listed = (await store.claimable(limit, userLimit)).filter((taskId) => !this.#slots.has(taskId));
    const promises = await admission.promises();
    if (getDeferral === null && promises === UNBOUNDED) return { taskIds: listed.slice(0, free), hasDeferred: false };
    const taskIds: string[] = [];
    let hasDeferred = false;
    for (const taskId of listed) {
      if (taskIds.length === free) break;
      const task = await store.task(taskId);
      const isDeferred =
        task !== null && (((await getDeferral?.(task)) ?? null) !== null || !promises.fits(task, true));
      if (isDeferred) hasDeferred = true;
      else taskIds.push(taskId);
    }
    return { taskIds, hasDeferred };
  }

  async #hasDiskSpace(): Promise<boolean> {
    const { clock, log, shortage: getShortage, engineMs } = this.#deps;
    const now = clock.monotonic();
    if (now - this.#disk.checkedAt < DISK_MS) return this.#disk.shortage === null;
    const before = this.#disk.shortage;
    this.#disk = { checkedAt: now, shortage: before };
    // Bounded, because the check may ask the engine where its disk is.
    const shortage = await withTimeout(engineMs, getShortage(), clock).catch(() => before);
    this.#disk = { checkedAt: now, shortage };
    if (shortage !== null && before === null)
      log.error({ shortage }, "claiming is paused: there is too little disk space");
    if (shortage === null && before !== null) log.info({}, "there is disk space again; claiming goes on");
    return shortage === null;
  }
}
