/**
 * One actor per open task. It runs the effect of the task's state.
 *
 * V1 Level-triggered: after each commit, at boot and on each tick the effect of the current state
 *    is started unless it runs. Effects adopt what exists.
 * V2 The effects of one task never overlap: the next starts when the previous one has ended.
 * V3 An effect starts with the newest committed task.
 * V4 Shutdown aborts effects and leaves sandboxes running; the next boot adopts them.
 * V5 People are served during the boot. A read is repeated when a commit of the task arrived while
 *    it ran: the task in the old result may be settled and its slot released.
 */
import { effectOf, holdsSlot, isSettled } from "../../machines/fold.ts";
import type { TaskLog } from "./task-log.ts";
import type { Crashpoint } from "../core/lib/runtime/crashpoint.ts";
import type { Effect } from "./effects/effects.ts";
import { failureProposal } from "./effects/failure-proposal.ts";
import { errorMessage } from "../core/error.ts";
import type { TaskEvent } from "../core/event.ts";
import type { FailureCode } from "../core/failure.ts";
import type { Scheduler } from "./scheduler/scheduler.ts";
import { inBatches, readTasks } from "./read-lists.ts";
import type { Store } from "../core/ports/store.ts";
import { OPEN_STATES, sandboxName, type Task } from "../core/task.ts";
import { STATE_LEFT } from "../core/lib/concurrency/async.ts";
import type { Clock, Ids, Log } from "../core/ports/runtime.ts";
import type { WorkingTime } from "./working-time.ts";

const ENGINE_FAILURE: FailureCode = "sandbox_unavailable";

/** Queued tasks have no actor. */
const DRIVEN_STATES = OPEN_STATES.filter((state) => state !== "queued");

export interface SupervisorDeps {
  readonly taskLog: TaskLog;
  readonly store: Store;
  readonly scheduler: Scheduler;
  readonly effect: Effect;
  /** Time of the attempt's last call on the monotonic clock; null = none in this process. */
  readonly lastSeen: (taskId: string, attempt: number) => number | null;
  readonly workingTime: WorkingTime;
  /** A worker without a sign of life for this long is lost, ms. */
  readonly livenessMs: number;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  readonly crashpoint: Crashpoint;
}

export interface Supervisor {
  /**
   * Adopts every open task. Sandboxes that no task needs are removed beside it, by the garbage
   * collector. Idempotent; rejects when a task could not be adopted, after the others were.
   * @param running names of the sandboxes that run; null when the engine did not answer.
   */
  boot(running: ReadonlySet<string> | null): Promise<void>;
  /** Starts every effect that should run and does not. Idempotent. */
  driveAll(): void;
  /** Ends attempts whose worker gave no sign of life for `livenessMs`. */
  endSilent(): Promise<void>;
  /** Number of open tasks that have an actor. */
  size(): number;
  /** Ends every effect; sandboxes stay. */
  close(): Promise<void>;
}

interface Actor {
  task: Task;
  running: RunningEffect | null;
  /** The effect that only clears an attempt (`park`), and did. It does not run again. */
  cleared: string | null;
}

interface RunningEffect {
  readonly key: string;
  /** On the monotonic clock. */
  readonly since: number;
  readonly abort: AbortController;
  readonly done: Promise<void>;
}

export function createSupervisor(deps: SupervisorDeps): Supervisor {
  return new EffectSupervisor(deps);
}

class EffectSupervisor implements Supervisor {
  readonly #deps: SupervisorDeps;
  readonly #actors = new Map<string, Actor>();
  /** Tasks that need not be adopted again when the boot is repeated. */
  readonly #adopted = new Set<string>();
  /** The newest seq of each task that was committed while the boot runs (V5). */
  readonly #heard = new Map<string, number>();
  #isBooting = false;
  readonly #unsubscribe: () => void;
  #isClosed = false;

  constructor(deps: SupervisorDeps) {
    this.#deps = deps;
    this.#unsubscribe = deps.taskLog.onCommit((task, events) => this.#onCommit(task, events));
  }

  async boot(running: ReadonlySet<string> | null): Promise<void> {
    const { crashpoint, store, log } = this.#deps;
    crashpoint("boot");
    const failures: unknown[] = [];
    this.#isBooting = true;
    try {
      await inBatches(readTasks(store, { userId: null, states: DRIVEN_STATES }), (task) =>
        // One task that cannot be adopted does not keep the others waiting.
        this.#adopt(task, running).catch((error: unknown) => {
          log.error({ task: task.id, error: errorMessage(error) }, "a task could not be adopted");
          failures.push(error);
        }),
      );
    } finally {
      this.#isBooting = false;
      this.#heard.clear();
    }
    if (failures.length > 0) throw new Error(`${failures.length} tasks could not be adopted`, { cause: failures[0] });
    this.#adopted.clear();
  }

  driveAll(): void {
    for (const actor of this.#actors.values()) if (!isIdle(actor)) this.#drive(actor);
    this.#deps.scheduler.schedule();
  }

  async endSilent(): Promise<void> {
    const { taskLog, clock, ids, lastSeen, livenessMs, workingTime } = this.#deps;
    workingTime.observe();
    for (const { task, running } of this.#actors.values()) {
      if (running === null || effectOf(task.snapshot) !== "supervise") continue;
      const { attempt } = task.snapshot.context;
      // After a pause, calls may wait in the sockets.
      const seenAt = Math.max(running.since, lastSeen(task.id, attempt) ?? 0, workingTime.heardFrom);
      if (clock.monotonic() - seenAt <= livenessMs) continue;
      const detail = `No sign of life for ${Math.round(livenessMs / 1_000)} s.`;
      await taskLog.record(task.id, () => [{ attempt, ...failureProposal("worker_lost", ids.random(), { detail }) }]);
    }
  }

  size(): number {
    return this.#actors.size;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#unsubscribe();
    const running = [...this.#actors.values()].flatMap((actor) => (actor.running === null ? [] : [actor.running]));
    for (const { abort } of running) abort.abort(STATE_LEFT);
    await Promise.all(running.map(({ done }) => done));
  }

  #onCommit(task: Task, events: readonly TaskEvent[]): void {
    if (events.some(isEngineFailure)) this.#deps.scheduler.noteInfraFailure();
    if (this.#isBooting) this.#heard.set(task.id, task.seq);
    const actor = this.#actors.get(task.id) ?? { task, running: null, cleared: null };
    if (actor.task.seq <= task.seq) actor.task = task;
    this.#actors.set(task.id, actor);
    this.#drive(actor);
  }

  #drive(actor: Actor): void {
    if (this.#isClosed) return;
    const { scheduler } = this.#deps;
    const key = toEffectKey(actor.task);
    const { running } = actor;
    if (running !== null) {
      if (running.key !== key) running.abort.abort(STATE_LEFT);
      return;
    }
    if (effectOf(actor.task.snapshot) === "claim") {
      // A queued task has no actor: its row is the queue, and the effect of `retrying` or `parked`
      // has cleared the previous attempt.
      this.#actors.delete(actor.task.id);
      scheduler.release(actor.task.id);
      scheduler.schedule();
      return;
    }
    if (actor.cleared !== key) this.#start(actor, key);
  }

  #start(actor: Actor, key: string): void {
    const { effect, scheduler, clock, log } = this.#deps;
    const { task } = actor;
    const abort = new AbortController();
    const done = effect(task, abort.signal, () => scheduler.release(task.id))
      .catch((error: unknown) => log.error({ task: task.id, error: errorMessage(error) }, "an effect threw"))
      .then(() => this.#onEnd(actor, key));
    actor.running = { key, since: clock.monotonic(), abort, done };
  }

  #onEnd(actor: Actor, key: string): void {
    actor.running = null;
    if (toEffectKey(actor.task) !== key) return this.#drive(actor);
    if (effectOf(actor.task.snapshot) === "park") actor.cleared = key;
    // A settled task needs no further effect. In any other state the next tick starts the effect
    // again.
    if (isSettled(actor.task.snapshot)) this.#actors.delete(actor.task.id);
  }

  /** @param listed the task as the list of this boot has it. */
  async #adopt(listed: Task, sandboxes: ReadonlySet<string> | null): Promise<void> {
    const { scheduler, taskLog, crashpoint } = this.#deps;
    if (this.#adopted.has(listed.id)) return;
    const task = await this.#readNewest(listed);
    if (task === null || isSettled(task.snapshot) || task.state === "queued") return;
    if (holdsSlot(task.snapshot)) scheduler.adopt(task.id);
    const isAlive = sandboxes?.has(sandboxName(task.id, task.snapshot.context.attempt)) ?? null;
    // Unknown (null) counts as alive: the end of a sandbox is seen when the engine answers.
    const goesOn = task.state === "provisioning" || (effectOf(task.snapshot) === "supervise" && isAlive !== false);
    if (!goesOn) {
      this.#skipPark(task);
      await taskLog.catchUp(task.id, null, task);
      this.#adopted.add(task.id);
      crashpoint("adopted");
      return this.#onCommit((await this.#readNewest(task)) ?? task, []);
    }
    const text = isAlive
      ? "The coordinator restarted and found the worker running."
      : "The coordinator restarted and goes on.";
    await taskLog.catchUp(task.id, { code: "adopted", text });
    this.#adopted.add(task.id);
    crashpoint("adopted");
  }

  /** The task, at least as new as every commit that was heard until it is returned (V5). */
  async #readNewest(known: Task): Promise<Task | null> {
    for (let task: Task | null = known; ; task = await this.#deps.taskLog.task(known.id))
      if (task === null || task.seq >= (this.#heard.get(known.id) ?? 0)) return task;
  }

  /**
   * No task that is parked needs a sandbox, so the one that a crash left is salvaged and removed by
   * the garbage collector (J2), whenever the engine answers. There may be hundreds of these tasks,
   * with long logs: nothing is cleared, and so read, for each.
   */
  #skipPark(task: Task): void {
    if (effectOf(task.snapshot) !== "park" || this.#actors.has(task.id)) return;
    this.#actors.set(task.id, { task, running: null, cleared: toEffectKey(task) });
  }
}

/** Identifies an effect: its name, the attempt, and the variant of both. */
function toEffectKey({ snapshot }: Task): string {
  const { attempt, forced } = snapshot.context;
  const phase = typeof snapshot.value === "string" ? "" : (snapshot.value["pushing"] ?? "");
  return `${effectOf(snapshot)}:${attempt}:${phase}${forced ? ":forced" : ""}`;
}

/** A cleared task in a waiting state is moved on by a deadline or a person, not by an effect. */
function isIdle({ task, running }: Actor): boolean {
  const name = effectOf(task.snapshot);
  return running === null && (name === "wait" || name === "park");
}

/** Of all codes this alone is about the engine: nothing that others say brings it about. */
function isEngineFailure({ type, data }: TaskEvent): boolean {
  return type === "task.state" && data["reason"] === "failed" && data["code"] === ENGINE_FAILURE;
}
