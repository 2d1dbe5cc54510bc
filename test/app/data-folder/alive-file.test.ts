import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { openAliveFile } from "../../../src/app/data-folder/alive-file.ts";
import { systemIds } from "../../../src/app/system.ts";
import { createManualClock } from "../../support/manual-clock.ts";
import { quiet } from "../../support/coordinator/harness.ts";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "slipway-alive-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

it("[D11] the heartbeat of one process is the last sign of life for the next", () => {
  const first = openAliveFile(dir, quiet);
  expect(first.last()).toBeNull();
  first.beat(1_700_000_000_000);
  first.beat(1_700_000_001_000.7);
  expect(openAliveFile(dir, quiet).last()).toBe(1_700_000_001_000);
  first.close();
  const next = openAliveFile(dir, quiet);
  next.beat(5);
  expect(next.last()).toBe(5);
  next.close();
});

it("[D11] a beat is written in place: the file never grows, shrinks or moves", () => {
  const file = openAliveFile(dir, quiet);
  file.beat(1);
  const before = statSync(join(dir, "alive"));
  file.beat(1_700_000_000_000);
  const { ino, size, blocks, mode } = statSync(join(dir, "alive"));
  expect({ ino, size, blocks }).toEqual({ ino: before.ino, size: before.size, blocks: before.blocks });
  expect(mode & 0o777).toBe(0o600);
  file.close();
});

it("a file that was cut off or changed by hand says nothing", () => {
  writeFileSync(join(dir, "alive"), "17000");
  const file = openAliveFile(dir, quiet);
  expect(file.last()).toBeNull();
  file.beat(1_700_000_000_000);
  expect(readFileSync(join(dir, "alive"), "utf8")).toBe("01700000000000\n");
  file.close();
});

it("a folder that cannot be written is reported once, and never throws", () => {
  const warnings: string[] = [];
  const file = openAliveFile(join(dir, "missing"), { ...quiet, warn: (_, text) => void warnings.push(text) });
  file.beat(1);
  file.beat(2);
  expect(warnings).toHaveLength(1);
  file.close();
});

it("ids of a process sort behind those of the one before, even when the clock was set back", () => {
  const clock = createManualClock();
  const before = systemIds(clock);
  const old = before.next("task");
  clock.setWall(-3_600_000);
  const after = systemIds(clock, clock.now() + 3_600_000);
  const ids = [old, after.next("task"), after.next("task")];
  expect(ids.slice(1)).toEqual(ids.slice(1).toSorted());
  expect(after.next("task").slice(0, 15) >= old.slice(0, 15)).toBe(true);
});
