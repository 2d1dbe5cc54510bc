/**
 * The only way in which a task changes: load -> transition -> commit -> publish -> notify
 * listeners.
 *
 * K1 Records of one task run one after another (a mutex per task). A record that loses the
 *    compare-and-swap reloads the task and decides again.
 * K2 Hints are published and listeners run only after the commit is durable (rule R3).
 * K3 A proposal that the chart does not accept is not recorded; it is returned in `rejected`.
 * K4 Time never runs backwards within a task: an event's `at` is at least its predecessor's.
 * K5 Time that nobody could use since the task's last record is recorded before anything else, in
 *    the same commit: nothing is decided with deadlines that did not move (rule D11).
 * K6 A commit that rejects may be durable all the same (an I/O error after COMMIT). The store is
 *    read again: what is stored is announced, now or as soon as the store can be read.
 */
import { holdsSlot, isSettled, start, stateOf, step } from "../../machines/fold.ts";
import type { LostTime } from "../../machines/task-events.ts";
import { TASK_MACHINE_VERSION } from "../../machines/task.ts";
import type { Crashpoint } from "../core/lib/runtime/crashpoint.ts";
import { KeyedMutex } from "../core/lib/concurrency/keyed-mutex.ts";
import { SlipwayError } from "../core/error.ts";
import type { EventData, Proposal, TaskEvent } from "../core/event.ts";
import { readLogAfter } from "./read-lists.ts";
import type { MessageRow, NewTask, Store } from "../core/ports/store.ts";
import type { ModelUsage } from "../core/ports/records/usage-ledger.ts";
import type { Snapshot, Task } from "../core/task.ts";
import type { Bus, Clock, Log } from "../core/ports/runtime.ts";
import { insteadNotice } from "../core/notices.ts";
import { lossProposal, type LossNotice, type WorkingTime } from "./working-time.ts";

export interface TaskLogDeps {
  readonly store: Store;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  readonly crashpoint: Crashpoint;
  /** Absent = no time is ever lost. */
  readonly workingTime?: WorkingTime;
  readonly planUnread: PlanUnread;
}

export interface RecordResult {
  readonly task: Task;
  /** Of the proposals, in order; without a notice of lost time. */
  readonly events: readonly TaskEvent[];
  /** Proposals that the chart did not accept, in order. */
  readonly rejected: readonly Proposal[];
}

/**
 * Returns what to record for the task's current state; throws to record nothing. Called again after
 * a lost compare-and-swap. No other record of the task runs meanwhile (K1), so what it reads of the
 * task in the store is current.
 */
export type Decision = (task: Task) => readonly Proposal[] | Promise<readonly Proposal[]>;

/** A task to be created; the chart adds the rest of `NewTask`. */
export interface TaskCreation extends Omit<NewTask, "machineVersion" | "snapshot" | "state" | "slot" | "event"> {
  /** Data of the event `task.submitted`. */
  readonly data: EventData;
}

/** What follows from messages that the agent did not read when their task settles (rule R6). */
export interface UnreadPlan {
  /** Recorded before the event that settles the task. */
  readonly proposals: readonly Proposal[];
  /** The follow-up task; null = none. */
  readonly followUp: TaskCreation | null;
}

/** @param task the task as it settles. @param unread at least one message, in order. */
export type PlanUnread = (task: Task, unread: readonly MessageRow[]) => Promise<UnreadPlan>;

/** For task logs without messages of users. */
export const noUnread: PlanUnread = () => Promise.resolve({ proposals: [], followUp: null });

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
   * Records the time that the task lost, if any. A notice that is given is recorded in any case,
   * and says it. Idempotent without a notice.
   * @param current the newest committed task, where it is known: a task that lost nothing is then
   * not read.
   */
  catchUp(taskId: string, notice: LossNotice | null, current?: Task): Promise<void>;
  /**
   * The last committed task; null for an unknown id. Served from the cache while the task is
   * active.
   */
  task(id: string): Promise<Task | null>;
  /** @returns a function that removes the listener. */
  onCommit(listener: Listener): () => void;
  /**
   * Announces what is stored of tasks whose last commit rejected while the store could not be read
   * (K6). Idempotent; called on a tick. Rejects when the store still cannot be read.
   */
  reconcile(): Promise<void>;
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
  /** Tasks whose last commit has an unknown result, with the seq that was announced (K6). */
  readonly #uncertain = new Map<string, { readonly seq: number; readonly generation: number }>();
  readonly #listeners = new Set<Listener>();
  /** The generation of losses up to which each open task was recorded by this process. */
  readonly #seen = new Map<string, number>();

  constructor(deps: TaskLogDeps) {
    this.#deps = deps;
  }

  async create(creation: TaskCreation): Promise<{ task: Task; replayed: boolean }> {
    this.#deps.workingTime?.observe();
    const generation = this.#deps.workingTime?.generation ?? 0;
    const task = toNewTask(creation, this.#deps.clock.now());
    const result = await this.#deps.store.create(task).catch((error: unknown) => this.#rejected(error));
    switch (result.kind) {
      case "created":
        this.#committed(result.task, [task.event], generation);
        return { task: result.task, replayed: false };
      case "replayed":
        return { task: result.task, replayed: true };
      case "mismatch":
        throw new SlipwayError("idempotency_mismatch", "Use a new Idempotency-Key for a new request.");
    }
  }

  record(taskId: string, decide: Decision, usage?: ModelUsage): Promise<RecordResult> {
    return this.#mutex.run(taskId, () => this.#recordNow(taskId, decide, { usage }));
  }

  async catchUp(taskId: string, notice: LossNotice | null, current?: Task): Promise<void> {
    if (notice === null) {
      if (current !== undefined) this.#deps.workingTime?.observe();
      const generation = this.#deps.workingTime?.generation ?? 0;
      if (this.#seen.get(taskId) === generation) return;
      if (current !== undefined && !isSettled(current.snapshot) && this.#lossOf(current) === null)
        return void this.#seen.set(taskId, generation);
    }
    await this.#mutex.run(taskId, () => this.#recordNow(taskId, () => [], { notice }));
  }

  async task(id: string): Promise<Task | null> {
    return this.#cache.get(id) ?? (await this.#deps.store.task(id));
  }

  onCommit(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async reconcile(): Promise<void> {
    for (const taskId of this.#uncertain.keys()) await this.#mutex.run(taskId, () => this.#load(taskId));
  }

  idle(): Promise<void> {
    return this.#mutex.idle();
  }

  async #recordNow(
    taskId: string,
    decide: Decision,
    { notice = null, usage }: { notice?: LossNotice | null; usage?: ModelUsage | undefined },
  ): Promise<RecordResult> {
    const { clock, log, crashpoint, workingTime } = this.#deps;
    for (let refusedSeq = 0; ;) {
      const task = await this.#load(taskId);
      if (task === null) throw new SlipwayError("not_found", "There is no such task.");
      // The store refused the seq that it has just returned again: another round would not end.
      if (task.seq === refusedSeq)
        throw new SlipwayError("internal", "The store refuses an event that the chart accepts.");
      workingTime?.observe();
      const generation = workingTime?.generation ?? 0;
      const now = clock.now();
      const caughtUp = this.#applyLoss(task, now, notice);
      const { draft, followUp } = await this.#draft(caughtUp.task, await decide(caughtUp.task), now);
      const events = [...caughtUp.events, ...draft.events];
      if (events.length === 0) {
        if (!isSettled(task.snapshot)) this.#seen.set(taskId, generation);
        return { task, events: [], rejected: draft.refused };
      }
      if (followUp !== null) crashpoint("follow.before");
      const besides = { followUp, usage: draft.events.length === 0 ? undefined : usage };
      const written = await this.#commit(task, { events, snapshot: draft.snapshot, ...besides }, generation);
      if (written !== null) {
        this.#committed(written, events, generation);
        if (followUp !== null) {
          crashpoint("follow.after");
          await this.#begun(followUp, generation);
        }
        return { task: written, events: draft.events, rejected: draft.refused };
      }
      log.warn({ taskId, seq: task.seq }, "the task has changed since it was read; deciding again");
      refusedSeq = this.#cache.delete(taskId) ? 0 : task.seq;
    }
  }

  /** The newest stored task. */
  async #load(taskId: string): Promise<Task | null> {
    const { store } = this.#deps;
    const announced = this.#uncertain.get(taskId);
    if (announced === undefined) return this.#cache.get(taskId) ?? (await store.task(taskId));
    const task = await store.task(taskId);
    const missed: TaskEvent[] = [];
    if (task !== null) for await (const event of readLogAfter(store, taskId, announced.seq)) missed.push(event);
    this.#uncertain.delete(taskId);
    if (task !== null && missed.length > 0) this.#committed(task, missed, announced.generation);
    return task;
  }

  /** @returns the stored task; null when another write was first. */
  async #commit(task: Task, { followUp, usage, ...logged }: Written, generation: number): Promise<Task | null> {
    const { store, log } = this.#deps;
    const { snapshot } = logged;
    const write = { taskId: task.id, expectedSeq: task.seq, ...logged };
    const columns = { state: stateOf(snapshot), slot: holdsSlot(snapshot) };
    const besides = { ...(followUp === null ? {} : { followUp }), ...(usage === undefined ? {} : { usage }) };
    try {
      return await store.commit({ ...write, ...columns, ...besides });
    } catch (error) {
      this.#cache.delete(task.id);
      this.#uncertain.set(task.id, { seq: task.seq, generation });
      const stored = await store.task(task.id).catch(() => null);
      if (stored === null) return this.#rejected(error);
      this.#uncertain.delete(task.id);
      // This process is the only writer, and writes of a task come one at a time.
      if (stored.seq === task.seq) return this.#rejected(error);
      log.warn({ taskId: task.id, seq: stored.seq }, "a commit is durable although the store reported an error");
      return stored;
    }
  }

  #rejected(error: unknown): never {
    this.#deps.workingTime?.noteStoreFails();
    throw error;
  }

  #lossOf(task: Task): LostTime | null {
    return this.#deps.workingTime?.lossOf(task, this.#seen.get(task.id) ?? null) ?? null;
  }

  /** The task after the notice of what it lost. */
  #applyLoss(task: Task, now: number, notice: LossNotice | null): { task: Task; events: readonly TaskEvent[] } {
    const loss = this.#lossOf(task);
    const proposal = lossProposal(loss, notice);
    if (proposal === null) return { task, events: [] };
    const { events, snapshot } = apply(task, [proposal], now, [], loss?.aheadMs);
    const updatedAt = events.at(-1)?.at ?? task.updatedAt;
    return { task: { ...task, snapshot, seq: task.seq + events.length, updatedAt }, events };
  }

  /** A draft that settles the task also says what becomes of its unread messages. */
  async #draft(
    task: Task,
    proposals: readonly Proposal[],
    now: number,
  ): Promise<{ draft: Draft; followUp: NewTask | null }> {
    const draft = apply(task, proposals, now);
    if (!isSettled(draft.snapshot) || isSettled(task.snapshot)) return { draft, followUp: null };
    const read = new Set(draft.events.flatMap(({ type, data }) => (type === "message.status" ? [data["id"]] : [])));
    const unread = (await this.#deps.store.queuedMessages(task.id)).filter(({ id }) => !read.has(id));
    if (unread.length === 0) return { draft, followUp: null };
    const settled = { ...task, snapshot: draft.snapshot, state: stateOf(draft.snapshot) };
    const plan = await this.#deps.planUnread(settled, unread);
    return {
      draft: apply(task, proposals, now, plan.proposals),
      followUp: plan.followUp === null ? null : toNewTask(plan.followUp, now),
    };
  }

  /** Announces a follow-up task that was committed with the end of its parent. */
  async #begun({ id, event }: NewTask, generation: number): Promise<void> {
    const task = await this.#deps.store.task(id);
    if (task !== null) this.#committed(task, [event], generation);
  }

  #committed(task: Task, events: readonly TaskEvent[], generation: number): void {
    if (isSettled(task.snapshot)) this.#seen.delete(task.id);
    else this.#seen.set(task.id, generation);
    // Queued tasks are not cached: there may be ten thousand, and few events arrive for each.
    if (isSettled(task.snapshot) || task.state === "queued") this.#cache.delete(task.id);
    else this.#cache.set(task.id, task);
    this.#deps.crashpoint("record.committed");
    this.#deps.bus.publishHint({ taskId: task.id, userId: task.userId, seq: task.seq });
    for (const listener of this.#listeners) listener(task, events);
  }
}

function toNewTask({ data, ...creation }: TaskCreation, at: number): NewTask {
  const base = {
    taskId: creation.id,
    seq: 1,
    at,
    attempt: 0,
    type: "task.submitted",
    from: null,
    workerSeq: null,
    data,
  } as const;
  const snapshot = start({ to: "queued", ...base });
  const state = stateOf(snapshot);
  const event: TaskEvent = { to: state, ...base };
  return { ...creation, machineVersion: TASK_MACHINE_VERSION, snapshot, state, slot: holdsSlot(snapshot), event };
}

/** What one commit writes. */
interface Written {
  readonly events: readonly TaskEvent[];
  readonly snapshot: Snapshot;
  readonly followUp: NewTask | null;
  readonly usage: ModelUsage | undefined;
}

interface Draft {
  readonly events: TaskEvent[];
  readonly snapshot: Snapshot;
  readonly refused: Proposal[];
}

/**
 * The events of the proposals that the chart accepts, and the snapshot after them. Pure.
 * A worker's event that is not accepted is replaced by a notice, so that worker numbers stay
 * without gaps (decision 006). `beforeEnd` is recorded before the event that settles the task.
 */
export function apply(
  task: Task,
  proposals: readonly Proposal[],
  now: number,
  beforeEnd: readonly Proposal[] = [],
  aheadMs = task.snapshot.context.aheadMs ?? 0,
): Draft {
  let snapshot = task.snapshot;
  const at = Math.max(now + aheadMs, task.updatedAt);
  const events: TaskEvent[] = [];
  const refused: Proposal[] = [];

  function accept(proposal: Proposal, first: readonly Proposal[] = []): boolean {
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
    if (first.length > 0 && isSettled(next)) {
      for (const before of first) accept(before);
      return accept(proposal);
    }
    snapshot = next;
    events.push({ to: stateOf(next), ...draft });
    return true;
  }

  for (const proposal of proposals) {
    if (accept(proposal, beforeEnd)) continue;
    refused.push(proposal);
    if (proposal.workerSeq !== undefined) accept({ ...proposal, ...ignoredNotice(proposal) });
  }
  return { events, snapshot, refused };
}

function ignoredNotice(proposal: Proposal): Proposal {
  const name = typeof proposal.data["reason"] === "string" ? proposal.data["reason"] : proposal.type;
  return insteadNotice("info", "event_ignored", `The worker's "${name}" does not fit the state of the task.`);
}
