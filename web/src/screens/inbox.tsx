/** The tasks, grouped by whether they wait for the person, run or have ended. */
import { Link } from "../navigation/link.tsx";
import { inboxAddress } from "../navigation/addresses.ts";
import { isAt, navigate, useAddress } from "../navigation/history.tsx";
import { Suspense, useEffect, useMemo, useRef, useState, type ReactNode } from "react";
import { lazyComponent, lazyScreen } from "../lazy-component.tsx";
import { useQuery } from "@tanstack/react-query";
import type { Me } from "../../../src/client/types.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { Bar } from "../components/bar.tsx";
import { OfflineBanner } from "../components/device/offline-banner.tsx";
import { OutboxCard } from "../components/device/outbox-card.tsx";
import { Icon } from "../components/icon.tsx";
import { Sync } from "../components/sync.tsx";
import { TaskGroups } from "../components/tasks/task-groups.tsx";
import { isWideScreen, onRowKeys, useWideScreen } from "../lib/keys.ts";
import { formatRepo } from "../lib/format.ts";
import { useNow } from "../lib/server-time.ts";
import { usePerson } from "../lib/session.ts";
import { isOwn } from "../lib/tasks/ownership.ts";
import { client } from "../lib/client.ts";
import { useServerSearch, type ServerSearch } from "../lib/tasks/server-search.ts";
import { filterTasks, readFilter, withoutText, type TaskFilter } from "../lib/tasks/task-filter.ts";
import { useTaskList, type TaskListView } from "../lib/tasks/task-list.ts";
import { getGroup } from "../lib/tasks/task-view.ts";

/** Loaded later, because the list is shown before it can be pulled. */
const PullToRefresh = lazyComponent(
  async () => (await import("../components/tasks/pull-to-refresh.tsx")).PullToRefresh,
);

/** A phone never loads it. */
const WideInbox = lazyScreen(async () => (await import("./wide/wide-inbox.tsx")).WideInbox);

/** At a desk the inbox is there when this is. Its failure is said in its place. */
export async function loadWide(): Promise<void> {
  if (isWideScreen()) await WideInbox.load().catch(() => undefined);
}

const REPOS_SHOWN = 12;
const COUNT_MS = 30_000;

export function Inbox() {
  const list = useTaskList();
  const { search: query } = useAddress();
  const filter = useMemo(() => readFilter(query), [query]);
  const person = usePerson();
  const now = useNow(list.tasks.length > 0);
  const search = useServerSearch(filter, list);
  const found = filterTasks(search.tasks, withoutText(filter), person, now);
  const shown = merge(filterTasks(list.tasks, filter, person, now), found);
  const isWide = useWideScreen();
  const needs = shown.filter((task) => getGroup(task, now, person) === "needs").length;
  useEffect(() => {
    document.title = needs > 0 ? `(${needs}) Inbox · Slipway` : "Inbox · Slipway";
  }, [needs]);
  const isNone = shown.length === 0 && !search.isSearching;
  const parts: InboxParts = {
    tasks: shown,
    now,
    isLoaded: list.isLoaded,
    head: <InboxHead list={list} q={filter.q ?? ""} />,
    filters: (
      <>
        <FilterChips list={list} filter={filter} person={person} now={now} />
        <div className="stack">
          <OfflineBanner list={list} />
          <OutboxCard taskId={null} />
        </div>
      </>
    ),
    nothing: list.isLoaded && (list.tasks.length === 0 ? <EmptyInbox /> : isNone && <NoMatch />),
    more: <More search={search} />,
  };
  return isWide ? <AtDesk {...parts} /> : <OnPhone {...parts} />;
}

interface InboxParts {
  readonly tasks: readonly WireTask[];
  readonly now: number;
  readonly isLoaded: boolean;
  readonly head: ReactNode;
  readonly filters: ReactNode;
  /** In the place of the rows, when there are none. */
  readonly nothing: ReactNode;
  readonly more: ReactNode;
}

function OnPhone({ tasks, now, isLoaded, head, filters, nothing, more }: InboxParts) {
  useEffect(() => onRowKeys("#main .row-link"), []);
  return (
    <div className="app has-side">
      <Bar />
      <main className="page" id="main">
        {head}
        {isLoaded && (
          <Suspense>
            <PullToRefresh />
          </Suspense>
        )}
        {filters}
        {nothing}
        <TaskGroups tasks={tasks} now={now} />
        {more}
      </main>
    </div>
  );
}

function AtDesk({ tasks, now, head, filters, nothing, more }: InboxParts) {
  return (
    <div className="app railed panes two">
      <Bar />
      <Suspense>
        <WideInbox
          tasks={tasks}
          now={now}
          head={
            <>
              {head}
              {filters}
            </>
          }
          foot={
            <>
              {nothing}
              {more}
            </>
          }
        />
      </Suspense>
    </div>
  );
}

/** Newest first; a task that both have stands once. */
function merge(some: readonly WireTask[], others: readonly WireTask[]): readonly WireTask[] {
  if (others.length === 0) return some;
  const byId = new Map([...others, ...some].map((task) => [task.id, task]));
  return [...byId.values()].toSorted((a, b) => (a.id < b.id ? 1 : -1));
}

function More({ search }: { search: ServerSearch }) {
  return (
    <>
      <p className="note" role="status">
        {search.isSearching && "Looking for more tasks …"}
        {search.hasFailed && "The server did not answer: these are the tasks that this device knows."}
      </p>
      {search.more !== null && (
        <button className="more-row" type="button" onClick={search.more}>
          Older tasks
          <Icon name="chev-d" small />
        </button>
      )}
    </>
  );
}

function NoMatch() {
  return (
    <div className="empty">
      <h2>No task matches</h2>
      <Link className="btn line" to="/">
        Show all tasks
      </Link>
    </div>
  );
}

const TYPING_MS = 150;

/** Not when the person has opened a task meanwhile: its entry in the history would be lost. */
function refilter(filter: TaskFilter): void {
  if (isAt("/")) void navigate(inboxAddress(filter), { replace: true });
}

function InboxHead({ list, q }: { list: TaskListView; q: string }) {
  const [isSearching, setSearching] = useState(q !== "");
  const field = useRef<HTMLInputElement>(null);
  const typing = useRef<ReturnType<typeof setTimeout>>(undefined);
  const search = (text: string): void => refilter({ ...readFilter(location.search), q: text });
  // Links, Back and Forward change the text too.
  useEffect(() => {
    const { current } = field;
    if (current !== null && current === document.activeElement) return;
    if (current !== null) current.value = q;
    setSearching(q !== "");
  }, [q]);
  return (
    <header className="top">
      <h1>Inbox</h1>
      <Sync connection={list.connection} seq={null} />
      {isSearching && (
        <input
          ref={field}
          className="input find"
          type="search"
          aria-label="Search tasks"
          defaultValue={q}
          onChange={(event) => {
            const { value } = event.currentTarget;
            clearTimeout(typing.current);
            typing.current = setTimeout(() => search(value), TYPING_MS);
          }}
        />
      )}
      <button
        className="iconbtn"
        type="button"
        aria-label="Search"
        aria-expanded={isSearching}
        onClick={() => {
          setSearching(!isSearching);
          clearTimeout(typing.current);
          // A filter that nobody sees is not kept.
          if (isSearching) search("");
        }}
      >
        <Icon name="search" />
      </button>
    </header>
  );
}

/** Of all tasks, where the app does not know all: [all, needs me, mine]. */
function useCounts(isNeeded: boolean): readonly number[] {
  const { data } = useQuery({
    queryKey: ["counts"],
    queryFn: ({ signal }) => Promise.all([client.counts({}, { signal }), client.counts({ owner: "me" }, { signal })]),
    enabled: isNeeded,
    refetchInterval: COUNT_MS,
  });
  if (!isNeeded || data === undefined) return [0, 0, 0];
  const [all, mine] = data.map((counts) => Object.values(counts).reduce((sum, count) => sum + count, 0));
  return [all ?? 0, data[1].needs, mine ?? 0];
}

function FilterChips({ list, filter, person, now }: FilterChipsProps) {
  const { tasks, next } = list;
  const [ofAll = 0, ofNeeds = 0, ofMine = 0] = useCounts(next !== null);
  const counts = new Map<string, number>();
  for (const task of tasks) counts.set(formatRepo(task.repo), (counts.get(formatRepo(task.repo)) ?? 0) + 1);
  const { repo, needs: isNeeds, mine: isMine } = filter;
  // It may be in older tasks only.
  if (repo !== undefined && !counts.has(repo)) counts.set(repo, 0);
  const needs = Math.max(ofNeeds, tasks.filter((task) => getGroup(task, now, person) === "needs").length);
  const all = Math.max(ofAll, tasks.length);
  const own = Math.max(ofMine, tasks.filter((task) => isOwn(task, person)).length);
  const isShared = own < all;
  if (counts.size < 2 && !isShared && isNeeds !== true && next === null) return null;
  const pick = (change: TaskFilter) => () =>
    refilter({ ...(filter.q === undefined ? {} : { q: filter.q }), ...change });
  const isAll = repo === undefined && isNeeds !== true && isMine !== true;
  return (
    <div className="chips" role="group" aria-label="Filter">
      <Chip name="All" count={all} isOn={isAll} onPick={pick({})} />
      {(needs > 0 || isNeeds === true) && (
        <Chip name="Needs you" count={needs} isOn={isNeeds === true} onPick={pick({ needs: true })} />
      )}
      {isShared && <Chip name="Mine" count={own} isOn={isMine === true} onPick={pick({ mine: true })} />}
      {[...counts]
        .toSorted((a, b) => b[1] - a[1])
        .filter(([name], i) => i < REPOS_SHOWN || name === repo)
        .map(([name, count]) => (
          <Chip
            key={name}
            name={name}
            count={next === null ? count : null}
            isOn={repo === name}
            onPick={pick({ repo: name })}
          />
        ))}
    </div>
  );
}

interface ChipProps {
  readonly name: string;
  /** Null = the app does not know all of them. */
  readonly count: number | null;
  readonly isOn: boolean;
  readonly onPick: () => void;
}

function Chip({ name, count, isOn, onPick }: ChipProps) {
  return (
    <button className="chip" type="button" aria-pressed={isOn} onClick={onPick}>
      {name} {count !== null && <span className="n">{count}</span>}
    </button>
  );
}

interface FilterChipsProps {
  readonly list: TaskListView;
  readonly filter: TaskFilter;
  readonly person: Me | null;
  readonly now: number;
}

function EmptyInbox() {
  return (
    <div className="empty">
      <Icon name="inbox" />
      <h2>Nothing here yet</h2>
      <p className="muted">Send an agent to a repository. It works in a container of its own and pushes a branch.</p>
      <Link className="btn primary" to="/new">
        <Icon name="plus" />
        New task
      </Link>
    </div>
  );
}
