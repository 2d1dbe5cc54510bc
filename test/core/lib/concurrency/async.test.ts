import { getEventListeners } from "node:events";
import { describe, expect, it } from "vitest";
import {
  allOrAbort,
  ignoreAbort,
  raceAbort,
  STATE_LEFT,
  withAnySignal,
  withTimeout,
} from "../../../../src/core/lib/concurrency/async.ts";
import { createManualClock } from "../../../support/manual-clock.ts";

const unsettled = (): Promise<never> => new Promise(() => undefined);
const reason = new Error("aborted");
const abortedSignal = (): AbortSignal => AbortSignal.abort(reason);

describe("raceAbort", () => {
  it("settles like the work", async () => {
    const { signal } = new AbortController();
    expect(await raceAbort(Promise.resolve(1), signal)).toBe(1);
    await expect(raceAbort(Promise.reject(new Error("broken")), signal)).rejects.toThrow("broken");
  });

  it("rejects with the reason when the signal is aborted before or during the work", async () => {
    await expect(raceAbort(unsettled(), abortedSignal())).rejects.toBe(reason);
    const abort = new AbortController();
    const waiting = raceAbort(unsettled(), abort.signal);
    abort.abort(reason);
    await expect(waiting).rejects.toBe(reason);
  });
});

describe("ignoreAbort", () => {
  it("resolves on abort, and rejects when the work failed before", async () => {
    await ignoreAbort(unsettled(), abortedSignal());
    const { signal } = new AbortController();
    await expect(ignoreAbort(Promise.reject(new Error("broken")), signal)).rejects.toThrow("broken");
  });
});

describe("allOrAbort", () => {
  it("aborts the other works on the first failure, waits for them, and rejects with that failure", async () => {
    const ended: string[] = [];
    const failing = (): Promise<void> => Promise.reject(new Error("first"));
    const waiting = async (signal: AbortSignal): Promise<void> => {
      await raceAbort(unsettled(), signal).catch((error: unknown) => expect(error).toBe(STATE_LEFT));
      ended.push("waiting");
      throw new Error("second");
    };
    await expect(allOrAbort(new AbortController().signal, [waiting, failing])).rejects.toThrow("first");
    expect(ended).toEqual(["waiting"]);
  });
});

describe("withTimeout", () => {
  it("settles like the work, or rejects when the time has passed", async () => {
    const clock = createManualClock(0);
    expect(await withTimeout(100, Promise.resolve(1), clock)).toBe(1);
    const late = withTimeout(100, unsettled(), clock);
    const [result] = await Promise.allSettled([late, clock.advance(100)]);
    expect(result).toMatchObject({ status: "rejected", reason: { message: "it took longer than 100 ms" } });
  });
});

describe("withAnySignal", () => {
  const count = (signal: AbortSignal): number => getEventListeners(signal, "abort").length;

  it("gives the work a signal that is aborted with the first of its sources, and with that one's reason", async () => {
    const [first, second] = [new AbortController(), new AbortController()];
    const waiting = withAnySignal([first.signal, second.signal], (signal) => raceAbort(unsettled(), signal));
    second.abort(reason);
    first.abort(new Error("later"));
    await expect(waiting).rejects.toBe(reason);
    const late = withAnySignal([new AbortController().signal, abortedSignal()], (signal) =>
      raceAbort(unsettled(), signal),
    );
    await expect(late).rejects.toBe(reason);
  });

  it("[F8] leaves nothing on a source once the work has settled, however it settled", async () => {
    const { signal } = new AbortController();
    let during = 0;
    const look = (): Promise<void> => Promise.resolve(void (during = count(signal)));
    await withAnySignal([signal], look);
    await withAnySignal([signal], () => Promise.reject(reason)).catch(() => undefined);
    expect([during, count(signal)]).toEqual([1, 0]);
  });
});
