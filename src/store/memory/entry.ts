/** A task in the memory store, and what queries ask of it. */
import type { EventRow, TaskEvent } from "../../core/event.ts";
import { isSettledState, type Task } from "../../core/task.ts";
import type { MemoryProjections } from "./projections.ts";

export interface Entry {
  task: Task;
  slot: boolean;
  readonly search: string;
  readonly log: TaskEvent[];
  readonly lists: MemoryProjections;
}

export const getDueAt = (entry: Entry): number | null =>
  isSettledState(entry.task.state) ? null : entry.task.snapshot.context.dueAt;
const plainAddress = (repo: string): string => repo.replace(/\.git$/, "");
export const isRepository = ({ spec }: Task, repo: string): boolean => plainAddress(spec.repo) === plainAddress(repo);
export const isAsking = ({ state, snapshot }: Task): boolean =>
  (state === "running" || state === "pushing") && snapshot.context.question !== null;

export function toEventRow(event: TaskEvent): EventRow {
  const data = JSON.stringify(event.data);
  return { ...event, data, dataBytes: Buffer.byteLength(data) };
}
