/** The Repos port on real git. */
import { join } from "node:path";
import type { Repos } from "../ports.ts";
import { diff, patch } from "./diff.ts";
import { openMirrors } from "./mirror.ts";
import { push } from "./push.ts";
import { openGit } from "./run.ts";
import { openTaskRepos } from "./taskrepo.ts";

export interface ReposOptions {
  readonly dir: string;
  /** `host[:port]` that may be plain http and at private addresses. */
  readonly trustedHosts: readonly string[];
}

export function openRepos({ dir, trustedHosts }: ReposOptions): Repos {
  const git = openGit(dir);
  const mirrors = openMirrors(git, join(dir, "mirrors"), trustedHosts);
  const tasks = openTaskRepos(git, join(dir, "tasks"));

  return {
    async prepare({ taskId, userId, repo, auth, base, parentTaskId }, signal) {
      const fetched = await mirrors.fetch({ userId, repo, auth, base }, signal);
      return tasks.make(taskId, fetched, parentTaskId);
    },
    path: tasks.path,
    resolve: tasks.resolve,
    has: async (taskId, sha) => (await tasks.resolve(taskId, sha)) !== null,
    push: ({ taskId, repo, auth, sha, branch, expect }, signal) =>
      push(git, trustedHosts, { cwd: tasks.path(taskId), repo, auth, sha, branch, expect }, signal),
    diff: (taskId, base, head) => diff(git, tasks.path(taskId), base, head),
    patch: (taskId, base, head) => patch(git, tasks.path(taskId), base, head),
    list: () => Promise.resolve(tasks.list()),
    remove: tasks.remove,
  };
}
