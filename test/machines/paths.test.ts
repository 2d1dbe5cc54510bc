import { describe, expect, it } from "vitest";
import { accepts, fold, isSettled, start, step } from "../../machines/fold.ts";
import { toMachineEvent } from "../../machines/stored-events.ts";
import { Coverage, demands } from "./coverage.ts";
import { begin, MOVES, MOVE_NAMES, offer, toEvent, valueName, type Play } from "./player.ts";
import { reachable, SUBMISSIONS, taskPaths } from "./paths.ts";

const paths = taskPaths();

describe("paths through the task chart", () => {
  it("[T1] every path folds to the snapshot of its last step, byte for byte", () => {
    for (const path of paths) {
      expect(JSON.stringify(fold(path.log)), path.name).toBe(JSON.stringify(path.end.snapshot));
    }
  });

  it("[T4] on every path seq is contiguous and each event starts in the state where the previous one ended", () => {
    for (const { log, name } of paths) {
      log.forEach((event, i) => {
        expect(event.seq, name).toBe(i + 1);
        expect(event.from, name).toBe(i === 0 ? null : log[i - 1]!.to);
      });
    }
  });

  it("take every transition of the chart and make every guard refuse once", () => {
    const coverage = new Coverage();
    for (const { log } of paths) {
      coverage.begun(log[0]!);
      let snapshot = start(log[0]!);
      for (const event of log.slice(1)) {
        expect(coverage.offered(snapshot, event)).toBe(true);
        snapshot = step(snapshot, event)!;
      }
    }
    // Refused moves are on no path, so they are offered here.
    for (const { play } of reachable()) {
      if (isSettled(play.snapshot)) continue;
      for (const name of MOVE_NAMES) {
        const event = toEvent(play, MOVES[name](play));
        if (step(play.snapshot, event) === null)
          expect(coverage.offered(play.snapshot, event), `${valueName(play.snapshot)} ${name}`).toBe(false);
      }
    }
    expect(demands().filter((demand) => !coverage.seen.has(demand))).toEqual([]);
  });

  it("are not prefixes of one another and reach every value", () => {
    const names = paths.map((path) => path.name);
    expect(names.filter((name) => names.some((other) => other.startsWith(`${name} > `)))).toEqual([]);
    const values = new Set(
      paths.flatMap((path) => [valueName(begin(path.submitted).snapshot), ...path.events.map((event) => event.value)]),
    );
    expect([...values].sort()).toEqual(VALUES);
  });

  it("offer only causes that some move can trigger", () => {
    const offered = new Set(reachable().flatMap(({ play }) => accepts(play.snapshot)));
    const brought = new Set<string>();
    for (const { play } of reachable()) {
      for (const name of MOVE_NAMES) if (offer(play, MOVES[name](play)) !== null) brought.add(causeName(play, name));
    }
    expect([...offered].filter((cause) => !brought.has(cause))).toEqual([]);
  });

  it("start from every kind of submission", () => {
    expect(new Set(paths.map((path) => path.name.split(/[:,]/)[0]))).toEqual(new Set(Object.keys(SUBMISSIONS)));
  });
});

const VALUES = [
  "cancelled",
  "cancelling",
  "done",
  "failed",
  "provisioning",
  "pushing.branch",
  "pushing.pull_request",
  "queued",
  "retrying",
  "running.awaiting_input",
  "running.parked",
  "running.working",
];

function causeName(play: Play, name: (typeof MOVE_NAMES)[number]): string {
  return toMachineEvent(toEvent(play, MOVES[name](play))).type;
}
