/** Who may do what with a task (rules S2, H12). */
import { SlipwayError } from "../../../core/error.ts";
import type { Identity } from "../../../core/ports/accounts.ts";
import type { Store } from "../../../core/ports/store.ts";
import { mayWithOthers, type TaskAct } from "../../../core/roles.ts";
import type { Task } from "../../../core/task.ts";

/**
 * The task, if the person may do this with it.
 * @throws SlipwayError `not_found` when they may not see it, `forbidden`.
 */
export async function readPermitted(
  store: Pick<Store, "task">,
  person: Identity,
  taskId: string,
  act: TaskAct,
): Promise<Task> {
  const task = await store.task(taskId);
  const isOwn = task?.userId === person.userId;
  if (task === null || (!isOwn && !mayWithOthers(person.role, "look")))
    throw new SlipwayError("not_found", "There is no such task.");
  if (isOwn || mayWithOthers(person.role, act)) return task;
  if (act === "delete")
    throw new SlipwayError("forbidden", "The task belongs to somebody else. They or an admin delete it.");
  const why = "It works with the credentials and the budget of its owner, so only they or an admin may do this.";
  throw new SlipwayError("forbidden", `The task belongs to somebody else. ${why}`);
}
