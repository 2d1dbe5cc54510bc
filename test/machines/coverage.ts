/**
 * Which transitions of the task chart were taken, and the result of each guard; the expected list
 * is read from the chart.
 */
import { getInitialMicrosteps, transition, type SnapshotFrom } from "xstate";
import type { TaskEvent } from "../../src/core/event.ts";
import type { Snapshot } from "../../src/core/task.ts";
import { toMachineEvent, toMachineInput } from "../../machines/stored-events.ts";
import { taskMachine } from "../../machines/task.ts";

type Hydrated = SnapshotFrom<typeof taskMachine>;
type Node = typeof taskMachine.root;
type Transition = ReturnType<typeof taskMachine.getTransitionData>[number];

const hydrate = (snapshot: Snapshot): Hydrated =>
  taskMachine.resolveState({ value: snapshot.value, context: snapshot.context });

function getNodes(node: Node): Node[] {
  return [node, ...Object.values(node.states).flatMap((child) => getNodes(child as Node))];
}

function listCandidates(node: Node): Transition[] {
  return [...[...node.transitions.values()].flat(), ...(node.always ?? [])] as Transition[];
}

/** `task.running.working finished [changed] -> task.pushing`. */
function toName(t: Transition): string {
  const guard = t.guard === undefined ? "" : ` [${String(t.guard)}]`;
  const target = t.target?.map((node) => node.id).join(",") ?? "(stays)";
  return `${t.source.id} ${String(t.eventType) || "always"}${guard} -> ${target}`;
}

/** Every transition must be taken, and every guard must refuse at least once. */
export function demands(): string[] {
  return getNodes(taskMachine.root)
    .flatMap(listCandidates)
    .flatMap((t) =>
      t.guard === undefined ? [`taken: ${toName(t)}`] : [`taken: ${toName(t)}`, `refused: ${toName(t)}`],
    );
}

export class Coverage {
  readonly seen = new Set<string>();

  /**
   * Called before the event is applied to the snapshot. @returns true when the chart accepts it.
   */
  offered(snapshot: Snapshot, event: TaskEvent): boolean {
    const before = hydrate(snapshot);
    const cause = toMachineEvent(event);
    const taken = taskMachine.getTransitionData(before, cause)[0] as Transition | undefined;
    for (const node of pathUp(before)) {
      if (this.#weigh((node.transitions.get(cause.type) ?? []) as Transition[], taken)) break;
    }
    if (taken === undefined) return false;
    const [after] = transition(taskMachine, before, cause);
    this.#eventless(after as Hydrated);
    return true;
  }

  begun(event: TaskEvent): void {
    const steps = getInitialMicrosteps(taskMachine, toMachineInput(event)).map(([snapshot]) => snapshot as Hydrated);
    for (const [i, snapshot] of steps.entries()) {
      const next = steps[i + 1];
      if (next === undefined) {
        this.#eventless(snapshot);
        continue;
      }
      const reached = pathUp(next);
      for (const t of pathUp(snapshot).flatMap((node) => (node.always ?? []) as Transition[])) {
        if (t.target?.some((node) => reached.includes(node as Node))) this.seen.add(`taken: ${toName(t)}`);
      }
    }
  }

  /**
   * Candidates in the chart's order: those before the taken one refused. @returns true when the
   * taken one was among them.
   */
  #weigh(candidates: readonly Transition[], taken: Transition | undefined): boolean {
    for (const candidate of candidates) {
      if (candidate === taken) {
        this.seen.add(`taken: ${toName(candidate)}`);
        return true;
      }
      this.seen.add(`refused: ${toName(candidate)}`);
    }
    return false;
  }

  /** Called for a stable snapshot: all of its `always` guards refused. */
  #eventless(snapshot: Hydrated): void {
    for (const node of pathUp(snapshot)) this.#weigh((node.always ?? []) as Transition[], undefined);
  }
}

/** The active nodes, innermost first: the order in which the chart evaluates them. */
function pathUp(snapshot: Hydrated): Node[] {
  return ([...snapshot._nodes] as Node[]).sort((a, b) => b.path.length - a.path.length);
}
