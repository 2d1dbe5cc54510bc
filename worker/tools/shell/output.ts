/** How much of a command's output is shown, and where the rest is. */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { truncate, truncateStart } from "../../lib/text.ts";

const HEAD = 4 * 1024;
const TAIL = 12 * 1024;

export interface LogExcerpt {
  readonly output: string;
  readonly truncated: boolean;
  /** The end of what was looked at, bytes from the beginning of the log. */
  readonly end: number;
}

/** Head and tail of the log from byte `from` on. What is left out can be read in the file. */
export function readLogExcerpt(log: string, from = 0): LogExcerpt {
  const fd = openSync(log, "r");
  try {
    const end = fstatSync(fd).size;
    const bytes = Math.max(0, end - from);
    if (bytes <= HEAD + TAIL) return { output: part(fd, from, bytes), truncated: false, end: from + bytes };
    const head = truncate(part(fd, from, HEAD), HEAD);
    const tail = truncateStart(part(fd, end - TAIL, TAIL), TAIL);
    const left = `[... ${bytes - HEAD - TAIL} bytes left out; the whole output: read {"path": "${log}"} ...]`;
    return { output: `${head}\n${left}\n${tail}`, truncated: true, end };
  } finally {
    closeSync(fd);
  }
}

/** Text of a range of bytes, without the pieces of characters at its ends. */
function part(fd: number, from: number, length: number): string {
  const buffer = Buffer.alloc(length);
  const read = readSync(fd, buffer, 0, length, from);
  let start = 0;
  while (from > 0 && start < 3 && ((buffer[start] ?? 0) & 0xc0) === 0x80) start += 1;
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(buffer.subarray(start, read), { stream: true });
}
