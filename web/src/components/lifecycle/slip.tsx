/**
 * The lifecycle as a slipway: a task slides from `queued` into the water; `retrying` hauls it back
 * up; `cancelling`, `cancelled` and `failed` lie ashore.
 */
import type { StateSpan } from "../../lib/log/outline.ts";
import { formatDuration, formatElapsed } from "../../lib/format.ts";
import type { Appearance } from "../../lib/tasks/task-view.ts";

interface SlipProps {
  readonly appearance: Appearance;
  /** `running, working` for people who listen. */
  readonly phrase: string;
  /** The line below the present state's name. */
  readonly detail: string;
  readonly spans: readonly StateSpan[];
  readonly now: number;
}

type Place = readonly [x: number, y: number];

const PLACES: Readonly<Record<Appearance, Place>> = {
  queued: [22, 42],
  provisioning: [96, 48.3],
  running: [153, 53.1],
  awaiting: [185, 55.9],
  parked: [217, 58.6],
  pushing: [274, 63.4],
  done: [336, 68.7],
  retrying: [60, 112],
  cancelling: [190, 112],
  cancelled: [262, 112],
  failed: [330, 112],
};

const NAMES: readonly (readonly [state: string, x: number, y: number])[] = [
  ["queued", 22, 8],
  ["provisioning", 96, 14.3],
  ["running", 185, 21.9],
  ["pushing", 285, 30.4],
  ["done", 336, 34.7],
];
const ASHORE: ReadonlySet<Appearance> = new Set<Appearance>(["retrying", "cancelling", "cancelled", "failed"]);
const SETTLED: ReadonlySet<Appearance> = new Set<Appearance>(["done", "failed", "cancelled"]);

/** Total time per state up to now. */
function sumTimes(spans: readonly StateSpan[], now: number): ReadonlyMap<string, number> {
  const times = new Map<string, number>();
  for (const { state, from, to } of spans) times.set(state, (times.get(state) ?? 0) + Math.max(0, (to ?? now) - from));
  return times;
}

export function Slip({ appearance, phrase, detail, spans, now }: SlipProps) {
  const times = sumTimes(spans, now);
  const been = (state: string): boolean => times.has(state);
  const state = appearance === "awaiting" || appearance === "parked" ? "running" : appearance;
  const isAshore = ASHORE.has(appearance);
  const furthest = [...NAMES].reverse().find(([name]) => been(name) && name !== "done")?.[0] ?? "queued";
  const leftAt =
    appearance === "failed" && furthest === "running" ? ([222, 59] as Place) : PLACES[toAppearance(furthest)];
  const [toX, toY] = isAshore ? leftAt : PLACES[appearance];
  return (
    <div className={`slip-wrap st-${appearance}${SETTLED.has(appearance) ? "" : " live"}`}>
      <figure className="slip" aria-label={`Lifecycle: ${phrase}`}>
        <svg className="slip-art" viewBox="0 -6 358 146" aria-hidden="true" focusable="false">
          <path className="water" d="M312 83q4-3 8 0t8 0 8 0 8 0 8 0M322 89q4-3 8 0t8 0 8 0" />
          <Sidings appearance={appearance} furthest={furthest} been={been} />
          <path className="way" d="M22 42L336 68.7" />
          <path className="way-in" d="M22 42L336 68.7" />
          <path className="travelled" d={`M22 42L${toX} ${toY}`} />
          <Cap
            name="running"
            appearance={appearance}
            isNow={state === "running"}
            isBeen={been("running")}
            x={138}
            y={44.9}
            width={94}
            center="185 55.9"
          />
          <Cap
            name="pushing"
            appearance={appearance}
            isNow={state === "pushing"}
            isBeen={been("pushing")}
            x={260}
            y={53.4}
            width={50}
            center="285 64.4"
          />
          <Marks appearance={appearance} been={been} />
          <Stops appearance={appearance} been={been} />
          <Names appearance={appearance} state={state} detail={detail} times={times} />
        </svg>
      </figure>
      <ol className="slip-list" aria-label="Lifecycle so far">
        {spans.map((span, i) => (
          <li key={`${span.state} ${span.from}`}>
            {i === spans.length - 1
              ? `${span.state} now`
              : `${span.state} ${formatDuration((span.to ?? now) - span.from)}`}
          </li>
        ))}
      </ol>
    </div>
  );
}

const toAppearance = (state: string): Appearance => (state in PLACES ? (state as Appearance) : "running");

interface PartProps {
  readonly appearance: Appearance;
  readonly been: (state: string) => boolean;
}

/** The lane to `failed`, by the furthest state that the task reached. */
const FAILED_LANES: Readonly<Record<string, string>> = {
  queued: "M24 48C40 100 270 92 322 109",
  provisioning: "M98 54.3C110 98 280 92 322 109",
  running: "M222 70C226 98 290 92 322 108",
  pushing: "M288 75.6C290 98 312 96 324 107",
};

function Sidings({ appearance, furthest, been }: PartProps & { furthest: string }) {
  const isRetrying = appearance === "retrying";
  const isFailed = appearance === "failed";
  const lane = (isNow: boolean, isBeen = false): string =>
    `siding${isNow ? ` now st-${appearance}` : isBeen ? " been" : ""}`;
  const fromProvisioning = isRetrying && furthest === "provisioning";
  return (
    <>
      <path
        className={lane(isRetrying, been("retrying"))}
        d={fromProvisioning ? "M96 54.3C95 88 90 112 68 112" : "M146 63.5C142 98 118 112 92 112H68"}
      />
      <path
        className={isRetrying ? "siding next st-retrying" : lane(false, been("retrying"))}
        d="M52 112C30 112 22 88 22 54"
      />
      <path
        className={isRetrying ? "tip next st-retrying" : been("retrying") ? "tip been" : "tip"}
        d="M18.3 59.5 22 53l3.7 6.5"
      />
      <path className={lane(appearance === "cancelling", been("cancelling"))} d="M190 67.3V106" />
      <path
        className={appearance === "cancelling" ? "siding next st-cancelling" : lane(false, appearance === "cancelled")}
        d="M196 112H258"
      />
      <path
        className={lane(false, isFailed)}
        d={(isFailed ? FAILED_LANES[furthest] : undefined) ?? FAILED_LANES["pushing"]}
      />
    </>
  );
}

interface CapProps {
  readonly name: string;
  readonly appearance: Appearance;
  readonly isNow: boolean;
  readonly isBeen: boolean;
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly center: string;
}

function Cap({ appearance, isNow, isBeen, x, y, width, center }: CapProps) {
  const lit = isNow ? `cap now st-${appearance}` : isBeen ? "cap been" : "cap";
  return <rect className={lit} x={x} y={y} width={width} height="22" rx="11" transform={`rotate(4.86 ${center})`} />;
}

const MARKS = [
  ["st-running", "running", 146.5, 46.6],
  ["st-awaiting", "awaiting", 178.5, 49.4],
  ["st-parked", "parked", 210.5, 52.1],
  ["branch", "pushing", 267.5, 56.9],
  ["pr", "done", 289.5, 58.8],
] as const;

function Marks({ appearance, been }: PartProps) {
  return (
    <>
      {MARKS.filter(([, mark]) => mark !== appearance).map(([icon, mark, x, y]) => (
        <use
          key={icon}
          href={`#i-${icon}`}
          x={x}
          y={y}
          width="13"
          height="13"
          className={been(mark) ? "sub been" : "sub"}
        />
      ))}
    </>
  );
}

function Stops({ appearance, been }: PartProps) {
  const [x, y] = PLACES[appearance];
  const stop = (name: Appearance, cx: number, cy: number, isSmall = false) =>
    appearance === name ? null : (
      <circle
        className={`stop${isSmall ? " small" : ""}${been(name) ? " been" : ""}`}
        cx={cx}
        cy={cy}
        r={isSmall ? 4 : 5}
      />
    );
  return (
    <>
      {stop("queued", 22, 42)}
      {stop("provisioning", 96, 48.3)}
      {stop("done", 336, 68.7)}
      {stop("retrying", 60, 112, true)}
      {stop("cancelling", 190, 112, true)}
      <path className="buffer" d="M257 107v10M257 112h6M263 107v10" />
      <path className="buffer" d="M325 107v10M325 112h6M331 107v10" />
      <g className={`present st-${appearance}`}>
        <circle className="halo" cx={x} cy={y} r="17" />
        <circle className="lamp" cx={x} cy={y} r="12.5" />
        <use href={`#i-st-${appearance}`} x={x - 8.5} y={y - 8.5} width="17" height="17" />
      </g>
    </>
  );
}

const ASHORE_NAMES = [
  ["retrying", 60],
  ["cancelling", 190],
  ["cancelled", 262],
  ["failed", 330],
] as const;

function Names({
  appearance,
  state,
  detail,
  times,
}: {
  appearance: Appearance;
  state: string;
  detail: string;
  times: ReadonlyMap<string, number>;
}) {
  return (
    <>
      {NAMES.map(([name, x, y]) => {
        const time = times.get(name);
        const lit = name === state ? `now st-${appearance}` : time === undefined ? "" : "been";
        const below = name === state ? detail : time === undefined || name === "done" ? "" : formatElapsed(time);
        return (
          <g key={name}>
            <text className={`slip-name ${lit}`} x={x} y={y} textAnchor="middle">
              {name}
            </text>
            {below !== "" && (
              <text
                className={`slip-time${name === state ? ` now st-${appearance}` : ""}`}
                x={x}
                y={y + 14}
                textAnchor="middle"
              >
                {below}
              </text>
            )}
          </g>
        );
      })}
      {ASHORE_NAMES.map(([name, x]) => (
        <g key={name}>
          <text
            className={`slip-name${name === appearance ? ` now st-${appearance}` : ""}`}
            x={name === appearance && name === "cancelling" ? x + 32 : x}
            y={name === appearance ? 139 : 134}
            textAnchor={name === appearance && name === "cancelling" ? "end" : "middle"}
          >
            {name}
            {name === appearance && !SETTLED.has(appearance) && (
              <tspan className={`slip-time now st-${appearance}`}> {detail}</tspan>
            )}
          </text>
        </g>
      ))}
    </>
  );
}
