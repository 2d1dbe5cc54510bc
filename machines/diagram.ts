/** Draws both charts from their definitions: the text of README.md. Pure. */
import type { AnyStateMachine, AnyStateNode, AnyTransitionDefinition } from "xstate";
import { DEFAULT_POLICY, type Policy } from "../src/core/task.ts";
import { attemptMachine } from "./attempt.ts";
import type { StateMeta } from "./task-events.ts";
import { taskMachine } from "./task.ts";

/**
 * Guards in a reader's words, when they hold and when they do not; an empty one goes without
 * saying. An unknown guard is drawn by its name.
 */
const WORDS: Readonly<Record<string, readonly [string, string]>> = {
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
  firstForce: ["by force, once", ""],
};

/** Which clocks of the policy end each state. */
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

/**
 * States that a task is in when something went wrong or was called off: their edges get a drawing
 * of their own.
 */
const TROUBLE = new Set(["retrying", "failed", "cancelling", "cancelled"]);

interface Edge {
  readonly from: AnyStateNode;
  readonly to: AnyStateNode;
  readonly cause: string;
  readonly guard: string;
}

const pathOf = (node: AnyStateNode): string => node.path.join(".");
const topOf = (node: AnyStateNode): string => node.path[0] ?? "";
const childrenOf = (node: AnyStateNode): AnyStateNode[] => Object.values(node.states);
const leavesOf = (node: AnyStateNode): AnyStateNode[] =>
  childrenOf(node).length === 0 ? [node] : childrenOf(node).flatMap(leavesOf);
const nodesOf = (node: AnyStateNode): AnyStateNode[] => childrenOf(node).flatMap((child) => [child, ...nodesOf(child)]);

function wordsOf(t: AnyTransitionDefinition): readonly [string, string] {
  if (typeof t.guard !== "string") return ["", ""];
  return WORDS[t.guard] ?? [t.guard, `not ${t.guard}`];
}

/**
 * Alternatives of one cause stand in order: a later one without words of its own is what happens
 * when the first guard does not hold.
 */
function edgesOf(node: AnyStateNode): Edge[] {
  const causes: AnyTransitionDefinition[][] = [[...(node.always ?? [])], ...node.transitions.values()];
  return causes.flatMap((alternatives) =>
    alternatives.flatMap((t, i) => {
      const first = alternatives[0];
      const guard = wordsOf(t)[0] || (i > 0 && first !== undefined ? wordsOf(first)[1] : "");
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
  const said = [...byGuard].map(([guard, causes]) => {
    const text = [...causes].filter((cause) => cause !== "").join(", ");
    return text === "" ? guard : guard === "" ? text : `${text} (${guard})`;
  });
  return said.join(", ");
}

/** Edges between the same two boxes as one line. */
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

function wayThrough(machine: AnyStateMachine): string {
  const calm = nodesOf(machine.root)
    .flatMap(edgesOf)
    .filter((edge) => !TROUBLE.has(topOf(edge.to)) && !TROUBLE.has(topOf(edge.from)));
  const leaving = calm.filter((edge) => edge.from !== edge.to);
  const inside = (edge: Edge): boolean => edge.from.parent === edge.to.parent && edge.from.parent !== machine.root;
  const boxes = childrenOf(machine.root).flatMap((node) =>
    childrenOf(node).length === 0
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
  const ends = childrenOf(machine.root).flatMap((node) =>
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

function whenItGoesWrong(machine: AnyStateMachine): string {
  const edges = nodesOf(machine.root)
    .flatMap(edgesOf)
    .filter((edge) => edge.from !== edge.to && (TROUBLE.has(topOf(edge.to)) || TROUBLE.has(topOf(edge.from))));
  /** A sub-state that goes where its parent does not go for the same cause is named. */
  const named = (edge: Edge): Edge => {
    const { parent } = edge.from;
    if (parent === undefined || parent === machine.root) return edge;
    const inherited = edgesOf(parent).filter((other) => other.cause === edge.cause);
    return inherited.length === 0 || inherited.some((other) => other.to === edge.to)
      ? edge
      : { ...edge, cause: `${edge.cause} while ${edge.from.key}` };
  };
  return diagram(lines(edges.map(named), topOf));
}

/** What a leaf hears, innermost first; a cause that it handles itself hides its parent's. */
function heardBy(leaf: AnyStateNode): Edge[] {
  const heard: Edge[] = [];
  for (let node: AnyStateNode | undefined = leaf; node !== undefined; node = node.parent) {
    const hidden = new Set(heard.map((edge) => edge.cause));
    heard.push(
      ...edgesOf(node).flatMap((edge) =>
        hidden.has(edge.cause) ? [] : { ...edge, to: edge.to === node ? leaf : edge.to },
      ),
    );
  }
  return heard;
}

const UNITS = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000],
  ["s", 1_000],
] as const;

function spoken(ms: number): string {
  const [unit, size] = UNITS.find(([, each]) => ms >= each && ms % each === 0) ?? (["ms", 1] as const);
  return `${ms / size} ${unit}`;
}

function row(leaf: AnyStateNode): string {
  const { drive, slot } = leaf.meta as StateMeta;
  const clocks = DEADLINES[pathOf(leaf)];
  if (clocks === undefined) throw new Error(`DEADLINES does not say which clock ends ${pathOf(leaf)}`);
  const deadline = clocks
    .map((clock) => `\`${clock}\` ${spoken(DEFAULT_POLICY[clock])}`)
    .join(leaf.key === "retrying" ? " up to " : ", ");
  const heard = heardBy(leaf);
  const targets = new Map<string, Edge[]>();
  for (const edge of heard.filter(({ to }) => to !== leaf))
    targets.set(pathOf(edge.to), [...(targets.get(pathOf(edge.to)) ?? []), edge]);
  const leaves = [...targets].map(([to, edges]) => `**${to}**: ${labels(edges)}`).join("; ");
  const stays = labels(heard.filter(({ to }) => to === leaf));
  const cells = [`\`${pathOf(leaf)}\``, drive, slot ? "yes" : "", deadline, leaves, stays];
  return `| ${cells.map((cell) => cell || "–").join(" | ")} |`;
}

function table(machine: AnyStateMachine): string {
  const head = ["| state | driven by | slot | deadline | leaves to, on | stays on |", "|---|---|---|---|---|---|"];
  return [...head, ...leavesOf(machine.root).map(row)].join("\n");
}

function attemptDrawing(machine: AnyStateMachine): string {
  const edges = nodesOf(machine.root).flatMap(edgesOf);
  const ends = childrenOf(machine.root).flatMap((node) => (node.type === "final" ? `  ${node.key} --> [*]` : []));
  return diagram([`  [*] --> ${machine.root.initial.target?.[0]?.key ?? ""}`, ...lines(edges, plain), ...ends]);
}

/** The whole page, with a final newline. */
export function drawMachines(): string {
  return `${[
    "# The charts",
    "Generated from `task.ts` and `attempt.ts`; do not edit. `UPDATE_DOCS=1 npx vitest run test/machines/readme.test.ts` writes it again.",
    "## The task (`task.ts`)",
    "A line is a transition, its label the cause. In parentheses: what must hold.",
    "### The way through",
    wayThrough(taskMachine),
    "### When it goes wrong, or is called off",
    "Sub-states of `running` and `pushing` are folded into one box. A `timed_out` only counts once the deadline has passed; `policy.ts` says which failures are retryable, and how often.",
    whenItGoesWrong(taskMachine),
    "### State by state",
    "A slot is one of the `SLIPWAY_MAX_CONCURRENT`. Of several clocks the first to run out counts; the times are the defaults.",
    table(taskMachine),
    "## The attempt (`attempt.ts`)",
    "What a worker does in its sandbox, and in which order.",
    attemptDrawing(attemptMachine),
  ].join("\n\n")}\n`;
}
