/**
 * One stored snapshot per value of the chart, for each released machine version:
 * fixtures/v<version>/<value>.json with the events that it must accept.
 *
 * V1 The fixtures of a released version are never regenerated: a chart that cannot load them needs
 *    a migration, not new fixtures. `UPDATE_FIXTURES=1` writes those of the current version while
 *    it is not released.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { TaskEvent } from "../../src/core/event.ts";
import type { Snapshot } from "../../src/core/task.ts";
import { accepts, effectOf, holdsSlot, isSettled, phaseOf, stateOf, step } from "../../machines/fold.ts";
import { TASK_MACHINE_VERSION } from "../../machines/task.ts";
import { toEvent, MOVES, MOVE_NAMES, offer, valueName, type Play } from "./player.ts";
import { reachable } from "./paths.ts";

interface Fixture {
  readonly snapshot: Snapshot;
  readonly drive: string;
  readonly slot: boolean;
  /** Each event that the snapshot accepts, and the value that it leads to. */
  readonly next: readonly { readonly event: TaskEvent; readonly value: string }[];
}

const folder = join(import.meta.dirname, "fixtures");
const current = `v${TASK_MACHINE_VERSION}`;

function toFixture(play: Play): Fixture {
  const { snapshot } = play;
  const next = MOVE_NAMES.flatMap((name) => {
    const timed = MOVES[name](play);
    const after = offer(play, timed);
    return after === null ? [] : [{ event: toEvent(play, timed), value: valueName(after.snapshot) }];
  });
  return { snapshot, drive: effectOf(snapshot), slot: holdsSlot(snapshot), next };
}

/** The name of a fixture: the value, and for a retry where it goes. */
function toName({ snapshot }: Play): string {
  return valueName(snapshot) === "retrying" ? `retrying-${snapshot.context.resume}` : valueName(snapshot);
}

function fixtures(): Map<string, Fixture> {
  const found = new Map<string, Fixture>();
  for (const { play } of reachable()) if (!found.has(toName(play))) found.set(toName(play), toFixture(play));
  return found;
}

if (process.env["UPDATE_FIXTURES"] === "1") {
  rmSync(join(folder, current), { recursive: true, force: true });
  mkdirSync(join(folder, current), { recursive: true });
  for (const [name, fixture] of fixtures())
    writeFileSync(join(folder, current, `${name}.json`), `${JSON.stringify(fixture, null, 1)}\n`);
}

describe.each(readdirSync(folder))("snapshots of machine version %s", (version) => {
  const files = readdirSync(join(folder, version));

  it.each(files)("[M3] %s loads and accepts each of its next events", (file) => {
    const fixture = JSON.parse(readFileSync(join(folder, version, file), "utf8")) as Fixture;
    const { snapshot } = fixture;
    expect([effectOf(snapshot), holdsSlot(snapshot)]).toEqual([fixture.drive, fixture.slot]);
    expect(phaseOf(snapshot)).not.toBe("");
    expect(fixture.next.length > 0).toBe(!isSettled(snapshot));
    for (const { event, value } of fixture.next) {
      const next = step(snapshot, event);
      expect(next && valueName(next), `${stateOf(snapshot)} ${JSON.stringify(event.data)}`).toBe(value);
    }
    if (!isSettled(snapshot)) expect(accepts(snapshot)).toEqual(expect.arrayContaining(["cancel", "timed_out"]));
  });

  it("[M3] a fixture exists for each value of the version", () => {
    if (version !== current) return;
    expect(files.map((file) => file.replace(/\.json$/, "")).sort()).toEqual([...fixtures().keys()].sort());
  });
});

it("[M3] the fields of the stored context are those of the current version's fixtures", () => {
  const stored = JSON.parse(readFileSync(join(folder, current, "queued.json"), "utf8")) as Fixture;
  expect(Object.keys(stored.snapshot.context)).toEqual(Object.keys(fixtures().get("queued")!.snapshot.context));
});
