/** What the log proves about the stop of a task: asked, the agent's commands ended, saved, gone. */
import type { WireEvent } from "../../../../src/core/protocol/events.ts";

export interface SavedWork {
  readonly sha: string;
  readonly at: number;
  readonly additions: number;
  readonly deletions: number;
}

export interface StopProof {
  readonly askedAt: number;
  /** The id of the person who asked; null in logs that do not say it. */
  readonly by: string | null;
  /** True = without time to save the work. */
  readonly isForced: boolean;
  /** 0 = no attempt had begun, so there was no container. */
  readonly attempt: number;
  /** Commands that ended after the stop was asked for, and when the last one did. */
  readonly ended: { readonly count: number; readonly at: number } | null;
  /** The last event that was read. */
  readonly seq: number;
  /** A page reads the ends of a long log: some events after the request are not among them. */
  readonly isPart: boolean;
  /** Null = the log is not that far. */
  readonly goneAt: number | null;
}

/** @returns the proof after the event; the first request of a stop begins it. */
export function addToStop(before: StopProof | null, event: WireEvent): StopProof | null {
  const at = Date.parse(event.at);
  const { seq } = event;
  const stop = before === null ? null : { ...before, seq, isPart: before.isPart || seq > before.seq + 1 };
  if (event.type === "task.state" && event.data.reason === "cancel") {
    if (stop !== null) return { ...stop, isForced: stop.isForced || event.data.force };
    const { force, by = null } = event.data;
    const goneAt = event.to === "cancelled" ? at : null;
    return { askedAt: at, by, isForced: force, attempt: event.attempt, ended: null, seq, isPart: false, goneAt };
  }
  if (stop === null) return null;
  if (event.type === "tool.finished") return { ...stop, ended: { count: (stop.ended?.count ?? 0) + 1, at } };
  return event.to === "cancelled" && event.from !== "cancelled" ? { ...stop, goneAt: at } : stop;
}
