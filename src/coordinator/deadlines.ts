/**
 * Keeps working time and fires deadlines. A deadline is data (`dueAt`); the tick turns an overdue
 * one into the event `timed_out`. The chart refuses an early one, so a deadline fires once and
 * never early (rule D6).
 */
import { deadlineFailure } from "../../machines/fold.ts";
import { proposeMoreTime } from "./services/budget/time.ts";
import type { TaskLog } from "./task-log.ts";
import type { Crashpoint } from "../core/lib/runtime/crashpoint.ts";
import { errorMessage } from "../core/error.ts";
import { OPEN_STATES } from "../core/task.ts";
import { inBatches, readTasks } from "./read-lists.ts";
import type { Store } from "../core/ports/store.ts";
import type { Clock, Ids, Log } from "../core/ports/runtime.ts";
import type { Heartbeat, WorkingTime } from "./working-time.ts";

export interface DeadlineDeps {
  readonly taskLog: TaskLog;
  readonly store: Pick<Store, "due">;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  readonly crashpoint: Crashpoint;
  readonly workingTime: Pick<WorkingTime, "isStoreFailing" | "noteStoreFails">;
}

const BATCH = 500;

/** Records the time that each open task lost. One that cannot be recorded stops no other. */
async function catchUpAll({ taskLog, store }: { taskLog: TaskLog; store: Store }): Promise<void> {
  const failures: unknown[] = [];
  await inBatches(readTasks(store, { userId: null, states: OPEN_STATES }), ({ id }) =>
    taskLog.catchUp(id, null).catch((error: unknown) => failures.push(error)),
  );
  if (failures.length > 0) throw failures[0];
}

/** A row that is written and read to learn whether the store works; the value means nothing. */
const PROBE = "time.probe";

export interface TimeDeps {
  readonly taskLog: TaskLog;
  readonly store: Store;
  readonly clock: Pick<Clock, "now">;
  readonly workingTime: WorkingTime;
  readonly heartbeat?: Heartbeat;
}

/**
 * Records lost time in every open task. The heartbeat goes on only when all have it: after a crash
 * before that, the next boot counts from the earlier beat.
 * @param caughtUp the losses that every open task has. @returns the same after this pass.
 */
export async function keepTime(deps: TimeDeps, caughtUp: number): Promise<number> {
  const { taskLog, store, clock, workingTime, heartbeat } = deps;
  workingTime.observe();
  if (workingTime.isStoreFailing) {
    await store.setSetting(PROBE, String(clock.now()));
    await store.setting(PROBE);
    workingTime.noteStoreWorks();
  }
  const { generation } = workingTime;
  if (caughtUp !== generation) await catchUpAll({ store, taskLog });
  heartbeat?.beat(clock.now());
  return generation;
}

/**
 * Fires every overdue deadline. One that cannot be recorded is logged and stays overdue. None is
 * overdue while the store fails: the time is lost (rule D11).
 */
export async function fireDeadlines(deps: DeadlineDeps): Promise<void> {
  while (!deps.workingTime.isStoreFailing) {
    const ids = await readDue(deps);
    if (ids.length === 0) return;
    deps.crashpoint("timer");
    const fired = await Promise.all(ids.map((id) => fireDeadline(deps, id)));
    if (!fired.includes(true) || ids.length < BATCH) return;
  }
}

/** A read that fails is an outage too: a worker's sign of life cannot be recorded without reads. */
async function readDue({ store, clock, workingTime }: DeadlineDeps): Promise<string[]> {
  try {
    return await store.due(clock.now(), BATCH);
  } catch (error) {
    workingTime.noteStoreFails();
    throw error;
  }
}

async function fireDeadline({ taskLog, clock, ids, log }: DeadlineDeps, taskId: string): Promise<boolean> {
  try {
    const { events } = await taskLog.record(taskId, (task) => {
      const { snapshot } = task;
      const code = deadlineFailure(snapshot, clock.now());
      const question = code === "deadline_exceeded" ? proposeMoreTime(task, clock.now()) : null;
      if (question !== null) return [question];
      const data = { reason: "timed_out", ...(code === null ? {} : { code }), jitter: ids.random() };
      return [{ type: "task.state", data }];
    });
    return events.length > 0;
  } catch (error) {
    log.error({ task: taskId, error: errorMessage(error) }, "a deadline could not be recorded");
    return false;
  }
}
