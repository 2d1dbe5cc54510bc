/**
 * Position in the log of one task. Invariant: `take` returns seq+1, seq+2, ... without gap or
 * duplicate.
 */
import { isSettledState } from "../core/task.ts";
import type { WireEvent } from "../core/protocol/events.ts";

export interface Cursor {
  readonly seq: number;
  /** True after the event that settled the task, which is the last one. */
  readonly ended: boolean;
  /**
   * Returns the next events in order; `hole` = events before the rest are missing and must be
   * fetched first.
   */
  take(items: readonly WireEvent[]): { readonly events: readonly WireEvent[]; readonly hole: boolean };
}

export function createCursor(after: number): Cursor {
  let seq = after;
  let ended = false;
  return {
    get seq() {
      return seq;
    },
    get ended() {
      return ended;
    },
    take(items) {
      const events: WireEvent[] = [];
      for (const item of items) {
        if (item.seq <= seq) continue;
        if (item.seq > seq + 1) return { events, hole: true };
        events.push(item);
        seq = item.seq;
        ended ||= isSettledState(item.to);
      }
      return { events, hole: false };
    },
  };
}
