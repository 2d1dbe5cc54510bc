/**
 * Pages of tasks, newest first. Every index named here yields tasks in the order of their ids, so a
 * page needs no sort.
 */
import type { Connection, Statement } from "../driver.ts";
import { pageOf, type Page } from "../../../core/lib/pagination.ts";
import type { TaskQuery } from "../../../core/ports/store.ts";
import { OPEN_STATES, type TaskState } from "../../../core/task.ts";
import { STATE_COLUMNS, type StateRow } from "./rows.ts";

const getSize = ({ snapshot }: StateRow): number => snapshot.length;
const isOpen = (state: TaskState): boolean => (OPEN_STATES as readonly TaskState[]).includes(state);

export function taskSearch(db: Connection): (query: TaskQuery) => Page<StateRow> {
  /** Prepared statements by SQL; the number of filter combinations is small. */
  const statements = new Map<string, Statement<unknown[], StateRow>>();

  function page(query: TaskQuery): Page<StateRow> {
    const { sql, values } = compose(query);
    const statement = statements.get(sql) ?? db.prepare<unknown[], StateRow>(sql);
    statements.set(sql, statement);
    return pageOf(statement.iterate(...values), query.limit, getSize, (row) => row);
  }

  return (query) => {
    const { userId, threadId, states, limit } = query;
    if (userId !== null || threadId !== undefined || states === undefined) return page(query);
    // Without an owner the index is by state: read the newest of each state, then merge.
    const pages = [...new Set(states)].map((state) => page({ ...query, states: [state] }));
    const rows = pages.flatMap(({ items }) => items).toSorted((a, b) => (a.id < b.id ? 1 : -1));
    // If the page of one state is full, the merged page is full as well, so no task of that state
    // is skipped.
    const { items, more } = pageOf(rows, limit, getSize, (row) => row);
    return { items, more: more || pages.some((statePage) => statePage.more) };
  };
}

function compose({ userId, states, threadId, text, limit, before }: TaskQuery): { sql: string; values: unknown[] } {
  const where: string[] = [];
  const values: unknown[] = [];
  const filter = (sql: string, value: unknown): void => {
    where.push(sql);
    values.push(value);
  };
  const open = states?.every(isOpen) ?? false;
  if (userId !== null) filter("t.user_id = ?", userId);
  if (threadId !== undefined) filter("t.thread_id = ?", threadId);
  if (before !== undefined) filter("t.id < ?", before);
  if (states?.length === 1) filter("t.state = ?", states[0]);
  else if (states !== undefined) filter("t.state IN (SELECT value FROM json_each(?))", JSON.stringify(states));
  if (text !== undefined) filter("instr(s.search, ?) > 0", text.toLowerCase());
  // SQLite uses a partial index only if the query repeats its condition literally.
  if (open) where.push("t.state NOT IN ('done', 'failed', 'cancelled')");
  const index = indexFor({ user: userId !== null, thread: threadId !== undefined, state: states?.length === 1, open });
  const specs = text === undefined ? "" : "CROSS JOIN task_specs AS s ON s.task_id = t.id";
  const filters = where.length === 0 ? "" : `WHERE ${where.join(" AND ")}`;
  return {
    sql: `SELECT ${STATE_COLUMNS} FROM tasks AS t ${index} ${specs} ${filters} ORDER BY t.id DESC LIMIT ?`,
    values: [...values, limit + 1],
  };
}

function indexFor(given: { user: boolean; thread: boolean; state: boolean; open: boolean }): string {
  if (given.thread) return "INDEXED BY tasks_thread";
  if (given.user) return given.open ? "INDEXED BY tasks_user_open" : "INDEXED BY tasks_user";
  return given.state ? "INDEXED BY tasks_state" : "";
}
