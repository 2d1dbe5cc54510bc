/**
 * Deleted tasks in memory: what a task had is gone at once, nothing is removed in parts. What it
 * inherited stays its own until the deletion ends, as in SQLite.
 */
import type { DeletedTask, DeletionRequest, Deletions } from "../../core/ports/store.ts";
import { isSettledState } from "../../core/task.ts";
import type { Entry } from "./entry.ts";

export interface MemoryDeletions {
  readonly methods: Deletions;
  /** @param userId null = of all. */
  of(userId: string | null): DeletedTask[];
  /** Gives the rows of the person, and of what they deleted, to the alias. */
  rename(userId: string, alias: string): void;
}

interface Removal {
  /** Removes the task and all that is read by its id. */
  begin(taskId: string): void;
  /** Removes what other tasks share with it. */
  end(taskId: string): void;
}

export function memoryDeletions(
  entries: ReadonlyMap<string, Entry>,
  removal: Removal,
  nextRev: () => number,
): MemoryDeletions {
  const deleted = new Map<string, DeletedTask>();
  const of = (userId: string | null): DeletedTask[] =>
    [...deleted.values()].filter((row) => userId === null || row.userId === userId);
  const isOpen = (threadId: string): boolean =>
    [...entries.values()].some(({ task }) => task.threadId === threadId && !isSettledState(task.state));
  const kept = new Set<string>();
  const methods: Deletions = {
    async setKept(taskId, at) {
      if (at === null) kept.delete(taskId);
      else if (entries.has(taskId)) kept.add(taskId);
    },
    isKept: async (taskId) => kept.has(taskId),
    async tasksToExpire(before, limit) {
      const endOf = ({ task }: Entry): number => task.snapshot.context.settledAt ?? Infinity;
      const isOver = (entry: Entry): boolean => endOf(entry) < before && !isOpen(entry.task.threadId);
      const old = [...entries.values()].filter((entry) => isOver(entry) && !kept.has(entry.task.id));
      const inOrder = old.toSorted((a, b) => endOf(a) - endOf(b) || (a.task.id < b.task.id ? -1 : 1));
      return inOrder.slice(0, limit).map(({ task }) => task.id);
    },
    async beginDeletion({ taskId, at, by }: DeletionRequest) {
      const task = entries.get(taskId)?.task;
      if (task === undefined) return false;
      const { id, userId, threadId, state, createdAt, updatedAt } = task;
      if (isOpen(threadId)) return false;
      const settledAt = task.snapshot.context.settledAt ?? updatedAt;
      const what = { id, userId, threadId, state, createdAt, settledAt };
      deleted.set(id, { ...what, rev: nextRev(), deletedAt: at, deletedBy: by, purgedAt: null });
      removal.begin(id);
      kept.delete(id);
      return true;
    },
    async purgeDeletion(taskId, at) {
      const row = deleted.get(taskId);
      if (row?.purgedAt !== null) return true;
      removal.end(taskId);
      deleted.set(taskId, { ...row, purgedAt: at });
      return true;
    },
    deletedTask: async (taskId) => deleted.get(taskId) ?? null,
    async openDeletions(limit) {
      const open = of(null).filter(({ purgedAt }) => purgedAt === null);
      return open.toSorted((a, b) => (a.id < b.id ? -1 : 1)).slice(0, limit);
    },
    async deletedSince(userId, afterRev, limit) {
      const later = of(userId).filter(({ rev }) => rev > afterRev);
      return later.toSorted((a, b) => a.rev - b.rev).slice(0, limit);
    },
  };
  const rename = (userId: string, alias: string): void => {
    for (const row of deleted.values()) {
      const deletedBy = row.deletedBy === userId ? alias : row.deletedBy;
      deleted.set(row.id, { ...row, userId: row.userId === userId ? alias : row.userId, deletedBy });
    }
  };
  return { methods, of, rename };
}
