import { execFileSync } from "node:child_process";
import { chownSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { openBroker } from "../../src/broker/server.ts";
import { MemoryWorkerApi } from "../worker/memory-worker-api.ts";
import { quiet, SECRET } from "../worker/rig.ts";
import { ROOT } from "../support/process/server.ts";
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

/** As a user without the rights of root, in these groups; prints modes, and the socket's group. */
const AS_USER = `
  const { SocketDirs } = await import(process.argv[1]);
  const { statSync } = await import("node:fs");
  const { createServer } = await import("node:net");
  process.setgroups(JSON.parse(process.argv[3]));
  process.setgid(10000);
  process.setuid(10000);
  const dirs = new SocketDirs(process.argv[2] + "/run", "test", 10001);
  const place = dirs.locate("task_1", 1);
  dirs.create(place);
  const server = createServer().listen(place.path, () => {
    dirs.permit(place);
    const modes = [dirs.base(), place.dir, place.path].map((path) => (statSync(path).mode & 0o777).toString(8));
    console.log(JSON.stringify([...modes, statSync(place.path).gid]));
    server.close();
  });`;

it.runIf(process.getuid?.() === 0).each([
  { groups: [10_001], expected: ["700", "711", "660", 10_001] },
  { groups: [], expected: ["700", "711", "666", 10_000] },
])("a server without root lets its workers connect, and no other user of the machine: groups $groups", (one) => {
  chownSync(dir, 10_000, 10_000);
  const file = join(ROOT, "dist/src/broker/socket-dirs.js");
  const args = ["--input-type=module", "-e", AS_USER, file, dir, JSON.stringify(one.groups)];
  expect(JSON.parse(execFileSync(process.execPath, args, { encoding: "utf8" }))).toEqual(one.expected);
});
