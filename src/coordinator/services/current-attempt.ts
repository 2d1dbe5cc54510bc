/** The fence of attempts: no call of an earlier attempt has an effect on the task (rule T6). */
import { holdsSlot } from "../../../machines/fold.ts";
import { SlipwayError } from "../../core/error.ts";
import type { Task } from "../../core/task.ts";

export function staleAttempt(): SlipwayError {
  return new SlipwayError("stale_attempt", "This attempt is over. Stop, and push nothing more.");
}

/** @throws SlipwayError `stale_attempt` unless the task is at this attempt and holds a slot. */
export function assertCurrentAttempt(task: Task | null, attempt: number): asserts task is Task {
  if (task === null || task.snapshot.context.attempt !== attempt || !holdsSlot(task.snapshot)) throw staleAttempt();
}

/**
 * @throws SlipwayError `stale_attempt` unless the attempt may still spend: work that a person ended
 * costs nothing more.
 */
export function assertMaySpend(task: Task | null, attempt: number): asserts task is Task {
  assertCurrentAttempt(task, attempt);
  if (task.state === "cancelling")
    throw new SlipwayError("stale_attempt", "The task is being cancelled. It makes no more requests to the model.");
}
