/**
 * Removes what an attempt no longer needs: its broker endpoint and its sandbox. Before a sandbox is
 * removed, work that no checkpoint holds is salvaged (E4, rule W6).
 */
import { errorMessage } from "../../core/error.ts";
import { withTimeout } from "../../core/lib/concurrency/async.ts";
import type { Broker } from "../../core/ports/broker.ts";
import type { Clock, Log } from "../../core/ports/runtime.ts";
import type { Sandbox } from "../../core/ports/sandbox.ts";
import { sandboxName, type Task } from "../../core/task.ts";
import type { Salvage } from "./salvage.ts";

export interface ClearDeps {
  readonly sandbox: Pick<Sandbox, "list" | "remove">;
  readonly broker: Pick<Broker, "revoke">;
  readonly salvage: Salvage;
  readonly clock: Clock;
  readonly log: Log;
  /** Longest wait for a sandbox to be removed before its slot is given back anyway, ms. */
  readonly clearMs: number;
}

/**
 * Clears the current attempt and gives its slot back (rule D5). Ends within `clearMs` plus the time
 * of a salvage, because an engine may hang; never rejects. A sandbox that remains is removed by the
 * garbage collector.
 */
export async function clear(deps: ClearDeps, task: Task, release: () => void): Promise<void> {
  const { attempt } = task.snapshot.context;
  const startedAt = deps.clock.monotonic();
  try {
    if (attempt > 0) {
      await deps.broker.revoke(task.id, attempt);
      // A finished attempt has pushed all of its work.
      if (task.state !== "done" && task.state !== "pushing")
        await deps.salvage(task.id, attempt, "perhaps_running", new AbortController().signal);
      const remainingMs = deps.clearMs - (deps.clock.monotonic() - startedAt);
      const removed = deps.sandbox.remove(sandboxName(task.id, attempt));
      await withTimeout(Math.max(remainingMs, deps.clearMs / 10), removed, deps.clock);
    }
  } catch (error) {
    deps.log.warn(
      { task: task.id, attempt, error: errorMessage(error) },
      "the sandbox could not be removed; the garbage collector tries again",
    );
  } finally {
    release();
  }
}

/**
 * Removes the sandboxes of earlier attempts that `clear` could not remove: they must be gone before
 * the next one runs (rule D1).
 */
export async function removeEarlier(
  deps: ClearDeps,
  taskId: string,
  attempt: number,
  signal: AbortSignal,
): Promise<void> {
  const earlier = (await deps.sandbox.list()).filter((info) => info.taskId === taskId && info.attempt < attempt);
  for (const info of earlier) {
    await deps.salvage(taskId, info.attempt, "perhaps_running", signal);
    await deps.sandbox.remove(info.name);
  }
}
