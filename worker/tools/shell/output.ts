/** Excerpts of a command's log: its head and its tail, with the path of the complete log. */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { truncate, truncateStart } from "../../lib/text.ts";

/** Bytes. */
const HEAD = 4 * 1024;
const TAIL = 12 * 1024;

export interface LogExcerpt {
  readonly output: string;
  readonly truncated: boolean;
  /** The offset in the log, in bytes, up to which it was read. */
  readonly end: number;
}

/** The head and the tail of the log after byte `from`. */
export function readLogExcerpt(log: string, from = 0): LogExcerpt {
  const fd = openSync(log, "r");
  try {
    const end = fstatSync(fd).size;
    const bytes = Math.max(0, end - from);
    if (bytes <= HEAD + TAIL) return { output: readText(fd, from, bytes), truncated: false, end: from + bytes };
    const head = truncate(readText(fd, from, HEAD), HEAD);
    const tail = truncateStart(readText(fd, end - TAIL, TAIL), TAIL);
    const omitted = `[... ${bytes - HEAD - TAIL} bytes left out; the complete output: read {"path": "${log}"} ...]`;
    return { output: `${head}\n${omitted}\n${tail}`, truncated: true, end };
  } finally {
    closeSync(fd);
  }
}

/** The text of a range of bytes, without incomplete characters at its ends. */
function readText(fd: number, from: number, length: number): string {
  const buffer = Buffer.alloc(length);
  const read = readSync(fd, buffer, 0, length, from);
  let start = 0;
  while (from > 0 && start < 3 && ((buffer[start] ?? 0) & 0xc0) === 0x80) start += 1;
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(buffer.subarray(start, read), { stream: true });
}
