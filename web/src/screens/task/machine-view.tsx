/** The machine of a task: the chart at any moment of its log, and what it accepts now. */
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import type { WireEvent } from "../../../../src/core/protocol/events.ts";
import { Chart } from "../../components/lifecycle/chart.tsx";
import { client, problemText } from "../../lib/client.ts";
import { formatClock, formatCount } from "../../lib/format.ts";
import { useTaskView } from "./task-screen.tsx";

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
  const events = useQuery({
    queryKey: ["machine-events", task.id, task.state],
    queryFn: ({ signal }) => client.events(task.id, { limit: 1_000 }, { signal }),
    placeholderData: (previous) => previous,
  });
  const moments = toMoments(events.data?.items ?? []);
  const seq = chosen ?? log.seq;
  const until = moments.filter((moment) => moment.seq <= seq);
  const moment = until.at(-1);
  if (moment === undefined)
    return <p className="empty">{events.error === null ? "Loading the machine…" : problemText(events.error)}</p>;
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
          max={Math.max(1, log.seq)}
          value={seq}
          onChange={(event) => setChosen(Number(event.target.value))}
        />
      </section>
      <MachineFacts />
      <Transitions moments={moments} present={moment.seq} onPick={setChosen} />
    </div>
  );
}

function MachineFacts() {
  const { task } = useTaskView();
  const { data } = useQuery({
    queryKey: ["machine", task.id, task.seq],
    queryFn: ({ signal }) => client.machine(task.id, { signal }),
    placeholderData: (previous) => previous,
  });
  if (data === undefined) return null;
  return (
    <section className="card" aria-label="Facts">
      <dl className="facts">
        <dt>Accepts now</dt>
        <dd>{data.can.length === 0 ? "nothing: the state is final" : data.can.join(", ")}</dd>
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
      </dl>
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
