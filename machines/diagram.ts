/** Draws both charts from their definitions: the content of README.md. Pure. */
import type { AnyStateMachine, AnyStateNode, AnyTransitionDefinition } from "xstate";
import { DEFAULT_POLICY, type Policy } from "../src/core/task.ts";
import { attemptMachine } from "./attempt.ts";
import type { StateMeta } from "./task-events.ts";
import { taskMachine } from "./task.ts";

/**
 * Labels of the guards: when they hold, and when they do not. An empty label is not drawn; an
 * unknown guard is drawn by its name.
 */
const GUARD_LABELS: Readonly<Record<string, readonly [string, string]>> = {
  due: ["", ""],
  retriesProvisioning: ["retryable", "final"],
  retriesRunning: ["retryable", "final"],
  retriesPushing: ["retryable", "final"],
  dueRetriesProvisioning: ["retryable", "final"],
  dueRetriesRunning: ["retryable", "final"],
  dueRetriesPushing: ["retryable", "final"],
  dueToPush: ["the push failed", "the attempt failed"],
  resumesPushing: ["only the push is to do", ""],
  changed: ["changes", "no changes"],
  wantsPullRequest: ["pull request wanted", "none wanted"],
  answersOpen: ["", ""],
  asksItself: ["", ""],
  firstForce: ["by force, once", ""],
  parksAtOnce: ["time used up", ""],
  waitsInPlace: ["", ""],
  deniesTime: ["no more time", ""],
};

/** The clocks of the policy that end each state. */
export const DEADLINES: Readonly<Record<string, readonly (keyof Policy)[]>> = {
  queued: ["queueMs"],
  provisioning: ["progressMs", "bootMs"],
  "running.working": ["silenceMs", "wallMs"],
  "running.awaiting_input": ["parkMs"],
  "running.parked": ["answerMs"],
  "pushing.branch": ["pushMs"],
  "pushing.pull_request": ["pushMs"],
  retrying: ["backoffMs", "backoffCapMs"],
  cancelling: ["cancelMs"],
  done: [],
  failed: [],
  cancelled: [],
};

/** States after a failure or a cancel: their edges are drawn separately. */
const TROUBLE = new Set(["retrying", "failed", "cancelling", "cancelled"]);

interface Edge {
  readonly from: AnyStateNode;
  readonly to: AnyStateNode;
  readonly cause: string;
  readonly guard: string;
}

const getPath = (node: AnyStateNode): string => node.path.join(".");
const getTopLevel = (node: AnyStateNode): string => node.path[0] ?? "";
const getChildren = (node: AnyStateNode): AnyStateNode[] => Object.values(node.states);
const getLeaves = (node: AnyStateNode): AnyStateNode[] =>
  getChildren(node).length === 0 ? [node] : getChildren(node).flatMap(getLeaves);
const getNodes = (node: AnyStateNode): AnyStateNode[] =>
  getChildren(node).flatMap((child) => [child, ...getNodes(child)]);

function guardLabels(t: AnyTransitionDefinition): readonly [string, string] {
  if (typeof t.guard !== "string") return ["", ""];
  return GUARD_LABELS[t.guard] ?? [t.guard, `not ${t.guard}`];
}

/**
 * The alternatives of one cause are in order. A later one without a label gets the label of "the
 * first guard does not hold".
 */
function getEdges(node: AnyStateNode): Edge[] {
  const causes: AnyTransitionDefinition[][] = [[...(node.always ?? [])], ...node.transitions.values()];
  return causes.flatMap((alternatives) =>
    alternatives.flatMap((t, i) => {
      const first = alternatives[0];
      const guard = guardLabels(t)[0] || (i > 0 && first !== undefined ? guardLabels(first)[1] : "");
      return (t.target ?? [node]).map((to) => ({ from: node, to, cause: String(t.eventType), guard }));
    }),
  );
}

/** `failed, timed_out (final), cancel`: causes that share a condition share its parentheses. */
function labels(edges: readonly { cause: string; guard: string }[]): string {
  const byGuard = new Map<string, Set<string>>();
  const guarded = new Set(edges.flatMap(({ cause, guard }) => (guard === "" ? [] : cause)));
  for (const { cause, guard } of edges)
    if (guard !== "" || !guarded.has(cause)) byGuard.set(guard, (byGuard.get(guard) ?? new Set()).add(cause));
  const parts = [...byGuard].map(([guard, causes]) => {
    const text = [...causes].filter((cause) => cause !== "").join(", ");
    return text === "" ? guard : guard === "" ? text : `${text} (${guard})`;
  });
  return parts.join(", ");
}

/** Joins the edges between the same two boxes into one line. */
function lines(edges: readonly Edge[], box: (node: AnyStateNode) => string): string[] {
  const joined = new Map<string, Edge[]>();
  for (const edge of edges) {
    const pair = `${box(edge.from)} --> ${box(edge.to)}`;
    joined.set(pair, [...(joined.get(pair) ?? []), edge]);
  }
  return [...joined].map(([pair, all]) => `  ${pair}: ${labels(all)}`);
}

const plain = (node: AnyStateNode): string => node.key;
const diagram = (body: readonly string[]): string => ["```mermaid", "stateDiagram-v2", ...body, "```"].join("\n");

function drawNormalFlow(machine: AnyStateMachine): string {
  const normal = getNodes(machine.root)
    .flatMap(getEdges)
    .filter((edge) => !TROUBLE.has(getTopLevel(edge.to)) && !TROUBLE.has(getTopLevel(edge.from)));
  const leaving = normal.filter((edge) => edge.from !== edge.to);
  const inside = (edge: Edge): boolean => edge.from.parent === edge.to.parent && edge.from.parent !== machine.root;
  const boxes = getChildren(machine.root).flatMap((node) =>
    getChildren(node).length === 0
      ? []
      : [
          `  state ${node.key} {`,
          `    [*] --> ${node.initial.target?.[0]?.key ?? ""}`,
          ...lines(
            leaving.filter((edge) => inside(edge) && edge.from.parent === node),
            plain,
          ).map((line) => `  ${line}`),
          "  }",
        ],
  );
  const ends = getChildren(machine.root).flatMap((node) =>
    node.type === "final" && !TROUBLE.has(node.key) ? `  ${node.key} --> [*]` : [],
  );
  const start = `  [*] --> ${machine.root.initial.target?.[0]?.key ?? ""}`;
  return diagram([
    start,
    ...boxes,
    ...lines(
      leaving.filter((edge) => !inside(edge)),
      plain,
    ),
    ...ends,
  ]);
}

function drawFailures(machine: AnyStateMachine): string {
  const edges = getNodes(machine.root)
    .flatMap(getEdges)
    .filter(
      (edge) => edge.from !== edge.to && (TROUBLE.has(getTopLevel(edge.to)) || TROUBLE.has(getTopLevel(edge.from))),
    );
  /** Names the sub-state if its parent goes elsewhere for the same cause. */
  const withSubState = (edge: Edge): Edge => {
    const { parent } = edge.from;
    if (parent === undefined || parent === machine.root) return edge;
    const inherited = getEdges(parent).filter((other) => other.cause === edge.cause);
    return inherited.length === 0 || inherited.some((other) => other.to === edge.to)
      ? edge
      : { ...edge, cause: `${edge.cause} while ${edge.from.key}` };
  };
  return diagram(lines(edges.map(withSubState), getTopLevel));
}

/**
 * The transitions of a leaf, innermost first; a cause of the leaf hides the same cause of its
 * parent.
 */
function listAccepted(leaf: AnyStateNode): Edge[] {
  const accepted: Edge[] = [];
  for (let node: AnyStateNode | undefined = leaf; node !== undefined; node = node.parent) {
    const hidden = new Set(accepted.map((edge) => edge.cause));
    accepted.push(
      ...getEdges(node).flatMap((edge) =>
        hidden.has(edge.cause) ? [] : { ...edge, to: edge.to === node ? leaf : edge.to },
      ),
    );
  }
  return accepted;
}

const UNITS = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000],
  ["s", 1_000],
] as const;

function formatDuration(ms: number): string {
  const [unit, size] = UNITS.find(([, each]) => ms >= each && ms % each === 0) ?? (["ms", 1] as const);
  return `${ms / size} ${unit}`;
}

function row(leaf: AnyStateNode): string {
  const { drive, slot } = leaf.meta as StateMeta;
  const clocks = DEADLINES[getPath(leaf)];
  if (clocks === undefined) throw new Error(`DEADLINES has no entry for ${getPath(leaf)}`);
  const deadline = clocks
    .map((clock) => `\`${clock}\` ${formatDuration(DEFAULT_POLICY[clock])}`)
    .join(leaf.key === "retrying" ? " up to " : ", ");
  const accepted = listAccepted(leaf);
  const targets = new Map<string, Edge[]>();
  for (const edge of accepted.filter(({ to }) => to !== leaf))
    targets.set(getPath(edge.to), [...(targets.get(getPath(edge.to)) ?? []), edge]);
  const leaves = [...targets].map(([to, edges]) => `**${to}**: ${labels(edges)}`).join("; ");
  const stays = labels(accepted.filter(({ to }) => to === leaf));
  const cells = [`\`${getPath(leaf)}\``, drive, slot ? "yes" : "", deadline, leaves, stays];
  return `| ${cells.map((cell) => cell || "–").join(" | ")} |`;
}

function table(machine: AnyStateMachine): string {
  const head = ["| state | driven by | slot | deadline | leaves to, on | stays on |", "|---|---|---|---|---|---|"];
  return [...head, ...getLeaves(machine.root).map(row)].join("\n");
}

function drawAttempt(machine: AnyStateMachine): string {
  const edges = getNodes(machine.root).flatMap(getEdges);
  const ends = getChildren(machine.root).flatMap((node) => (node.type === "final" ? `  ${node.key} --> [*]` : []));
  return diagram([`  [*] --> ${machine.root.initial.target?.[0]?.key ?? ""}`, ...lines(edges, plain), ...ends]);
}

/** The whole page, with a final newline. */
export function drawMachines(): string {
  return `${[
    "# The charts",
    "Generated from `task.ts` and `attempt.ts`; do not edit. `UPDATE_DOCS=1 npx vitest run test/machines/readme.test.ts` regenerates it.",
    "## The task (`task.ts`)",
    "A line is a transition, its label the cause, with the guard in parentheses.",
    "### Normal flow",
    drawNormalFlow(taskMachine),
    "### Failures and cancels",
    "Sub-states of `running` and `pushing` are folded into one box. A `timed_out` only counts once the deadline has passed; `retry-policy.ts` defines which failures are retryable, and how often.",
    drawFailures(taskMachine),
    "### State by state",
    "A slot is one of `SLIPWAY_MAX_CONCURRENT`. With several clocks the first to expire counts; the times are the defaults.",
    table(taskMachine),
    "## The attempt (`attempt.ts`)",
    "The stages of a worker in its sandbox.",
    drawAttempt(attemptMachine),
  ].join("\n\n")}\n`;
}
