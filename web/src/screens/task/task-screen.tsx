/** The frame of a task: title, state, lifecycle and tabs; the views are its children. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "../../navigation/link.tsx";
import { taskAddress } from "../../navigation/addresses.ts";
import { createContext, Suspense, useContext, useEffect, useMemo, useState, type ReactNode } from "react";
import { lazyComponent } from "../../lazy-component.tsx";
import { SlipwayProblem } from "../../../../src/client/problem.ts";
import type { WireTask } from "../../../../src/core/protocol/rest.ts";
import { Icon } from "../../components/icon.tsx";
import { Mini } from "../../components/lifecycle/mini.tsx";
import { Sheet } from "../../components/sheet.tsx";
import { WithList } from "../../components/tasks/with-list.tsx";
import { Slip } from "../../components/lifecycle/slip.tsx";
import { StatePill } from "../../components/lifecycle/state-pill.tsx";
import { Sync } from "../../components/sync.tsx";
import { usePresence } from "../../lib/device/presence.ts";
import { useEventLog, type LogView } from "../../lib/log/event-log.ts";
import { formatClock, formatElapsed, formatRepo } from "../../lib/format.ts";
import { serverNow, useNow } from "../../lib/server-time.ts";
import { usePerson } from "../../lib/session.ts";
import { isOwn, isUnread } from "../../lib/tasks/ownership.ts";
import { getTask, useTaskList } from "../../lib/tasks/task-list.ts";
import { taskQuery } from "../../lib/tasks/task-query.ts";
import { collectRuns, collectWaits, forecastEnd, forecastStart } from "../../lib/tasks/forecast.ts";
import { describeStep, describeThreadBudget, getAppearance, isSettled } from "../../lib/tasks/task-view.ts";
import { NotFound } from "../not-found.tsx";
import { StopButton } from "./stop/stop-button.tsx";

/** Behind a tap. */
const Chart = lazyComponent(async () => (await import("../../components/lifecycle/chart.tsx")).Chart);

export interface TaskView {
  readonly task: WireTask;
  readonly log: LogView;
  readonly now: number;
}

/** Views of a task read it with `useTaskView`. */
export const TaskContext = createContext<TaskView | null>(null);

export function useTaskView(): TaskView {
  const view = useContext(TaskContext);
  if (view === null) throw new Error("the task's views are children of its screen");
  return view;
}

/** The log is ahead of the task, and the task is there before the log. */
export function useChanges(): WireTask["changes"] {
  const { task, log } = useTaskView();
  return log.conversation.changes ?? task.changes;
}

/** Waits before the task is read again: after an event, and after a read that failed, ms. */
const READ_AFTER_EVENT_MS = 150;
const READ_AFTER_FAILURE_MS = 2_000;

/**
 * The newest form of the task: read once, then again after each event that may change it, and until
 * a read succeeds. The state comes from the log where the log is ahead of what was read.
 */
function useTask(id: string, log: LogView): { task: WireTask | undefined; problem: SlipwayProblem | null } {
  useTaskList();
  const queries = useQueryClient();
  const query = useQuery(taskQuery(id));
  const listed = getTask(id);
  const task = [listed, query.data].filter((form) => form !== undefined).toSorted((a, b) => b.seq - a.seq)[0];
  const problem = query.error instanceof SlipwayProblem ? query.error : null;
  const isFinal = problem !== null && problem.status < 500 && problem.status !== 429;
  const isBehind = task === undefined ? query.isError && !isFinal : task.seq < log.seq;
  const wait = query.isError ? READ_AFTER_FAILURE_MS : READ_AFTER_EVENT_MS;
  const { errorUpdateCount } = query;
  useEffect(() => {
    if (!isBehind) return undefined;
    const timer = setTimeout(() => void queries.invalidateQueries({ queryKey: ["task", id] }), wait);
    return () => clearTimeout(timer);
  }, [isBehind, log.seq, id, queries, wait, errorUpdateCount]);
  const state = log.conversation.spans.at(-1)?.state;
  if (task === undefined || !isBehind || state === undefined || state === task.state) return { task, problem };
  return { task: { ...task, state, phase: null, question: null, wait: null }, problem };
}

interface TaskScreenProps {
  readonly id: string;
  readonly isConversation: boolean;
  /** The view of it. */
  readonly children: ReactNode;
}

export function TaskScreen({ id, isConversation, children }: TaskScreenProps) {
  const log = useEventLog(id);
  const { task, problem } = useTask(id, log);
  const person = usePerson();
  const unread = task !== undefined && isUnread(task, person) && log.seq >= task.notableSeq ? task.notableSeq : 0;
  usePresence(id, unread, useTaskList().connection);
  const now = useNow(task !== undefined && !isSettled(task));
  useEffect(() => {
    if (task !== undefined) document.title = `${task.title} · Slipway`;
  }, [task]);
  if (task === undefined) return <NoTask problem={problem} />;
  return (
    <TaskContext value={{ task, log, now }}>
      <WithList>
        {/* What is typed, chosen or open belongs to one task. */}
        <main className="page bare task" id="main" key={task.id}>
          <TaskTop task={task} />
          <StateSection task={task} log={log} now={now} isConversation={isConversation} />
          <Tabs />
          {children}
        </main>
      </WithList>
    </TaskContext>
  );
}

function NoTask({ problem }: { problem: SlipwayProblem | null }) {
  if (problem?.status === 404) return <NotFound />;
  return (
    <main className="page bare" id="main">
      <div className="empty">
        <h1>{problem === null ? "Loading the task…" : "The task cannot be shown now"}</h1>
        {problem !== null && (
          <>
            <p className="muted">{problem.message}</p>
            <Link className="btn line" to="/">
              Inbox
            </Link>
          </>
        )}
      </div>
    </main>
  );
}

function TaskTop({ task }: { task: WireTask }) {
  const person = usePerson();
  return (
    <header className="task-top">
      <Link className="iconbtn" to="/" aria-label="Back">
        <Icon name="chev-l" />
      </Link>
      <div>
        <h1>{task.title}</h1>
        <p className="crumb">
          <Mini appearance={getAppearance(task)} />
          <span>
            {isOwn(task, person) ? "" : `${task.owner.email} · `}
            {formatRepo(task.repo)} · {task.branch}
          </span>
        </p>
      </div>
    </header>
  );
}

function StateSection({ task, log, now, isConversation }: TaskView & { readonly isConversation: boolean }) {
  const [isChartOpen, setChartOpen] = useState(false);
  const appearance = getAppearance(task);
  const { word } = describeStep(task);
  const { tasks } = useTaskList();
  const waits = useMemo(() => collectWaits(tasks, serverNow()), [tasks]);
  const forecast = forecastStart(task, waits, now);
  const runs = useMemo(() => forecastEnd(collectRuns(tasks, serverNow())), [tasks]);
  const threadBudget = describeThreadBudget(task);
  const isAtWork = appearance === "running" || appearance === "provisioning";
  // One line, so that nothing moves when it changes.
  const foot = threadBudget === "" ? (isAtWork ? runs : "") : `Thread ${threadBudget}`;
  const { spans } = log.conversation;
  const since = spans.at(-1)?.from ?? Date.parse(task.updatedAt);
  const elapsed = isSettled(task) ? formatClock(since) : formatElapsed(now - since);
  const sub = appearance === "running" || appearance === "awaiting" || appearance === "provisioning" ? `${word} ` : "";
  const detail = describeDetail(task, forecast, elapsed);
  const phrase = isSettled(task) ? `${task.state} at ${elapsed}` : `${task.state}, ${word} for ${elapsed}`;
  return (
    <section className="status" aria-label="State">
      <div className={`status-line st-${appearance}`}>
        <span role="status" aria-label="Task state">
          <StatePill appearance={appearance} word={task.state} />
        </span>
        {/* Another text is another element: one of two lines stands higher. */}
        <span className="detail" key={detail}>
          {detail}
        </span>
        {!isSettled(task) && <StopButton task={task} />}
      </div>
      {isConversation && (
        <div className="slip-block">
          <Slip appearance={appearance} phrase={phrase} detail={`${sub}${elapsed}`} spans={spans} now={now} />
          <div className="slip-foot">
            <span className="num">{foot}</span>
            <button className="btn" type="button" onClick={() => setChartOpen(true)}>
              Whole machine
              <Icon name="chev-r" small />
            </button>
          </div>
        </div>
      )}
      <Sheet title="The machine" isOpen={isChartOpen} onClose={() => setChartOpen(false)}>
        <Suspense fallback={<p className="note">Loading the chart…</p>}>
          <Chart
            now={task.phase !== null && appearance !== "provisioning" ? task.phase : task.state}
            path={spans.map((span) =>
              span.state === "running" ? "working" : span.state === "pushing" ? "branch" : span.state,
            )}
          />
        </Suspense>
      </Sheet>
    </section>
  );
}

/** What the slip does not say: the attempt, the reason of a wait, or whose move it is. */
function describeDetail(task: WireTask, forecast: string, elapsed: string): string {
  const appearance = getAppearance(task);
  if (isSettled(task)) return appearance === "done" ? "" : `at ${elapsed}`;
  if (appearance === "awaiting" || appearance === "parked") return "waits for an answer";
  if (appearance === "queued" || appearance === "retrying")
    return [describeStep(task).rest, forecast].filter(Boolean).join(", ");
  return `attempt ${Math.max(1, task.attempt)} of ${task.maxAttempts}`;
}

function Tabs() {
  const { task, log } = useTaskView();
  const changes = useChanges();
  return (
    <nav className="tabs" aria-label="Task">
      <Link to={taskAddress(task.id)} isExact replace>
        Conversation
      </Link>
      <Link to={taskAddress(task.id, "changes")} replace>
        Changes {changes !== null && changes.files > 0 && <span className="n">{changes.files}</span>}
      </Link>
      <Link to={taskAddress(task.id, "machine")} replace>
        Machine
      </Link>
      <Sync connection={log.connection} seq={log.seq} />
    </nav>
  );
}
