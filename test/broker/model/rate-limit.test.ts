/** The provider's rate limits, per family of models and fair between tasks. */
import { describe, expect, it } from "vitest";
import { createProviderRateLimit, type ProviderRateLimit } from "../../../src/broker/model/rate-limit.ts";
import { createManualClock, settle, type ManualClock } from "../../support/manual-clock.ts";

const OPUS = "claude-opus-5-5";
const MINUTE_MS = 60_000;

function open(): { clock: ManualClock; rate: ProviderRateLimit } {
  const clock = createManualClock();
  return { clock, rate: createProviderRateLimit({ clock, longestMs: 5 * MINUTE_MS }) };
}

/** Sends requests of tasks; collects the tasks in the order in which they may be sent. */
function sender(rate: ProviderRateLimit): { sent: string[]; send(taskId: string, ms?: number): Promise<number> } {
  const sent: string[] = [];
  const { signal } = new AbortController();
  return {
    sent,
    async send(taskId, ms = 20 * MINUTE_MS) {
      const leftMs = await rate.remainingMs(OPUS, ms, { taskId, signal });
      if (leftMs === 0) sent.push(taskId);
      return leftMs;
    },
  };
}

describe("[L3] a rate limit of the provider", () => {
  it("holds for the models of its family, and for no others", async () => {
    const { clock, rate } = open();
    rate.noteRefusal(OPUS, 30_000);
    expect(rate.until("claude-opus-4-8")).toBe(clock.now() + 30_000);
    expect(rate.until("claude-haiku-5-5")).toBeNull();
    const { signal } = new AbortController();
    expect(await rate.remainingMs("claude-haiku-5-5", 0, { taskId: "task_1", signal })).toBe(0);
    rate.noteSuccess("claude-haiku-5-5");
    expect(rate.until(OPUS)).not.toBeNull();
    rate.noteSuccess("claude-opus-4-8");
    expect(rate.until(OPUS)).toBeNull();
  });

  it("a request that waits too long gets the rest of the limit; one that is aborted rejects", async () => {
    const { clock, rate } = open();
    rate.noteRefusal(OPUS, 30_000);
    const { send } = sender(rate);
    const late = send("task_1", 20_000);
    await clock.advance(20_000);
    expect(await late).toBe(10_000);
    const gone = new AbortController();
    const aborted = rate.remainingMs(OPUS, 20_000, { taskId: "task_1", signal: gone.signal });
    gone.abort(new Error("gone"));
    await expect(aborted).rejects.toThrow("gone");
  });

  it("after it one request is a probe, every two seconds, until one succeeds; then all go", async () => {
    const { clock, rate } = open();
    const { sent, send } = sender(rate);
    rate.noteRefusal(OPUS, 10_000);
    const all = ["a", "b", "c", "d"].map((task) => send(task));
    await clock.advance(9_000);
    expect(sent).toEqual([]);
    await clock.advance(1_000);
    expect(sent).toEqual(["a"]);
    await clock.advance(2_000);
    expect(sent).toEqual(["a", "b"]);
    rate.noteSuccess(OPUS);
    await Promise.all(all);
    expect(sent).toEqual(["a", "b", "c", "d"]);
  });

  it("the flood of one task does not starve another: who sent least goes first", async () => {
    const { clock, rate } = open();
    const { sent, send } = sender(rate);
    rate.noteRefusal(OPUS, 10_000);
    const flood = Array.from({ length: 20 }, () => send("flood"));
    await settle();
    const quiet = [send("quiet"), send("quiet")];
    await clock.advance(10_000 + 3 * 2_000);
    expect(sent).toEqual(["flood", "quiet", "flood", "quiet"]);
    rate.noteSuccess(OPUS);
    await Promise.all([...flood, ...quiet]);
  });

  it("a probe that is refused makes the others wait for the new time", async () => {
    const { clock, rate } = open();
    const { sent, send } = sender(rate);
    rate.noteRefusal(OPUS, 1_000);
    const waiting = [send("a"), send("b")];
    await clock.advance(1_000);
    expect(sent).toEqual(["a"]);
    rate.noteRefusal(OPUS, 60_000);
    await clock.advance(59_000);
    expect(sent).toEqual(["a"]);
    await clock.advance(1_000);
    expect(sent).toEqual(["a", "b"]);
    await Promise.all(waiting);
  });
});
