/**
 * Measures lost time, in which no task could proceed (rule D11), and computes the loss of each
 * task.
 *
 * W1 Before this process: from the last sign that a coordinator was alive, or the task's last event
 *    if that is later, until the task is recorded for the first time.
 * W2 In this process: the two clocks are compared at least once per second. A late comparison is a
 *    pause of the process; a wall clock that moved more than the monotonic one was set, or the
 *    machine was suspended.
 * W3 Each task gets a loss once: `generation` numbers the losses of this process, and the caller
 *    remembers up to which one a task was recorded.
 * W4 From the first commit that the store rejects, or read that fails, until it works again,
 *    nothing can be recorded, neither a result nor a sign of life. Deadlines wait meanwhile.
 */
import { effectOf, isSettled, phaseOf } from "../../machines/fold.ts";
import type { LostTime, StateEffect } from "../../machines/task-events.ts";
import type { Proposal } from "../core/event.ts";
import type { Clock } from "../core/ports/runtime.ts";
import type { Snapshot, Task } from "../core/task.ts";
import { serverNotice, type ServerNoticeCode } from "../core/notices.ts";

/** The last sign that a coordinator of this installation was alive, over restarts. */
export interface Heartbeat {
  /** Epoch ms; null when there is none. */
  last(): number | null;
  /** Must not throw, and must work on a full disk. */
  beat(at: number): void;
}

export interface WorkingTimeDeps {
  readonly clock: Pick<Clock, "now" | "monotonic">;
  /** Epoch ms; null = unknown: the last event of each task counts. */
  readonly aliveAt: number | null;
  /** Everybody gets this long to be heard after a loss, ms. */
  readonly livenessMs: number;
  /** A later comparison than this is a pause, and a longer outage of the store is a loss, ms. */
  readonly pauseMs: number;
}

/** A smaller difference of the clocks is left to the wall clock's own discipline, ms. */
const STEP_MS = 1_000;
/** The queue's deadline is in hours: small losses would fill the logs of tasks that wait. */
const QUEUE_MS = 60_000;

export class WorkingTime {
  readonly #deps: WorkingTimeDeps;
  /** `#totals[g]` is what was lost in this process up to generation g, ms. */
  readonly #totals: number[] = [0];
  #wall: number;
  #monotonic: number;
  #heardFrom: number;
  /** What pauses added to the monotonic clock, ms. */
  #pausedMs = 0;
  #outage: { readonly from: number; readonly pausedMs: number } | null = null;

  constructor(deps: WorkingTimeDeps) {
    this.#deps = deps;
    this.#wall = deps.clock.now();
    this.#monotonic = deps.clock.monotonic();
    this.#heardFrom = this.#monotonic;
  }

  /** The number of losses that were found so far. */
  get generation(): number {
    return this.#totals.length - 1;
  }

  /** True from a call that failed in the store until `noteStoreWorks`. */
  get isStoreFailing(): boolean {
    return this.#outage !== null;
  }

  /** Silence counts from here on, in time of the monotonic clock. */
  get heardFrom(): number {
    return this.#heardFrom;
  }

  /** Compares the clocks. To be called before anything depends on a deadline. */
  observe(): void {
    const wall = this.#deps.clock.now();
    const monotonic = this.#deps.clock.monotonic();
    const passed = wall - this.#wall;
    const elapsed = monotonic - this.#monotonic;
    this.#wall = wall;
    this.#monotonic = monotonic;
    const isPause = elapsed > this.#deps.pauseMs;
    const step = passed - elapsed;
    if (!isPause && Math.abs(step) <= STEP_MS) return;
    if (isPause) this.#pausedMs += elapsed;
    this.#add(isPause ? passed : step);
  }

  /** The store rejected a commit, or could not be read. Idempotent until it works again. */
  noteStoreFails(): void {
    this.#outage ??= { from: this.#deps.clock.monotonic(), pausedMs: this.#pausedMs };
  }

  /**
   * The store has just written and read. A short outage is no loss: its records are tried again at
   * once.
   */
  noteStoreWorks(): void {
    if (this.#outage === null) return;
    const { from, pausedMs } = this.#outage;
    this.#outage = null;
    // A pause within the outage is counted already.
    const outageMs = this.#deps.clock.monotonic() - from - (this.#pausedMs - pausedMs);
    if (outageMs > this.#deps.pauseMs) this.#add(outageMs);
  }

  #add(lostMs: number): void {
    this.#totals.push((this.#totals.at(-1) ?? 0) + Math.round(lostMs));
    this.#heardFrom = this.#deps.clock.monotonic();
  }

  /**
   * What the task lost since it was recorded last; null when nothing is to be recorded.
   * @param seen the generation of that record; null = the task was not recorded in this process.
   */
  lossOf(task: Task, seen: number | null): LostTime | null {
    const { snapshot } = task;
    if (isSettled(snapshot)) return null;
    const now = this.#deps.clock.now();
    const before = snapshot.context.aheadMs ?? 0;
    const lostMs = seen === null ? this.#lostBefore(task, before, now) : this.#lostSince(seen);
    let aheadMs = Math.max(0, before - lostMs);
    if (now + aheadMs < task.updatedAt - STEP_MS) aheadMs = task.updatedAt - now;
    const isMoved = (seen === null || seen < this.generation) && Math.abs(lostMs) >= getLeastLoss(snapshot);
    if (!isMoved && aheadMs === before) return null;
    const graceMs = Math.min(this.#deps.livenessMs, snapshot.context.policy.silenceMs);
    return { lostMs: isMoved ? lostMs : 0, graceMs, aheadMs };
  }

  #lostBefore(task: Task, aheadMs: number, now: number): number {
    return now - Math.max(this.#deps.aliveAt ?? 0, task.updatedAt - aheadMs);
  }

  #lostSince(seen: number): number {
    return (this.#totals.at(-1) ?? 0) - (this.#totals[seen] ?? 0);
  }
}

/** Losses below this do not matter in the state, ms. */
const LEAST: Readonly<Partial<Record<StateEffect, number>>> = {
  claim: QUEUE_MS,
  wait: STEP_MS,
  kill: STEP_MS,
  // The time of a person who is asked is calendar time.
  park: Infinity,
};

function getLeastLoss(snapshot: Snapshot): number {
  return phaseOf(snapshot) === "awaiting_input" ? STEP_MS : (LEAST[effectOf(snapshot)] ?? 0);
}

/** What people read of a loss. */
export interface LossNotice {
  readonly code: ServerNoticeCode;
  readonly text: string;
}

/** @param notice what to say instead of the amount, or without one. */
export function lossProposal(loss: LostTime | null, notice: LossNotice | null): Proposal | null {
  if (notice !== null) return serverNotice("info", notice.code, notice.text, loss ?? {});
  return loss === null ? null : serverNotice("info", "resumed", describeLoss(loss.lostMs), loss);
}

function describeLoss(lostMs: number): string {
  const amount = formatDuration(Math.abs(lostMs));
  return lostMs < 0
    ? `The server's clock was set back by ${amount}; the deadlines move with it.`
    : `For ${amount} the coordinator did not run, could not record, or its clock was set forward; this time does not count.`;
}

function formatDuration(ms: number): string {
  const seconds = Math.round(ms / 1_000);
  return seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}
