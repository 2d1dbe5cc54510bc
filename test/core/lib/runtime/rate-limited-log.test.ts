/** A log that a repeated fault cannot fill. */
import { beforeEach, expect, it } from "vitest";
import type { Log } from "../../../../src/core/ports/runtime.ts";
import {
  limitLogRate,
  LINES_PER_MINUTE,
  type RateLimitedLog,
} from "../../../../src/core/lib/runtime/rate-limited-log.ts";

let now = 1_000_000;
let lines: string[];
let log: RateLimitedLog;
beforeEach(() => {
  lines = [];
  const write =
    (level: string) =>
    (fields: object, text: string): void =>
      void lines.push(`${level} ${text} ${JSON.stringify(fields)}`);
  const plain: Log = { debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") };
  log = limitLogRate(plain, { now: () => now });
});

const repeat = (times: number, work: () => void): void => {
  for (let i = 0; i < times; i += 1) work();
};

it("[Y4] a line that repeats is written ten times a minute, then counted in one line", () => {
  repeat(26_250, () => log.error({ error: "disk is full (SQLITE_FULL)" }, "could not claim"));
  expect(lines).toHaveLength(LINES_PER_MINUTE);
  now += 60_000;
  log.error({ error: "disk is full (SQLITE_FULL)" }, "could not claim");
  expect(lines).toHaveLength(LINES_PER_MINUTE + 2);
  expect(lines[LINES_PER_MINUTE]).toBe(`error suppressed 26240 more in a minute: could not claim {"suppressed":26240}`);
});

it("[Y4] another text, another code and another level are other lines", () => {
  repeat(20, () => log.warn({}, "a"));
  repeat(20, () => log.warn({}, "b"));
  repeat(20, () => log.error({}, "a"));
  repeat(20, () => log.error({ error: "spawn git EMFILE" }, "a"));
  repeat(20, () => log.error({ code: "internal" }, "a"));
  expect(lines).toHaveLength(5 * LINES_PER_MINUTE);
});

it("[Y4] the same line about different tasks is one line", () => {
  let task = 0;
  repeat(100, () => log.warn({ task: String((task += 1)), error: "boom" }, "a"));
  expect(lines).toHaveLength(LINES_PER_MINUTE);
});

it("[Y4] a fault that has ended is counted by the next line of any kind, or at the end", () => {
  repeat(15, () => log.warn({}, "a"));
  now += 60_000;
  log.info({}, "other");
  expect(lines.slice(LINES_PER_MINUTE)).toEqual([
    'warn suppressed 5 more in a minute: a {"suppressed":5}',
    "info other {}",
  ]);
  repeat(15, () => log.warn({}, "a"));
  log.close();
  expect(lines.at(-1)).toBe('warn suppressed 5 more in a minute: a {"suppressed":5}');
});

it("a clock that is set back begins a new minute; other levels are not limited", () => {
  repeat(15, () => log.warn({}, "a"));
  now -= 3_600_000;
  log.warn({}, "a");
  expect(lines).toHaveLength(LINES_PER_MINUTE + 2);
  repeat(15, () => log.info({}, "a"));
  repeat(15, () => log.debug({}, "a"));
  expect(lines).toHaveLength(LINES_PER_MINUTE + 2 + 30);
});
