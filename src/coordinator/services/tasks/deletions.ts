/**
 * Deletes settled tasks (rule R7).
 *
 * E1 A deletion begins with one durable row. From then on the task is `not_found`, and its
 *    subscribers are notified. Its data is removed afterwards in parts: files first, because only
 *    the rows name them.
 * E2 What a stop or a failure left is removed later: `resume` runs at the start and on each tick.
 * E3 A thread whose task is open keeps its tasks: the open one may still take over their work. No
 *    task begins in a thread while one of it is being deleted.
 */
import type { Artifacts } from "../../../core/ports/files/artifacts.ts";
import type { Identity } from "../../../core/ports/accounts.ts";
import type { Attachments } from "../../../core/ports/files/attachments.ts";
import type { Repositories } from "../../../core/ports/repositories.ts";
import type { AuditLog } from "../../../core/ports/records/audit.ts";
import type { Bus, Clock, Log } from "../../../core/ports/runtime.ts";
import type { DeletedTask, Store } from "../../../core/ports/store.ts";
import { errorMessage, SlipwayError } from "../../../core/error.ts";
import { KeyedMutex } from "../../../core/lib/concurrency/keyed-mutex.ts";
import type { Crashpoint } from "../../../core/lib/runtime/crashpoint.ts";
import { mayWithOthers } from "../../../core/roles.ts";
import { isSettledState, type Task } from "../../../core/task.ts";
import { readTasks } from "../../read-lists.ts";
import { readPermitted } from "./permit.ts";

export interface DeletionDeps {
  readonly store: Pick<
    Store,
    | "task"
    | "tasks"
    | "beginDeletion"
    | "purgeDeletion"
    | "deletedTask"
    | "openDeletions"
    | "tasksToExpire"
    | "setKept"
    | "isKept"
  >;
  readonly repos: Pick<Repositories, "remove">;
  readonly artifacts: Pick<Artifacts, "remove">;
  readonly attachments?: Pick<Attachments, "usage" | "release">;
  readonly bus: Pick<Bus, "publishDeleted">;
  readonly clock: Clock;
  readonly log: Log;
  readonly crashpoint: Crashpoint;
  /** Gets a row for each task that the policy deletes; absent = none. */
  readonly audit?: Pick<AuditLog, "append">;
  /** Days after which settled tasks are deleted; null or absent = none are. */
  readonly tasksExpireDays?: number | null;
}

const DAY_MS = 24 * 3_600_000;
/** Between two looks for tasks that have expired, ms. */
const EXPIRY_MS = 3_600_000;
/** Deletions that one pass takes up. */
const AT_ONCE = 200;

export class TaskDeletions {
  readonly #deps: DeletionDeps;
  readonly #threads = new KeyedMutex();
  /** When expired tasks are looked for next, epoch ms. */
  #expiryAt = 0;

  constructor(deps: DeletionDeps) {
    this.#deps = deps;
  }

  /**
   * Resolves when the task is `not_found` for all people. Data that a failure leaves is removed
   * later. Idempotent for people who may delete it.
   * @throws SlipwayError `not_found`, `forbidden`, `task_open`.
   */
  async delete(person: Identity, taskId: string): Promise<void> {
    const { store } = this.#deps;
    const gone = await store.deletedTask(taskId);
    if (gone !== null && (gone.userId === person.userId || mayWithOthers(person.role, "delete"))) return;
    const task = await readPermitted(store, person, taskId, "delete");
    if (!(await this.remove(task, person.userId))) await this.#explain(task);
  }

  /**
   * Whether the policy of the installation leaves the task alone; `isWished` changes that. Its
   * files go with those of other old tasks all the same.
   * @throws SlipwayError `not_found`, `forbidden`.
   */
  async keep(person: Identity, taskId: string, isWished?: boolean): Promise<boolean> {
    const { store, clock } = this.#deps;
    await readPermitted(store, person, taskId, isWished === undefined ? "look" : "delete");
    if (isWished !== undefined) await store.setKept(taskId, isWished ? clock.now() : null);
    return await store.isKept(taskId);
  }

  /**
   * @param by null = the policy of the installation.
   * @returns false when the task, or another one of its thread, is open.
   */
  async remove(
    { id, userId, threadId }: Pick<Task, "id" | "userId" | "threadId">,
    by: string | null,
  ): Promise<boolean> {
    const { store, bus, clock, log, crashpoint } = this.#deps;
    const begin = () => store.beginDeletion({ taskId: id, at: clock.now(), by });
    const hasBegun = await this.#threads.run(threadId, begin);
    const row = await store.deletedTask(id);
    if (row === null) return false;
    if (hasBegun) {
      bus.publishDeleted({ taskId: id, userId });
      log.info({ task: id, by }, "a task was deleted");
      crashpoint("deletion.begun");
    }
    await this.#purge([row]);
    return true;
  }

  /** Runs the work, which begins a task of the thread, unless its parent is gone. */
  inThread<T>(parent: Task, work: () => Promise<T>): Promise<T> {
    return this.#threads.run(parent.threadId, async () => {
      if ((await this.#deps.store.deletedTask(parent.id)) !== null)
        throw new SlipwayError("not_found", "There is no such task.");
      return await work();
    });
  }

  /**
   * Goes on with deletions that have begun and not ended, and once an hour begins those of tasks
   * that have expired.
   */
  async resume(signal: AbortSignal): Promise<void> {
    await this.#expire(signal);
    while (!signal.aborted) {
      const open = await this.#deps.store.openDeletions(AT_ONCE);
      const ended = await this.#purge(open, signal);
      // The next tick tries those that fail.
      if (ended < AT_ONCE) return;
    }
  }

  async #expire(signal: AbortSignal): Promise<void> {
    const { store, clock, tasksExpireDays: days = null } = this.#deps;
    const now = clock.now();
    if (days === null || now < this.#expiryAt) return;
    for (let removed = AT_ONCE; removed === AT_ONCE && !signal.aborted;) {
      removed = 0;
      for (const id of await store.tasksToExpire(now - days * DAY_MS, AT_ONCE)) {
        const task = signal.aborted ? null : await store.task(id);
        if (task !== null && (await this.remove(task, null))) removed += 1;
      }
    }
    this.#expiryAt = now + EXPIRY_MS;
  }

  /** @returns how many have ended. */
  async #purge(rows: readonly DeletedTask[], signal?: AbortSignal): Promise<number> {
    const { log } = this.#deps;
    if (rows.length === 0) return 0;
    let ended = 0;
    try {
      await this.#releaseAttachments(rows);
      for (const row of rows) {
        if (signal?.aborted === true) return ended;
        await this.#purgeOne(row);
        ended += 1;
      }
    } catch (error) {
      log.warn({ error: errorMessage(error) }, "what a deleted task left could not be removed; it is tried again");
    }
    return ended;
  }

  async #purgeOne({ id, deletedBy }: DeletedTask): Promise<void> {
    const { store, repos, artifacts, audit, clock, crashpoint, tasksExpireDays: days = null } = this.#deps;
    await repos.remove(id);
    await artifacts.remove(id);
    crashpoint("deletion.files");
    // A crash before the end of the deletion repeats the row rather than losing it.
    if (deletedBy === null) {
      const who = { actor: null, via: "server", address: "" } as const;
      await audit?.append({
        at: clock.now(),
        ...who,
        action: "expireTask",
        target: id,
        outcome: "ok",
        detail: { days },
      });
    }
    // Each part is a write of its own: the writes of others come in between.
    while (!(await store.purgeDeletion(id, clock.now()))) crashpoint("deletion.part");
  }

  /** A file that no other task has goes now, unless it was uploaded again for a new one. */
  async #releaseAttachments(rows: readonly DeletedTask[]): Promise<void> {
    const { attachments } = this.#deps;
    const settledAt = new Map(rows.map((row) => [row.id, row.settledAt]));
    for (const { id, tasks } of (await attachments?.usage()) ?? []) {
      const own = tasks.map(({ taskId }) => taskId).filter((taskId) => settledAt.has(taskId));
      if (own.length === 0) continue;
      const lastEnd = Math.max(...own.map((taskId) => settledAt.get(taskId) ?? 0));
      await attachments?.release(id, own, lastEnd + 1);
    }
  }

  async #explain({ id, state, threadId }: Task): Promise<never> {
    if (!isSettledState(state))
      throw new SlipwayError("task_open", `It is ${state}. Cancel it, or wait for its end; then delete it.`);
    for await (const other of readTasks(this.#deps.store, { userId: null, threadId }))
      if (!isSettledState(other.state)) {
        const why = `${other.id} continues its thread and is ${other.state}`;
        throw new SlipwayError("task_open", `${why}. Cancel that one, or wait for its end; then delete task ${id}.`);
      }
    throw new SlipwayError("conflict", "The task changed meanwhile. Try again.");
  }
}
