/** The key of a setup cache: which tasks share the result of a setup. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { SetupCacheService } from "../../../src/coordinator/services/worker/setup-cache.ts";
import type { Sandbox, SetupPlace } from "../../../src/core/ports/sandbox.ts";
import type { Egress, Task } from "../../../src/core/task.ts";
import { openSetupCacheFiles } from "../../../src/store/setup-cache/setup-cache-files.ts";
import { openHarness, REPO, type Harness } from "../../support/coordinator/harness.ts";

const never = new AbortController().signal;
const CONFIG = "setup: [npm ci, make]";
let dir: string;
let harness: Harness;
let task: Task;
let place: SetupPlace;
let secrets: { name: string; value: string }[];
let given: { name: string; value: string; secret: boolean }[];
let egress: Egress;
let makeDisk: NonNullable<Sandbox["makeSetupDisk"]>;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "slipway-setup-key-"));
  harness = await openHarness();
  harness.repos.write(REPO, ".slipway.yml", CONFIG);
  harness.repos.write(REPO, "package-lock.json", "1");
  const { id } = await harness.submit();
  await harness.untilWorker(id);
  task = await harness.task(id);
  place = { environment: "image sha256:1", folder: null };
  makeDisk = async () => undefined;
  [secrets, given, egress] = [[], [], "allowlist"];
});
afterEach(async () => {
  await harness.close();
  rmSync(dir, { recursive: true, force: true });
});

function service(): SetupCacheService {
  const files = { dir, maxBytes: 2 ** 20, maxAgeMs: 1e9, floorBytes: 0, now: () => Date.now() };
  return new SetupCacheService({
    setupCaches: openSetupCacheFiles(files),
    repos: harness.repos,
    sandbox: { setupPlace: async () => place, makeSetupDisk: async (...args) => await makeDisk(...args) },
    variables: { give: async () => ({ variables: given }), secrets: async () => secrets },
    setupEgress: async () => egress,
  });
}
async function* content(text = "made"): AsyncGenerator<Uint8Array> {
  yield Buffer.from(text);
}
const save = (of = task, text = "made") => service().save(of, content(text), async () => of, never);
const has = async (of = task): Promise<boolean> => (await service().open(of, never)) !== null;

it("[C1] another person, repository, branch, system, command, file or variable is another cache", async () => {
  expect(await has()).toBe(false);
  expect(await save()).toEqual({ saved: true, reason: null });
  expect(await has()).toBe(true);

  expect(await has({ ...task, userId: "user_bob" })).toBe(false);
  const context = { ...task.snapshot.context, base: "topic" };
  expect(await has({ ...task, snapshot: { ...task.snapshot, context } })).toBe(false);
  expect(await has({ ...task, spec: { ...task.spec, repo: `${REPO}2` } })).toBe(false);
  place = { environment: "image sha256:2", folder: null };
  expect(await has()).toBe(false);
  place = { environment: "image sha256:1", folder: null };
  egress = "none";
  expect(await has()).toBe(false);
  egress = "allowlist";
  given = [{ name: "STAGE", value: "one", secret: false }];
  expect(await has()).toBe(false);
  given = [];
  harness.repos.write(REPO, "package-lock.json", "2");
  expect(await has()).toBe(false);
  harness.repos.write(REPO, "package-lock.json", "1");
  harness.repos.write(REPO, ".slipway.yml", "setup: [npm ci --force, make]");
  expect(await has()).toBe(false);

  // What runs each time anyway, and files that decide nothing, change nothing.
  harness.repos.write(REPO, ".slipway.yml", "setup: [npm ci, make all]");
  harness.repos.write(REPO, "README.md", "Other words.");
  expect(await has()).toBe(true);
});

it("[C4] a disk is made of what was kept, and given to workspaces of the same key and size", async () => {
  const path = async (of = task, sizeMb = 64) =>
    (await service().findDisk(of, { environment: "image sha256:1", sizeMb }))?.path ?? null;
  expect(await service().hasDisks(task)).toBe(false);
  const made: string[] = [];
  makeDisk = async ({ environment, sizeMb }, { disk }) => {
    made.push(`${environment} ${sizeMb}`);
    writeFileSync(disk, "disk");
  };
  // No disks here.
  await save();
  place = { ...place, sizeMb: 64 };
  // Used by unpacking, which a disk would be faster than.
  expect((await service().open(task, never))?.isOnDisk).toBeUndefined();
  await expect.poll(() => path()).not.toBeNull();
  expect(made).toEqual(["image sha256:1 64"]);
  expect(await service().hasDisks(task)).toBe(true);
  expect([await path({ ...task, userId: "user_bob" }), await path(task, 65)]).toEqual([null, null]);
  expect(await path({ ...task, state: "running" })).toBeNull();

  const found = await service().findDisk(task, { environment: "image sha256:1", sizeMb: 64 });
  place = { ...place, digest: found?.digest ?? null };
  expect(await service().open(task, never)).toMatchObject({ isOnDisk: true, bytes: 0 });
  place = { ...place, digest: "0".repeat(64) };
  expect((await service().open(task, never))?.isOnDisk).toBeUndefined();
});

it("[C2] nothing is given or kept once the agent has begun", async () => {
  const running: Task = { ...task, state: "running" };
  expect(await save(running)).toEqual({ saved: false, reason: "the setup is over" });
  expect(await service().save(task, content(), async () => running, never)).toEqual({
    saved: false,
    reason: "the agent has begun",
  });
  expect(await has()).toBe(false);
  await save();
  expect(await has(running)).toBe(false);
});

it("[C2] the value of a secret in any form, and the path of a sandbox that is gone later, keep it out", async () => {
  secrets = [{ name: "NPM_TOKEN", value: "npm_0123456789" }];
  const encoded = Buffer.from("x:npm_0123456789").toString("base64");
  for (const text of ["//registry/:_authToken=npm_0123456789", `_auth=${encoded}`])
    expect((await save(task, text)).reason).toBe("it contains the value of NPM_TOKEN");
  place = { environment: "process", folder: "/data/sandboxes/one" };
  expect((await save(task, "#!/data/sandboxes/one/workspace/.venv/bin/python")).reason).toBe(
    "it contains the path of this sandbox",
  );
  expect(await has()).toBe(false);
});

it("[C1] counts the first commands that are kept", () => {
  const count = (setup: { run: string; cached?: boolean }[], cacheFiles: string[] | null = []): number => {
    const commands = setup.map((command) => ({ timeoutMinutes: 1, ...command }));
    const config = { image: null, setup: commands, verify: [], mcp: {}, hosts: [], setupEgress: null, cacheFiles };
    return service().count(config);
  };
  expect(count([{ run: "npm ci" }, { run: "make" }, { run: "npm ci" }])).toBe(1);
  expect(count([{ run: "make" }, { run: "npm ci" }])).toBe(0);
  expect(count([{ run: "make", cached: true }, { run: "npm ci" }])).toBe(2);
  expect(count([{ run: "npm ci", cached: false }])).toBe(0);
  expect(count([{ run: "npm ci" }], null)).toBe(0);
  expect(count([])).toBe(0);
});
