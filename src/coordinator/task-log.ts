/**
 * The one way in which a task changes: load -> transition -> commit -> announce -> drive.
 *
 * K1 Records of one task run one after another (mailbox); a lost compare-and-swap reloads and
 *    decides again.
 * K2 Nothing is announced and no listener runs before the commit is durable (rule R3).
 * K3 What the chart does not accept is not recorded; the caller learns it from `refused`.
 * K4 Time never runs backwards within a task: an event's `at` is at least its predecessor's.
 */
import { holdsSlot, isSettled, start, stateOf, step } from "../../machines/fold.ts";
import { TASK_MACHINE_VERSION } from "../../machines/task.ts";
import type { Crashpoint } from "../core/lib/crashpoint.ts";
import { SlipwayError } from "../core/error.ts";
import type { EventData, Proposal, TaskEvent } from "../core/event.ts";
import type { Store } from "../core/ports/store.ts";
import type { Snapshot, Task, TaskSpec } from "../core/task.ts";
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
 * Looks at the task as it is now and says what to record; may throw to record nothing. Called again
 * after a lost compare-and-swap.
 */
export type Decision = (task: Task) => readonly Proposal[];

export interface TaskCreation {
  readonly id: string;
  readonly userId: string;
  readonly threadId: string;
  readonly parentId: string | null;
  readonly spec: TaskSpec;
  readonly data: EventData;
  /** The task whose transcript this one begins with, if any. */
  readonly inherits: string | null;
  readonly idempotency: { readonly key: string; readonly fingerprint: string } | null;
}

/** Told after each commit, in the order of commits per task. Must not throw. */
export type Listener = (task: Task, events: readonly TaskEvent[]) => void;

export interface TaskLog {
  /**
   * Resolves after the task is durable (R1). Throws `idempotency_mismatch`; a known key with the
   * same body replays.
   */
  create(submission: TaskCreation): Promise<{ task: Task; replayed: boolean }>;
  /** Resolves after the commit (R2). Throws `not_found`. */
  record(taskId: string, decide: Decision): Promise<RecordResult>;
  /**
   * The task as it was last committed; null when there is none. Of a task at work it costs nothing.
   */
  task(id: string): Promise<Task | null>;
  onCommit(listener: Listener): () => void;
  /** Resolves when every record under way is committed. */
  idle(): Promise<void>;
}

export function createTaskLog(deps: TaskLogDeps): TaskLog {
  const { store, bus, clock, log, crashpoint } = deps;
  const mailboxes = new Map<string, Promise<unknown>>();
  const cache = new Map<string, Task>();
  const listeners = new Set<Listener>();

  function committed(task: Task, events: readonly TaskEvent[]): void {
    // Only tasks that events keep coming for are worth memory: ten thousand may be queued.
    if (isSettled(task.snapshot) || task.state === "queued") cache.delete(task.id);
    else cache.set(task.id, task);
    crashpoint("record.committed");
    bus.publishHint({ taskId: task.id, userId: task.userId, seq: task.seq });
    for (const listener of listeners) listener(task, events);
  }

  // Whoever is the only writer knows what was written last.
  const current = async (id: string): Promise<Task | null> => cache.get(id) ?? (await store.task(id));

  async function create(submission: TaskCreation): Promise<{ task: Task; replayed: boolean }> {
    const { id, userId, threadId, parentId, spec, data, inherits, idempotency } = submission;
    const base = {
      taskId: id,
      seq: 1,
      at: clock.now(),
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
    const result = await store.create({
      id,
      userId,
      threadId,
      parentId,
      spec,
      machineVersion: TASK_MACHINE_VERSION,
      snapshot,
      state,
      slot,
      event,
      inherits,
      idempotency,
    });
    switch (result.kind) {
      case "created":
        committed(result.task, [event]);
        return { task: result.task, replayed: false };
      case "replayed":
        return { task: result.task, replayed: true };
      case "mismatch":
        throw new SlipwayError("idempotency_mismatch", "Use a new Idempotency-Key for a new request.");
    }
  }

  async function recordNow(taskId: string, decide: Decision): Promise<RecordResult> {
    for (let refusedAt = 0; ;) {
      const task = await current(taskId);
      if (task === null) throw new SlipwayError("not_found", "There is no such task.");
      // A store that refuses what it has just shown would be asked for ever.
      if (task.seq === refusedAt)
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
      });
      if (written !== null) {
        committed(written, draft.events);
        return { task: written, events: draft.events, rejected: draft.refused };
      }
      log.warn({ taskId, seq: task.seq }, "the task changed meanwhile; deciding again");
      refusedAt = cache.delete(taskId) ? 0 : task.seq;
    }
  }

  function record(taskId: string, decide: Decision): Promise<RecordResult> {
    const before = mailboxes.get(taskId);
    const run = (): Promise<RecordResult> => recordNow(taskId, decide);
    const mine = before === undefined ? run() : before.then(run, run);
    const settled = mine.then(
      () => undefined,
      () => undefined,
    );
    mailboxes.set(taskId, settled);
    void settled.then(() => {
      if (mailboxes.get(taskId) === settled) mailboxes.delete(taskId);
    });
    return mine;
  }

  return {
    create,
    record,
    task: current,
    onCommit(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async idle() {
      while (mailboxes.size > 0) await Promise.all(mailboxes.values());
    },
  };
}

/**
 * The proposals that the chart accepts, as events, and what they make of the snapshot. Pure.
 * A worker's event that is not accepted leaves a notice in its place, so that worker numbers stay
 * without holes (decision 006).
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
    if (proposal.workerSeq !== undefined) accept({ ...proposal, type: "notice", data: ignored(proposal) });
  }
  return { events, snapshot, refused };
}

function ignored(proposal: Proposal): EventData {
  const what = typeof proposal.data["reason"] === "string" ? proposal.data["reason"] : proposal.type;
  return { level: "info", code: "event_ignored", text: `The worker's "${what}" does not fit the state of the task.` };
}
