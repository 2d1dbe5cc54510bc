/** What a drain waits for (rule D15). */
import { holdsSlot, phaseOf } from "../../../machines/fold.ts";
import type { Store } from "../../core/ports/store.ts";
import type { Task } from "../../core/task.ts";
import { readTasks } from "../read-lists.ts";
import type { Scheduler } from "./scheduler.ts";

export interface Drain {
  readonly since: number;
  /** Tasks that run or push, the one that runs longest first. Without those that rest. */
  readonly running: readonly Task[];
  /** Slots whose task runs no longer: its sandbox is being removed, its work is being saved. */
  readonly clearing: number;
}

/** Tasks in these states may have work that is in no repository yet, or a push under way. */
const WORKING = ["provisioning", "running", "pushing", "cancelling"] as const;

/** Null while the queue does not drain. */
export async function surveyDrain(
  scheduler: Pick<Scheduler, "mode" | "slotsUsed">,
  store: Pick<Store, "tasks">,
): Promise<Drain | null> {
  const mode = scheduler.mode();
  if (mode.state !== "draining") return null;
  const running: Task[] = [];
  for await (const task of readTasks(store, { userId: null, states: WORKING })) if (!rests(task)) running.push(task);
  const holders = running.filter(({ snapshot }) => holdsSlot(snapshot)).length;
  return {
    since: mode.since,
    running: running.toSorted((a, b) => startOf(a) - startOf(b)),
    clearing: Math.max(0, scheduler.slotsUsed() - holders),
  };
}

/** It waits for a person, and nothing of it runs. */
function rests({ state, snapshot }: Task): boolean {
  return phaseOf(snapshot) === "parked" || (state === "pushing" && snapshot.context.question !== null);
}

const startOf = ({ snapshot, createdAt }: Task): number => snapshot.context.startedAt ?? createdAt;
