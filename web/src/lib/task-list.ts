/**
 * The person's tasks, newest form of each, live. Begins with the newest 200 of the list; later
 * changes come over the stream.
 */
import { useSyncExternalStore } from "react";
import type { ConnectionState } from "../../../src/client/watch.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { client, problemText } from "./client.ts";
import { serverNow } from "./server-time.ts";

export interface TaskListView {
  readonly tasks: readonly WireTask[];
  readonly isLoaded: boolean;
  readonly connection: ConnectionState["kind"] | "connecting";
  readonly problem: string | null;
  readonly changedAt: number;
}

const EMPTY: TaskListView = { tasks: [], isLoaded: false, connection: "connecting", problem: null, changedAt: 0 };
const byId = new Map<string, WireTask>();
const listeners = new Set<() => void>();
let view = EMPTY;
let stop: AbortController | null = null;
let isScheduled = false;

function publish(change: Partial<TaskListView> = {}): void {
  view = { ...view, ...change };
  if (isScheduled) return;
  isScheduled = true;
  setTimeout(() => {
    isScheduled = false;
    const tasks = [...byId.values()].toSorted((a, b) => (a.id < b.id ? 1 : -1));
    view = { ...view, tasks, changedAt: serverNow() };
    for (const listener of listeners) listener();
  }, 50);
}

/** A newer form replaces an older one. */
export function putTask(task: WireTask): void {
  const known = byId.get(task.id);
  if (known !== undefined && known.seq > task.seq) return;
  byId.set(task.id, task);
  publish();
}

export function getTask(id: string): WireTask | undefined {
  return byId.get(id);
}

async function watch(signal: AbortSignal): Promise<void> {
  const page = await client.tasks({ limit: 200 }, { signal });
  for (const task of page.items) putTask(task);
  publish({ isLoaded: true });
  const changes = client.watchTasks({ signal, onConnection: ({ kind }) => publish({ connection: kind }) });
  for await (const task of changes) putTask(task);
}

/** Starts the watch of a new session; a running one ends, and its tasks are dropped. */
export function startTaskList(): void {
  stopTaskList();
  const current = new AbortController();
  stop = current;
  void (async () => {
    while (!current.signal.aborted) {
      try {
        await watch(current.signal);
      } catch (thrown) {
        if (current.signal.aborted) return;
        publish({ problem: problemText(thrown) });
        await new Promise((resolve) => setTimeout(resolve, 3_000));
      }
    }
  })();
}

export function stopTaskList(): void {
  stop?.abort();
  stop = null;
  byId.clear();
  view = EMPTY;
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

export function useTaskList(): TaskListView {
  return useSyncExternalStore(subscribe, () => view);
}
