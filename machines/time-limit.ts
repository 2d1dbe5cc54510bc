/**
 * The time that an attempt may work, and how an answer to the question for more time changes it.
 *
 * Each attempt has the whole limit. When the time is used up, the attempt ends, its work is saved
 * and the task waits parked; the next attempt then goes on with what was left and what was granted.
 */
import { isTimeQuestion } from "../src/core/budget.ts";
import type { TaskContext } from "../src/core/task.ts";
import type { EventOf } from "./task-events.ts";
import { toWallTime } from "./working-time.ts";

const MINUTE = 60_000;

/** Ms of work of an attempt that begins now. */
export const timeLimit = ({ wallMs, policy }: TaskContext): number => wallMs ?? policy.wallMs;

/** Ms that an answer adds; 0 = the answer is to another question. */
export function addedTime(context: TaskContext, { questionId, granted }: EventOf<"answer">): number {
  if (!isTimeQuestion(questionId) || granted?.minutes === undefined) return 0;
  const before = context.granted?.minutes ?? context.policy.wallMs / MINUTE;
  return Math.max(0, Math.round((granted.minutes - before) * MINUTE));
}

/** The changed limit of later attempts after an answer to a parked task; empty = no change. */
export function grantedTime(context: TaskContext, event: EventOf<"answer">): Partial<TaskContext> {
  const addedMs = addedTime(context, event);
  if (addedMs === 0) return {};
  const askedAt = toWallTime(context, context.question?.askedAt ?? event.at);
  const leftMs = Math.min(timeLimit(context), Math.max(0, (context.wallAt ?? askedAt) - askedAt));
  return { wallMs: leftMs + addedMs };
}
