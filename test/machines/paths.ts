/**
 * Paths through the task chart. `xstate/graph` walks machines/fold.ts itself (stored events in,
 * snapshots out), so the tested code is the code that runs.
 *
 * G1 Plays that all guards treat alike are one vertex (`vertex`); the rest of the context is
 *    ignored.
 * G2 A path is a list of moves. Its events come from playing it from its submission, so their times
 *    and numbers are consistent.
 */
import { getAdjacencyMap, getShortestPaths, getSimplePaths } from "xstate/graph";
import type { ActorLogic, Snapshot as XSnapshot } from "xstate";
import type { EventData, Proposal, TaskEvent } from "../../src/core/event.ts";
import type { TaskState } from "../../src/core/task.ts";
import { isTimeQuestion } from "../../src/core/budget.ts";
import { isSettled, stateOf } from "../../machines/fold.ts";
import { begin, MOVES, MOVE_NAMES, offer, valueName, type MoveName, type Play } from "./player.ts";

/** The arguments of `record`, and the expected result. */
export interface PathEvent extends Proposal {
  readonly move: MoveName;
  /** Ms on the clock that pass before it is proposed. */
  readonly after: number;
  /** The state and the chart's value after it. */
  readonly state: TaskState;
  readonly value: string;
}

export interface TaskPath {
  /** `start/none: claim > ready > ...` */
  readonly name: string;
  /** The data of `task.submitted`. */
  readonly submitted: EventData;
  readonly events: readonly PathEvent[];
  /** The whole log, `task.submitted` first. */
  readonly log: readonly TaskEvent[];
  readonly end: Play;
}

/**
 * The inputs on which transitions depend. Two attempts are enough for every branch of the policy.
 */
export const SUBMISSIONS: Readonly<Record<string, EventData>> = {
  "start/none": { maxAttempts: 2, pullRequest: "none", from: "start" },
  "start/draft": { maxAttempts: 2, pullRequest: "draft", from: "start" },
  "push/draft": { maxAttempts: 2, pullRequest: "draft", from: "push" },
};

/** The fields that the guards read (G1). */
export function vertex({ snapshot }: Play): string {
  const { value, context: c } = snapshot;
  const counted = c.attempt - c.excused;
  return JSON.stringify([
    value,
    c.resume,
    c.forced,
    c.question === null ? null : isTimeQuestion(c.question.id),
    counted,
    c.pushTries,
    c.resourceTries,
    c.agentTries,
  ]);
}

interface Move {
  readonly type: MoveName;
}
type Walk = XSnapshot<unknown> & { readonly play: Play };
const walk = (play: Play): Walk => ({ status: "active", output: undefined, error: undefined, play });

/** machines/fold.ts in the shape that `xstate/graph` walks; a refused move keeps the state. */
const logic: ActorLogic<Walk, Move, EventData> = {
  transition: (at, move) => walk(offer(at.play, MOVES[move.type](at.play)) ?? at.play),
  getInitialSnapshot: (_scope, input) => walk(begin(input)),
  getPersistedSnapshot: (at) => at,
};

const accepted = (play: Play, names: readonly MoveName[]): Move[] =>
  isSettled(play.snapshot)
    ? []
    : names.filter((name) => offer(play, MOVES[name](play)) !== null).map((type) => ({ type }));

function options(input: EventData, names: readonly MoveName[], serialize: (play: Play) => string) {
  return {
    input,
    events: (at: Walk) => accepted(at.play, names),
    serializeState: (at: Walk) => serialize(at.play),
    serializeEvent: (move: Move) => move.type,
    // An unbounded counter in the vertex would make the walk endless.
    limit: 20_000,
  };
}

/** Every vertex of the chart with one play that reaches it, for each submission. */
export function reachable(): { submission: string; play: Play }[] {
  return Object.entries(SUBMISSIONS).flatMap(([submission, input]) =>
    Object.values(getAdjacencyMap(logic, options(input, MOVE_NAMES, vertex))).map(({ state }) => ({
      submission,
      play: state.play,
    })),
  );
}

/** A path's moves; `xstate/graph` puts an `xstate.init` first. */
const getMoves = (path: { steps: readonly { event: Move }[] }): MoveName[] =>
  path.steps.slice(1).map((step) => step.event.type);

/**
 * For each possible (value, move, next value) that is not covered yet, the shortest path through
 * it.
 */
function edgePaths(input: EventData, seen: Set<string>): MoveName[][] {
  const found: MoveName[][] = [];
  const shortest = getShortestPaths(logic, options(input, MOVE_NAMES, vertex)).sort((a, b) => a.weight - b.weight);
  for (const path of shortest) {
    const { play } = path.state;
    for (const { type } of accepted(play, MOVE_NAMES)) {
      const next = offer(play, MOVES[type](play)) as Play;
      const edge = `${valueName(play.snapshot)} ${type} ${valueName(next.snapshot)}`;
      if (seen.has(edge)) continue;
      seen.add(edge);
      found.push([...getMoves(path), type]);
    }
  }
  return found;
}

/**
 * Moves that change the state, one per kind: few enough to walk every simple path.
 */
const CROSSINGS = [
  "claim",
  "ready",
  "question",
  "answer",
  "finished",
  "fail_transient",
  "push",
  "pull_request",
  "cancel",
  "stopped",
  "timed_out",
] as const satisfies readonly MoveName[];

function simplePaths(input: EventData): MoveName[][] {
  return getSimplePaths(logic, options({ ...input, maxAttempts: 1 }, CROSSINGS, vertex))
    .filter((path) => isSettled(path.state.play.snapshot))
    .map(getMoves);
}

function follow(submission: string, input: EventData, moves: readonly MoveName[]): TaskPath {
  let play = begin(input);
  const events = moves.map((move) => {
    const timed = MOVES[move](play);
    const next = offer(play, timed);
    if (next === null) throw new Error(`${move} was refused after ${moves.join(" > ")}`);
    play = next;
    return { ...timed, move, state: stateOf(play.snapshot), value: valueName(play.snapshot) };
  });
  return {
    name: `${submission}: ${moves.join(" > ")}`,
    submitted: play.log[0]?.data ?? {},
    events,
    log: play.log,
    end: play,
  };
}

/** True when `a` begins with all of `b`. */
const covers = (a: readonly MoveName[], b: readonly MoveName[]): boolean => b.every((move, i) => a[i] === move);

function unique(paths: readonly MoveName[][]): MoveName[][] {
  const kept: MoveName[][] = [];
  for (const path of [...paths].sort((a, b) => b.length - a.length)) {
    if (!kept.some((longer) => covers(longer, path))) kept.push(path);
  }
  return kept;
}

/**
 * Paths that together take every transition of the chart and every simple path to a final state.
 * None is a prefix of another.
 */
export function taskPaths(): TaskPath[] {
  const seen = new Set<string>();
  return Object.entries(SUBMISSIONS).flatMap(([submission, input]) => [
    ...unique(edgePaths(input, seen)).map((moves) => follow(submission, input, moves)),
    ...unique(simplePaths(input)).map((moves) =>
      follow(`${submission}, one attempt`, { ...input, maxAttempts: 1 }, moves),
    ),
  ]);
}
