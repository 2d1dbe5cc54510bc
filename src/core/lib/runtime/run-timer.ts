/**
 * A time limit that counts only time in which this process ran: a process that is stopped, or a
 * loop that is blocked, lets no limit pass whose work ended meanwhile (rule D11).
 */

/** A wake-up that comes late counts as one of this length, ms. */
const SLICE_MS = 1_000;

export interface RunTimer {
  /** Starts again from the whole time. */
  refresh(): void;
  clear(): void;
}

/** Calls back once, after at least `ms`. */
export function startRunTimer(ms: number, onElapsed: () => void): RunTimer {
  let leftMs = ms;
  let sliceMs = Math.min(leftMs, SLICE_MS);
  let handle = setTimeout(wake, sliceMs);

  function wake(): void {
    leftMs -= sliceMs;
    if (leftMs <= 0) return onElapsed();
    sliceMs = Math.min(leftMs, SLICE_MS);
    handle = setTimeout(wake, sliceMs);
  }

  return {
    refresh() {
      leftMs = ms;
      handle.refresh();
    },
    clear: () => clearTimeout(handle),
  };
}
