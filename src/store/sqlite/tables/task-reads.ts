/** Reads of the store. Any connection to the database works, a read-only one as well. */
import { setImmediate } from "node:timers/promises";
import type { Connection, Statement } from "../driver.ts";
import { OUTLINE_TYPES, type EventRow, type TaskEvent } from "../../../core/event.ts";
import { PageBuilder, pageOf, type Page } from "../../../core/lib/pagination.ts";
import type {
  AttemptRow,
  Direction,
  MessageRow,
  RecentRepository,
  TaskQuery,
  ToolCallRow,
} from "../../../core/ports/store.ts";
import { TASK_STATES, type Task, type TaskState } from "../../../core/task.ts";
import { toRecentRepositories, type TaskCore } from "../../shared/task-record.ts";
import type { ExplainUnreadable } from "../../shared/unreadable.ts";
import { personDeletionReads } from "../accounts/person-deletions.ts";
import { deletionReads, NOT_DELETED } from "../deletions.ts";
import { markedChanges, readMarkReads } from "../read-marks.ts";
import { loadReads } from "./load-reads.ts";
import { queueReads } from "./queue.ts";
import * as rows from "./rows.ts";
import { NOT_ASIDE, SetAsideTasks } from "./set-aside.ts";
import { taskSearch } from "./task-search.ts";
import { taskTally } from "./task-tally.ts";
import { threadReads } from "./thread-reads.ts";
import { transcriptReads } from "./transcripts.ts";

export type Reads = ReturnType<typeof sqliteReads>;

/** @param explain why this version cannot read a snapshot; null when it can. */
export function sqliteReads(db: Connection, cache: rows.CoreCache, explain: ExplainUnreadable) {
  const selectCore = db.prepare<[string], rows.CoreRow>(
    `SELECT t.user_id, t.thread_id, t.parent_id, t.machine_version, t.created_at, s.spec
     FROM tasks AS t LEFT JOIN task_specs AS s ON s.task_id = t.id WHERE t.id = ?`,
  );
  const selectState = db.prepare<[string], rows.StateRow>(
    `SELECT ${rows.STATE_COLUMNS} FROM tasks AS t WHERE t.id = ? AND ${NOT_DELETED}`,
  );
  const changes = db.prepare<[number, number], rows.StateRow>(
    `SELECT ${rows.STATE_COLUMNS} FROM tasks AS t WHERE t.rev > ? AND ${NOT_DELETED} ORDER BY t.rev LIMIT ?`,
  );
  const userChanges = db.prepare<[string, number, number], rows.StateRow>(
    `SELECT ${rows.STATE_COLUMNS} FROM tasks AS t
     WHERE t.user_id = ? AND t.rev > ? AND ${NOT_DELETED} ORDER BY t.rev LIMIT ?`,
  );
  const usedRepositories = db.prepare<[string, number], { id: string; repo: string }>(
    `SELECT t.id, s.repo FROM tasks AS t INDEXED BY tasks_user
     CROSS JOIN task_specs AS s INDEXED BY task_specs_repo_of ON s.task_id = t.id
     WHERE t.user_id = ? AND ${NOT_DELETED} ORDER BY t.id DESC LIMIT ?`,
  );
  const setting = db.prepare<[string], string>("SELECT value FROM settings WHERE key = ?").pluck();

  const search = taskSearch(db);

  function core(id: string): TaskCore {
    const known = cache.get(id);
    if (known !== undefined) return known;
    const row = selectCore.get(id);
    if (row === undefined) throw new Error(`there is no task ${id}`);
    const fresh = rows.toTaskCore(row);
    cache.set(id, fresh);
    return fresh;
  }

  const aside = new SetAsideTasks();
  const toTask = (row: rows.StateRow): Task => aside.note(rows.toTask(row, core(row.id), explain));
  // A start looks at every open task once: one that cannot be read is neither claimed nor due.
  for (const row of db.prepare<[], rows.StateRow>(`SELECT ${rows.STATE_COLUMNS} FROM tasks AS t ${OPEN}`).all())
    toTask(row);
  const sizeOf = (row: rows.StateRow): number => row.snapshot.length + core(row.id).size;

  const withMarks = markedChanges(db, (marked, limit) =>
    pageOf(marked, limit, sizeOf, (row) => ({ ...toTask(row), rev: row.change })),
  );

  return {
    core,
    task(id: string): Task | null {
      const row = selectState.get(id);
      return row === undefined ? null : toTask(row);
    },
    async tasks(query: TaskQuery): Promise<Page<Task>> {
      const found = await search(query);
      const { items, more } = pageOf(found.items, query.limit, sizeOf, toTask);
      return { items, more: more || found.more };
    },
    changes(userId: string | null, afterRev: number, limit: number, reader?: string): Page<Task> | Promise<Page<Task>> {
      if (reader !== undefined) return withMarks({ userId, reader, after: afterRev }, limit);
      const found =
        userId === null ? changes.iterate(afterRev, limit + 1) : userChanges.iterate(userId, afterRev, limit + 1);
      return pageOf(found, limit, sizeOf, toTask);
    },
    recentRepositories: (userId: string, among: number): RecentRepository[] =>
      toRecentRepositories(usedRepositories.iterate(userId, among)),
    setting: (key: string): string | null => setting.get(key) ?? null,
    ...logReads(db),
    ...threadReads(db),
    tally: taskTally(db),
    ...transcriptReads(db),
    setAside: () => aside.list().filter(({ id }) => selectState.get(id) !== undefined),
    ...openReads(db, aside),
    ...queueReads(db, aside),
    ...loadReads(db),
    ...deletionReads(db),
    ...readMarkReads(db),
    ...personDeletionReads(db),
  };
}

/** Events that are searched in one turn of the event loop. */
const SEARCHED = 5_000;

const eventSize = ({ data }: rows.EventRecord): number => data.length;
const callSize = ({ input, output }: rows.ToolCallRecord): number => input.length + (output?.length ?? 0);

const messageSize = ({ content }: rows.MessageRecord): number => content.length;

function bothWays<R>(db: Connection, select: string): Record<Direction, Statement<[string, number, number], R>> {
  return {
    up: db.prepare(`${select} WHERE task_id = ? AND seq > ? ORDER BY seq LIMIT ?`),
    down: db.prepare(`${select} WHERE task_id = ? AND seq < ? ORDER BY seq DESC LIMIT ?`),
  };
}

function logReads(db: Connection) {
  const events = bothWays<rows.EventRecord>(db, "SELECT * FROM task_events");
  const eventRows = db.prepare<[string, number, number], rows.EventTextRecord>(
    `SELECT ${rows.EVENT_COLUMNS} FROM task_events WHERE task_id = ? AND seq > ? ORDER BY seq LIMIT ?`,
  );
  const eventsOfOthers = db.prepare<[string, number, number], rows.EventRecord>(
    "SELECT * FROM task_events WHERE task_id = ? AND seq > ? AND seq <= ? AND worker_seq IS NULL ORDER BY seq",
  );
  const outline = db.prepare<[string, number, number, string], rows.EventRecord>(
    `SELECT * FROM task_events AS e WHERE task_id = ? AND seq > ? AND seq <= ? AND (
      from_state IS NOT to_state OR type IN (SELECT value FROM json_each(?)) OR (type = 'tool.started' AND EXISTS (
        SELECT 1 FROM tool_calls AS c WHERE c.task_id = e.task_id AND c.seq = e.seq AND c.ended_at IS NULL))
    ) ORDER BY seq`,
  );
  const outlineTypes = JSON.stringify(OUTLINE_TYPES);
  const lastSeq = db.prepare<[string], number>("SELECT max(seq) FROM task_events WHERE task_id = ?").pluck();
  type Part = [taskId: string, after: number, to: number];
  async function search(
    taskId: string,
    afterSeq: number,
    limit: number,
    read: (...part: Part) => Iterable<rows.EventRecord>,
  ): Promise<Page<TaskEvent>> {
    const page = new PageBuilder(limit, eventSize, rows.toReadableEvent);
    for (let from = afterSeq; ; from += SEARCHED) {
      page.take(read(taskId, from, from + SEARCHED));
      if (page.isFull || from + SEARCHED >= (lastSeq.get(taskId) ?? 0)) return page.finish();
      await setImmediate();
    }
  }
  const messages = bothWays<rows.MessageRecord>(db, "SELECT * FROM messages");
  const message = db.prepare<[string, string], rows.MessageRecord>(
    "SELECT * FROM messages WHERE task_id = ? AND id = ? ORDER BY role = 'user' DESC, seq LIMIT 1",
  );
  const queued = db.prepare<[string], rows.MessageRecord>(
    "SELECT * FROM messages WHERE task_id = ? AND status = 'queued' ORDER BY seq",
  );
  const toolCalls = bothWays<rows.ToolCallRecord>(db, "SELECT * FROM tool_calls");
  const toolCall = db.prepare<[string, number], rows.ToolCallRecord>(
    "SELECT * FROM tool_calls WHERE task_id = ? AND seq = ?",
  );
  const attempts = db.prepare<[string], rows.AttemptRecord>("SELECT * FROM attempts WHERE task_id = ? ORDER BY number");
  return {
    events: (taskId: string, seq: number, limit: number, direction: Direction = "up"): Page<TaskEvent> =>
      pageOf(events[direction].iterate(taskId, seq, limit + 1), limit, eventSize, rows.toReadableEvent),
    eventRows: (taskId: string, afterSeq: number, limit: number): Page<EventRow> =>
      pageOf(eventRows.iterate(taskId, afterSeq, limit + 1), limit, (row) => row.data_bytes, rows.toEventRow),
    // Most events are a worker's, and no index knows the others: they are searched in parts.
    eventsOfOthers: (taskId: string, afterSeq: number, limit: number) =>
      search(taskId, afterSeq, limit, (...part) => eventsOfOthers.iterate(...part)),
    outline: (taskId: string, afterSeq: number, limit: number) =>
      search(taskId, afterSeq, limit, (...part) => outline.iterate(...part, outlineTypes)),
    queuedMessages: (taskId: string): MessageRow[] => queued.all(taskId).map(rows.toMessageRow),
    messages: (taskId: string, seq: number, limit: number, direction: Direction = "up"): Page<MessageRow> =>
      pageOf(messages[direction].iterate(taskId, seq, limit + 1), limit, messageSize, rows.toMessageRow),
    message(taskId: string, messageId: string): MessageRow | null {
      const row = message.get(taskId, messageId);
      return row === undefined ? null : rows.toMessageRow(row);
    },
    toolCalls: (taskId: string, seq: number, limit: number, direction: Direction = "up"): Page<ToolCallRow> =>
      pageOf(toolCalls[direction].iterate(taskId, seq, limit + 1), limit, callSize, rows.toToolCallRow),
    toolCall(taskId: string, seq: number): ToolCallRow | null {
      const row = toolCall.get(taskId, seq);
      return row === undefined ? null : rows.toToolCallRow(row);
    },
    attempts: (taskId: string): AttemptRow[] => attempts.all(taskId).map(rows.toAttemptRow),
  };
}

const OPEN = "WHERE state NOT IN ('done', 'failed', 'cancelled')";

function openReads(db: Connection, aside: SetAsideTasks) {
  const openIds = db.prepare<[], string>(`SELECT id FROM tasks ${OPEN} ORDER BY created_at, id`).pluck();
  const oldest = db.prepare<[], number | null>(`SELECT min(created_at) FROM tasks ${OPEN}`).pluck();
  const due = db
    .prepare<[number, string, number], string>(
      `SELECT id FROM tasks WHERE due_at IS NOT NULL AND due_at <= ? AND ${NOT_ASIDE} ORDER BY due_at, id LIMIT ?`,
    )
    .pluck();
  const nextDue = db
    .prepare<[string], number | null>(`SELECT min(due_at) FROM tasks WHERE due_at IS NOT NULL AND ${NOT_ASIDE}`)
    .pluck();
  const tallies = db.prepare<[], { state: TaskState; tasks: number }>("SELECT state, tasks FROM tallies");
  return {
    openIds: (): string[] => openIds.all(),
    due: (now: number, limit: number): string[] => due.all(now, aside.ids, limit),
    nextDue: (): number | null => nextDue.get(aside.ids) ?? null,
    counts(): { byState: Record<TaskState, number>; oldestOpenAt: number | null } {
      const counted = new Map(tallies.all().map(({ state, tasks }) => [state, tasks]));
      const entries = TASK_STATES.map((state) => [state, counted.get(state) ?? 0] as const);
      return { byState: Object.fromEntries(entries) as Record<TaskState, number>, oldestOpenAt: oldest.get() ?? null };
    },
  };
}
