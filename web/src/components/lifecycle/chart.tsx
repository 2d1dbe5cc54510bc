/** The whole statechart: every state and transition, lit by where the task is and may go. */
import { useId } from "react";
import { REGIONS, TALL, WIDE, type ChartLayout } from "./chart-layout.ts";

interface ChartProps {
  /** The present leaf state, for example `working`. */
  readonly now: string;
  /** Leaf states that the task was in, in order. */
  readonly path: readonly string[];
  readonly isWide?: boolean;
}

export function Chart({ now, path, isWide = false }: ChartProps) {
  const layout = isWide ? WIDE : TALL;
  const tip = useId();
  const size = isWide ? "is-wide" : "is-tall";
  return (
    <div
      className={`chart ${isWide ? "only-wide" : "only-phone"}`}
      tabIndex={0}
      role="region"
      aria-label="Chart of the lifecycle"
    >
      <svg className={`chart-art ${size}`} viewBox={layout.viewBox} aria-hidden="true" focusable="false">
        <Tips id={tip} />
        <Regions layout={layout} now={now} />
        <Edges layout={layout} now={now} path={path} tip={tip} />
        <States layout={layout} now={now} path={path} />
        {layout.labels.map(({ x, y, text }) => (
          <text key={`${x} ${y}`} className="ch-label" x={x} y={y}>
            {text}
          </text>
        ))}
      </svg>
    </div>
  );
}

const KINDS = ["", "path", "can"] as const;

/** The tips of the arrows; the ids are unique per chart, because a page may show two. */
function Tips({ id }: { id: string }) {
  return (
    <defs>
      {KINDS.map((kind) => (
        <marker
          key={kind}
          id={`${id}${kind}`}
          viewBox="0 0 8 8"
          refX="5"
          refY="4"
          markerWidth="7"
          markerHeight="7"
          orient="auto-start-reverse"
          markerUnits="userSpaceOnUse"
        >
          <path className={`mk ${kind}`} d="M1 1l5.5 3L1 7z" />
        </marker>
      ))}
    </defs>
  );
}

interface PartProps {
  readonly layout: ChartLayout;
  readonly now: string;
}

function Regions({ layout, now }: PartProps) {
  return layout.regions.map(({ name, x, y, width, height, textX, textY, anchor }) => (
    <g key={name}>
      <rect
        className={`ch-comp${name === REGIONS[now] ? ` now st-${name}` : ""}`}
        x={x}
        y={y}
        width={width}
        height={height}
        rx="14"
      />
      <text className="ch-name strong" x={textX} y={textY} textAnchor={anchor}>
        {name}
      </text>
    </g>
  ));
}

function Edges({ layout, now, path, tip }: PartProps & { path: readonly string[]; tip: string }) {
  const travelled = findTravelled(layout, path);
  return layout.edges.map(([edge, d]) => {
    const from = edge.split(">", 1)[0];
    const kind = travelled.has(edge) ? "path" : from === now || from === REGIONS[now] ? "can" : "";
    return (
      <g key={edge}>
        <path className="ch-halo" d={d} />
        <path className={`ch-edge ${kind}`} d={d} markerEnd={`url(#${tip}${kind})`} />
      </g>
    );
  });
}

function States({ layout, now, path }: PartProps & { path: readonly string[] }) {
  return layout.states.map(({ name, appearance, box: [x, y, width, height], icon, textX, isCentered }) => (
    <g key={name} className={`ch-state st-${appearance}${name === now ? " now" : path.includes(name) ? " been" : ""}`}>
      <rect className="ch-box" x={x} y={y} width={width} height={height} rx="10" />
      {icon !== null && (
        <use href={`#i-st-${appearance}`} x={icon} y={y + height / 2 - 9} width="18" height="18" className="ch-ic" />
      )}
      <text
        className={`ch-name${icon === null ? " tight" : ""}`}
        x={textX}
        y={y + height / 2 + 4.5}
        textAnchor={isCentered ? "middle" : "start"}
      >
        {name}
      </text>
    </g>
  ));
}

/** The edges between consecutive states of the path; an edge may start at a state's region. */
function findTravelled({ edges }: ChartLayout, path: readonly string[]): ReadonlySet<string> {
  const known = new Set(edges.map(([edge]) => edge));
  const found = new Set<string>();
  path.forEach((to, i) => {
    const from = path[i - 1];
    if (from === undefined) return;
    for (const edge of [`${from}>${to}`, `${REGIONS[from] ?? from}>${to}`]) if (known.has(edge)) found.add(edge);
  });
  return found;
}
