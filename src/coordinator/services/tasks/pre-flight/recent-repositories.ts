/** The repositories that a person submitted tasks to. */
import type { RecentRepository, Store } from "../../../../core/ports/store.ts";
import type { Task } from "../../../../core/task.ts";

export interface UsedRepository extends Pick<RecentRepository, "repo" | "tasks"> {
  readonly last: Task;
}

/** Tasks that count. */
const AMONG = 500;

/** The last used first. */
export async function findRecentRepositories(
  store: Pick<Store, "recentRepositories" | "task">,
  userId: string,
  limit: number,
): Promise<UsedRepository[]> {
  const found = (await store.recentRepositories(userId, AMONG)).slice(0, limit);
  const used = found.map(async ({ repo, tasks, taskId }): Promise<UsedRepository[]> => {
    const last = await store.task(taskId);
    return last === null ? [] : [{ repo, tasks, last }];
  });
  return (await Promise.all(used)).flat();
}
