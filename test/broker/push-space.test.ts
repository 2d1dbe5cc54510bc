/** Pushes of workers, and the room on the disk: a real git, on a real small file system. */
import { execFile, execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { openPushSpace } from "../../src/app/disk-space.ts";
import { serveGit, type GitRequest } from "../../src/broker/git-http.ts";
import { PushSpace } from "../../src/broker/push-space.ts";
import { checkpointRef, WORK_REF } from "../../src/core/ports/repositories.ts";
import { PUSH_LATER } from "../../src/core/protocol/worker.ts";
import { openSmallDisk, type SmallDisk } from "../support/process/small-disk.ts";
import { PATIENCE_MS } from "../support/vitest/patience.ts";

const MIB = 2 ** 20;
const ATTEMPT = 1;
const ENV = {
  PATH: process.env["PATH"] ?? "",
  HOME: "/nonexistent",
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_CONFIG_NOSYSTEM: "1",
  GIT_AUTHOR_NAME: "W",
  GIT_AUTHOR_EMAIL: "w@example.com",
  GIT_COMMITTER_NAME: "W",
  GIT_COMMITTER_EMAIL: "w@example.com",
};

let dir: string;
let server: Server;
let url: string;
let bounds: Partial<GitRequest>;
/** Holds back pushes until this number of them has arrived. */
let gathered: number;
let disk: SmallDisk | null;
const stop = new AbortController();

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "slipway-push-space-"));
  [bounds, gathered, disk] = [{}, 1, null];
  let waiting: (() => void)[] = [];
  server = createServer((request, response) => {
    const repo = /^\/([a-z]+)(\/git\/.*)$/.exec(request.url ?? "");
    request.url = repo?.[2] ?? "";
    const repoPath = join(disk?.dir ?? dir, `${repo?.[1]}.git`);
    const serve = (): void =>
      void serveGit({ repoPath, attempt: ATTEMPT, request, response, signal: stop.signal, ...bounds });
    // Git sends the probe of a push in chunks with a body of 4 bytes.
    if (request.method !== "POST" || request.headers["content-length"] === "4") return serve();
    waiting.push(serve);
    if (waiting.length < gathered) return;
    const begun = waiting;
    waiting = [];
    for (const begin of begun) begin();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  disk?.close();
  rmSync(dir, { recursive: true, force: true });
});

const git = (cwd: string, ...args: string[]): string =>
  execFileSync("git", args, { cwd, env: ENV, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).trim();

/** A checkout with one commit of that many random bytes, and its empty task repository. */
function prepare(name: string, bytes: number): { name: string; work: string; sha: string; repo: string } {
  const [work, repo] = [join(dir, name), join(disk?.dir ?? dir, `${name.slice(0, 3)}.git`)];
  mkdirSync(work);
  git(work, "init", "-q", "-b", "main");
  writeFileSync(join(work, "big.bin"), randomBytes(bytes));
  git(work, "add", "-A");
  git(work, "commit", "-q", "-m", "Work");
  git(dir, "init", "-q", "--bare", "--template=", repo);
  return { name: name.slice(0, 3), work, sha: git(work, "rev-parse", "HEAD"), repo };
}

/** @param whole sends the push in one piece, with its length. */
function push({ name, work }: { name: string; work: string }, ref: string, whole = false): Promise<string> {
  const args = ["-c", `http.postBuffer=${whole ? 64 * MIB : MIB}`, "push", "-q"];
  return new Promise((resolve) => {
    execFile(
      "git",
      [...args, `${url}/${name}/git/repo.git`, `HEAD:${ref}`],
      { cwd: work, env: ENV, timeout: PATIENCE_MS },
      (error, stdout, stderr) => resolve(error === null ? "" : stdout + stderr),
    );
  });
}

const leftovers = (repo: string): string[] =>
  readdirSync(join(repo, "objects"), { recursive: true, encoding: "utf8" }).filter((name) =>
    /tmp_|incoming/.test(name),
  );

it("[S6] two pushes of one task at once do not pass its limit together", async () => {
  const [a, b] = [prepare("one", 2 * MIB), prepare("oneagain", 2 * MIB)];
  bounds = { packLimit: 3 * MIB, repoLimit: 3 * MIB };
  gathered = 2;
  const said = await Promise.all([push(a, WORK_REF, true), push(b, checkpointRef(ATTEMPT), true)]);
  expect(said.filter((text) => text === "")).toHaveLength(1);
  expect(said.join("")).toMatch(/exceeds maximum allowed size|unpacker error/);
  expect(leftovers(a.repo)).toEqual([]);
});

it("[Y5] pushes of several tasks leave the room together that must stay; one that was refused passes later", async ({
  skip,
}) => {
  disk = openSmallDisk(64);
  if (disk === null) return skip("only root may mount");
  const refused: string[] = [];
  const { dir: data } = disk;
  const space = openPushSpace(data, 10, {
    warn: (facts) => void refused.push((facts as { repository: string }).repository),
  });
  bounds = { space };
  const parts = [prepare("aaa", 24 * MIB), prepare("bbb", 24 * MIB), prepare("ccc", 24 * MIB)];
  gathered = 3;
  let lowest = Infinity;
  const watch = setInterval(() => (lowest = Math.min(lowest, disk?.freeMb() ?? Infinity)), 2);
  const said = await Promise.all(parts.map((part) => push(part, WORK_REF)));
  clearInterval(watch);
  expect(lowest).toBeGreaterThan(9);
  const failed = parts.filter((_, i) => said[i] !== "");
  expect(failed.length).toBeGreaterThan(0);
  for (const text of said.filter((words) => words !== "")) expect(text).toContain(`remote rejected`);
  for (const text of said.filter((words) => words !== "")) expect(text).toContain(PUSH_LATER);
  expect(refused.toSorted()).toEqual(failed.map(({ repo }) => repo).toSorted());
  expect(failed.flatMap(({ repo }) => leftovers(repo))).toEqual([]);
  // Room comes back: the same push passes.
  for (const part of parts) if (!failed.includes(part)) rmSync(part.repo, { recursive: true });
  gathered = 1;
  for (const part of failed) {
    expect(await push(part, WORK_REF)).toBe("");
    expect(git(part.repo, "rev-parse", WORK_REF)).toBe(part.sha);
    rmSync(part.repo, { recursive: true });
  }
});

it("[Y5] what pushes hold ahead is given back, and never more than is free above the floor", () => {
  const reports: string[] = [];
  const space = new PushSpace({
    readFree: () => 20 * MIB,
    floorBytes: 10 * MIB,
    report: (name) => void reports.push(name),
  });
  const [a, b, c] = [space.open("a", null), space.open("b", null), space.open("c", null)];
  expect([a.take(1), b.take(1), c.take(1)]).toEqual([true, true, false]);
  // A push of known size holds that only.
  expect(space.open("d", 2 * MIB).take(1)).toBe(true);
  expect(space.open("e", 2 * MIB).take(1)).toBe(false);
  a.release();
  a.release();
  expect([c.take(1), reports]).toEqual([true, ["c", "e"]]);
});
