/**
 * The gate: who may enter provisioning, and when.
 *
 * G1 The rows are the queue; p-queue only throttles. Free slots are counted from the store before
 *    each claim (rule D4).
 * G2 A slot is held from the claim until the attempt's sandbox is cleared, whatever ends the
 *    attempt (rule D5).
 * G3 Claims run one batch at a time, so two claims never see the same free slot.
 * G4 An engine that does not answer pauses claiming at once, and until it does: a claim could only
 *    fail, and would hold its slot until then. It is asked every few seconds, and after an
 *    infrastructure failure before the next claim (decision 020).
 * G5 More than `breakerLimit` such failures in `breakerWindowMs` pause claiming for
 *    `breakerRestMs`, whatever the engine answers (rule D9).
 * G6 With too little free disk space nothing is claimed, and nothing fails for it; it is looked at
 *    before claims and at each probe (rule D10).
 * G7 A task whose model's provider refuses everybody for now, or whose day's money is gone, waits
 *    without a slot and lets others by.
 */
import PQueue from "p-queue";
import type { TaskLog } from "./task-log.ts";
import { errorMessage } from "../core/error.ts";
import type { Store } from "../core/ports/store.ts";
import type { Task, Wait, WaitReason } from "../core/task.ts";
import { withTimeout } from "../core/lib/async.ts";
import type { Clock, Log } from "../core/ports/runtime.ts";
import type { Sandbox } from "../core/ports/sandbox.ts";

export interface SchedulerDeps {
  readonly taskLog: TaskLog;
  readonly store: Store;
  readonly sandbox: Sandbox;
  readonly clock: Clock;
  readonly log: Log;
  readonly maxConcurrent: number;
  /** Slots that one user may hold; null = no limit. */
  readonly userLimit: number | null;
  /**
   * Why the task could do nothing with a slot now (its model rests, the day's money is gone); null
   * = it could. Absent = nothing ever withholds.
   */
  readonly deferralOf: ((task: Task) => Promise<DeferralReason | null>) | null;
  readonly breakerLimit: number;
  readonly breakerWindowMs: number;
  /** How long claiming rests at least when attempts keep failing, ms. */
  readonly breakerRestMs: number;
  /** Why there is too little disk space, in words; null when there is enough. */
  readonly shortage: () => Promise<string | null>;
  /** Longest wait for the engine's answer to a look, ms. */
  readonly engineMs: number;
}

/** What lets others by: the task waits, the queue does not. */
export type DeferralReason = Extract<WaitReason, "budget" | "model_rate_limited">;

export interface QueueState {
  readonly paused: boolean;
  readonly breaker: "closed" | "open";
  /** "low" while there is too little free disk space to claim. */
  readonly disk: "ok" | "low";
  /** Words for people when claiming does not go on; null when it does. */
  readonly reason: string | null;
}

export interface Scheduler {
  /** Claims what may be claimed now. Safe to call at any time, any number of times. */
  schedule(): void;
  /** Begins or ends claiming (boot, shutdown). */
  start(): void;
  stop(): Promise<void>;
  /** The task holds a slot already (adopted at boot). */
  adopt(taskId: string): void;
  release(taskId: string): void;
  pause(paused: boolean): Promise<void>;
  noteInfraFailure(): void;
  /**
   * Asks the engine, if that is due: pauses claiming when it does not answer, ends a pause when it
   * does and the rest is over. Ends within `engineMs`. @returns whether the engine answered when it
   * was last asked.
   */
  checkHealth(): Promise<boolean>;
  state(): QueueState;
  wait(task: Task): Promise<Wait>;
  slotsUsed(): number;
}

const BATCH = 64;
/** How many tasks are looked at when the first ones are withheld. */
const LOOK_AHEAD = 1_000;
const PAUSED = "queue.paused";
/** One look at the disks serves for this long, ms. */
const DISK_MS = 1_000;
/** Between two questions to an engine that answers; one that does not is asked with each probe. */
const LOOK_MS = 5_000;

/** Why nothing is claimed, and until when at least. */
interface Break {
  readonly reason: string;
  readonly restUntil: number;
}

export async function createScheduler(deps: SchedulerDeps): Promise<Scheduler> {
  const { taskLog, store, sandbox, clock, log, maxConcurrent, userLimit } = deps;
  const slots = new PQueue({ concurrency: maxConcurrent });
  const held = new Map<string, () => void>();
  let paused = (await store.setting(PAUSED)) === "1";
  let claiming: Promise<void> | null = null;
  let again = false;
  let isOpen = false;
  let failures: number[] = [];
  let broken: Break | null = null;
  /**
   * An attempt failed in a way that may be the engine's, and the engine has not been asked since.
   */
  let suspect = false;
  let disks: { readonly at: number; readonly shortage: string | null } = { at: -Infinity, shortage: null };
  let lookAt = 0;
  let looking: Promise<boolean> | null = null;
  /** A task was passed over. */
  let waits = false;

  /** Occupies one place of the p-queue until `release`. */
  function hold(taskId: string): void {
    if (held.has(taskId)) return;
    const free = new Promise<void>((resolve) => held.set(taskId, resolve));
    void slots.add(() => free);
  }

  function release(taskId: string): void {
    held.get(taskId)?.();
    if (held.delete(taskId)) poke();
  }

  async function claim(taskId: string): Promise<void> {
    hold(taskId);
    try {
      const { events } = await taskLog.record(taskId, (task) => [
        { type: "task.state", data: { reason: "claimed" }, attempt: task.snapshot.context.attempt + 1 },
      ]);
      if (events.length === 0) release(taskId);
    } catch (error) {
      release(taskId);
      log.error({ task: taskId, error: errorMessage(error) }, "a claim failed");
    }
  }

  function blocked(): boolean {
    return !isOpen || paused || broken !== null;
  }

  async function hasRoom(): Promise<boolean> {
    const now = clock.now();
    if (now - disks.at < DISK_MS) return disks.shortage === null;
    const before = disks.shortage;
    disks = { at: now, shortage: before };
    // It may have to ask the engine where its disk is.
    const shortage = await withTimeout(deps.engineMs, deps.shortage(), clock).catch(() => before);
    disks = { at: now, shortage };
    if (shortage !== null && before === null)
      log.error({ shortage }, "claiming is paused: there is too little disk space");
    if (shortage === null && before !== null) log.info({}, "there is disk space again; claiming goes on");
    return shortage === null;
  }

  /** @returns null when the engine answers, else why not. */
  async function ask(): Promise<string | null> {
    const stop = new AbortController();
    try {
      await withTimeout(deps.engineMs, sandbox.check(stop.signal), clock);
      return null;
    } catch (error) {
      stop.abort();
      return `The sandbox engine does not answer (${errorMessage(error)}).`;
    }
  }

  async function look(): Promise<boolean> {
    suspect = false;
    const reason = await ask();
    lookAt = clock.now() + LOOK_MS;
    if (reason === null) return true;
    if (broken === null) log.error({ error: reason }, "claiming is paused: the sandbox engine does not answer");
    broken = { reason, restUntil: broken?.restUntil ?? 0 };
    return false;
  }

  /** Asks the engine, one question at a time; while it does not answer nothing is claimed. */
  function answers(): Promise<boolean> {
    looking ??= look().finally(() => (looking = null));
    return looking;
  }

  async function ready(limit: number): Promise<{ ids: string[]; short: boolean }> {
    const all = (await store.claimable(limit, userLimit)).filter((id) => !held.has(id));
    const ids: string[] = [];
    for (const id of all) {
      const task = deps.deferralOf === null ? null : await store.task(id);
      if (task === null || (await deps.deferralOf?.(task)) === null) ids.push(id);
    }
    return { ids, short: ids.length < all.length };
  }

  /** Whom to claim, in fair order. */
  async function next(free: number): Promise<string[]> {
    const first = await ready(free);
    waits = first.short;
    return first.short ? (await ready(LOOK_AHEAD)).ids.slice(0, free) : first.ids;
  }

  async function claimAll(): Promise<void> {
    do {
      again = false;
      if (blocked() || !(await hasRoom()) || blocked()) return;
      if (suspect && (!(await answers()) || blocked())) return;
      // The places of the p-queue and the rows may differ for a moment (a sandbox is being
      // cleared): the smaller number counts.
      const free = Math.min(BATCH, maxConcurrent - held.size, maxConcurrent - (await store.slotsHeld()));
      if (free <= 0) return;
      const ids = await next(free);
      await Promise.all(ids.map(claim));
      again ||= ids.length === free;
    } while (again);
  }

  function poke(): void {
    if (claiming !== null) {
      again = true;
      return;
    }
    if (blocked() || held.size >= maxConcurrent) return;
    claiming = claimAll()
      .catch((error: unknown) => log.error({ error: errorMessage(error) }, "claiming failed"))
      .finally(() => {
        claiming = null;
        if (again) poke();
      });
  }

  return {
    schedule: poke,
    release,
    adopt: hold,
    start() {
      isOpen = true;
      poke();
    },
    async stop() {
      isOpen = false;
      await claiming;
    },
    async pause(value) {
      await store.setSetting(PAUSED, value ? "1" : null);
      paused = value;
      if (!value) poke();
    },
    noteInfraFailure() {
      const now = clock.now();
      suspect = true;
      failures = [...failures.filter((at) => now - at < deps.breakerWindowMs), now];
      if (failures.length <= deps.breakerLimit || broken !== null) return;
      const reason = `${failures.length} infrastructure failures in ${Math.round(deps.breakerWindowMs / 1_000)} s`;
      broken = { reason, restUntil: now + deps.breakerRestMs };
      log.error({ failures: failures.length }, "claiming is paused: the sandbox engine keeps failing");
    },
    async checkHealth() {
      const isNew = broken !== null || suspect || clock.now() >= lookAt;
      if (isNew && !(await answers())) return false;
      const wasLow = disks.shortage !== null;
      if (((await hasRoom()) && wasLow) || waits) poke();
      if (broken !== null && clock.now() >= broken.restUntil) {
        broken = null;
        failures = [];
        log.info({}, "the sandbox engine answers; claiming goes on");
        poke();
      }
      return true;
    },
    state() {
      const reason = paused ? "An operator paused the queue." : (broken?.reason ?? disks.shortage);
      return {
        paused,
        breaker: broken === null ? "closed" : "open",
        disk: disks.shortage === null ? "ok" : "low",
        reason,
      };
    },
    async wait(task) {
      const position = await store.position(task.id);
      if (paused) return { reason: "paused", position };
      if (broken !== null) return { reason: "sandbox_unavailable", position };
      if (disks.shortage !== null) return { reason: "disk_low", position };
      const withheld = (await deps.deferralOf?.(task)) ?? null;
      if (withheld !== null) return { reason: withheld, position };
      const full = userLimit !== null && (await store.slotsHeld(task.userId)) >= userLimit;
      return { reason: full ? "user_limit" : "concurrency", position };
    },
    slotsUsed: () => held.size,
  };
}
