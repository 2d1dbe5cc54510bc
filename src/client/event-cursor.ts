/**
 * Where a reader of one task's log stands. Invariant: what `take` gives is seq+1, seq+2, ...
 * without hole or double.
 */
import { isSettledState } from "../core/task.ts";
import type { WireEvent } from "../core/protocol/rest.ts";

export interface Cursor {
  readonly seq: number;
  /** True once the event that settled the task was given: nothing follows it. */
  readonly ended: boolean;
  /**
   * The next events in order; `hole` when what came leaves some out, which have to be fetched
   * first.
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
