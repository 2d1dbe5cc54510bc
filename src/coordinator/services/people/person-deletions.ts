/**
 * Removes people whose account is gone already (rule R9; PersonDeletions of the store).
 *
 * E1 Their open tasks are cancelled at once, without salvage; each task is deleted when it has
 *    settled, as in tasks/deletions.ts. Only then goes what names the person.
 * E2 Each pass goes on with what is left, after a failure, a stop or a kill as well.
 * E3 A call that was under way when the deletion began may write once more: for `LATE_MS` after the
 *    end, the same is removed again. Such calls do not outlive the process.
 */
import type { Attachments } from "../../../core/ports/files/attachments.ts";
import type { PersonDeletion, PersonTask } from "../../../core/ports/accounts.ts";
import type { Clock, Log } from "../../../core/ports/runtime.ts";
import type { Repositories } from "../../../core/ports/repositories.ts";
import type { SetupCaches } from "../../../core/ports/files/setup-caches.ts";
import type { Store } from "../../../core/ports/store.ts";
import { errorMessage, isAbort } from "../../../core/error.ts";
import type { Crashpoint } from "../../../core/lib/runtime/crashpoint.ts";
import { isSettledState } from "../../../core/task.ts";
import type { TaskLog } from "../../task-log.ts";
import type { TaskDeletions } from "../tasks/deletions.ts";

export interface PersonDeletionDeps {
  readonly store: Pick<Store, "personDeletions" | "personTasks" | "purgePerson">;
  readonly taskLog: Pick<TaskLog, "record">;
  readonly repos: Pick<Repositories, "removePerson">;
  readonly attachments?: Pick<Attachments, "removePerson">;
  readonly setupCaches?: Pick<SetupCaches, "removePerson">;
  readonly clock: Clock;
  readonly log: Log;
  readonly crashpoint: Crashpoint;
}

/** Longer than any upload and any request of a model takes, ms. */
const LATE_MS = 900_000;
/** Between two looks for what came late, ms. */
const LOOK_MS = 60_000;
/** Tasks that one pass takes up. */
const AT_ONCE = 200;

interface Ended {
  readonly deletion: PersonDeletion;
  readonly until: number;
  nextAt: number;
}

export class PersonRemovals {
  readonly #deps: PersonDeletionDeps;
  readonly #tasks: Pick<TaskDeletions, "remove">;
  #ended: Ended[] = [];

  constructor(deps: PersonDeletionDeps, tasks: Pick<TaskDeletions, "remove">) {
    this.#deps = deps;
    this.#tasks = tasks;
  }

  /** Goes on with deletions that have begun and not ended. */
  async resume(signal: AbortSignal): Promise<void> {
    const { store, clock, log } = this.#deps;
    for (const deletion of await store.personDeletions()) {
      if (!(await this.#advance(deletion, signal))) continue;
      log.info({ user: deletion.userId, by: deletion.by }, "a person was deleted");
      const now = clock.now();
      this.#ended.push({ deletion, until: now + LATE_MS, nextAt: now + LOOK_MS });
    }
    for (const late of this.#ended.filter(({ nextAt }) => nextAt <= clock.now())) {
      late.nextAt = clock.now() + LOOK_MS;
      await this.#advance(late.deletion, signal);
    }
    this.#ended = this.#ended.filter(({ until }) => until > clock.now());
  }

  /** @returns true when nothing is left. A failure is logged; the next pass tries again. */
  async #advance(deletion: PersonDeletion, signal: AbortSignal): Promise<boolean> {
    const { store, repos, attachments, setupCaches, crashpoint, log } = this.#deps;
    const { userId, alias } = deletion;
    crashpoint("person.begun");
    try {
      if (!(await this.#removeTasks(deletion, signal))) return false;
      if (!(await repos.removePerson(userId))) return false;
      await setupCaches?.removePerson(userId);
      await attachments?.removePerson(userId, alias);
      crashpoint("person.files");
      for (;;) {
        if (signal.aborted) return false;
        const left = await store.purgePerson(deletion);
        if (left !== "more") return left === "done";
        crashpoint("person.part");
      }
    } catch (error) {
      if (isAbort(error)) throw error;
      log.warn({ user: userId, error: errorMessage(error) }, "a person is not removed whole; it is tried again");
      return false;
    }
  }

  /** @returns true when there are none. */
  async #removeTasks({ userId, by }: PersonDeletion, signal: AbortSignal): Promise<boolean> {
    for (;;) {
      let removed = 0;
      const tasks = await this.#deps.store.personTasks(userId, AT_ONCE);
      for (const task of tasks) {
        if (signal.aborted) return false;
        if (await this.#removeTask(task, by)) removed += 1;
      }
      if (tasks.length === 0) return true;
      if (removed === 0) return false;
    }
  }

  /** One task that cannot be removed yet does not keep the others. */
  async #removeTask(task: PersonTask, by: string): Promise<boolean> {
    const { taskLog, log } = this.#deps;
    try {
      if (isSettledState(task.state)) return await this.#tasks.remove(task, by);
      if (task.state !== "cancelling")
        await taskLog.record(task.id, () => [{ type: "task.state", data: { reason: "cancel", force: true, by } }]);
    } catch (error) {
      if (isAbort(error)) throw error;
      log.warn({ task: task.id, error: errorMessage(error) }, "a task of a deleted person is still there");
    }
    return false;
  }
}
