/**
 * Time that nobody could use: the coordinator did not run, the machine was suspended, or the wall
 * clock was set. The coordinator records it as a notice with `lostMs`, and the deadlines of working
 * time move by it (rule D11).
 *
 * `dueAt` and `wallAt` are times of the wall clock. After the wall clock was set back, a task's
 * events go on from where they were, `aheadMs` ahead of the wall clock, so that `at` never
 * decreases within a log. The other times of the context are times of events.
 */
import type { TaskContext } from "../src/core/task.ts";
import type { EventOf, LostTime } from "./task-events.ts";

/** The time of the wall clock at an event. */
export const toWallTime = (context: TaskContext, at: number): number => at - (context.aheadMs ?? 0);

/**
 * Absent as long as the clock was never set back, so that logs from before fold to the same bytes.
 */
const ahead = (context: TaskContext, { aheadMs }: LostTime): Partial<TaskContext> =>
  aheadMs === 0 && context.aheadMs === undefined ? {} : { aheadMs };

/** How far the times of events move in the task's own time. */
const eventShift = (context: TaskContext, { lostMs, aheadMs }: LostTime): number =>
  lostMs + aheadMs - (context.aheadMs ?? 0);

const move = (time: number | null, lostMs: number): number | null => (time === null ? null : time + lostMs);

/**
 * A deadline of work: it moves by the lost time, and leaves at least `graceMs` for events that are
 * on their way.
 */
function moveWork(time: number | null, now: number, { lostMs, graceMs }: LostTime): number | null {
  return time === null ? null : Math.max(time + lostMs, now + graceMs);
}

type Shift = (context: TaskContext, event: EventOf<"time_lost">) => Partial<TaskContext>;

/** `enteredAt` moves too: the bound of provisioning counts from there. */
export const shiftProvisioning: Shift = (context, event) => ({
  ...ahead(context, event),
  enteredAt: context.enteredAt + eventShift(context, event),
  activeAt: event.at,
  dueAt: moveWork(context.dueAt, event.at - event.aheadMs, event),
});

export const shiftWork: Shift = (context, event) => ({
  ...ahead(context, event),
  activeAt: event.at,
  wallAt: moveWork(context.wallAt, event.at - event.aheadMs, event),
  dueAt: moveWork(context.dueAt, event.at - event.aheadMs, event),
});

/** The answer adds the time since the question to `wallAt`, lost time included. */
export const shiftQuestion: Shift = (context, event) => ({
  ...ahead(context, event),
  wallAt: move(context.wallAt, event.lostMs - eventShift(context, event)),
  dueAt: move(context.dueAt, event.lostMs),
});

/** While a person is asked about the push, the time is calendar time. */
export const shiftPush: Shift = (context, event) => ({
  ...ahead(context, event),
  ...(context.question === null ? { dueAt: moveWork(context.dueAt, event.at - event.aheadMs, event) } : {}),
});

export const shiftWait: Shift = (context, event) => ({
  ...ahead(context, event),
  dueAt: move(context.dueAt, event.lostMs),
});

/** The time of a person who is asked is calendar time: only the difference of clocks is noted. */
export const keepCalendar: Shift = (context, event) => ahead(context, event);
