/** The task's repository as the repositories port takes it, with the owner's credential. */
import type { GitAuth } from "../../core/ports/repositories.ts";
import type { Task } from "../../core/task.ts";

/** The owner's git credential for a repository, in clear text; null when there is none. */
export type GetAuth = (userId: string, repo: string) => Promise<GitAuth | null>;

export interface Upstream {
  readonly taskId: string;
  readonly userId: string;
  readonly repo: string;
  readonly auth: GitAuth | null;
}

export async function resolveUpstream(authFor: GetAuth, task: Task): Promise<Upstream> {
  const { repo } = task.spec;
  return { taskId: task.id, userId: task.userId, repo, auth: await authFor(task.userId, repo) };
}
