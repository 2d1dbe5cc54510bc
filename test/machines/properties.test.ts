import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isSettledState, type Snapshot } from "../../src/core/task.ts";
import { effectOf, fold, holdsSlot, isSettled, stateOf, step } from "../../machines/fold.ts";
import { countedAttempts } from "../../machines/retry-policy.ts";
import { begin, toEvent, MOVES, MOVE_NAMES, valueName, type Play } from "./player.ts";

/**
 * A proposal after some time, perhaps of another attempt. Most are refused.
 */
const saying = fc.record({
  move: fc.constantFrom(...MOVE_NAMES),
  extra: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(90_000_000) }),
  attempt: fc.oneof(
    { weight: 9, arbitrary: fc.constant(0) },
    { weight: 1, arbitrary: fc.integer({ min: -2, max: 2 }) },
  ),
});
/** A likely start: random proposals alone would seldom leave the queue. */
const life = fc.constantFrom(
  [],
  ["claim"],
  ["claim", "ready"],
  ["claim", "ready", "question"],
  ["claim", "ready", "question", "timed_out"],
  ["claim", "ready", "finished"],
) as fc.Arbitrary<(keyof typeof MOVES)[]>;
const submission = fc.record({
  maxAttempts: fc.integer({ min: 1, max: 4 }),
  pullRequest: fc.constantFrom("none", "draft", "ready"),
  from: fc.constantFrom("start", "start", "checkpoint", "push"),
});
const SLOTTED = new Set(["provisioning", "running.working", "running.awaiting_input", "cancelling"]);

/** Invariants of one accepted step; `play` before, `next` after. */
function check(before: Snapshot, next: Snapshot): void {
  const was = before.context;
  const now = next.context;
  const state = stateOf(next);
  expect(isSettled(before)).toBe(false);
  expect(now.seq).toBe(was.seq + 1);
  expect(now.attempt - was.attempt).toBe(state === "provisioning" && stateOf(before) !== "provisioning" ? 1 : 0);
  expect(countedAttempts(now)).toBeLessThanOrEqual(now.maxAttempts);
  expect(countedAttempts(now)).toBeGreaterThanOrEqual(0);
  expect(now.excused).toBeGreaterThanOrEqual(was.excused);
  expect(now.dueAt === null).toBe(isSettledState(state));
  expect(now.settledAt !== null).toBe(isSettledState(state));
  expect(now.dueAt === null || Number.isSafeInteger(now.dueAt)).toBe(true);
  expect(holdsSlot(next)).toBe(SLOTTED.has(valueName(next)));
  expect(effectOf(next) === "retire").toBe(isSettledState(state));
  // A push that is held back asks too.
  if (valueName(next) !== "pushing.branch")
    expect(now.question !== null).toBe(["running.awaiting_input", "running.parked"].includes(valueName(next)));
  expect(now.outcome !== null).toBe(state === "done");
  if (state === "failed" || state === "retrying") expect(now.failure).not.toBeNull();
  if (state === "done" || state === "running") expect(now.failure).toBeNull();
  expect(JSON.stringify(JSON.parse(JSON.stringify(next)))).toBe(JSON.stringify(next));
}

function live(start: Play, sayings: readonly { move: keyof typeof MOVES; extra: number; attempt: number }[]): Play {
  let play = start;
  for (const { move, extra, attempt } of sayings) {
    const timed = MOVES[move](play);
    const draft = toEvent(play, { ...timed, after: timed.after + extra });
    const event = { ...draft, attempt: draft.attempt + attempt };
    const settled = isSettled(play.snapshot);
    const next = step(play.snapshot, event);
    if (next === null) continue;
    expect(settled).toBe(false);
    expect(attempt).toBe(0);
    if (move === "timed_out" || move === "timed_out_early")
      expect(event.at).toBeGreaterThanOrEqual(play.snapshot.context.dueAt ?? Infinity);
    check(play.snapshot, next);
    play = { snapshot: next, at: event.at, log: [...play.log, { ...event, to: stateOf(next) }] };
  }
  return play;
}

describe("any sequence of events", () => {
  it("[T1] [T2] [T4] [T5] [T6] [D6] keeps the invariants and folds to the same bytes", () => {
    let settled = 0;
    fc.assert(
      fc.property(submission, life, fc.array(saying, { maxLength: 60 }), (data, first, sayings) => {
        const play = live(begin(data), [...first.map((move) => ({ move, extra: 0, attempt: 0 })), ...sayings]);
        expect(JSON.stringify(fold(play.log))).toBe(JSON.stringify(play.snapshot));
        expect(play.log.map((event) => event.seq)).toEqual(play.log.map((_, i) => i + 1));
        if (isSettled(play.snapshot)) settled++;
      }),
      { numRuns: 400 },
    );
    expect(settled).toBeGreaterThan(50);
  });

  it("[T3] time alone settles the task after any sequence", () => {
    fc.assert(
      fc.property(submission, life, fc.array(saying, { maxLength: 30 }), (data, first, sayings) => {
        let play = live(begin(data), [...first.map((move) => ({ move, extra: 0, attempt: 0 })), ...sayings]);
        for (let i = 0; i < 40 && !isSettled(play.snapshot); i++)
          play = live(play, [{ move: "timed_out", extra: 0, attempt: 0 }]);
        expect(isSettled(play.snapshot)).toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  it("[D7] a cancel and the stop of its sandbox settle the task after any sequence", () => {
    fc.assert(
      fc.property(submission, life, fc.array(saying, { maxLength: 30 }), (data, first, sayings) => {
        const play = live(begin(data), [...first.map((move) => ({ move, extra: 0, attempt: 0 })), ...sayings]);
        const end = live(
          play,
          (["cancel", "stopped"] as const).map((move) => ({ move, extra: 0, attempt: 0 })),
        );
        expect(isSettled(end.snapshot)).toBe(true);
      }),
      { numRuns: 200 },
    );
  });
});
