/** Live output, of a file that grows. */
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, expect, it } from "vitest";
import { followLines, type Tail } from "../../../worker/tools/shell/tail.ts";

/** Longer than the pause between two pieces, ms. */
const SILENCE_MS = 420;
const PIECE_MS = 400;

let dir: string;
let log: string;
let pieces: { readonly text: string; readonly at: number }[];
let tail: Tail;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "sw-tail-"));
  log = join(dir, "log");
  writeFileSync(log, "");
  pieces = [];
  tail = followLines(log, (text) => pieces.push({ text, at: performance.now() }));
});
afterEach(() => {
  tail.stop();
  rmSync(dir, { recursive: true, force: true });
});

it("[F4] the first line after a silence is shown at once", async () => {
  const late: number[] = [];
  for (let n = 1; n <= 7; n += 1) {
    appendFileSync(log, `line ${n}\n`);
    const written = performance.now();
    await expect.poll(() => pieces.length, { interval: 5 }).toBe(n);
    late.push((pieces.at(-1)?.at ?? Infinity) - written);
    await delay(SILENCE_MS);
  }
  // The middle one: a busy machine delays some.
  expect(late.toSorted((a, b) => a - b)[3], late.join(" ")).toBeLessThan(PIECE_MS / 2);
});

it("[F4] of a flood one piece is shown per pause, in whole lines, and all that fits is shown", async () => {
  const flood = setInterval(() => appendFileSync(log, "one\ntwo\nthr"), 5);
  try {
    await expect.poll(() => pieces.length).toBeGreaterThanOrEqual(4);
  } finally {
    clearInterval(flood);
  }
  const gaps = pieces.slice(1).map(({ at }, index) => at - (pieces[index]?.at ?? at));
  // The clock of timers may be a little ahead.
  expect(Math.min(...gaps)).toBeGreaterThan(PIECE_MS - 5);
  expect(pieces.map(({ text }) => text).join("")).toMatch(/^one\ntwo\n(?:throne\ntwo\n)+$/);
});

it("what is written after the end is not shown, and a second end does nothing", async () => {
  appendFileSync(log, "seen\n");
  await expect.poll(() => pieces.length).toBe(1);
  tail.stop();
  tail.stop();
  appendFileSync(log, "unseen\n");
  await delay(2 * PIECE_MS);
  expect(pieces.map(({ text }) => text)).toEqual(["seen\n"]);
});
