/** The machine of a task: the chart at any moment of its log, and what it accepts now. */
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useMemo, useState, type ReactNode } from "react";
import type { WireEvent } from "../../../../../src/core/protocol/events.ts";
import type { WireTask } from "../../../../../src/core/protocol/rest.ts";
import { Icon } from "../../../components/icon.tsx";
import { findNext } from "../../../components/lifecycle/chart-layout.ts";
import { Chart } from "../../../components/lifecycle/chart.tsx";
import { client } from "../../../lib/client.ts";
import { formatClock, formatCount } from "../../../lib/format.ts";
import { useTaskView } from "../task-screen.tsx";
import { isSettled } from "../../../lib/tasks/task-view.ts";
import { KillButton } from "../stop/stop-card.tsx";
import { InSync } from "./in-sync.tsx";
import { RawLog } from "./raw-log.tsx";
import { useWholeLog } from "./whole-log.ts";

const LEAVES: Readonly<Record<string, string>> = { running: "working", pushing: "branch" };

interface Moment {
  readonly seq: number;
  readonly at: string;
  readonly leaf: string;
  readonly reason: string;
}

/** The leaf state after each event that changed it. */
function toMoments(events: readonly WireEvent[]): Moment[] {
  const moments: Moment[] = [];
  for (const { seq, at, type, to, data } of events) {
    const last = moments.at(-1)?.leaf;
    const leaf =
      type === "question"
        ? "awaiting_input"
        : type === "answer"
          ? last === "parked"
            ? "queued"
            : "working"
          : (LEAVES[to] ?? to);
    const isSame = leaf === last || (last === "awaiting_input" && to === "running" && type !== "answer");
    if (isSame) continue;
    moments.push({ seq, at, leaf, reason: typeof data["reason"] === "string" ? data["reason"] : type });
  }
  return moments;
}

export function MachineView() {
  const { task, log } = useTaskView();
  const [chosen, setChosen] = useState<number | null>(null);
  const { events, problem } = useWholeLog(task.id, Math.max(log.seq, task.seq));
  const facts = useFacts(task);
  const attempts = useAttempts(task);
  const moments = useMemo(() => toMoments(events), [events]);
  const last = Math.max(1, events.length);
  const seq = Math.min(chosen ?? last, last);
  // The seqs of a log are 1, 2, 3, …
  const past = useMemo(() => events.slice(0, seq), [events, seq]);
  const until = moments.filter((moment) => moment.seq <= seq);
  const moment = until.at(-1);
  // All of it comes at once: nothing is pushed down.
  if (moment === undefined || facts.isPending || attempts.isPending)
    return <p className="empty">{problem ?? "Loading the machine…"}</p>;
  const path = until.map(({ leaf }) => leaf);
  return (
    <div className="talk stack">
      <section className="card" aria-labelledby="machine-title">
        <div className="card-top">
          <h2 id="machine-title">
            At seq <output className="num">{formatCount(seq)}</output>
          </h2>
          {chosen !== null && (
            <button className="btn quiet" type="button" onClick={() => setChosen(null)}>
              Now
            </button>
          )}
          <p className="note num full-line" aria-live="polite">
            {moment.leaf} since {formatClock(Date.parse(moment.at))}, by {moment.reason}
          </p>
        </div>
        <Chart now={moment.leaf} path={path} />
        <Chart now={moment.leaf} path={path} isWide />
        <input
          className="range"
          type="range"
          aria-label="Moment, by seq"
          min={1}
          max={last}
          value={seq}
          onChange={(event) => setChosen(Number(event.target.value))}
        />
      </section>
      <MachineFacts leaf={seq < last ? moment.leaf : null}>
        <InSync events={past} />
      </MachineFacts>
      <Attempts />
      <Transitions moments={moments} present={moment.seq} onPick={setChosen} />
      <RawLog name={task.id} events={events} seq={seq} onPick={setChosen} />
    </div>
  );
}

const useFacts = ({ id, seq }: WireTask) =>
  useQuery({
    queryKey: ["machine", id, seq],
    queryFn: ({ signal }) => client.machine(id, { signal }),
    placeholderData: keepPreviousData,
  });

const useAttempts = ({ id, state, attempt }: WireTask) =>
  useQuery({
    queryKey: ["attempts", id, state, attempt],
    queryFn: ({ signal }) => client.attempts(id, { limit: 50 }, { signal }),
    placeholderData: keepPreviousData,
  });

const list = (names: readonly string[]): string =>
  names.length === 0 ? "nothing: the state is final" : names.join(", ");

interface MachineFactsProps {
  /** The state of a past moment; null = now. */
  readonly leaf: string | null;
  readonly children: ReactNode;
}

function MachineFacts({ leaf, children }: MachineFactsProps) {
  const { task, log } = useTaskView();
  const { data } = useFacts(task);
  if (data === undefined) return null;
  return (
    <section className="card" aria-label="Facts">
      <dl className="facts">
        {leaf === null ? (
          <>
            <dt>Accepts now</dt>
            <dd>{list(data.can)}</dd>
          </>
        ) : (
          <>
            <dt>Could go to</dt>
            <dd>{list(findNext(leaf))}</dd>
          </>
        )}
        <dt>Container</dt>
        <dd>{data.container ?? "none"}</dd>
        <dt>Deadline</dt>
        <dd>{data.dueAt === null ? "none" : formatClock(Date.parse(data.dueAt))}</dd>
        {data.stuck !== null && (
          <>
            <dt>Stuck</dt>
            <dd>{data.stuck.reason}</dd>
          </>
        )}
        {children}
      </dl>
      {!isSettled(task) && data.container !== null && <KillButton saved={log.conversation.saved} />}
      <details className="tool">
        <summary>
          <Icon name="box" small />
          <b>Snapshot</b>
          <span className="arg">the state and context of the chart, as stored</span>
        </summary>
        <pre className="out" tabIndex={0} role="region" aria-label="Snapshot">
          {JSON.stringify(data.snapshot, null, 2)}
        </pre>
      </details>
    </section>
  );
}

/** The container of each attempt, and how it ended. */
function Attempts() {
  const { data } = useAttempts(useTaskView().task);
  if (data === undefined || data.items.length === 0) return null;
  return (
    <section aria-labelledby="attempts-title">
      <h2 className="over" id="attempts-title">
        Attempts <span className="n">{data.items.length}</span>
      </h2>
      <ul className="rows set">
        {data.items.map(({ number, container, startedAt, endedAt, exitCode, failure }) => (
          <li key={number} className={endedAt === null ? "st-running" : failure === null ? "st-done" : "st-failed"}>
            <Icon name="box" className="state-ic" />
            <span>
              <b>Attempt {number}</b>
              <small className="mono">{container}</small>
              <small>
                {formatClock(Date.parse(startedAt))} to {endedAt === null ? "now" : formatClock(Date.parse(endedAt))}
                {exitCode === null ? "" : `, exit ${exitCode}`}
                {failure === null ? "" : `, ${failure.replaceAll("_", " ")}`}
              </small>
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}

interface TransitionsProps {
  readonly moments: readonly Moment[];
  /** The seq of the moment that is shown. */
  readonly present: number;
  readonly onPick: (seq: number) => void;
}

function Transitions({ moments, present, onPick }: TransitionsProps) {
  return (
    <section aria-labelledby="moments-title">
      <h2 className="over" id="moments-title">
        Transitions <span className="n">{moments.length}</span>
      </h2>
      <ul className="rows events">
        {moments.toReversed().map((row) => (
          <li key={row.seq}>
            <button className="event" type="button" aria-pressed={row.seq === present} onClick={() => onPick(row.seq)}>
              <span className="num">{row.seq}</span>
              <span>
                {row.leaf} <small className="muted">{row.reason}</small>
              </span>
              <span className="num">{formatClock(Date.parse(row.at))}</span>
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}
