import { expect, it } from "vitest";
import {
  ATTEMPT_STAGES,
  startAttempt,
  stepAttempt,
  type AttemptEvent,
  type AttemptState,
} from "../../machines/attempt.ts";

const after = (...events: AttemptEvent[]): AttemptState => events.reduce(stepAttempt, startAttempt());
const failed: AttemptEvent = { type: "failed", code: "refused", message: "no", evidence: null };
const worked: AttemptEvent = { type: "worked", title: "t", summary: "s" };
const happy: AttemptEvent[] = [
  { type: "ok" },
  { type: "ok" },
  worked,
  { type: "verified", note: "green" },
  { type: "committed", sha: "abc" },
  { type: "ok" },
];

it("success passes every stage but `winding_down`", () => {
  const seen = happy.map((_, index) => after(...happy.slice(0, index)).value);
  expect([...seen, after(...happy).value]).toEqual(ATTEMPT_STAGES.filter((stage) => stage !== "winding_down"));
  expect(after(...happy).context).toEqual({
    title: "t",
    summary: "s\n\ngreen",
    outcome: { kind: "finished", sha: "abc" },
  });
});

it.each([0, 1, 2, 3, 4])(
  "a failure, cancel or deadline in stage %i leads to the report through `winding_down`",
  (length) => {
    const before = happy.slice(0, length);
    const verdicts = [failed, { type: "cancel" } as const, { type: "deadline" } as const].map((event) => {
      expect(after(...before, event).value).toBe("winding_down");
      expect(after(...before, event, { type: "ok" }).value).toBe("report");
      return after(...before, event).context.outcome;
    });
    expect(verdicts).toMatchObject([
      { kind: "failed", code: "refused" },
      { kind: "cancelled" },
      { kind: "failed", code: "deadline_exceeded" },
    ]);
  },
);

it("the first outcome stands", () => {
  const winding = after({ type: "cancel" });
  expect(stepAttempt(winding, { type: "deadline" })).toBe(winding);
  expect(stepAttempt(winding, failed)).toMatchObject({ value: "report", context: { outcome: { kind: "cancelled" } } });
});

it("`ended` is final, and events that a state does not handle change nothing", () => {
  const end = after(...happy);
  for (const event of [...happy, failed, { type: "cancel" } as const]) expect(stepAttempt(end, event)).toBe(end);
  const start = startAttempt();
  expect(stepAttempt(start, worked)).toBe(start);
});
