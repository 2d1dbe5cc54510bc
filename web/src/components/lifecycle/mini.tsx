/** The lifecycle in one line of a row: where the task is on its way. */
import type { Appearance } from "../../lib/tasks/task-view.ts";

const STOPS = [
  [5, 4],
  [19, 5.6],
  [33, 7.2],
  [47, 8.8],
  [61, 10.4],
] as const;

const PLACES: Readonly<Record<Appearance, number>> = {
  queued: 0,
  provisioning: 1,
  running: 2,
  awaiting: 2,
  parked: 2,
  pushing: 3,
  done: 4,
  retrying: 1,
  cancelling: 2,
  failed: 3,
  cancelled: 2,
};
const ASHORE: ReadonlySet<Appearance> = new Set<Appearance>(["retrying", "cancelling", "failed", "cancelled"]);

export function Mini({ appearance }: { appearance: Appearance }) {
  const place = PLACES[appearance];
  const [x, y] = STOPS[place] ?? STOPS[0];
  const isAshore = ASHORE.has(appearance);
  return (
    <svg className={`mini st-${appearance}`} viewBox="0 0 66 20" aria-hidden="true">
      <path className="m-way" d="M5 4 61 10.4" />
      <path className="m-been" d={`M5 4 ${x} ${y}`} />
      {isAshore && <path className="m-off" d={`M${x} ${y}V16`} />}
      {STOPS.map(([cx, cy], i) =>
        i === place && !isAshore ? null : (
          <circle key={cx} className={i <= place ? "m-dot been" : "m-dot"} cx={cx} cy={cy} r="2" />
        ),
      )}
      <circle className="m-now" cx={x} cy={isAshore ? 16 : y} r="3.6" />
    </svg>
  );
}
