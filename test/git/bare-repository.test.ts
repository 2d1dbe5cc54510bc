/** Bare repositories that are made, read and written without a process. */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { BareRepositories, readRef, writeRef } from "../../src/git/bare/bare-repository.ts";
import { openGit, type Git } from "../../src/git/git-process.ts";
import { GitError } from "../../src/core/lib/git/git-error.ts";

let dir: string;
let git: Git;
let calls: string[];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "slipway-bare-"));
  const real = openGit(dir);
  calls = [];
  git = (call) => {
    calls.push(call.args[0] ?? "");
    return real(call);
  };
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const run = (path: string, ...args: string[]): string =>
  execFileSync("git", ["-C", path, ...args], { encoding: "utf8" }).trim();

/** A repository with one commit of no files. */
async function open(name = "made", branch = "main"): Promise<{ path: string; sha: string }> {
  const path = join(dir, name);
  await new BareRepositories(git, dir).make(path, branch);
  const tree = execFileSync("git", ["-C", path, "mktree"], { input: "", encoding: "utf8" }).trim();
  const sha = run(path, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit-tree", tree, "-m", "one");
  return { path, sha };
}

it("an empty repository is what git makes, with one call of git for all", async () => {
  const bare = new BareRepositories(git, dir);
  for (const name of ["one", "two", "three"]) await bare.make(join(dir, name), "topic/a");
  expect(calls).toEqual(["init"]);
  run(dir, "init", "--quiet", "--bare", "--template=", "--initial-branch=topic/a", join(dir, "real"));
  const list = (name: string): string[] =>
    readdirSync(join(dir, name), { recursive: true, encoding: "utf8" }).toSorted();
  for (const name of ["one", "three"]) {
    expect(list(name)).toEqual(list("real"));
    for (const file of ["HEAD", "config"])
      expect(readFileSync(join(dir, name, file), "utf8")).toBe(readFileSync(join(dir, "real", file), "utf8"));
    expect(run(join(dir, name), "fsck", "--strict")).toBe("");
  }
  expect(readdirSync(dir).filter((name) => name.endsWith(".new"))).toEqual([]);
});

it("a first call that fails is made again", async () => {
  const broken = new BareRepositories(
    (call) => (calls.length === 0 ? (calls.push("none"), Promise.reject(new GitError("no"))) : git(call)),
    dir,
  );
  await expect(broken.make(join(dir, "a"), "main")).rejects.toThrow("no");
  await broken.make(join(dir, "a"), "main");
  expect(run(join(dir, "a"), "symbolic-ref", "HEAD")).toBe("refs/heads/main");
});

it("git reads the refs that are written, and what git writes is read, loose and packed", async () => {
  const { path, sha } = await open();
  await writeRef(path, "refs/slipway/delivered/topic/one", sha);
  await writeRef(path, "refs/slipway/delivered/topic/one", sha);
  expect(run(path, "rev-parse", "refs/slipway/delivered/topic/one")).toBe(sha);
  run(path, "update-ref", "refs/heads/main", sha);
  for (const isPacked of [false, true]) {
    if (isPacked) run(path, "pack-refs", "--all");
    expect(readRef(path, "refs/heads/main")).toBe(sha);
    expect(readRef(path, "refs/slipway/delivered/topic/one")).toBe(sha);
    // A longer name, a shorter one, and a folder.
    for (const other of ["refs/heads/mai", "main", "refs/slipway/delivered/topic", "refs/heads/main/x"])
      expect(readRef(path, other)).toBeNull();
  }
  run(path, "symbolic-ref", "refs/heads/link", "refs/heads/main");
  expect(readRef(path, "refs/heads/link")).toBeNull();
  writeFileSync(join(path, "refs/heads/cut"), sha.slice(0, 20));
  expect(readRef(path, "refs/heads/cut")).toBeNull();
  expect(readRef(join(dir, "nothing"), "refs/heads/main")).toBeNull();
});

it("a ref that another writer has locked, or that cannot be beside others, is a failure of git and stays", async () => {
  const { path, sha } = await open();
  const lock = join(path, "refs/heads/main.lock");
  writeFileSync(lock, "");
  await expect(writeRef(path, "refs/heads/main", sha)).rejects.toBeInstanceOf(GitError);
  expect(readdirSync(join(path, "refs/heads"))).toEqual(["main.lock"]);
  rmSync(lock);
  await writeRef(path, "refs/heads/main", sha);
  await expect(writeRef(path, "refs/heads/main/x", sha)).rejects.toBeInstanceOf(GitError);
  mkdirSync(join(path, "refs/heads/folder/x"), { recursive: true });
  await expect(writeRef(path, "refs/heads/folder", sha)).rejects.toBeInstanceOf(GitError);
  expect(readdirSync(join(path, "refs/heads")).toSorted()).toEqual(["folder", "main"]);
  await expect(writeRef(path, "refs/heads/new", "main")).rejects.toThrow("full names");
});
