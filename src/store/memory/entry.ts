/** A task in the memory store, and what queries ask of it. */
import type { EventRow, TaskEvent } from "../../core/event.ts";
import type { ReadMarks } from "../../core/ports/store.ts";
import { isSettledState, type Task } from "../../core/task.ts";
import type { MemoryProjections } from "./projections.ts";

export interface Entry {
  task: Task;
  slot: boolean;
  readonly search: string;
  readonly log: TaskEvent[];
  readonly lists: MemoryProjections;
  /** The mark of its owner. */
  read?: { readonly seq: number; readonly rev: number };
}

/** Marks of what people have read. */
export function memoryReadMarks(entries: ReadonlyMap<string, Entry>, nextRev: () => number): ReadMarks {
  return {
    async markRead(userId, taskId, seq) {
      const entry = entries.get(taskId);
      if (entry === undefined || entry.task.userId !== userId) return false;
      const { progress, seq: end } = entry.task;
      if (progress.notable === null || seq < progress.notable || (entry.read?.seq ?? 0) >= progress.notable)
        return false;
      entry.read = { seq: Math.min(seq, end), rev: nextRev() };
      return true;
    },
    async readSeqs(taskIds) {
      const known = taskIds.map((id) => [id, entries.get(id)?.read?.seq] as const);
      return new Map(known.filter((mark): mark is [string, number] => mark[1] !== undefined));
    },
  };
}

/** The task with the rev of its last change for the reader: a commit, or a mark of theirs. */
export const asRead = ({ task, read }: Entry, reader: string | undefined): Task =>
  reader === task.userId && read !== undefined && read.rev > task.rev ? { ...task, rev: read.rev } : task;

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
