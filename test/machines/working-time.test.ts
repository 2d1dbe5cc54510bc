import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { TaskEvent } from "../../src/core/event.ts";
import type { Snapshot, TaskContext } from "../../src/core/task.ts";
import { start, stateOf, step } from "../../machines/fold.ts";
import { begin, MOVES, MOVE_NAMES, offer, played, valueName, type MoveName, type Play } from "./player.ts";

const submission = fc.record({
  maxAttempts: fc.integer({ min: 1, max: 4 }),
  pullRequest: fc.constantFrom("none", "draft"),
  from: fc.constantFrom("start", "start", "checkpoint", "push"),
});
const life = fc.constantFrom<MoveName[]>(
  [],
  ["claim"],
  ["claim", "ready"],
  ["claim", "ready", "question"],
  ["claim", "ready", "question", "timed_out"],
  ["claim", "ready", "finished"],
  ["claim", "ready", "cancel"],
);
const moves = fc.array(fc.constantFrom(...MOVE_NAMES.filter((name) => name !== "time_lost")), { maxLength: 40 });

/** The play of the moves that the chart accepts. */
function play(data: object, names: readonly MoveName[]): Play {
  return names.reduce((now, name) => offer(now, MOVES[name](now)) ?? now, begin({ ...data }));
}

/** The snapshot after each event. */
function snapshots(log: readonly TaskEvent[]): Snapshot[] {
  const [first, ...rest] = log;
  const all = [start(first!)];
  for (const event of rest) {
    const next = step(all.at(-1)!, event);
    expect(next, `${event.seq} ${event.type} ${JSON.stringify(event.data)}`).not.toBeNull();
    all.push(next!);
  }
  return all;
}

interface Lost {
  readonly lostMs: number;
  readonly aheadMs: number;
  /** What the times of later events differ by. */
  readonly later: number;
}

/** The log with a notice of lost time after the event `index`. */
function insert(log: readonly TaskEvent[], index: number, { lostMs, aheadMs, later }: Lost): TaskEvent[] {
  const before = log[index]!;
  const data = { level: "info", code: "resumed", text: "", lostMs, graceMs: 0, aheadMs };
  const notice: TaskEvent = {
    ...before,
    seq: before.seq + 1,
    at: before.at + later,
    type: "notice",
    workerSeq: null,
    from: before.to,
    data,
  };
  const rest = log.slice(index + 1).map((event) => ({ ...event, seq: event.seq + 1, at: event.at + later }));
  return [...log.slice(0, index + 1), notice, ...rest];
}

/** What the transitions depend on, besides the deadlines. */
const counters = ({ attempt, excused, streak, pushTries, resourceTries, agentTries, resume, forced }: TaskContext) => ({
  attempt,
  excused,
  streak,
  pushTries,
  resourceTries,
  agentTries,
  resume,
  forced,
});

function sameButLater(plain: Snapshot, shifted: Snapshot, ms: number, isSameParking: boolean): void {
  expect(valueName(shifted)).toBe(valueName(plain));
  expect(counters(shifted.context)).toEqual(counters(plain.context));
  const { dueAt, wallAt } = plain.context;
  expect(shifted.context.dueAt).toBe(dueAt === null ? null : dueAt + (isSameParking ? 0 : ms));
  // Elsewhere it is not in force; while a question is open, the answer moves it.
  if (valueName(plain) === "running.working") expect(shifted.context.wallAt).toBe(wallAt === null ? null : wallAt + ms);
}

/** The time of a person who is asked, with nothing that waits for the work. */
const isPersons = (snapshot: Snapshot): boolean =>
  valueName(snapshot) === "running.parked" ||
  (valueName(snapshot) === "pushing.branch" && snapshot.context.question !== null);

const property = (isSetBack: boolean) =>
  fc.property(
    submission,
    life,
    moves,
    fc.nat(),
    fc.integer({ min: 1, max: 90_000_000 }),
    (data, first, rest, at, ms) => {
      const { log } = play(data, [...first, ...rest]);
      const plain = snapshots(log);
      const index = at % log.length;
      fc.pre(!["done", "failed", "cancelled"].includes(stateOf(plain[index]!)));
      fc.pre(!isSetBack || !plain.slice(index).some(isPersons));
      const shifted = snapshots(
        insert(log, index, isSetBack ? { lostMs: -ms, aheadMs: ms, later: 0 } : { lostMs: ms, aheadMs: 0, later: ms }),
      );
      let isSameParking = isPersons(plain[index]!);
      for (let i = index; i < plain.length; i += 1) {
        isSameParking &&= isPersons(plain[i]!);
        sameButLater(plain[i]!, shifted[i + 1]!, isSetBack ? -ms : ms, isSameParking);
      }
    },
  );

describe("lost time in any log", () => {
  it("[D11] a pause moves every deadline of work by its length and changes nothing else", () => {
    fc.assert(property(false), { numRuns: 500 });
  });

  it("[D11] a clock that is set back moves every deadline with it, and the events go on without a step", () => {
    fc.assert(property(true), { numRuns: 500 });
  });

  it("[D12] no deadline of work passes within the grace", () => {
    for (const names of [["claim"], ["claim", "ready"], ["claim", "ready", "finished"]] as MoveName[][]) {
      const before = played(begin(), ...names);
      const at = (before.snapshot.context.dueAt ?? 0) - before.at - 1;
      const data = { level: "info", code: "resumed", text: "", lostMs: 0, graceMs: 45_000, aheadMs: 0 };
      const after = offer(before, { type: "notice", data, after: at })!;
      expect(after.snapshot.context.dueAt).toBe(after.at + 45_000);
      expect(after.snapshot.context.wallAt ?? Infinity).toBeGreaterThanOrEqual(after.at + 45_000);
    }
  });

  it("a worker's notice loses no time", () => {
    const before = played(begin(), "claim", "ready");
    const data = { level: "info", code: "resumed", text: "", lostMs: 3_600_000 };
    const after = offer(before, { type: "notice", data, after: 0, workerSeq: 2 })!;
    expect(after.snapshot.context.wallAt).toBe(before.snapshot.context.wallAt);
  });
});
