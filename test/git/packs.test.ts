/**
 * Small packs are merged into larger ones, on a real git server over HTTP: the process is killed in
 * between, and others read meanwhile.
 */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { isProven } from "../../src/git/bare/completeness.ts";
import { chooseMerge } from "../../src/git/bare/packs.ts";
import { openRepositories } from "../../src/git/repositories.ts";
import { checkpointRef, type Repositories } from "../../src/core/ports/repositories.ts";
import { startGitServer, type GitServer } from "../support/git-server.ts";
import { git } from "../support/repository.ts";
import { inTurnTogether } from "../support/vitest/full-run.ts";

const it = inTurnTogether(3, 1);

const never = new AbortController().signal;
const FETCHES = 30;

let server: GitServer;
let dir: string;
let url: string;
let repos: Repositories;
let peer: string;
const tips = new Map<string, string>();

const open = (): Repositories => openRepositories({ dir, trustedHosts: [server.host] });
const prepare = (taskId: string) =>
  repos.prepare({ taskId, userId: "user_a", repo: url, auth: null, base: null, parentTaskId: null }, never);
const mirror = (): string =>
  join(dir, "mirrors", readdirSync(join(dir, "mirrors")).find((name) => name.endsWith(".git")) ?? "");
const packsOf = (path: string): string[] =>
  readdirSync(join(path, "objects/pack")).filter((name) => name.endsWith(".pack"));

/** What a checkout needs: every object of the base, from the task repository. */
async function expectCheckouts(tasks: Iterable<string>): Promise<void> {
  for (const id of tasks) await git(repos.path(id), "archive", "--output=/dev/null", tips.get(id) ?? "");
}

beforeAll(async () => {
  server = await startGitServer();
  dir = mkdtempSync(join(tmpdir(), "slipway-packs-"));
  url = server.createRepo("app", { "README.md": "# App\n" }).url;
  repos = open();
  peer = await buildPeer();
  const first = server.git("app", "rev-parse", "main");
  for (let i = 0; i < FETCHES; i += 1) {
    // What no branch reaches any more is borrowed all the same.
    if (i === FETCHES / 2) server.git("app", "update-ref", "refs/heads/main", first);
    server.commit("app", "main", { [`file-${i}.txt`]: randomBytes(2_000).toString("hex") });
    // Most fetches are of tasks that exist already: fewer repositories to look into.
    const id = `task_${i - (i % 6)}`;
    const { baseSha } = await prepare(id);
    if (!tips.has(id)) tips.set(id, baseSha);
  }
});
afterAll(async () => {
  await repos.close();
  await server.close();
  rmSync(dir, { recursive: true, force: true });
  rmSync(peer, { force: true });
});

/** A second process that merges, and kills itself at a crash point. */
async function buildPeer(): Promise<string> {
  const folder = join(import.meta.dirname, "../../node_modules/.slipway-test");
  const file = join(folder, `merge-peer-${process.pid}.mjs`);
  mkdirSync(folder, { recursive: true });
  const options = { bundle: true, platform: "node", format: "esm", target: "node20", packages: "external" } as const;
  await build({
    entryPoints: [join(import.meta.dirname, "../support/process/merge-main.ts")],
    outfile: file,
    ...options,
  });
  return file;
}

const mergeAndDie = (crashAt: string): Promise<string | null> =>
  new Promise((resolve) => {
    const child = spawn(process.execPath, [peer, dir, crashAt], { stdio: "inherit" });
    child.once("exit", (_code, signal) => resolve(signal));
  });

describe("[W7] the packs of a mirror", () => {
  it("grow by one with each fetch; merged by a process that is killed in between, nothing is lost", async () => {
    expect(packsOf(mirror())).toHaveLength(FETCHES);
    for (const point of ["merge.packed", "merge.moved", "merge.proved", "merge.half"]) {
      await repos.close();
      expect([point, await mergeAndDie(point)]).toEqual([point, "SIGKILL"]);
      repos = open();
      expect(readdirSync(join(dir, "mirrors"))).toHaveLength(1);
      expect(await repos.check(never)).toEqual([]);
      await expectCheckouts(tips.keys());
    }
  });

  it("are merged while tasks fetch and read; few remain, and they are known to be complete", async () => {
    let isMerging = true;
    const merging = repos.mergePacks(never).finally(() => (isMerging = false));
    let reads = 0;
    while (isMerging || reads < 2) {
      const id = `task_r${(reads += 1)}`;
      server.commit("app", "main", { [`read-${reads}.txt`]: "text" });
      tips.set(id, (await prepare(id)).baseSha);
      await expectCheckouts([id, "task_0"]);
    }
    expect(await merging).toEqual([expect.objectContaining({ kind: "mirror", error: null })]);
    expect(packsOf(mirror()).length).toBeLessThan(8 + reads);
    expect(isProven(mirror())).toBe(true);
    await expectCheckouts(tips.keys());
    expect(await repos.check(never)).toEqual([]);
    await git(mirror(), "fsck", "--connectivity-only");
    expect(await repos.mergePacks(never)).toEqual([]);
  });

  it("that cannot be read stay as they are, and the failure is told", async () => {
    const [name = ""] = packsOf(mirror());
    for (let i = 0; i < 10; i += 1) {
      const copy = join(mirror(), "objects/pack", `pack-${String(i).padStart(40, "0")}`);
      writeFileSync(`${copy}.pack`, "not a pack");
      writeFileSync(`${copy}.idx`, "not an index");
    }
    const before = readdirSync(join(mirror(), "objects/pack"));
    expect(await repos.mergePacks(never)).toEqual([expect.objectContaining({ error: expect.any(String) })]);
    expect(readdirSync(join(mirror(), "objects/pack"))).toEqual(before);
    expect(existsSync(join(mirror(), "objects/pack", name))).toBe(true);
    for (const bad of before.filter((file) => file.startsWith("pack-000000")))
      rmSync(join(mirror(), "objects/pack", bad));
  });
});

it("[W4] the packs of a task's pushes are merged, with the work in them", async () => {
  const work = join(dir, "work");
  const path = repos.path("task_6");
  await git(dir, "clone", "-q", path, work);
  const saved: string[] = [];
  for (let i = 0; i < 12; i += 1) {
    writeFileSync(join(work, "work.txt"), randomBytes(500).toString("hex"));
    await git(work, "add", "-A");
    // Each replaces the one before: nothing reaches that any more.
    await git(work, "commit", "-q", ...(i === 0 ? [] : ["--amend"]), "-m", `step ${i}`);
    await git(work, "push", "-q", "--force", "origin", `HEAD:${checkpointRef(1)}`);
    saved.push(await git(work, "rev-parse", "HEAD"));
  }
  expect(packsOf(path)).toHaveLength(12);
  expect(await repos.mergePacks(never)).toEqual([
    expect.objectContaining({ kind: "task", name: "task_6", error: null }),
  ]);
  expect(packsOf(path).length).toBeLessThan(8);
  for (const sha of saved) await git(path, "archive", "--output=/dev/null", sha);
  await expectCheckouts(["task_6"]);
});

describe("which packs are merged", () => {
  const sizes = (...bytes: number[]) => Object.fromEntries(bytes.map((size, i) => [`pack-${i}.pack`, size]));

  it("a few stay as they are", () => {
    expect(chooseMerge(sizes(1, 1, 1, 1, 1, 1, 1, 1))).toEqual([]);
  });

  it("the small ones are merged, and a large one is not copied for them", () => {
    expect(chooseMerge(sizes(1_000, ...Array.from({ length: 20 }, () => 3)))).toHaveLength(20);
  });

  it("over many fetches the number stays bounded, and a byte is copied a few times", () => {
    let packs: number[] = [100_000];
    let copied = 0;
    for (let fetch = 0; fetch < 5_000; fetch += 1) {
      packs.push(10);
      const merged = chooseMerge(sizes(...packs)).map((name) => packs[Number(/\d+/.exec(name)?.[0])] ?? 0);
      if (merged.length === 0) continue;
      const bytes = merged.reduce((sum, size) => sum + size, 0);
      copied += bytes;
      const rest = [...packs];
      for (const size of merged) rest.splice(rest.indexOf(size), 1);
      packs = [...rest, bytes];
    }
    expect(packs.length).toBeLessThan(16);
    expect(copied).toBeLessThan(20 * (100_000 + 5_000 * 10));
  });
});
