/** Tasks for the contract suites, advanced by the real statechart. */
import { holdsSlot, start, stateOf, step } from "../../machines/fold.ts";
import { TASK_MACHINE_VERSION } from "../../machines/task.ts";
import type { EventData, EventType, TaskEvent } from "../../src/core/event.ts";
import type { Commit, NewTask, Store } from "../../src/core/ports/store.ts";
import type { Task, TaskSpec } from "../../src/core/task.ts";
import { PLAIN_SPEC } from "../support/task-spec.ts";

export const T0 = 1_750_000_000_000;

let lastId = 0;
/** Ids sort by creation. */
export const nextId = (prefix = "task"): string => `${prefix}_${String(++lastId).padStart(26, "0")}`;

export interface TaskOptions {
  readonly id?: string;
  readonly userId?: string;
  readonly threadId?: string;
  readonly parentId?: string;
  readonly at?: number;
  readonly inherits?: string;
  readonly key?: string;
  readonly fingerprint?: string;
  readonly spec?: Partial<TaskSpec>;
  /** Additional data of `task.submitted`. */
  readonly data?: EventData;
}

export function newTask(options: TaskOptions = {}): NewTask {
  const id = options.id ?? nextId();
  const spec: TaskSpec = {
    ...PLAIN_SPEC,
    repo: "https://git.example/octo/cat.git",
    branch: `slipway/${id}`,
    prompt: "Fix the thing",
    title: "Fix",
    ...options.spec,
  };
  const event: TaskEvent = {
    taskId: id,
    seq: 1,
    at: options.at ?? T0,
    attempt: 0,
    type: "task.submitted",
    from: null,
    to: "queued",
    data: { maxAttempts: spec.maxAttempts, ...options.data },
    workerSeq: null,
  };
  const snapshot = start(event);
  return {
    id,
    userId: options.userId ?? "user_a",
    threadId: options.threadId ?? id,
    parentId: options.parentId ?? null,
    spec,
    machineVersion: TASK_MACHINE_VERSION,
    snapshot,
    state: stateOf(snapshot),
    slot: holdsSlot(snapshot),
    event: { ...event, to: stateOf(snapshot) },
    inherits: options.inherits ?? null,
    idempotency: options.key === undefined ? null : { key: options.key, fingerprint: options.fingerprint ?? "f" },
  };
}

export interface Move {
  readonly type: EventType;
  readonly data?: EventData;
  readonly workerSeq?: number;
  readonly at?: number;
}

/** The commit that records these moves; throws when the statechart refuses one. */
export function createCommit(task: Task, ...moves: readonly Move[]): Commit {
  const events: TaskEvent[] = [];
  let snapshot = task.snapshot;
  let from = task.state;
  for (const { type, data = {}, workerSeq, at } of moves) {
    const claim = data["reason"] === "claimed";
    const event: TaskEvent = {
      taskId: task.id,
      seq: snapshot.context.seq + 1,
      at: at ?? task.updatedAt + 1_000,
      attempt: snapshot.context.attempt + (claim ? 1 : 0),
      type,
      from,
      to: from,
      data,
      workerSeq: workerSeq ?? null,
    };
    const next = step(snapshot, event);
    if (next === null) throw new Error(`the chart refuses ${type} ${JSON.stringify(data)} in ${from}`);
    snapshot = next;
    events.push({ ...event, to: stateOf(next) });
    from = stateOf(next);
  }
  return { taskId: task.id, expectedSeq: task.seq, events, snapshot, state: from, slot: holdsSlot(snapshot) };
}

export const claim: Move = { type: "task.state", data: { reason: "claimed" } };
export const ready: Move = { type: "task.state", data: { reason: "ready" } };
export const cancel: Move = { type: "task.state", data: { reason: "cancel" } };
export const stopped: Move = { type: "task.state", data: { reason: "stopped" } };
export const notice = (text: string, code = "test"): Move => ({ type: "notice", data: { level: "info", code, text } });
export const fail = (code: string): Move => ({
  type: "task.state",
  data: { reason: "failed", code, detail: null, evidence: null, jitter: 0, retryAfterMs: null },
});
/** From provisioning through retrying back to queued. */
export const retried: readonly Move[] = [
  fail("worker_lost"),
  { type: "task.state", data: { reason: "timed_out", jitter: 0 } },
];

export async function create(store: Store, options: TaskOptions = {}): Promise<Task> {
  const result = await store.create(newTask(options));
  if (result.kind !== "created") throw new Error(`expected a new task, got ${result.kind}`);
  return result.task;
}

export async function move(store: Store, task: Task, ...moves: readonly Move[]): Promise<Task> {
  const moved = await store.commit(createCommit(task, ...moves));
  if (moved === null) throw new Error(`the store refused a commit of ${task.id}`);
  return moved;
}
