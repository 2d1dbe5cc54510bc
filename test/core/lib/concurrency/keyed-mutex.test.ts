import { describe, expect, it } from "vitest";
import { KeyedMutex } from "../../../../src/core/lib/concurrency/keyed-mutex.ts";

/** Work that ends when the test resolves it. */
function controlled(log: string[], name: string) {
  let finish = (): void => undefined;
  const finished = new Promise<void>((resolve) => (finish = resolve));
  const work = async (): Promise<string> => {
    log.push(`${name} begins`);
    await finished;
    log.push(`${name} ends`);
    return name;
  };
  return { work, finish };
}

describe("KeyedMutex", () => {
  it("runs work of one key in order, one at a time, and other keys in parallel", async () => {
    const mutex = new KeyedMutex();
    const log: string[] = [];
    const [a, b, other] = [controlled(log, "a"), controlled(log, "b"), controlled(log, "other")];
    const results = [mutex.run("x", a.work), mutex.run("x", b.work), mutex.run("y", other.work)];
    other.finish();
    b.finish();
    await results[2];
    expect(log).toEqual(["a begins", "other begins", "other ends"]);
    a.finish();
    expect(await Promise.all(results)).toEqual(["a", "b", "other"]);
    expect(log.slice(3)).toEqual(["a ends", "b begins", "b ends"]);
    expect([mutex.isBusy("x"), mutex.isBusy("y")]).toEqual([false, false]);
  });

  it("runs the next work after a failure", async () => {
    const mutex = new KeyedMutex();
    const failed = mutex.run("x", () => Promise.reject(new Error("broken")));
    const next = mutex.run("x", () => Promise.resolve("next"));
    await expect(failed).rejects.toThrow("broken");
    expect(await next).toBe("next");
  });

  it("removes waiting work when its signal is aborted, and holds the key until running work ends", async () => {
    const mutex = new KeyedMutex();
    const log: string[] = [];
    const [a, b, c] = [controlled(log, "a"), controlled(log, "b"), controlled(log, "c")];
    const stop = new AbortController();
    const first = mutex.run("x", a.work);
    const second = mutex.run("x", b.work, stop.signal);
    const third = mutex.run("x", c.work);
    stop.abort(new Error("given up"));
    await expect(second).rejects.toThrow("given up");
    await expect(mutex.run("x", b.work, stop.signal)).rejects.toThrow("given up");
    expect(log).toEqual(["a begins"]);
    a.finish();
    c.finish();
    await Promise.all([first, third]);
    expect(log).toEqual(["a begins", "a ends", "c begins", "c ends"]);
  });

  it("an abort after the begin leaves the work running: it holds the key and decides the result", async () => {
    const mutex = new KeyedMutex();
    const log: string[] = [];
    const [a, b] = [controlled(log, "a"), controlled(log, "b")];
    const stop = new AbortController();
    const first = mutex.run("x", a.work, stop.signal);
    const second = mutex.run("x", b.work);
    await expect.poll(() => log).toEqual(["a begins"]);
    stop.abort(new Error("too late"));
    b.finish();
    await new Promise((resolve) => setImmediate(resolve));
    expect([log, mutex.isBusy("x")]).toEqual([["a begins"], true]);
    a.finish();
    expect(await Promise.all([first, second])).toEqual(["a", "b"]);
    expect(log).toEqual(["a begins", "a ends", "b begins", "b ends"]);
  });

  it("is idle once all work has ended, including work that is added during the wait", async () => {
    const mutex = new KeyedMutex();
    const log: string[] = [];
    void mutex.run("x", async () => {
      log.push("first");
      void mutex.run("y", async () => void log.push("second"));
    });
    await mutex.idle();
    expect(log).toEqual(["first", "second"]);
  });
});
