/** What failed and what was spent, of the newest tasks of all people. */
import { useQuery } from "@tanstack/react-query";
import type { WireTask } from "../../../../src/core/protocol/rest.ts";
import { client } from "../../lib/client.ts";
import { formatUsd, pluralize } from "../../lib/format.ts";

const HOUR = 60 * 60_000;
const HOURS = 24;
const REFRESH_MS = 15_000;
/** The most of one list. */
const MOST = 200;
const SHOWN = 8;
/** The drawing: a bar per hour. */
const [BAR, GAP, HEIGHT] = [10, 4, 72];

interface Newest {
  readonly tasks: readonly WireTask[];
  /** True = there are more of the day than these. */
  readonly isPart: boolean;
}

/** @param at the time of a task, epoch ms; only those of the last 24 hours are returned. */
function useNewest(states: readonly WireTask["state"][], now: number, at: (task: WireTask) => number): Newest {
  const { data } = useQuery({
    queryKey: ["newest", states],
    queryFn: ({ signal }) =>
      client.tasks({ limit: MOST, ...(states.length === 0 ? {} : { state: [...states] }) }, { signal }),
    refetchInterval: REFRESH_MS,
  });
  const since = now - HOURS * HOUR;
  const tasks = (data?.items ?? []).filter((task) => at(task) >= since);
  return { tasks, isPart: data !== undefined && data.next !== null && tasks.length === data.items.length };
}

const sumBy = (tasks: readonly WireTask[], key: (task: WireTask) => string, value: (task: WireTask) => number) => {
  const sums = new Map<string, number>();
  for (const task of tasks) sums.set(key(task), (sums.get(key(task)) ?? 0) + value(task));
  return [...sums].toSorted((a, b) => b[1] - a[1]);
};

const endedAt = (task: WireTask): number => Date.parse(task.settledAt ?? task.updatedAt);
const begunAt = (task: WireTask): number => Date.parse(task.createdAt);

export function FailuresCard({ now }: { now: number }) {
  const { tasks, isPart } = useNewest(["failed"], now, endedAt);
  const byCode = sumBy(
    tasks,
    ({ failure }) => failure?.code ?? "unknown",
    () => 1,
  );
  return (
    <section className="card c7" aria-labelledby="failures-title">
      <div className="card-top">
        <h2 id="failures-title">Failures</h2>
        <span className="note">
          {tasks.length === 0 ? "none in 24 hours" : `${isPart ? "more than " : ""}${tasks.length} in 24 hours`}
        </span>
      </div>
      {tasks.length > 0 && (
        <>
          <Hours times={tasks.map(endedAt)} now={now} />
          <dl className="facts">
            {byCode
              .slice(0, SHOWN)
              .map(([code, count]) => [
                <dt key={code}>{code.replaceAll("_", " ")}</dt>,
                <dd key={`${code} count`}>{count}</dd>,
              ])}
          </dl>
        </>
      )}
    </section>
  );
}

/** How many fell into each of the last hours. */
function Hours({ times, now }: { times: readonly number[]; now: number }) {
  const counts = Array.from({ length: HOURS }, () => 0);
  for (const time of times) {
    const hour = HOURS - 1 - Math.floor(Math.max(0, now - time) / HOUR);
    counts[hour] = (counts[hour] ?? 0) + 1;
  }
  const most = Math.max(1, ...counts);
  const busiest = counts.indexOf(most);
  const width = HOURS * (BAR + GAP);
  return (
    <svg
      className="plot hours"
      viewBox={`0 0 ${width} ${HEIGHT + 20}`}
      role="img"
      aria-label={`Failures by hour: ${times.length}, at most ${most}, ${pluralize(HOURS - 1 - busiest, "hour")} ago`}
    >
      <path className="axis" d={`M0 ${HEIGHT + 0.5}H${width}`} />
      {counts.map((count, i) => {
        const height = Math.round((count / most) * (HEIGHT - 16));
        return (
          count > 0 && (
            <rect key={i} className="b1" x={i * (BAR + GAP)} y={HEIGHT - height} width={BAR} height={height} rx="2" />
          )
        );
      })}
      <text x="0" y={HEIGHT + 17}>
        24 h ago
      </text>
      <text x={width} y={HEIGHT + 17} textAnchor="end">
        now
      </text>
      <text x={width} y="12" textAnchor="end">
        {most}
      </text>
    </svg>
  );
}

export function SpendCard({ now }: { now: number }) {
  const { tasks, isPart } = useNewest([], now, begunAt);
  const byPerson = sumBy(
    tasks,
    ({ owner }) => owner.email ?? owner.id,
    ({ usage }) => usage.usd,
  ).filter(([, usd]) => usd > 0);
  const total = byPerson.reduce((sum, [, usd]) => sum + usd, 0);
  return (
    <section className="card c5" aria-labelledby="spend-title">
      <div className="card-top">
        <h2 id="spend-title">Spend</h2>
        <span className="note">{formatUsd(total)}</span>
      </div>
      <p className="note">
        {isPart ? `Of the newest ${MOST} tasks` : `Of ${pluralize(tasks.length, "task")} begun in 24 hours`}, by person.
      </p>
      {byPerson.length > 0 && (
        <dl className="facts">
          {byPerson
            .slice(0, SHOWN)
            .map(([email, usd]) => [<dt key={email}>{email}</dt>, <dd key={`${email} usd`}>{formatUsd(usd)}</dd>])}
        </dl>
      )}
    </section>
  );
}
