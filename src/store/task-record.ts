import type { Snapshot, Task, TaskSpec, TaskState } from "../core/task.ts";
import type { TaskCore } from "./sqlite/tables/rows.ts";

/** What a text search of a task looks at; queries are lowered too. */
export function searchableText({ title, prompt, repo }: TaskSpec): string {
  return `${title}\n${prompt}\n${repo}`.toLowerCase();
}

export function makeTask(
  id: string,
  core: TaskCore,
  snapshot: Snapshot,
  state: TaskState,
  seq: number,
  rev: number,
  updatedAt: number,
): Task {
  const { userId, threadId, parentId, spec, machineVersion, createdAt } = core;
  return { id, userId, threadId, parentId, spec, machineVersion, snapshot, state, seq, rev, createdAt, updatedAt };
}
