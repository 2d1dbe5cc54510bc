/** The weighted FIFO semaphore. */
import { expect, it } from "vitest";
import { Semaphore, type Release } from "../../src/broker/semaphore.ts";
import { settle } from "../support/manual-clock.ts";

const never = new AbortController().signal;

/** Asks for permits; notes its name once it has them. */
function ask(semaphore: Semaphore, entered: string[], name: string, weight: number, signal = never): Promise<Release> {
  const turn = semaphore.acquire(weight, signal);
  turn.then(
    () => entered.push(name),
    () => undefined,
  );
  return turn;
}

it("permits are granted in the order of the requests, and no request overtakes another", async () => {
  const semaphore = new Semaphore(10);
  const entered: string[] = [];
  const first = await ask(semaphore, entered, "first", 4);
  const second = await ask(semaphore, entered, "second", 4);
  const heavy = ask(semaphore, entered, "heavy", 10);
  const small = ask(semaphore, entered, "small", 1);
  const none = ask(semaphore, entered, "none", 0);
  await settle();
  expect([entered, semaphore.waiting]).toEqual([["first", "second"], 3]);
  first();
  await settle();
  expect(entered).toHaveLength(2);
  second();
  await heavy;
  await settle();
  expect([entered, semaphore.waiting]).toEqual([["first", "second", "heavy"], 2]);
  (await heavy)();
  await Promise.all([small, none]);
  expect(entered).toEqual(["first", "second", "heavy", "small", "none"]);
});

it("an aborted request leaves the queue, and the requests behind it proceed", async () => {
  const semaphore = new Semaphore(10);
  const entered: string[] = [];
  const stop = new AbortController();
  const held = await semaphore.acquire(5, never);
  const heavy = ask(semaphore, entered, "heavy", 8, stop.signal);
  const small = ask(semaphore, entered, "small", 5);
  const reason = new Error("gone");
  stop.abort(reason);
  await expect(heavy).rejects.toBe(reason);
  (await small)();
  held();
  (await semaphore.acquire(10, never))();
  await expect(semaphore.acquire(1, stop.signal)).rejects.toBe(reason);
  expect([entered, semaphore.waiting]).toEqual([["small"], 0]);
});

it("aborting the signal after permits are granted has no effect", async () => {
  const semaphore = new Semaphore(1);
  const stop = new AbortController();
  const held = await semaphore.acquire(1, never);
  const next = semaphore.acquire(1, stop.signal);
  held();
  stop.abort();
  const release = await next;
  const last = ask(semaphore, [], "last", 1);
  expect(semaphore.waiting).toBe(1);
  release();
  (await last)();
});

it("a second release has no effect", async () => {
  const semaphore = new Semaphore(2);
  const one = await semaphore.acquire(1, never);
  await semaphore.acquire(1, never);
  one();
  one();
  await semaphore.acquire(1, never);
  void semaphore.acquire(1, never);
  expect(semaphore.waiting).toBe(1);
});

it("a weight above the total, negative or NaN is rejected immediately", async () => {
  const semaphore = new Semaphore(3);
  for (const weight of [4, -1, NaN, Infinity])
    await expect(semaphore.acquire(weight, never)).rejects.toThrow(RangeError);
  (await semaphore.acquire(3, never))();
});

it("after many turns in disorder everything is free again", async () => {
  const semaphore = new Semaphore(7);
  const turns = Array.from({ length: 500 }, async (_, i) => {
    const stop = new AbortController();
    const turn = semaphore.acquire(i % 8, stop.signal);
    if (i % 3 === 0) stop.abort();
    const release = await turn.catch(() => null);
    await settle(i % 4);
    release?.();
  });
  await Promise.all(turns);
  expect(semaphore.waiting).toBe(0);
  (await semaphore.acquire(7, never))();
});
