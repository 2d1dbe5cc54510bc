/** Processes whose folders are on a disk without room. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { Sandbox, SandboxSpec } from "../../../src/core/ports/sandbox.ts";
import { readClaim } from "../../../src/sandbox/process/process-dir.ts";
import { openProcessSandbox } from "../../../src/sandbox/process/sandbox.ts";
import { eventually } from "../../contract/sandbox.ts";
import { openSmallDisk, type SmallDisk } from "../../support/process/small-disk.ts";

const workerFile = join(import.meta.dirname, "../../support/process/stand-in-worker.mjs");
const never = new AbortController().signal;

let disk: SmallDisk | null;
let sandbox: Sandbox;
beforeEach(({ skip }) => {
  disk = openSmallDisk(4);
  if (disk === null) return skip("mounting a file system needs root");
  sandbox = openProcessSandbox({ dir: disk.dir, workerFile, instance: "test" });
});
afterEach(async () => {
  disk?.clear();
  if (disk !== null) for (const { name } of await sandbox.list()) await sandbox.remove(name);
  disk?.close();
});

const getDir = (name: string): string => join(disk!.dir, "sandboxes", name);

/** @returns its name, once its worker runs. */
async function start(taskId: string): Promise<string> {
  const spec: SandboxSpec = {
    name: `slipway-${taskId}-a1`,
    taskId,
    attempt: 1,
    socketDir: disk!.dir,
    token: "run:echo > started; trap : TERM; while :; do sleep 60; done",
    limits: {},
  };
  await sandbox.ensure(spec, never);
  const started = join(getDir(spec.name), "workspace", "started");
  await eventually(async () => existsSync(started), "the worker runs");
  return spec.name;
}

async function killAll(name: string): Promise<void> {
  process.kill(-(await readClaim(getDir(name)))!.pid, "SIGKILL");
}

const states = async (): Promise<Record<string, string>> =>
  Object.fromEntries((await sandbox.list()).map(({ name, state }) => [name, state]));

it("[Y5] [D3] on a full disk sandboxes are listed, awaited, stopped and removed, also one that was killed from outside", async () => {
  const [running, dead, other] = [await start("tsk_runs"), await start("tsk_dead"), await start("tsk_other")];
  await killAll(dead);
  disk!.fill();
  await eventually(async () => (await states())[dead] === "exited", "its death is seen");
  expect(await states()).toEqual({ [running]: "running", [dead]: "exited", [other]: "running" });
  expect((await sandbox.wait(dead, never)).exitCode).toBe(null);
  await sandbox.stop(running, 200);
  expect(await states()).toEqual({ [running]: "exited", [dead]: "exited", [other]: "running" });
  expect(await sandbox.salvage(dead, never)).not.toBe(null);
  for (const name of [running, dead, other]) await sandbox.remove(name);
  expect(await states()).toEqual({});
});
