/**
 * Pages of tasks, newest first. Every index named here yields tasks in the order of their ids, so a
 * page needs no sort.
 */
import type { Connection, Statement } from "../driver.ts";
import { pageOf, type Page } from "../../../core/lib/pagination.ts";
import type { TaskQuery } from "../../../core/ports/store.ts";
import { OPEN_STATES, type TaskState } from "../../../core/task.ts";
import { STATE_COLUMNS, type StateRow } from "./rows.ts";

/** The two forms of a repository's address. */
export function addressesOf(repo: string): [string, string] {
  const plain = repo.replace(/\.git$/, "");
  return [plain, `${plain}.git`];
}

/** True of a row `t` that waits for a person's answer. Questions are open in these states only. */
export const ASKING =
  "(t.state IN ('running', 'pushing') AND json_extract(t.snapshot, '$.context.question') IS NOT NULL)";

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
    const { userId, threadId, repo } = query;
    const states = query.asking === true ? (query.states ?? OPEN_STATES).filter(canAsk) : query.states;
    const found = { ...query, ...(states === undefined ? {} : { states }) };
    if (repo !== undefined)
      return merge(
        addressesOf(repo).map((address) => page({ ...found, repo: address })),
        query,
      );
    if (userId !== null || threadId !== undefined || states === undefined) return page(found);
    // Without an owner the index is by state: read the newest of each state, then merge.
    return merge(
      [...new Set(states)].map((state) => page({ ...found, states: [state] })),
      query,
    );
  };
}

const canAsk = (state: TaskState): boolean => state === "running" || state === "pushing";

/** The newest of several lists, each of which was read up to the same limit. */
function merge(pages: readonly Page<StateRow>[], { limit }: TaskQuery): Page<StateRow> {
  const rows = pages.flatMap(({ items }) => items).toSorted((a, b) => (a.id < b.id ? 1 : -1));
  // If the page of one list is full, the merged page is full as well, so no task of that list is
  // skipped.
  const { items, more } = pageOf(rows, limit, getSize, (row) => row);
  return { items, more: more || pages.some((page) => page.more) };
}

function compose(query: TaskQuery): { sql: string; values: unknown[] } {
  const { userId, states, threadId, repo, asking, text, limit, before } = query;
  const where: string[] = [];
  const values: unknown[] = [];
  const filter = (sql: string, value: unknown): void => {
    where.push(sql);
    values.push(value);
  };
  const open = states?.every(isOpen) ?? false;
  if (userId !== null) filter("t.user_id = ?", userId);
  if (threadId !== undefined) filter("t.thread_id = ?", threadId);
  // The order is that of the outer table, so its index gives it.
  const id = repo === undefined ? "t.id" : "s.task_id";
  if (repo !== undefined) filter("s.repo = ?", repo);
  if (before !== undefined) filter(`${id} < ?`, before);
  if (asking === true) where.push(ASKING);
  if (states?.length === 1) filter("t.state = ?", states[0]);
  else if (states !== undefined) filter("t.state IN (SELECT value FROM json_each(?))", JSON.stringify(states));
  if (text !== undefined) filter("instr(s.search, ?) > 0", text.toLowerCase());
  // SQLite uses a partial index only if the query repeats its condition literally.
  if (open) where.push("t.state NOT IN ('done', 'failed', 'cancelled')");
  if (repo !== undefined) {
    const from = "task_specs AS s INDEXED BY task_specs_repo CROSS JOIN tasks AS t ON t.id = s.task_id";
    return toStatement(from, where, id, [...values, limit + 1]);
  }
  const index = indexFor({ user: userId !== null, thread: threadId !== undefined, state: states?.length === 1, open });
  const specs = text === undefined ? "" : "CROSS JOIN task_specs AS s ON s.task_id = t.id";
  return toStatement(`tasks AS t ${index} ${specs}`, where, id, [...values, limit + 1]);
}

function toStatement(from: string, where: readonly string[], id: string, values: unknown[]) {
  const filters = where.length === 0 ? "" : `WHERE ${where.join(" AND ")}`;
  return { sql: `SELECT ${STATE_COLUMNS} FROM ${from} ${filters} ORDER BY ${id} DESC LIMIT ?`, values };
}

function indexFor(given: { user: boolean; thread: boolean; state: boolean; open: boolean }): string {
  if (given.thread) return "INDEXED BY tasks_thread";
  if (given.user) return given.open ? "INDEXED BY tasks_user_open" : "INDEXED BY tasks_user";
  return given.state ? "INDEXED BY tasks_state" : "";
}
