/** The tasks, grouped by whose move it is. */
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { useEffect, useMemo, useState } from "react";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { Bar } from "../components/bar.tsx";
import { OfflineBanner } from "../components/device/offline-banner.tsx";
import { OutboxCard } from "../components/device/outbox-card.tsx";
import { Icon } from "../components/icon.tsx";
import { QuickAnswer } from "../components/quick-answer.tsx";
import { Sync } from "../components/sync.tsx";
import { TaskRow } from "../components/task-row.tsx";
import { formatRepo } from "../lib/format.ts";
import { useNow } from "../lib/server-time.ts";
import { useTaskList, type TaskListView } from "../lib/task-list.ts";
import { getGroup, type Group } from "../lib/task-view.ts";

const GROUPS: readonly (readonly [Group, string])[] = [
  ["needs", "Needs you"],
  ["running", "Running"],
  ["waiting", "Waiting"],
  ["today", "Done today"],
  ["earlier", "Earlier"],
];
const EARLIER_SHOWN = 20;

export function Inbox() {
  const list = useTaskList();
  const { q = "", repo } = useSearch({ from: "/private/" });
  const now = useNow(list.tasks.length > 0);
  const shown = useMemo(() => filterTasks(list.tasks, q, repo), [list.tasks, q, repo]);
  const needs = shown.filter((task) => getGroup(task, now) === "needs").length;
  useEffect(() => {
    document.title = needs > 0 ? `(${needs}) Inbox · Slipway` : "Inbox · Slipway";
  }, [needs]);
  return (
    <div className="app has-side">
      <Bar />
      <main className="page" id="main">
        <InboxHead list={list} q={q} />
        <RepoChips tasks={list.tasks} repo={repo} />
        <div className="stack">
          <OfflineBanner list={list} />
          <OutboxCard taskId={null} />
        </div>
        {list.isLoaded && list.tasks.length === 0 && <EmptyInbox />}
        {list.isLoaded && list.tasks.length > 0 && shown.length === 0 && <p className="empty">No task matches.</p>}
        {GROUPS.map(([group, title]) => (
          <InboxGroup
            key={group}
            group={group}
            title={title}
            tasks={shown.filter((task) => getGroup(task, now) === group)}
            now={now}
          />
        ))}
      </main>
    </div>
  );
}

function filterTasks(tasks: readonly WireTask[], q: string, repo: string | undefined): readonly WireTask[] {
  const words = q.toLowerCase().split(/\s+/).filter(Boolean);
  return tasks.filter((task) => {
    if (repo !== undefined && formatRepo(task.repo) !== repo) return false;
    const text = `${task.title} ${task.repo} ${task.branch} ${task.state} ${task.failure?.code ?? ""}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

function InboxHead({ list, q }: { list: TaskListView; q: string }) {
  const [isSearching, setSearching] = useState(q !== "");
  const navigate = useNavigate({ from: "/" });
  return (
    <header className="top">
      <h1>Inbox</h1>
      <Sync connection={list.connection} seq={null} />
      {isSearching && (
        <input
          className="input find"
          type="search"
          aria-label="Search tasks"
          defaultValue={q}
          onChange={(event) => {
            const next = event.currentTarget.value;
            void navigate({ search: (before) => ({ ...before, q: next === "" ? undefined : next }), replace: true });
          }}
        />
      )}
      <button
        className="iconbtn"
        type="button"
        aria-label="Search"
        aria-expanded={isSearching}
        onClick={() => setSearching(!isSearching)}
      >
        <Icon name="search" />
      </button>
    </header>
  );
}

function RepoChips({ tasks, repo }: { tasks: readonly WireTask[]; repo: string | undefined }) {
  const navigate = useNavigate({ from: "/" });
  const counts = new Map<string, number>();
  for (const task of tasks) counts.set(formatRepo(task.repo), (counts.get(formatRepo(task.repo)) ?? 0) + 1);
  if (counts.size < 2) return null;
  const pick = (next: string | undefined) => () =>
    void navigate({ search: (before) => ({ ...before, repo: next }), replace: true });
  return (
    <div className="chips" role="group" aria-label="Filter">
      <button className="chip" type="button" aria-pressed={repo === undefined} onClick={pick(undefined)}>
        All <span className="n">{tasks.length}</span>
      </button>
      {[...counts]
        .toSorted((a, b) => b[1] - a[1])
        .slice(0, 12)
        .map(([name, count]) => (
          <button key={name} className="chip" type="button" aria-pressed={repo === name} onClick={pick(name)}>
            {name} <span className="n">{count}</span>
          </button>
        ))}
    </div>
  );
}

function InboxGroup({
  group,
  title,
  tasks,
  now,
}: {
  group: Group;
  title: string;
  tasks: readonly WireTask[];
  now: number;
}) {
  const [limit, setLimit] = useState(EARLIER_SHOWN);
  if (tasks.length === 0) return null;
  return (
    <section className="group" aria-labelledby={`group-${group}`}>
      <h2 id={`group-${group}`}>
        {title} <span className="n">{tasks.length}</span>
      </h2>
      <ul className="rows">
        {tasks.slice(0, limit).map((task) => (
          <TaskRow key={task.id} task={task} now={now}>
            {group === "needs" && <QuickAnswer task={task} />}
          </TaskRow>
        ))}
      </ul>
      {tasks.length > limit && (
        <button className="more-row" type="button" onClick={() => setLimit(limit + 100)}>
          {tasks.length - limit} more
          <Icon name="chev-d" small />
        </button>
      )}
    </section>
  );
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
