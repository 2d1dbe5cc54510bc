/**
 * Signs of life while a tool or a check runs: it may be silent for an hour and be well, and the
 * coordinator ends an attempt that emits nothing for too long. Only for work that has a time limit
 * of its own.
 */
import type { Clock } from "../../src/core/ports/runtime.ts";
import { isAbort } from "../../src/core/error.ts";
import type { CoordinatorLink } from "../connection/link.ts";
import { stripHidden } from "./hidden-characters.ts";
import { truncate } from "./text.ts";

/** Between two signs of life, unless the coordinator says otherwise, ms. */
export const SIGN_MS = 60_000;
const LINE_LIMIT = 200;

export interface SignsOfLife {
  readonly link: Pick<CoordinatorLink, "emit">;
  readonly clock: Clock;
  /** Between two notices, ms. */
  readonly everyMs: number;
}

/** The progress of a command in notices: the bytes that it printed, and its last line. */
export class OutputSign {
  #bytes = 0;
  #line = "";

  /** @param bytes of all output so far. */
  note(lines: string, bytes: number): void {
    this.#bytes = bytes;
    const last = stripHidden(lines)
      .text.split(/[\r\n]/)
      .findLast((line) => line.trim() !== "");
    if (last !== undefined) this.#line = truncate(last.trim(), LINE_LIMIT);
  }

  readonly describe = (): string =>
    this.#bytes === 0 ? "" : `${this.#bytes.toLocaleString("en")} bytes of output, the last line: ${this.#line}`;
}

/** @param progress what the notices add; empty = nothing. */
export async function withSignsOfLife<T>(
  parts: SignsOfLife,
  what: string,
  work: () => Promise<T>,
  progress: () => string = () => "",
): Promise<T> {
  const ended = new AbortController();
  const telling = repeat(parts, () => [what, progress()], ended.signal);
  try {
    return await work();
  } finally {
    ended.abort();
    await telling;
  }
}

/** Resolves when the signal is aborted. */
async function repeat(
  { link, clock, everyMs }: SignsOfLife,
  look: () => readonly [what: string, progress: string],
  ended: AbortSignal,
): Promise<void> {
  const startedAt = clock.monotonic();
  try {
    for (;;) {
      await clock.sleep(everyMs, ended);
      const seconds = Math.round((clock.monotonic() - startedAt) / 1_000);
      const elapsed = seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
      const [what, progress] = look();
      const text = `${what} has been running for ${elapsed}${progress === "" ? "." : `: ${progress}`}`;
      link.emit("notice", { level: "info", code: "working", text });
    }
  } catch (error) {
    if (!isAbort(error)) throw error;
  }
}
