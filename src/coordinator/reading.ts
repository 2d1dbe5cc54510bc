/** Lists of the store from end to end, page by page. */
import type { TaskEvent } from "../core/event.ts";
import { every } from "../core/lib/pagination.ts";
import type { Store, TaskQuery } from "../core/ports/store.ts";
import type { Task } from "../core/task.ts";

const EVENTS = 1_000;
const TASKS = 200;

type Lines = AsyncGenerator<TaskEvent, void, undefined>;

/** The whole log of a task, oldest first. */
export const readLog = (store: Pick<Store, "events">, taskId: string): Lines =>
  every((last) => store.events(taskId, last?.seq ?? 0, EVENTS));

/** What people and the coordinator added to the log after `afterSeq`, oldest first. */
export const readLogWithoutWorker = (store: Pick<Store, "eventsOfOthers">, taskId: string, afterSeq: number): Lines =>
  every((last) => store.eventsOfOthers(taskId, last?.seq ?? afterSeq, EVENTS));

/** All tasks of a query, newest first. Tasks that are submitted meanwhile are not among them. */
export const readTasks = (
  store: Pick<Store, "tasks">,
  query: Omit<TaskQuery, "limit" | "before">,
): AsyncGenerator<Task, void, undefined> =>
  every((last) => store.tasks({ ...query, limit: TASKS, ...(last === null ? {} : { before: last.id }) }));
