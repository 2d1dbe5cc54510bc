/**
 * The person's tasks, newest form of each, live. Begins with what this device keeps, then the
 * newest 200 of the list and all that are open; what changes later comes over the stream.
 */
import { useSyncExternalStore } from "react";
import { SlipwayProblem } from "../../../../src/client/problem.ts";
import type { ConnectionState } from "../../../../src/client/watch.ts";
import type { WireTask } from "../../../../src/core/protocol/rest.ts";
import { LIST_LENGTH } from "../../boot.ts";
import { client, impatientClient, problemText } from "../client.ts";
import { showOnIcon } from "../device/app-badge.ts";
import { dropTasks, keepTasks, readTasks } from "../device/kept.ts";
import { flushOutbox, openOutbox, outbox } from "../device/outbox.ts";
import { serverNow } from "../server-time.ts";
import { getPerson } from "../session.ts";
import { getGroup } from "./task-view.ts";

export interface TaskListView {
  readonly tasks: readonly WireTask[];
  readonly isLoaded: boolean;
  readonly connection: ConnectionState["kind"] | "connecting";
  /** Since when the connection is lost; null = it is not. */
  readonly lostAt: number | null;
  readonly problem: string | null;
  /** The cursor of the tasks that are older than those of the list; null = there are none. */
  readonly next: string | null;
  readonly changedAt: number;
}

const KEEP_AFTER_MS = 400;
const PUBLISH_MS = 50;
const OPEN: readonly WireTask["state"][] = ["queued", "provisioning", "running", "pushing", "retrying", "cancelling"];
const EMPTY: TaskListView = {
  tasks: [],
  isLoaded: false,
  connection: "connecting",
  lostAt: null,
  problem: null,
  next: null,
  changedAt: 0,
};
const byId = new Map<string, WireTask>();
const listeners = new Set<() => void>();
let view = EMPTY;
let stop: AbortController | null = null;
/** The person whose list it is. */
let owner: string | null = null;
let isScheduled = false;
const unkept = new Map<string, WireTask>();
let keeping: ReturnType<typeof setTimeout> | undefined;

function publish(change: Partial<TaskListView> = {}): void {
  const { connection = view.connection } = change;
  view = { ...view, ...change, lostAt: connection === "lost" ? (view.lostAt ?? serverNow()) : null };
  if (isScheduled) return;
  isScheduled = true;
  const isFirst = view.changedAt === 0;
  setTimeout(
    () => {
      isScheduled = false;
      const tasks = [...byId.values()].toSorted((a, b) => (a.id < b.id ? 1 : -1));
      view = { ...view, tasks, changedAt: serverNow() };
      if (view.isLoaded) showOnIcon(countNeeds(tasks));
      for (const listener of listeners) listener();
    },
    isFirst ? 0 : PUBLISH_MS,
  );
}

const countNeeds = (tasks: readonly WireTask[]): number =>
  tasks.filter((task) => getGroup(task, view.changedAt, getPerson()) === "needs").length;

/** A newer form replaces an older one. An answer may be older than a mark: read stays read. */
export function putTask(found: WireTask): void {
  const known = byId.get(found.id);
  if (known !== undefined && known.seq > found.seq) return;
  const task = known !== undefined && known.readSeq > found.readSeq ? { ...found, readSeq: known.readSeq } : found;
  byId.set(task.id, task);
  keep(task);
  publish();
}

/** Tasks that were deleted. */
function forgetTasks(ids: readonly string[]): void {
  for (const id of ids) {
    byId.delete(id);
    unkept.delete(id);
  }
  void dropTasks(ids);
  publish();
}

function keep(task: WireTask): void {
  unkept.set(task.id, task);
  keeping ??= setTimeout(() => {
    keeping = undefined;
    void keepTasks([...unkept.values()]);
    unkept.clear();
  }, KEEP_AFTER_MS);
}

export function getTask(id: string): WireTask | undefined {
  return byId.get(id);
}

/** @param isWhole the stream sends all tasks, not only what changes after the list was read. */
async function watch(signal: AbortSignal, isWhole: boolean): Promise<void> {
  const page = await impatientClient.tasks({ limit: LIST_LENGTH }, { signal });
  for (const task of page.items) putTask(task);
  publish({ isLoaded: true, problem: null, next: page.next });
  if (page.next !== null) {
    const open = await impatientClient.tasks({ limit: LIST_LENGTH, state: OPEN }, { signal });
    for (const task of open.items) putTask(task);
  }
  const onConnection = ({ kind }: ConnectionState): void => {
    publish({ connection: kind });
    if (kind !== "lost" && outbox.get().some(({ state }) => state === "waiting")) void flushOutbox();
  };
  // An operator's list has the tasks of all people.
  const all = getPerson()?.role !== "user";
  const after = isWhole ? null : (page.watchAfter ?? null);
  const changes = client.watchTasks({ signal, onConnection, onDeleted: forgetTasks, all, after });
  for await (const task of changes) putTask(task);
}

/** Starts the watch of a session, once; that of another person ends, and its tasks are dropped. */
export function startTaskList(userId: string): void {
  if (owner === userId) return;
  stopTaskList();
  owner = userId;
  void openOutbox();
  void readTasks().then((tasks) => {
    for (const task of tasks) if (!byId.has(task.id)) byId.set(task.id, task);
    publish(tasks.length > 0 ? { isLoaded: true } : {});
  });
  follow();
}

/** Tries at once what waits for its next try: the list, and what is to be sent. */
export function tryNow(): void {
  if (view.connection !== "lost") return;
  follow();
  void flushOutbox();
}

function follow(): void {
  stop?.abort();
  const current = new AbortController();
  stop = current;
  void (async () => {
    let isWhole = false;
    while (!current.signal.aborted) {
      try {
        await watch(current.signal, isWhole);
      } catch (thrown) {
        if (current.signal.aborted) return;
        // More was deleted since than the server tells.
        isWhole = thrown instanceof SlipwayProblem && thrown.code === "invalid_cursor";
        publish({ problem: problemText(thrown), connection: "lost" });
        await new Promise((resolve) => setTimeout(resolve, 3_000));
      }
    }
  })();
}

export function stopTaskList(): void {
  stop?.abort();
  stop = null;
  if (owner !== null) showOnIcon(0);
  owner = null;
  byId.clear();
  unkept.clear();
  view = EMPTY;
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

export function useTaskList(): TaskListView {
  return useSyncExternalStore(subscribe, () => view);
}
