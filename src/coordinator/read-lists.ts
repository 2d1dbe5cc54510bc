/** Whole lists of the store as iterators that read page by page. */
import type { TaskEvent } from "../core/event.ts";
import { every } from "../core/lib/pagination.ts";
import type { Store, TaskQuery } from "../core/ports/store.ts";
import type { Task } from "../core/task.ts";

/** Items per page. */
const EVENTS = 1_000;
const TASKS = 200;

type Events = AsyncGenerator<TaskEvent, void, undefined>;

/** The whole log of a task, oldest first. */
export function readLog(store: Pick<Store, "events">, taskId: string): Events {
  return readLogAfter(store, taskId, 0);
}

/** The events after `afterSeq`, oldest first. */
export function readLogAfter(store: Pick<Store, "events">, taskId: string, afterSeq: number): Events {
  return every((last) => store.events(taskId, last?.seq ?? afterSeq, EVENTS));
}

/** The events after `afterSeq` that no worker sent, oldest first. */
export function readLogWithoutWorker(store: Pick<Store, "eventsOfOthers">, taskId: string, afterSeq: number): Events {
  return every((last) => store.eventsOfOthers(taskId, last?.seq ?? afterSeq, EVENTS));
}

/**
 * All tasks of a query, newest first. Tasks that are submitted during the read are not included.
 */
export function readTasks(
  store: Pick<Store, "tasks">,
  query: Omit<TaskQuery, "limit" | "before">,
): AsyncGenerator<Task, void, undefined> {
  return every((last) => store.tasks({ ...query, limit: TASKS, ...(last === null ? {} : { before: last.id }) }));
}

/** Tasks that are worked on at once: their records share commits. */
const BATCH = 64;

/** Calls `work` for each item, for BATCH of them at a time. */
export async function inBatches<T>(items: AsyncIterable<T>, work: (item: T) => Promise<unknown>): Promise<void> {
  let batch: T[] = [];
  for await (const item of items) {
    batch.push(item);
    if (batch.length < BATCH) continue;
    await Promise.all(batch.map(work));
    batch = [];
  }
  await Promise.all(batch.map(work));
}
