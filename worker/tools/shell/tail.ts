/** Follows the output of a running command, for people who watch. */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";

/** How often the log is looked at, ms. */
const POLL_MS = 40;
/** Between two pieces; the first after a silence is shown at the next look. */
const PIECE_MS = 400;
/** Bytes of one piece; of more output only the end is shown. */
const MOST = 4 * 1024;

export interface Tail {
  stop(): void;
}

/**
 * Calls `onLines` with whole lines that were added to the log, at most some kilobytes at a time,
 * and the bytes of the log up to their end. A line is never split, so that a secret in it can be
 * recognised.
 */
export function followLines(log: string, onLines: (lines: string, bytes: number) => void): Tail {
  const fd = openSync(log, "r");
  let isOpen = true;
  let shown = 0;
  let shownAt = -Infinity;
  const timer = setInterval(() => {
    if (performance.now() - shownAt < PIECE_MS) return;
    const { lines, end } = readLines(fd, shown);
    shown = end;
    if (lines === "") return;
    shownAt = performance.now();
    onLines(lines, end);
  }, POLL_MS);
  timer.unref();
  return {
    stop() {
      if (!isOpen) return;
      isOpen = false;
      clearInterval(timer);
      closeSync(fd);
    },
  };
}

/** @returns the lines after byte `from`, and the end of the last one. */
function readLines(fd: number, from: number): { lines: string; end: number } {
  const { size } = fstatSync(fd);
  if (size <= from) return { lines: "", end: from };
  const start = Math.max(from, size - MOST);
  const buffer = Buffer.alloc(size - start);
  const bytes = buffer.subarray(0, readSync(fd, buffer, 0, buffer.length, start));
  const last = Math.max(bytes.lastIndexOf(10), bytes.lastIndexOf(13));
  // What was skipped may end within a line.
  const first = start === from ? 0 : bytes.indexOf(10) + 1;
  if (last < first) return { lines: "", end: start === from ? from : start };
  return { lines: bytes.toString("utf8", first, last + 1), end: start + last + 1 };
}
