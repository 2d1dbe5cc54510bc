/**
 * Excerpts of a command's log: its head and its tail, with the path of the complete log.
 *
 * Secrets are removed before the excerpt is cut: half of one is not recognised.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import type { Redaction } from "../../../src/core/lib/json/redaction.ts";
import { truncate, truncateStart } from "../../lib/text.ts";

/** Bytes. */
const HEAD = 4 * 1024;
const TAIL = 12 * 1024;
/** Of a character in UTF-8. */
const MAX_CHAR_BYTES = 4;

export interface LogExcerpt {
  readonly output: string;
  readonly truncated: boolean;
  /** The offset in the log, in bytes, up to which it was read. */
  readonly end: number;
}

/** The head and the tail of the log after byte `from`. */
export function readLogExcerpt(log: string, secrets: Redaction, from = 0): LogExcerpt {
  const fd = openSync(log, "r");
  try {
    const end = fstatSync(fd).size;
    const bytes = Math.max(0, end - from);
    // A job writes on: what was read so far may end within a secret.
    const clean = (at: number, length: number): string => secrets.redactTorn(readText(fd, at, length));
    if (bytes <= HEAD + TAIL) return { output: clean(from, bytes), truncated: false, end: from + bytes };
    const margin = Math.min(MAX_CHAR_BYTES * secrets.longest, bytes - TAIL);
    const head = truncate(clean(from, HEAD + margin), HEAD);
    const tail = truncateStart(clean(end - TAIL - margin, TAIL + margin), TAIL);
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
