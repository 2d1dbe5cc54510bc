/** Follows the output of a running command, for people who watch. */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";

const POLL_MS = 400;
/** Bytes of one poll; of more output only the end is shown. */
const MOST = 4 * 1024;

export interface Tail {
  stop(): void;
}

/**
 * Calls `onLines` with whole lines that were added to the log, at most some kilobytes at a time. A
 * line is never split, so that a secret in it can be recognised.
 */
export function followLines(log: string, onLines: (lines: string) => void): Tail {
  let shown = 0;
  const timer = setInterval(() => {
    const { lines, end } = readLines(log, shown);
    shown = end;
    if (lines !== "") onLines(lines);
  }, POLL_MS);
  timer.unref();
  return { stop: () => clearInterval(timer) };
}

/** @returns the lines after byte `from`, and the end of the last one. */
function readLines(log: string, from: number): { lines: string; end: number } {
  const fd = openSync(log, "r");
  try {
    const { size } = fstatSync(fd);
    const start = Math.max(from, size - MOST);
    const buffer = Buffer.alloc(Math.max(0, size - start));
    const bytes = buffer.subarray(0, readSync(fd, buffer, 0, buffer.length, start));
    const last = Math.max(bytes.lastIndexOf(10), bytes.lastIndexOf(13));
    // What was skipped may end within a line.
    const first = start === from ? 0 : bytes.indexOf(10) + 1;
    if (last < first) return { lines: "", end: start === from ? from : start };
    return { lines: bytes.toString("utf8", first, last + 1), end: start + last + 1 };
  } finally {
    closeSync(fd);
  }
}
