/**
 * A log that a fault which repeats cannot fill: a line is written a few times a minute, and those
 * after it are counted. The count is one line, written after the minute or at `close`.
 */
import type { Clock, Log } from "../../ports/runtime.ts";

/** Lines with the same level, text and error code per minute. */
export const LINES_PER_MINUTE = 10;
const MINUTE_MS = 60_000;

type Level = "warn" | "error";

interface Count {
  readonly level: Level;
  readonly text: string;
  readonly since: number;
  written: number;
  suppressed: number;
}

export interface RateLimitedLog extends Log {
  /** Writes the counts of suppressed lines. */
  close(): void;
}

/** Levels `warn` and `error` are limited: the others report what people and tasks do. */
export function limitLogRate(log: Log, clock: Pick<Clock, "now">): RateLimitedLog {
  return new LimitedLog(log, clock);
}

class LimitedLog implements RateLimitedLog {
  readonly #log: Log;
  readonly #clock: Pick<Clock, "now">;
  /** The oldest first. */
  readonly #counts = new Map<string, Count>();

  constructor(log: Log, clock: Pick<Clock, "now">) {
    this.#log = log;
    this.#clock = clock;
  }

  debug(fields: object, text: string): void {
    this.#log.debug(fields, text);
  }

  info(fields: object, text: string): void {
    this.#endMinutes();
    this.#log.info(fields, text);
  }

  warn(fields: object, text: string): void {
    this.#write("warn", fields, text);
  }

  error(fields: object, text: string): void {
    this.#write("error", fields, text);
  }

  close(): void {
    for (const count of this.#counts.values()) this.#report(count);
    this.#counts.clear();
  }

  #write(level: Level, fields: object, text: string): void {
    this.#endMinutes();
    const key = `${level} ${text} ${readCode(fields)}`;
    const count = this.#counts.get(key) ?? { level, text, since: this.#clock.now(), written: 0, suppressed: 0 };
    this.#counts.set(key, count);
    if (count.written === LINES_PER_MINUTE) return void (count.suppressed += 1);
    count.written += 1;
    this.#log[level](fields, text);
  }

  #endMinutes(): void {
    const now = this.#clock.now();
    for (const [key, count] of this.#counts) {
      // A clock that was set back ends the minute as well.
      if (now >= count.since && now - count.since < MINUTE_MS) return;
      this.#counts.delete(key);
      this.#report(count);
    }
  }

  #report({ level, text, suppressed }: Count): void {
    if (suppressed > 0) this.#log[level]({ suppressed }, `suppressed ${suppressed} more in a minute: ${text}`);
  }
}

/** The code of the fields, or the one that the error's text contains. */
function readCode(fields: object): string {
  if ("code" in fields) return String(fields.code);
  return "error" in fields ? (/\b(?:E[A-Z]{3,}|SQLITE_[A-Z]+)\b/.exec(String(fields.error))?.[0] ?? "") : "";
}
