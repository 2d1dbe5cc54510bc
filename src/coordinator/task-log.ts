/**
 * The only way in which a task changes: load -> transition -> commit -> publish -> notify
 * listeners.
 *
 * K1 Records of one task run one after another (a mutex per task). A record that loses the
 *    compare-and-swap reloads the task and decides again.
 * K2 Hints are published and listeners run only after the commit is durable (rule R3).
 * K3 A proposal that the chart does not accept is not recorded; it is returned in `rejected`.
 * K4 Time never runs backwards within a task: an event's `at` is at least its predecessor's.
 */
import { holdsSlot, isSettled, start, stateOf, step } from "../../machines/fold.ts";
import { TASK_MACHINE_VERSION } from "../../machines/task.ts";
import type { Crashpoint } from "../core/lib/runtime/crashpoint.ts";
import { KeyedMutex } from "../core/lib/concurrency/keyed-mutex.ts";
import { SlipwayError } from "../core/error.ts";
import type { EventData, Proposal, TaskEvent } from "../core/event.ts";
import type { NewTask, Store } from "../core/ports/store.ts";
import type { ModelUsage } from "../core/ports/usage-ledger.ts";
import type { Snapshot, Task } from "../core/task.ts";
import type { Bus, Clock, Log } from "../core/ports/runtime.ts";

export interface TaskLogDeps {
  readonly store: Store;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  readonly crashpoint: Crashpoint;
}

export interface RecordResult {
  readonly task: Task;
  readonly events: readonly TaskEvent[];
  /** Proposals that the chart did not accept, in order. */
  readonly rejected: readonly Proposal[];
}

/**
 * Returns what to record for the task's current state; throws to record nothing. Called again after
 * a lost compare-and-swap.
 */
export type Decision = (task: Task) => readonly Proposal[];

/** A task to be created; the chart adds the rest of `NewTask`. */
export interface TaskCreation extends Omit<NewTask, "machineVersion" | "snapshot" | "state" | "slot" | "event"> {
  /** Data of the event `task.submitted`. */
  readonly data: EventData;
}

/** Called after each commit, in the order of commits per task. Must not throw. */
export type Listener = (task: Task, events: readonly TaskEvent[]) => void;

export interface TaskLog {
  /**
   * Resolves after the task is durable (R1). A known idempotency key replays the task if the body
   * is the same, else throws `idempotency_mismatch`.
   */
  create(creation: TaskCreation): Promise<{ task: Task; replayed: boolean }>;
  /**
   * Resolves after the commit (R2). Throws `not_found`.
   * @param usage recorded in the same transaction; not at all when the result has no events.
   */
  record(taskId: string, decide: Decision, usage?: ModelUsage): Promise<RecordResult>;
  /**
   * The last committed task; null for an unknown id. Served from the cache while the task is
   * active.
   */
  task(id: string): Promise<Task | null>;
  /** @returns a function that removes the listener. */
  onCommit(listener: Listener): () => void;
  /** Resolves when every record under way is committed. */
  idle(): Promise<void>;
}

export function createTaskLog(deps: TaskLogDeps): TaskLog {
  return new CommittedTaskLog(deps);
}

class CommittedTaskLog implements TaskLog {
  readonly #deps: TaskLogDeps;
  readonly #mutex = new KeyedMutex();
  /** This process is the only writer, so the last committed task is the current one. */
  readonly #cache = new Map<string, Task>();
  readonly #listeners = new Set<Listener>();

  constructor(deps: TaskLogDeps) {
    this.#deps = deps;
  }

  async create({ data, ...creation }: TaskCreation): Promise<{ task: Task; replayed: boolean }> {
    const base = {
      taskId: creation.id,
      seq: 1,
      at: this.#deps.clock.now(),
      attempt: 0,
      type: "task.submitted",
      from: null,
      workerSeq: null,
      data,
    } as const;
    const snapshot = start({ to: "queued", ...base });
    const state = stateOf(snapshot);
    const event: TaskEvent = { to: state, ...base };
    const slot = holdsSlot(snapshot);
    const machineVersion = TASK_MACHINE_VERSION;
    const result = await this.#deps.store.create({ ...creation, machineVersion, snapshot, state, slot, event });
    switch (result.kind) {
      case "created":
        this.#committed(result.task, [event]);
        return { task: result.task, replayed: false };
      case "replayed":
        return { task: result.task, replayed: true };
      case "mismatch":
        throw new SlipwayError("idempotency_mismatch", "Use a new Idempotency-Key for a new request.");
    }
  }

  record(taskId: string, decide: Decision, usage?: ModelUsage): Promise<RecordResult> {
    return this.#mutex.run(taskId, () => this.#recordNow(taskId, decide, usage));
  }

  async task(id: string): Promise<Task | null> {
    return this.#cache.get(id) ?? (await this.#deps.store.task(id));
  }

  onCommit(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  idle(): Promise<void> {
    return this.#mutex.idle();
  }

  async #recordNow(taskId: string, decide: Decision, usage: ModelUsage | undefined): Promise<RecordResult> {
    const { store, clock, log } = this.#deps;
    for (let refusedSeq = 0; ;) {
      const task = this.#cache.get(taskId) ?? (await store.task(taskId));
      if (task === null) throw new SlipwayError("not_found", "There is no such task.");
      // The store refused the seq that it has just returned again: another round would not end.
      if (task.seq === refusedSeq)
        throw new SlipwayError("internal", "The store refuses an event that the chart accepts.");
      const draft = apply(task, decide(task), clock.now());
      if (draft.events.length === 0) return { task, events: [], rejected: draft.refused };
      const written = await store.commit({
        taskId,
        expectedSeq: task.seq,
        events: draft.events,
        snapshot: draft.snapshot,
        state: stateOf(draft.snapshot),
        slot: holdsSlot(draft.snapshot),
        ...(usage === undefined ? {} : { usage }),
      });
      if (written !== null) {
        this.#committed(written, draft.events);
        return { task: written, events: draft.events, rejected: draft.refused };
      }
      log.warn({ taskId, seq: task.seq }, "the task has changed since it was read; deciding again");
      refusedSeq = this.#cache.delete(taskId) ? 0 : task.seq;
    }
  }

  #committed(task: Task, events: readonly TaskEvent[]): void {
    // Queued tasks are not cached: there may be ten thousand, and few events arrive for each.
    if (isSettled(task.snapshot) || task.state === "queued") this.#cache.delete(task.id);
    else this.#cache.set(task.id, task);
    this.#deps.crashpoint("record.committed");
    this.#deps.bus.publishHint({ taskId: task.id, userId: task.userId, seq: task.seq });
    for (const listener of this.#listeners) listener(task, events);
  }
}

/**
 * The events of the proposals that the chart accepts, and the snapshot after them. Pure.
 * A worker's event that is not accepted is replaced by a notice, so that worker numbers stay
 * without gaps (decision 006).
 */
export function apply(
  task: Task,
  proposals: readonly Proposal[],
  now: number,
): { events: TaskEvent[]; snapshot: Snapshot; refused: Proposal[] } {
  let snapshot = task.snapshot;
  const at = Math.max(now, task.updatedAt);
  const events: TaskEvent[] = [];
  const refused: Proposal[] = [];

  function accept(proposal: Proposal): boolean {
    const from = stateOf(snapshot);
    const draft = {
      taskId: task.id,
      seq: task.seq + events.length + 1,
      at,
      attempt: proposal.attempt ?? snapshot.context.attempt,
      type: proposal.type,
      from,
      data: proposal.data,
      workerSeq: proposal.workerSeq ?? null,
    };
    const next = step(snapshot, { to: from, ...draft });
    if (next === null) return false;
    snapshot = next;
    events.push({ to: stateOf(next), ...draft });
    return true;
  }

  for (const proposal of proposals) {
    if (accept(proposal)) continue;
    refused.push(proposal);
    if (proposal.workerSeq !== undefined) accept({ ...proposal, type: "notice", data: ignoredNotice(proposal) });
  }
  return { events, snapshot, refused };
}

function ignoredNotice(proposal: Proposal): EventData {
  const name = typeof proposal.data["reason"] === "string" ? proposal.data["reason"] : proposal.type;
  return { level: "info", code: "event_ignored", text: `The worker's "${name}" does not fit the state of the task.` };
}
