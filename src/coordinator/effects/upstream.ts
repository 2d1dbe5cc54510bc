/** The task's repository as the repositories port takes it, with the owner's credential. */
import type { GitAuth, Repositories } from "../../core/ports/repositories.ts";
import type { CredentialUse } from "../../core/protocol/repositories.ts";
import type { Store } from "../../core/ports/store.ts";
import type { Task } from "../../core/task.ts";

/**
 * The owner's git credential for a repository, in clear text; null when there is none.
 * @param purpose why it will be shown to the host, which is recorded; absent = it will not.
 */
export type GetAuth = (userId: string, repo: string, purpose?: CredentialUse["purpose"]) => Promise<GitAuth | null>;

export interface Upstream {
  readonly taskId: string;
  readonly userId: string;
  readonly repo: string;
  readonly auth: GitAuth | null;
}

export async function resolveUpstream(
  authFor: GetAuth,
  task: Task,
  purpose: CredentialUse["purpose"],
): Promise<Upstream> {
  const { repo } = task.spec;
  return { taskId: task.id, userId: task.userId, repo, auth: await authFor(task.userId, repo, purpose) };
}

export interface SourceDeps {
  readonly store: Pick<Store, "task">;
  readonly repos: Pick<Repositories, "has">;
}

/**
 * The earlier task of the thread from whose repository this one takes the saved work, and what is
 * known about the branch: the nearest that holds the work, or, where none is taken, that has a
 * repository at all. A parent that ended before its own repository was made holds nothing.
 */
export async function findSource({ store, repos }: SourceDeps, task: Task): Promise<string | null> {
  const { headSha, checkpoint, continues } = task.snapshot.context;
  const saved = headSha ?? checkpoint?.sha ?? null;
  const nearest = continues ?? task.parentId;
  for (let id = nearest; id !== null;) {
    const earlier = await store.task(id);
    const sha = saved ?? earlier?.snapshot.context.baseSha ?? null;
    if (sha !== null && (await repos.has(id, sha))) return id;
    id = earlier?.parentId ?? null;
  }
  return nearest;
}
