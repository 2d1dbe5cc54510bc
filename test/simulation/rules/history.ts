/**
 * What the rules need to know of each task: the fold of its log as this file computes it, and the
 * times and misfortunes of its attempts, in ms of the virtual time.
 */
import type { TaskEvent } from "../../../src/core/event.ts";
import { isSettledState, type Snapshot, type TaskState } from "../../../src/core/task.ts";
import type { Misdeed } from "../model/behaviour.ts";

export type Misfortune = Misdeed | "killed" | "vanished";

export interface Attempt {
  readonly number: number;
  readonly claimedAt: number;
  readyAt: number | null;
  readonly misfortunes: Set<Misfortune>;
  /** Time in which the worker waited for an answer. */
  askedMs: number;
}

export interface TaskHistory {
  readonly id: string;
  readonly parentId: string | null;
  snapshot: Snapshot;
  seq: number;
  state: TaskState;
  slot: boolean;
  askedAt: number | null;
  /** When the task entered its state. */
  enteredAt: number;
  readonly attempts: Attempt[];
}

export class History {
  readonly tasks = new Map<string, TaskHistory>();

  add(id: string, parentId: string | null, snapshot: Snapshot, state: TaskState, now: number): void {
    const empty = { slot: false, askedAt: null, enteredAt: now, attempts: [] };
    this.tasks.set(id, { id, parentId, snapshot, seq: 1, state, ...empty });
  }

  /** Notes an event that was just committed. */
  note(task: TaskHistory, event: TaskEvent, now: number): void {
    const reason = event.type === "task.state" ? event.data["reason"] : null;
    if (reason === "claimed")
      task.attempts.push({
        number: event.attempt,
        claimedAt: now,
        readyAt: null,
        misfortunes: new Set(),
        askedMs: 0,
      });
    const attempt = task.attempts.at(-1);
    if (reason === "ready" && attempt !== undefined) attempt.readyAt = now;
    if (event.type === "question") task.askedAt = now;
    if (event.type === "answer" && task.askedAt !== null) {
      if (attempt !== undefined) attempt.askedMs += now - task.askedAt;
      task.askedAt = null;
    }
    if (event.to !== event.from) task.enteredAt = now;
    task.seq = event.seq;
    task.state = event.to;
  }

  attempt(taskId: string, number: number): Attempt | undefined {
    return this.tasks.get(taskId)?.attempts.find((attempt) => attempt.number === number);
  }

  isSettled(taskId: string): boolean {
    const task = this.tasks.get(taskId);
    return task !== undefined && isSettledState(task.state);
  }

  slots(): number {
    return [...this.tasks.values()].filter(({ slot }) => slot).length;
  }
}
