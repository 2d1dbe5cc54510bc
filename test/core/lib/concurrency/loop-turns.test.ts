import { setImmediate } from "node:timers/promises";
import { expect, it } from "vitest";
import { LoopTurns } from "../../../../src/core/lib/concurrency/loop-turns.ts";

/** Counts turns of the event loop until `done` resolves. */
async function countTurns(done: Promise<unknown>): Promise<number> {
  let isDone = false;
  void done.finally(() => (isDone = true));
  let turns = 0;
  for (; !isDone; turns++) await setImmediate();
  return turns;
}

it("[F7] no piece runs in the turn in which it is given, and each of one owner has a turn of its own", async () => {
  const turns = new LoopTurns();
  let begun = 0;
  const pieces = Array.from({ length: 50 }, () => turns.run("user_a", () => Promise.resolve(++begun)));
  await Promise.resolve();
  expect(begun).toBe(0);
  const taken = await countTurns(Promise.all(pieces));
  expect(await Promise.all(pieces)).toEqual(Array.from({ length: 50 }, (_, n) => n + 1));
  expect(taken).toBeGreaterThanOrEqual(50);
});

it("[F7] an owner with a thousand pieces delays another owner's piece by a turn or two", async () => {
  const turns = new LoopTurns();
  let begun = 0;
  const flood = Promise.all(Array.from({ length: 1_000 }, () => turns.run("user_a", () => Promise.resolve(begun++))));
  const taken = await countTurns(turns.run("user_b", () => Promise.resolve()));
  expect(taken).toBeLessThanOrEqual(3);
  expect(begun).toBeLessThanOrEqual(3);
  expect(await countTurns(turns.next("user_c"))).toBeLessThanOrEqual(3);
  await flood;
});

it("[F7] a piece that fails is its caller's failure alone", async () => {
  const turns = new LoopTurns();
  const failed = turns.run("user_a", () => Promise.reject(new Error("no")));
  const next = turns.run("user_a", () => Promise.resolve("yes"));
  await expect(failed).rejects.toThrow("no");
  expect(await next).toBe("yes");
});
