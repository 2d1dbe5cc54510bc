/**
 * The moves between states that a task may make, written down by hand. The chart in machines/ is
 * not used: folding a log with it cannot reveal that the chart itself accepts a wrong move.
 */
import type { TaskEvent } from "../../core/event.ts";
import type { TaskState } from "../../core/task.ts";

/** The reason of a `task.state`, else the type of the event. */
function causeOf({ type, data }: TaskEvent): string {
  return type === "task.state" ? String(data["reason"]) : type;
}

/** From state to state: the causes. */
const MOVES: Readonly<Partial<Record<TaskState, Readonly<Partial<Record<TaskState, readonly string[]>>>>>> = {
  queued: { provisioning: ["claimed"], failed: ["timed_out"], cancelled: ["cancel"] },
  provisioning: {
    running: ["ready"],
    retrying: ["failed", "timed_out"],
    failed: ["failed", "timed_out"],
    cancelling: ["cancel"],
  },
  running: {
    pushing: ["finished"],
    done: ["finished"],
    retrying: ["failed", "timed_out"],
    failed: ["failed", "timed_out", "answer"],
    queued: ["answer"],
    cancelling: ["cancel"],
    cancelled: ["cancel"],
  },
  pushing: {
    done: ["push", "pull_request"],
    retrying: ["failed", "timed_out"],
    failed: ["failed", "timed_out", "answer"],
    cancelled: ["cancel"],
  },
  retrying: { queued: ["timed_out"], pushing: ["timed_out"], cancelled: ["cancel"] },
  cancelling: { cancelled: ["stopped", "timed_out"] },
};

/** True when the event's move from state to state is one that a task may make. */
export function isLegalMove(event: TaskEvent): boolean {
  const { from, to } = event;
  if (from === null) return event.type === "task.submitted" && (to === "queued" || to === "pushing");
  return from === to || (MOVES[from]?.[to]?.includes(causeOf(event)) ?? false);
}
