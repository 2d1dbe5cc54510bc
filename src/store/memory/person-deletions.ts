/** The deletion of people in memory. */
import type { PersonDeletion, PersonDeletions } from "../../core/ports/accounts.ts";
import type { Entry } from "./entry.ts";

/** What else of a person is stored beside accounts and tasks. */
export interface PersonRows {
  /** Removes settings and devices. */
  drop(userId: string): void;
  /** Gives the rows that stay to the alias. */
  rename(userId: string, alias: string): void;
}

export class MemoryPersonDeletions {
  readonly #open = new Map<string, PersonDeletion>();

  /** @returns false when it has begun before. */
  begin(deletion: PersonDeletion): boolean {
    if (this.#open.has(deletion.userId)) return false;
    this.#open.set(deletion.userId, deletion);
    return true;
  }

  methods(entries: ReadonlyMap<string, Entry>, rows: PersonRows): PersonDeletions {
    const tasksOf = (userId: string) =>
      [...entries.values()].map(({ task }) => task).filter((task) => task.userId === userId);
    return {
      personDeletions: async () => [...this.#open.values()].toSorted((a, b) => a.at - b.at),
      async personTasks(userId, limit) {
        const newest = tasksOf(userId)
          .toSorted((a, b) => (a.id < b.id ? 1 : -1))
          .slice(0, limit);
        return newest.map(({ id, threadId, state }) => ({ id, userId, threadId, state }));
      },
      purgePerson: async ({ userId, alias }) => {
        rows.rename(userId, alias);
        if (tasksOf(userId).length > 0) return "tasks";
        rows.drop(userId);
        this.#open.delete(userId);
        return "done";
      },
    };
  }
}
