/**
 * The clock-driven part: deadlines, orphans, retention.
 *
 * J1 A deadline is data (`dueAt`); the tick turns an overdue one into `timed_out`. The chart refuses one that is early, so it fires once and never early (rule D6).
 * J2 A sandbox is legitimate while its task is in a state that holds a slot, at that very attempt. Every other one is removed (rule D3).
 *    The list is taken first and each task is read after it, so a sandbox that was made meanwhile is never judged by an older row.
 */
import { deadlineFailure, holdsSlot } from "../machines/fold.ts";
import type { Coordinator } from "./coordinator.ts";
import type { Crashpoint } from "./crash.ts";
import { messageOf } from "./error.ts";
import type { Broker, Clock, Ids, Log, Repos, Sandbox, Store } from "./ports.ts";
import { isSettledState } from "./task.ts";
import { within } from "./within.ts";

export interface JanitorDeps {
  readonly coordinator: Coordinator;
  readonly store: Store;
  readonly sandbox: Sandbox;
  readonly repos: Repos;
  readonly broker: Broker;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  readonly crashpoint: Crashpoint;
  /** Longest wait for one sandbox to be removed, ms. */
  readonly clearMs: number;
  /** Task repositories of settled tasks are kept this long, ms. */
  readonly retentionMs: number;
}

export interface Janitor {
  /** Fires every overdue deadline. */
  deadlines(): Promise<void>;
  /** Removes sandboxes that no task needs. @returns how many. */
  orphans(): Promise<number>;
  /** Removes task repositories that are older than the retention. @returns how many. */
  retention(): Promise<number>;
}

const DUE_BATCH = 500;

export function createJanitor(deps: JanitorDeps): Janitor {
  const { coordinator, store, sandbox, clock, log } = deps;

  async function deadlines(): Promise<void> {
    for (;;) {
      const ids = await store.due(clock.now(), DUE_BATCH);
      if (ids.length === 0) return;
      deps.crashpoint("timer");
      const fired = await Promise.all(ids.map(fire));
      if (!fired.includes(true) || ids.length < DUE_BATCH) return;
    }
  }

  async function fire(taskId: string): Promise<boolean> {
    try {
      const { events } = await coordinator.record(taskId, ({ snapshot }) => {
        const code = deadlineFailure(snapshot, clock.now());
        return [{ type: "task.state", data: { reason: "timed_out", ...(code === null ? {} : { code }), jitter: deps.ids.random() } }];
      });
      return events.length > 0;
    } catch (error) {
      log.error({ task: taskId, error: messageOf(error) }, "a deadline could not be recorded");
      return false;
    }
  }

  async function orphans(): Promise<number> {
    let removed = 0;
    for (const one of await sandbox.list()) {
      const task = await store.task(one.taskId);
      const wanted = task !== null && holdsSlot(task.snapshot) && task.snapshot.context.attempt <= one.attempt;
      if (wanted) continue;
      log.info({ task: one.taskId, attempt: one.attempt }, "removing a sandbox that no task needs");
      try {
        await deps.broker.shut(one.taskId, one.attempt);
        // One that resists must not keep the others waiting.
        await within(deps.clearMs, sandbox.remove(one.name), clock);
        removed += 1;
      } catch (error) {
        log.warn({ name: one.name, error: messageOf(error) }, "an orphan could not be removed; the next tick tries again");
      }
    }
    return removed;
  }

  async function retention(): Promise<number> {
    let removed = 0;
    for (const taskId of await deps.repos.list()) {
      const task = await store.task(taskId);
      const expired = task !== null && isSettledState(task.state) && clock.now() - task.updatedAt > deps.retentionMs;
      if (!expired) continue;
      await deps.repos.remove(taskId);
      removed += 1;
    }
    return removed;
  }

  return { deadlines, orphans, retention };
}
