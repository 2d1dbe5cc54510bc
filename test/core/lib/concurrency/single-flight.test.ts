import { describe, expect, it } from "vitest";
import { createSingleFlight } from "../../../../src/core/lib/concurrency/single-flight.ts";

const never = new AbortController().signal;
const ignore = (): void => undefined;

function createDeferred<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => undefined;
  const promise = new Promise<T>((settle) => (resolve = settle));
  return { promise, resolve };
}

describe("single-flight", () => {
  it("runs the work once for concurrent callers of a key, and again after it ended", async () => {
    const flight = createSingleFlight<number>();
    let runs = 0;
    const work = async (): Promise<number> => ++runs;
    const joinAll = () => Promise.all([1, 2, 3].map(() => flight.join("a", work, ignore, never)));
    expect(await joinAll()).toEqual([1, 1, 1]);
    expect(await joinAll()).toEqual([2, 2, 2]);
    expect(await Promise.all([flight.join("a", work, ignore, never), flight.join("b", work, ignore, never)])).toEqual([
      3, 4,
    ]);
  });

  it("rejects every caller when the work fails, and the next call starts over", async () => {
    const flight = createSingleFlight<string>();
    const fail = (): Promise<string> => Promise.reject(new Error("broken"));
    const results = await Promise.allSettled([1, 2].map(() => flight.join("a", fail, ignore, never)));
    expect(results.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
    expect(await flight.join("a", async () => "ok", ignore, never)).toBe("ok");
  });

  it("one aborted caller rejects with its reason while the others get the result", async () => {
    const flight = createSingleFlight<string>();
    const { promise, resolve } = createDeferred<string>();
    const abort = new AbortController();
    const aborted = flight.join("a", () => promise, ignore, abort.signal);
    const other = flight.join("a", () => promise, ignore, never);
    abort.abort(new Error("left"));
    await expect(aborted).rejects.toThrow("left");
    resolve("done");
    expect(await other).toBe("done");
    await expect(flight.join("a", () => promise, ignore, abort.signal)).rejects.toThrow("left");
  });

  it("reports progress to every caller, and the latest text to a caller that joins later", async () => {
    const flight = createSingleFlight<void>();
    const { promise, resolve } = createDeferred<void>();
    let publish: (text: string) => void = ignore;
    const received: string[][] = [[], []];
    const work = (onProgress: (text: string) => void): Promise<void> => {
      publish = onProgress;
      return promise;
    };
    const first = flight.join("a", work, (text) => received[0]?.push(text), never);
    await Promise.resolve();
    publish("one");
    const second = flight.join("a", work, (text) => received[1]?.push(text), never);
    publish("two");
    resolve();
    await Promise.all([first, second]);
    expect(received).toEqual([
      ["one", "two"],
      ["one", "two"],
    ]);
  });
});
