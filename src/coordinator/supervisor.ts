/**
 * One actor per open task: its running effect, and the level-triggered call that keeps state and
 * effect together.
 *
 * V1 After a commit, at boot and on each tick the same question is asked: is this state's effect
 *    running? If not, it is started or adopts what exists.
 * V2 The effects of one task never overlap: the next begins when the one before has ended.
 * V3 An effect gets the newest task, never one that was handed in earlier.
 * V4 Shutdown aborts effects and leaves sandboxes running; the next boot adopts them.
 */
import { effectOf, holdsSlot, isSettled } from "../../machines/fold.ts";
import type { TaskLog } from "./task-log.ts";
import type { Crashpoint } from "../core/lib/crashpoint.ts";
import type { Effect } from "./effects/effects.ts";
import { failureProposal } from "./effects/failure-proposal.ts";
import { errorMessage } from "../core/error.ts";
import type { TaskEvent } from "../core/event.ts";
import { failureClass, type FailureCode } from "../core/failure.ts";
import type { Scheduler } from "./scheduler/scheduler.ts";
import { readTasks } from "./read-lists.ts";
import type { Store } from "../core/ports/store.ts";
import { OPEN_STATES, sandboxName, type Task } from "../core/task.ts";
import { STATE_LEFT } from "../core/lib/async.ts";
import type { Clock, Ids, Log } from "../core/ports/runtime.ts";

/** Queued tasks have no actor. */
const DRIVEN_STATES = OPEN_STATES.filter((state) => state !== "queued");

export interface SupervisorDeps {
  readonly taskLog: TaskLog;
  readonly store: Store;
  readonly scheduler: Scheduler;
  readonly effect: Effect;
  /**
   * When the worker of this attempt last spoke, epoch ms; null = never since this process began.
   */
  readonly lastSeen: (taskId: string, attempt: number) => number | null;
  /** No sign of life for this long means `worker_lost`, ms. */
  readonly livenessMs: number;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  readonly crashpoint: Crashpoint;
}

export interface Supervisor {
  /**
   * Adopts every open task. Sandboxes that nobody needs are the janitor's, which runs before
   * claiming begins.
   * @param alive names of the sandboxes that run; null when the engine did not say.
   */
  boot(alive: ReadonlySet<string> | null): Promise<void>;
  /** Starts what should run and does not. Idempotent. */
  driveAll(): void;
  /** Ends the attempts of workers that gave no sign of life for `livenessMs`. */
  endSilent(): Promise<void>;
  /** Number of open tasks that have an actor. */
  size(): number;
  /** Ends every effect; sandboxes stay. */
  close(): Promise<void>;
}

interface Actor {
  task: Task;
  running: {
    readonly key: string;
    readonly since: number;
    readonly abort: AbortController;
    readonly done: Promise<void>;
  } | null;
}

export function createSupervisor(deps: SupervisorDeps): Supervisor {
  const { taskLog, store, scheduler, clock, log, crashpoint } = deps;
  const actors = new Map<string, Actor>();
  const unlisten = taskLog.onCommit(committed);
  let closed = false;

  function committed(task: Task, events: readonly TaskEvent[]): void {
    if (events.some(isInfraFailure)) scheduler.noteInfraFailure();
    const actor = actors.get(task.id) ?? { task, running: null };
    if (actor.task.seq <= task.seq) actor.task = task;
    actors.set(task.id, actor);
    drive(actor);
  }

  /** Which effect, for which attempt, in which way: another key means another effect. */
  function keyOf(task: Task): string {
    const { attempt, forced } = task.snapshot.context;
    const value = typeof task.snapshot.value === "string" ? "" : (task.snapshot.value["pushing"] ?? "");
    return `${effectOf(task.snapshot)}:${attempt}:${value}${forced ? ":forced" : ""}`;
  }

  function drive(actor: Actor): void {
    if (closed) return;
    const key = keyOf(actor.task);
    const running = actor.running;
    if (running !== null) {
      if (running.key !== key) running.abort.abort(STATE_LEFT);
      return;
    }
    if (effectOf(actor.task.snapshot) === "claim") {
      // A queued task needs no actor: the row is the queue, and retrying and parked have cleared
      // what an earlier attempt left.
      actors.delete(actor.task.id);
      scheduler.release(actor.task.id);
      scheduler.schedule();
      return;
    }
    run(actor, key);
  }

  function run(actor: Actor, key: string): void {
    const { task } = actor;
    const abort = new AbortController();
    const done = deps
      .effect(task, abort.signal, () => scheduler.release(task.id))
      .catch((error: unknown) => log.error({ task: task.id, error: errorMessage(error) }, "an effect threw"))
      .then(() => ended(actor, key));
    actor.running = { key, since: clock.now(), abort, done };
  }

  function ended(actor: Actor, key: string): void {
    actor.running = null;
    const now = keyOf(actor.task);
    if (now !== key) return drive(actor);
    // The effect of a settled or waiting state has nothing left to do; that of another state is
    // started again by the tick.
    if (isSettled(actor.task.snapshot)) actors.delete(actor.task.id);
  }

  async function boot(alive: ReadonlySet<string> | null): Promise<void> {
    crashpoint("boot");
    for await (const task of readTasks(store, { userId: null, states: DRIVEN_STATES })) await adopt(task, alive);
  }

  async function adopt(task: Task, alive: ReadonlySet<string> | null): Promise<void> {
    if (holdsSlot(task.snapshot)) scheduler.adopt(task.id);
    const found = alive?.has(sandboxName(task.id, task.snapshot.context.attempt)) ?? null;
    // What is not known to be gone may go on: its end is seen when the engine answers.
    const goesOn = task.state === "provisioning" || (effectOf(task.snapshot) === "supervise" && found !== false);
    if (!goesOn) return committed(task, []);
    // The clocks of progress and silence must not count the time in which nobody listened.
    const text = found
      ? "The coordinator restarted and found the worker running."
      : "The coordinator restarted and goes on.";
    await taskLog.record(task.id, () => [{ type: "notice", data: { level: "info", code: "adopted", text } }]);
  }

  return {
    boot,
    driveAll() {
      for (const actor of actors.values()) if (!idles(actor)) drive(actor);
      scheduler.schedule();
    },
    async endSilent() {
      for (const { task, running } of actors.values()) {
        if (running === null || effectOf(task.snapshot) !== "supervise") continue;
        const { attempt } = task.snapshot.context;
        const heard = Math.max(running.since, deps.lastSeen(task.id, attempt) ?? 0);
        if (clock.now() - heard <= deps.livenessMs) continue;
        const detail = `No sign of life for ${Math.round(deps.livenessMs / 1_000)} s.`;
        await taskLog.record(task.id, () => [
          { attempt, ...failureProposal("worker_lost", deps.ids.random(), { detail }) },
        ]);
      }
    },
    size: () => actors.size,
    async close() {
      closed = true;
      unlisten();
      const running = [...actors.values()].flatMap((actor) => (actor.running === null ? [] : [actor.running]));
      for (const { abort } of running) abort.abort(STATE_LEFT);
      await Promise.all(running.map(({ done }) => done));
    },
  };
}

/** Waiting states whose clearing is done are moved by a deadline or a person, not by an effect. */
function idles(actor: Actor): boolean {
  const now = effectOf(actor.task.snapshot);
  return actor.running === null && (now === "wait" || now === "park");
}

/**
 * An interruption does not count: a worker can end in a way that looks like one, and must not pause
 * the tasks of others.
 */
function isInfraFailure({ type, data }: TaskEvent): boolean {
  if (type !== "task.state" || data["reason"] !== "failed" || data["code"] === "interrupted") return false;
  return failureClass(data["code"] as FailureCode) === "infra";
}
