import type { RecentRepository } from "../../core/ports/store.ts";
import type { Snapshot, Task, TaskProgress, TaskSpec, TaskState } from "../../core/task.ts";

/** The part of a task that never changes. */
export interface TaskCore extends Pick<
  Task,
  "userId" | "threadId" | "parentId" | "spec" | "machineVersion" | "createdAt"
> {
  /** The specification cannot be read, `spec` is a substitute. Absent = it is whole. */
  readonly lacksSpec?: boolean;
  /** Characters of the stored spec. */
  readonly size: number;
}

/** The text that `TaskQuery.text` is searched in, lower case; stores lower the query as well. */
export function searchableText({ title, prompt, repo }: TaskSpec): string {
  return `${title}\n${prompt}\n${repo}`.toLowerCase();
}

/** @param tasks the newest first. */
export function toRecentRepositories(
  tasks: Iterable<{ readonly id: string; readonly repo: string }>,
): RecentRepository[] {
  const found = new Map<string, RecentRepository>();
  for (const { id, repo } of tasks) {
    const key = repo.replace(/\.git$/, "");
    const known = found.get(key);
    found.set(key, known === undefined ? { repo, taskId: id, tasks: 1 } : { ...known, tasks: known.tasks + 1 });
  }
  return [...found.values()];
}

export function makeTask(
  id: string,
  core: TaskCore,
  snapshot: Snapshot,
  progress: TaskProgress,
  state: TaskState,
  seq: number,
  rev: number,
  updatedAt: number,
): Task {
  const { userId, threadId, parentId, spec, machineVersion, createdAt } = core;
  return {
    id,
    userId,
    threadId,
    parentId,
    spec,
    machineVersion,
    snapshot,
    progress,
    state,
    seq,
    rev,
    createdAt,
    updatedAt,
  };
}
