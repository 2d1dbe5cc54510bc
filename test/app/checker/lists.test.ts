/** Lists that a hostile worker fills: what the store writes is what the checker derives. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { checkDatabase } from "../../../src/app/checker/checks/database.ts";
import type { EventData, WorkerEventType } from "../../../src/core/event.ts";
import { openInspection } from "../../../src/store/sqlite/inspection/inspection.ts";
import { openSqliteStore } from "../../../src/store/sqlite/store.ts";
import { openHarness, type Harness } from "../../support/coordinator/harness.ts";
import { ROOT } from "../../support/process/server.ts";
import { injure } from "./healthy-folder.ts";

const migrations = join(ROOT, "migrations/sqlite");
let dir: string;
let harness: Harness;
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "slipway-lists-"));
  harness = await openHarness({ store: openSqliteStore({ dir, migrations }).store });
});
afterEach(async () => {
  await harness.close();
  await harness.store.close();
  rmSync(dir, { recursive: true, force: true });
});

function findings(): string[] {
  const inspection = openInspection(dir, migrations);
  try {
    return checkDatabase(inspection, 4).findings.map(({ rule, detail }) => `${rule}: ${detail}`);
  } finally {
    inspection.close();
  }
}

/** The ids of the worker's calls and their output, in a running task. */
async function fill(...events: (readonly [WorkerEventType, EventData])[]): Promise<void> {
  const { id } = await harness.submit();
  await harness.untilWorker(id);
  const { fakeWorkers, coordinator } = harness;
  await fakeWorkers.send(coordinator.workerApi, id, ["ready", {}], ...events);
}

const begun = (id: string, name = "bash"): [WorkerEventType, EventData] => ["tool.started", { id, name, input: {} }];
const ended = (id: string, output: string): [WorkerEventType, EventData] => [
  "tool.finished",
  { id, name: "bash", output, exitCode: 0, ms: 1, truncated: false },
];

it("[M4] two calls that run at once under one id may be one row or two, as versions of the store differ", async () => {
  await fill(begun("a"), begun("a"), ended("a", "out"), begun("a"), ended("a", "again"));
  expect(findings()).toEqual([]);
  injure(dir, (db) => db.exec("DELETE FROM tool_calls WHERE seq = (SELECT min(seq) + 1 FROM tool_calls)"));
  expect(findings()).toEqual([]);
});

it("[M4] texts with halves of surrogate pairs, which SQLite cannot store as they are, are no finding", async () => {
  const half = "\ud800";
  await fill(begun("a", `name ${half}`), ended("a", `${half}${"x".repeat(100)}${half}`), [
    "message",
    { id: "m", role: "assistant", content: [{ type: "text", text: `${half} and \ufffd` }] },
  ]);
  expect(findings()).toEqual([]);
});
