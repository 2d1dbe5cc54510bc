import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { openBroker } from "../../src/broker/server.ts";
import { MemoryWorkerApi } from "../worker/memory-worker-api.ts";
import { quiet, SECRET } from "../worker/rig.ts";
import type { Broker } from "../../src/core/ports/broker.ts";

let dir: string;
let broker: Broker;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "sb-"));
  broker = openBroker({
    dir,
    workerApi: new MemoryWorkerApi(),
    repoPath: () => "/nowhere",
    secrets: () => [SECRET],
    instance: "test",
    log: quiet,
  });
});
afterEach(async () => {
  await broker.close();
  rmSync(dir, { recursive: true, force: true });
});

it("removes the sockets of ended attempts, and keeps those of open or expected attempts and unknown files", async () => {
  await broker.open("task_open", 1);
  for (const name of ["task_over-a1", "task_wanted-a2", "pool-1"]) mkdirSync(join(dir, name));
  const wanted = (name: string) => Promise.resolve(name === "slipway-task_wanted-a2");
  const found = [{ kind: "sockets", name: "slipway-task_over-a1", bytes: null, error: null }];
  expect(await broker.reclaim(wanted, "dry-run")).toEqual(found);
  expect(readdirSync(dir)).toContain("task_over-a1");
  expect(await broker.reclaim(wanted, "remove")).toEqual(found);
  expect(readdirSync(dir).toSorted()).toEqual(["pool-1", "task_open-a1", "task_wanted-a2"]);
});
