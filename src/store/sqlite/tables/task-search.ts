/**
 * Pages of tasks, newest first. Every index named here yields tasks in the order of their ids, so a
 * page needs no sort.
 */
import type { Connection, Statement } from "../driver.ts";
import { PageBuilder, pageOf, type Page } from "../../../core/lib/pagination.ts";
import type { TaskQuery } from "../../../core/ports/store.ts";
import { OPEN_STATES, type TaskState } from "../../../core/task.ts";
import { NOT_DELETED } from "../deletions.ts";
import { STATE_COLUMNS, type StateRow } from "./rows.ts";
import { inSlices, textIndex } from "./text-index.ts";

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
const canAsk = (state: TaskState): boolean => state === "running" || state === "pushing";

export function taskSearch(db: Connection): (query: TaskQuery) => Promise<Page<StateRow>> {
  /** Prepared statements by SQL; the number of filter combinations is small. */
  const statements = new Map<string, Statement<unknown[]>>();
  const prepare = <R>({ sql, values }: Composed): { rows: () => IterableIterator<R>; first: () => R | undefined } => {
    const statement = (statements.get(sql) ?? db.prepare(sql)) as Statement<unknown[], R>;
    statements.set(sql, statement as Statement<unknown[]>);
    return { rows: () => statement.iterate(...values), first: () => statement.get(...values) };
  };
  const { candidates } = textIndex(db);

  function page(query: TaskQuery): Page<StateRow> {
    return pageOf(prepare<StateRow>(compose(query)).rows(), query.limit, getSize, (row) => row);
  }

  /** Looks at a number of tasks of the query's list at a time, whatever their texts are. */
  async function readInSlices(query: TaskQuery): Promise<Page<StateRow>> {
    const found = new PageBuilder(query.limit, getSize, (row: StateRow) => row);
    let before = query.before;
    await inSlices((rows) => {
      const place = before === undefined ? query : { ...query, before };
      const last = prepare<{ id: string }>(composeEnd(place, rows)).first()?.id;
      found.take(prepare<StateRow>(compose(place, last)).rows());
      before = last;
      return last === undefined || found.isFull ? "done" : "more";
    });
    return found.finish();
  }

  /** Of the rows that the index names, those that match. */
  async function readCandidates(query: TaskQuery, rowids: readonly number[]): Promise<Page<StateRow>> {
    const found = new PageBuilder(query.limit, getSize, (row: StateRow) => row);
    const ids = [...prepare<{ id: string }>(composeIds(query, rowids)).rows()].map(({ id }) => id);
    let next = 0;
    await inSlices((rows) => {
      const slice = ids.slice(next, (next += rows));
      if (slice.length > 0) found.take(prepare<StateRow>(composeMatching(query, slice)).rows());
      return next >= ids.length || found.isFull ? "done" : "more";
    });
    return found.finish();
  }

  return async (query) => {
    const { userId, threadId, repo, text } = query;
    const states = query.asking === true ? (query.states ?? OPEN_STATES).filter(canAsk) : query.states;
    const sought = { ...query, ...(states === undefined ? {} : { states }) };
    const rowids = text === undefined ? null : candidates(text.toLowerCase());
    if (rowids !== null) return readCandidates(sought, rowids);
    const read = (one: TaskQuery): Promise<Page<StateRow>> =>
      text === undefined ? Promise.resolve(page(one)) : readInSlices(one);
    if (repo !== undefined) {
      const pages = addressesOf(repo).map((address) => read({ ...sought, repo: address }));
      return merge(await Promise.all(pages), query);
    }
    if (userId !== null || threadId !== undefined || states === undefined) return read(sought);
    // Without an owner the index is by state: read the newest of each state, then merge.
    const pages = [...new Set(states)].map((state) => read({ ...sought, states: [state] }));
    return merge(await Promise.all(pages), query);
  };
}

/** The newest of several lists, each of which was read up to the same limit. */
function merge(pages: readonly Page<StateRow>[], { limit }: TaskQuery): Page<StateRow> {
  const rows = pages.flatMap(({ items }) => items).toSorted((a, b) => (a.id < b.id ? 1 : -1));
  // If the page of one list is full, the merged page is full as well, so no task of that list is
  // skipped.
  const { items, more } = pageOf(rows, limit, getSize, (row) => row);
  return { items, more: more || pages.some((page) => page.more) };
}

interface Composed {
  readonly sql: string;
  readonly values: readonly unknown[];
}

type Filter = readonly [sql: string, ...values: unknown[]];

/** @param end the id of the last task to look at. */
function compose(query: TaskQuery, end?: string): Composed {
  const { userId, threadId, repo, text, limit } = query;
  const { from, id, keys } = listOf(query);
  const filters = [...keys, ...stateFilters(query)];
  if (end !== undefined) filters.push([`${id} >= ?`, end]);
  if (userId !== null && (threadId !== undefined || repo !== undefined)) filters.push(["t.user_id = ?", userId]);
  if (threadId !== undefined && repo !== undefined) filters.push(["t.thread_id = ?", threadId]);
  if (text !== undefined) filters.push(contains(text));
  const specs = text === undefined || repo !== undefined ? "" : "CROSS JOIN task_specs AS s ON s.task_id = t.id";
  return toStatement(STATE_COLUMNS, `${from} ${specs}`, filters, `ORDER BY ${id} DESC LIMIT ?`, limit + 1);
}

/** The id of the last of the next `rows` tasks of the query's list, read from its index alone. */
function composeEnd(query: TaskQuery, rows: number): Composed {
  const { from, id, keys } = listOf(query);
  return toStatement(`${id} AS id`, from, keys, `ORDER BY ${id} DESC LIMIT 1 OFFSET ?`, rows - 1);
}

const BY_ROWS = "task_specs AS s CROSS JOIN tasks AS t ON t.id = s.task_id";

function composeIds(query: TaskQuery, rowids: readonly number[]): Composed {
  const { userId, threadId, repo, before } = query;
  const filters: Filter[] = [["s.rowid IN (SELECT value FROM json_each(?))", JSON.stringify(rowids)]];
  if (userId !== null) filters.push(["t.user_id = ?", userId]);
  if (threadId !== undefined) filters.push(["t.thread_id = ?", threadId]);
  if (repo !== undefined) filters.push(["s.repo IN (?, ?)", ...addressesOf(repo)]);
  if (before !== undefined) filters.push(["t.id < ?", before]);
  return toStatement("t.id", BY_ROWS, [...filters, ...stateFilters(query)], "ORDER BY t.id DESC");
}

/** Of the tasks with these ids, those that contain the text. */
function composeMatching({ text = "", limit }: TaskQuery, ids: readonly string[]): Composed {
  const filters: Filter[] = [["s.task_id IN (SELECT value FROM json_each(?))", JSON.stringify(ids)], contains(text)];
  return toStatement(STATE_COLUMNS, BY_ROWS, filters, "ORDER BY t.id DESC LIMIT ?", limit + 1);
}

const contains = (text: string): Filter => ["instr(s.search, ?) > 0", text.toLowerCase()];

/** Where the tasks of the query come from in order, and the conditions that its index answers. */
function listOf(query: TaskQuery): { readonly from: string; readonly id: string; readonly keys: Filter[] } {
  const { userId, states, threadId, repo, before } = query;
  // The order is that of the outer table, so its index gives it.
  const id = repo === undefined ? "t.id" : "s.task_id";
  const keys: Filter[] = before === undefined ? [] : [[`${id} < ?`, before]];
  if (repo !== undefined) {
    const from = "task_specs AS s INDEXED BY task_specs_repo CROSS JOIN tasks AS t ON t.id = s.task_id";
    return { from, id, keys: [["s.repo = ?", repo], ...keys] };
  }
  if (threadId !== undefined)
    return { from: "tasks AS t INDEXED BY tasks_thread", id, keys: [["t.thread_id = ?", threadId], ...keys] };
  if (userId !== null) {
    const isAllOpen = states?.every(isOpen) ?? false;
    const own: Filter[] = [["t.user_id = ?", userId], ...keys];
    return isAllOpen
      ? { from: "tasks AS t INDEXED BY tasks_user_open", id, keys: [...own, [OPEN]] }
      : { from: "tasks AS t INDEXED BY tasks_user", id, keys: own };
  }
  const [state] = states ?? [];
  if (states?.length !== 1) return { from: "tasks AS t", id, keys };
  return { from: "tasks AS t INDEXED BY tasks_state", id, keys: [["t.state = ?", state], ...keys] };
}

/** SQLite uses a partial index only if the query repeats its condition literally. */
const OPEN = "t.state NOT IN ('done', 'failed', 'cancelled')";

function stateFilters({ states, asking }: TaskQuery): Filter[] {
  const filters: Filter[] = asking === true ? [[NOT_DELETED], [ASKING]] : [[NOT_DELETED]];
  if (states?.length === 1) filters.push(["t.state = ?", states[0]]);
  else if (states !== undefined) filters.push(["t.state IN (SELECT value FROM json_each(?))", JSON.stringify(states)]);
  return filters;
}

function toStatement(
  columns: string,
  from: string,
  filters: readonly Filter[],
  end: string,
  ...values: readonly unknown[]
): Composed {
  const where = filters.length === 0 ? "" : `WHERE ${filters.map(([sql]) => sql).join(" AND ")}`;
  const bound = filters.flatMap(([, ...given]) => given);
  return { sql: `SELECT ${columns} FROM ${from} ${where} ${end}`, values: [...bound, ...values] };
}
