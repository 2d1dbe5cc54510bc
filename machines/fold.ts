/**
 * A task is the fold of its events: `start` takes the first, `step` each further one.
 *
 * F1 `step` returns null when the chart does not accept the event: it must not be recorded then.
 * F2 A settled task accepts no event. This is checked here, because xstate's pure transitions also
 *    run on final states.
 * F3 An event of another attempt is not accepted (the fence). Only a claim opens the next attempt.
 */
import { getNextTransitions, type SnapshotFrom } from "xstate";
import type { TaskEvent } from "../src/core/event.ts";
import type { FailureCode } from "../src/core/failure.ts";
import { isSettledState, type Snapshot, type TaskState } from "../src/core/task.ts";
import type { StateEffect, StateMeta } from "./task-events.ts";
import { describeFault, initialContext, NO_INPUT } from "./task-actions.ts";
import { createStepper } from "./pure-transition.ts";
import { toMachineEvent, toMachineInput } from "./stored-events.ts";
import { TASK_MACHINE_VERSION, taskMachine } from "./task.ts";

type Hydrated = SnapshotFrom<typeof taskMachine>;

const chart = createStepper(NO_INPUT);

/** The snapshot of a new task from its first event (`task.submitted`). */
export function start(event: TaskEvent): Snapshot {
  const next = chart.first(toMachineInput(event));
  return { value: next.value as Snapshot["value"], context: next.context };
}

/**
 * The next snapshot, or null when the chart does not accept the event (F1). Pure: the same
 * arguments give the same bytes.
 */
export function step(snapshot: Snapshot, event: TaskEvent): Snapshot | null {
  if (isSettled(snapshot)) return null;
  if (event.attempt !== snapshot.context.attempt + (isClaim(event) ? 1 : 0)) return null;
  const current = hydrate(snapshot);
  const next = chart.next(current, toMachineEvent(event));
  return next === current ? null : { value: next.value as Snapshot["value"], context: next.context };
}

/** The whole log folded; null when some event would not have been accepted. */
export function fold(events: readonly TaskEvent[]): Snapshot | null {
  const [first, ...rest] = events;
  if (first === undefined) return null;
  let snapshot: Snapshot | null = start(first);
  for (const event of rest) {
    snapshot = step(snapshot, event);
    if (snapshot === null) return null;
  }
  return snapshot;
}

export function stateOf(snapshot: Snapshot): TaskState {
  return (typeof snapshot.value === "string" ? snapshot.value : Object.keys(snapshot.value)[0]) as TaskState;
}

/** The sub-state of running or pushing, or the open step of provisioning; null elsewhere. */
export function phaseOf(snapshot: Snapshot): string | null {
  if (typeof snapshot.value !== "string") return Object.values(snapshot.value)[0] ?? null;
  if (snapshot.value !== "provisioning") return null;
  return snapshot.context.steps.findLast((s) => s.endedAt === null)?.name ?? null;
}

export function isSettled(snapshot: Snapshot): boolean {
  return isSettledState(stateOf(snapshot));
}

/** The effect that drives the task now. */
export function effectOf(snapshot: Snapshot): StateEffect {
  return getStateMeta(snapshot).drive;
}

/** True when the task occupies a slot. */
export function holdsSlot(snapshot: Snapshot): boolean {
  return getStateMeta(snapshot).slot;
}

/**
 * The failure that a deadline at this moment of the wall clock would mean; null where it means
 * something else (a question parks, a retry goes on).
 */
export function deadlineFailure(snapshot: Snapshot, now: number): FailureCode | null {
  const stage = stateOf(snapshot);
  if (phaseOf(snapshot) === "awaiting_input") return null;
  if (stage !== "queued" && stage !== "provisioning" && stage !== "running" && stage !== "pushing") return null;
  const at = now + (snapshot.context.aheadMs ?? 0);
  return describeFault(snapshot.context, stage, { type: "timed_out", seq: 0, at, workerSeq: null, jitter: 0 }).code;
}

/**
 * The causes that the chart could accept now (guards not evaluated): what an operator's page may
 * offer.
 */
export function accepts(snapshot: Snapshot): string[] {
  if (isSettled(snapshot)) return [];
  return [
    ...new Set(
      getNextTransitions(hydrate(snapshot))
        .map((t) => String(t.eventType))
        .filter((type) => type !== ""),
    ),
  ];
}

/**
 * Why this version cannot go on with a stored snapshot, for operators; null when it can. Takes
 * anything that a row may hold.
 */
export function explainUnreadable(machineVersion: number, snapshot: unknown): string | null {
  if (machineVersion < 1 || machineVersion > TASK_MACHINE_VERSION)
    return `its machine version is ${machineVersion}, this Slipway knows 1 to ${TASK_MACHINE_VERSION}`;
  if (!isRecord(snapshot) || !isRecord(snapshot["context"])) return "its snapshot is damaged";
  const { value, context } = snapshot;
  const isWhole = ([name, kind]: Field): boolean => (kind === null ? name in context : kindOf(context[name]) === kind);
  const wrong = FIELDS.find((field) => !isWhole(field));
  if (wrong !== undefined) return `its snapshot is damaged: ${wrong[0]} is not as it was written`;
  try {
    getStateMeta({ value: value as Snapshot["value"], context: context as unknown as Snapshot["context"] });
    return null;
  } catch {
    return `its state ${JSON.stringify(value)?.slice(0, 100)} is not one of this Slipway's`;
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const kindOf = (value: unknown): string | null => {
  if (value === null || value === undefined) return null;
  return Array.isArray(value) ? "array" : typeof value;
};
type Field = readonly [name: string, kind: string | null];
/** The fields of every context; null = the kind varies. */
const FIELDS: readonly Field[] = Object.entries(initialContext(NO_INPUT)).map(([name, value]) => [
  name,
  name === "dueAt" ? null : kindOf(value),
]);

const META = new Map<string, StateMeta>();

function getStateMeta(snapshot: Snapshot): StateMeta {
  const path =
    typeof snapshot.value === "string" ? snapshot.value : (Object.entries(snapshot.value)[0]?.join(".") ?? "");
  const known = META.get(path);
  if (known) return known;
  const meta = Object.values(hydrate(snapshot).getMeta()).at(-1);
  if (meta === undefined) throw new Error(`state ${path} has no meta`);
  META.set(path, meta);
  return meta;
}

function hydrate(snapshot: Snapshot): Hydrated {
  return taskMachine.resolveState({ value: snapshot.value, context: snapshot.context });
}

function isClaim(event: TaskEvent): boolean {
  return event.type === "task.state" && event.data["reason"] === "claimed";
}
