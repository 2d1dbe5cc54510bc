/** What failed and what was spent, of the newest tasks of all people. */
import { queryOptions, useQuery } from "@tanstack/react-query";
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

const newestQuery = (states: readonly WireTask["state"][]) =>
  queryOptions({
    queryKey: ["newest", states],
    queryFn: ({ signal }) =>
      client.tasks({ limit: MOST, ...(states.length === 0 ? {} : { state: [...states] }) }, { signal }),
    refetchInterval: REFRESH_MS,
  });
const FAILED: readonly WireTask["state"][] = ["failed"];
const ALL: readonly WireTask["state"][] = [];

/** Whether the cards of this file are not known yet. */
export function useFiguresPending(): boolean {
  const failed = useQuery(newestQuery(FAILED));
  const all = useQuery(newestQuery(ALL));
  return failed.isPending || all.isPending;
}

/** @param at the time of a task, epoch ms; only those of the last 24 hours are returned. */
function useNewest(states: readonly WireTask["state"][], now: number, at: (task: WireTask) => number): Newest {
  const { data } = useQuery(newestQuery(states));
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

const codeOf = ({ failure }: WireTask): string => failure?.code ?? "unknown";

/** The most frequent codes have colours of their own, the others the last one. */
const COLOURS = 4;
const toColour = (rank: number): number => (rank === -1 ? COLOURS - 1 : Math.min(rank, COLOURS - 1));

export function FailuresCard({ now }: { now: number }) {
  const { tasks, isPart } = useNewest(FAILED, now, endedAt);
  const byCode = sumBy(tasks, codeOf, () => 1);
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
          <Hours tasks={tasks} codes={byCode.map(([code]) => code)} now={now} />
          <dl className="facts">
            {byCode.slice(0, SHOWN).map(([code, count], i) => [
              <dt key={code}>
                <svg className="plot swatch" viewBox="0 0 12 12" aria-hidden="true">
                  <rect className={`b${toColour(i) + 1}`} width="12" height="12" rx="3" />
                </svg>
                {code.replaceAll("_", " ")}
              </dt>,
              <dd key={`${code} count`}>{count}</dd>,
            ])}
          </dl>
        </>
      )}
    </section>
  );
}

interface HoursProps {
  readonly tasks: readonly WireTask[];
  /** The most frequent first. */
  readonly codes: readonly string[];
  readonly now: number;
}

/** How many fell into each of the last hours, by code, the most frequent code below. */
function Hours({ tasks, codes, now }: HoursProps) {
  const hours = Array.from({ length: HOURS }, () => Array.from({ length: COLOURS }, () => 0));
  for (const task of tasks) {
    const hour = hours[HOURS - 1 - Math.floor(Math.max(0, now - endedAt(task)) / HOUR)];
    const colour = toColour(codes.indexOf(codeOf(task)));
    if (hour !== undefined) hour[colour] = (hour[colour] ?? 0) + 1;
  }
  const counts = hours.map((hour) => hour.reduce((sum, count) => sum + count, 0));
  const most = Math.max(1, ...counts);
  const busiest = counts.indexOf(most);
  const width = HOURS * (BAR + GAP);
  const scale = (HEIGHT - 16) / most;
  return (
    <svg
      className="plot hours"
      viewBox={`0 0 ${width} ${HEIGHT + 20}`}
      role="img"
      aria-label={`Failures by hour: ${tasks.length}, at most ${most}, ${pluralize(HOURS - 1 - busiest, "hour")} ago`}
    >
      <path className="axis" d={`M0 ${HEIGHT + 0.5}H${width}`} />
      {hours.flatMap((hour, i) =>
        hour.map((count, colour) => {
          const below = hour.slice(0, colour).reduce((sum, other) => sum + other, 0);
          const height = count * scale;
          return (
            count > 0 && (
              <rect
                key={`${i} ${colour}`}
                className={`b${colour + 1}`}
                x={i * (BAR + GAP)}
                y={HEIGHT - below * scale - height}
                width={BAR}
                height={Math.max(1, height - (below > 0 ? 1 : 0))}
                rx="2"
              />
            )
          );
        }),
      )}
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
  const { tasks, isPart } = useNewest(ALL, now, begunAt);
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
