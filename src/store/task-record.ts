import type { Snapshot, Task, TaskProgress, TaskSpec, TaskState } from "../core/task.ts";

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
