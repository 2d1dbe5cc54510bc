/** The tasks that this version cannot read (rule M11): they are neither claimable nor due. */
import type { Task } from "../../../core/task.ts";

/** For a WHERE clause over `tasks`, with the parameter `SetAsideTasks.ids`. */
export const NOT_ASIDE = "id NOT IN (SELECT value FROM json_each(?))";

export class SetAsideTasks {
  readonly #reasons = new Map<string, string>();
  /** The ids as a JSON array. */
  ids = "[]";

  /** @returns the same task. */
  note(task: Task): Task {
    const { id, setAside } = task;
    if (setAside !== undefined && !this.#reasons.has(id)) {
      this.#reasons.set(id, setAside.reason);
      this.ids = JSON.stringify([...this.#reasons.keys()]);
    }
    return task;
  }

  list(): { readonly id: string; readonly reason: string }[] {
    return [...this.#reasons].map(([id, reason]) => ({ id, reason }));
  }
}
