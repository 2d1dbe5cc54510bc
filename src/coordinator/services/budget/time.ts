/**
 * The end of a task's working time. The attempt ends either way; a person is asked whether the task
 * may go on, and it waits parked, with its work saved.
 */
import { timeLimit } from "../../../../machines/time-limit.ts";
import { toWallTime } from "../../../../machines/working-time.ts";
import { phaseOf } from "../../../../machines/fold.ts";
import { timeQuestion } from "../../../core/budget.ts";
import type { Proposal } from "../../../core/event.ts";
import type { Task } from "../../../core/task.ts";

/** Share of the time that may be left, so that a worker's word alone asks nobody (rule S15). */
const MOST_LEFT = 0.5;

/**
 * @param at the time of the event, epoch ms. @returns null when the task is not at work, has time
 * left, or cannot get more: it fails then.
 */
export function proposeMoreTime({ spec, snapshot }: Pick<Task, "spec" | "snapshot">, at: number): Proposal | null {
  const { context } = snapshot;
  if (phaseOf(snapshot) !== "working" || context.wallAt === null) return null;
  if (context.wallAt - toWallTime(context, at) > timeLimit(context) * MOST_LEFT) return null;
  const question = timeQuestion({ spec, snapshot });
  return question === null ? null : { type: "question", data: { ...question, parks: true } };
}
