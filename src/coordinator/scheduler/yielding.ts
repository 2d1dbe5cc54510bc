/**
 * Slots that wait with their task for a person's answer, while other tasks wait for a slot (rule
 * D14) or the queue drains (rule D15).
 */
import { holdsSlot, phaseOf } from "../../../machines/fold.ts";
import { errorMessage } from "../../core/error.ts";
import type { Clock, Log } from "../../core/ports/runtime.ts";
import type { Store } from "../../core/ports/store.ts";
import type { Task } from "../../core/task.ts";
import type { TaskLog } from "../task-log.ts";

/** The part of `parkMs` for which a question keeps its slot although others wait for one. */
const PATIENCE = 0.1;

export interface YieldingDeps {
  readonly taskLog: Pick<TaskLog, "record">;
  readonly store: Pick<Store, "task">;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Parks tasks until `needed` slots are free or being freed, the oldest question first. Tasks whose
 * sandbox is still being cleared count as freed, because clearing may outlast the pause between two
 * calls. Never rejects; the next call retries a task that could not be parked.
 * @param patience the part of `parkMs` for which a question keeps its slot all the same.
 */
export async function yieldSlots(
  deps: YieldingDeps,
  holders: Iterable<string>,
  needed: number,
  patience = PATIENCE,
): Promise<void> {
  const { taskLog, store, clock, log } = deps;
  const yields = (task: Task): boolean =>
    askedForMs(task, clock.now()) > task.snapshot.context.policy.parkMs * patience;
  try {
    const tasks = (await Promise.all([...holders].map((id) => store.task(id)))).filter((task) => task !== null);
    const parked = tasks
      .filter(yields)
      .toSorted((a, b) => askedForMs(b, clock.now()) - askedForMs(a, clock.now()))
      .slice(0, Math.max(0, needed - tasks.filter(isBeingCleared).length))
      .map(({ id }) =>
        taskLog.record(id, (task) => (yields(task) ? [{ type: "task.state", data: { reason: "yielded" } }] : [])),
      );
    await Promise.all(parked);
  } catch (error) {
    log.warn({ error: errorMessage(error) }, "a slot that waits for an answer could not be freed");
  }
}

/** A queued task that has a slot is being claimed. */
const isBeingCleared = ({ snapshot, state }: Task): boolean => state !== "queued" && !holdsSlot(snapshot);

/**
 * How long the task has kept its slot for an answer, without time that nobody could use (it moves
 * the deadline); -1 when it does not wait for one.
 */
function askedForMs({ snapshot }: Task, now: number): number {
  const { dueAt, policy } = snapshot.context;
  return phaseOf(snapshot) === "awaiting_input" && dueAt !== null ? now - (dueAt - policy.parkMs) : -1;
}
