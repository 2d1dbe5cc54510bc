/** The real adapter against a real git server over HTTP. */
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, describe, expect } from "vitest";
import { isPrivate } from "../../src/core/lib/ip-ranges.ts";
import { resolvePin } from "../../src/git/host-pinning.ts";
import { checkSigningKey } from "../../src/git/branch/sign.ts";
import { openRepositories } from "../../src/git/repositories.ts";
import { openSimulatedRepositories } from "../../src/git/simulated.ts";
import { errorCode, reposContract } from "../contract/repositories.ts";
import { startGitServer, type GitServer, type GitServerOptions } from "../support/git-server.ts";
import { WORK_REF, type GitAuth, type Repositories } from "../../src/core/ports/repositories.ts";
import { inTurn } from "../support/vitest/full-run.ts";

const it = inTurn(3);

const ENV = {
  PATH: process.env["PATH"] ?? "",
  HOME: "/nonexistent",
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_CONFIG_NOSYSTEM: "1",
};
const WHO = ["-c", "user.name=W", "-c", "user.email=w@example.com"];

/** A commit straight into the bare repository, on top of what the ref (or HEAD) holds. */
function commitInto(
  path: string,
  ref: string,
  files: Readonly<Record<string, string>>,
  change: (work: string) => void = () => undefined,
): string {
  const work = mkdtempSync(join(tmpdir(), "slipway-work-"));
  const git = (...args: string[]): string =>
    execFileSync("git", [...WHO, ...args], {
      cwd: work,
      env: ENV,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  try {
    git("init", "-q");
    try {
      git("fetch", "-q", path, ref);
    } catch {
      git("fetch", "-q", path, "HEAD");
    }
    git("checkout", "-q", "FETCH_HEAD");
    for (const [name, content] of Object.entries(files)) {
      mkdirSync(dirname(join(work, name)), { recursive: true });
      writeFileSync(join(work, name), content);
    }
    change(work);
    git("add", "-A");
    git("commit", "-q", "--allow-empty", "-m", `change ${ref}`);
    git("push", "-q", "--force", path, `HEAD:${ref}`);
    return git("rev-parse", "HEAD");
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** The commands of git that this process starts. Helpers that git starts itself do not count. */
function countGits(dir: string) {
  const bin = mkdtempSync(join(dir, "bin-"));
  const log = join(bin, "log");
  const [path = "", real] = [
    process.env["PATH"],
    execFileSync("sh", ["-c", "command -v git"], { encoding: "utf8" }).trim(),
  ];
  writeFileSync(join(bin, "git"), `#!/bin/sh\nprintf '%s\\n' "$*" >> '${log}'\nexec '${real}' "$@"\n`, { mode: 0o755 });
  const start = (): void => void (process.env["PATH"] = `${bin}:${path}`);
  const stop = (): void => void (process.env["PATH"] = path);
  start();
  return {
    start,
    stop,
    /** Those since the last call. */
    take(): string[] {
      if (!existsSync(log)) return [];
      const lines = readFileSync(log, "utf8").trim().split("\n");
      rmSync(log);
      return lines.map(
        (line) =>
          line
            .replaceAll(/(?:^| )(?:-c \S+|--literal-pathspecs)/g, "")
            .trim()
            .split(" ")[0] ?? "",
      );
    },
  };
}

interface Rig {
  readonly server: GitServer;
  readonly dir: string;
  readonly repos: Repositories;
  readonly url: string;
}
let rig: Rig | null = null;
async function open(options: GitServerOptions = {}): Promise<Rig> {
  const server = await startGitServer(options);
  const dir = mkdtempSync(join(tmpdir(), "slipway-repos-"));
  const { url } = server.createRepo("app", { "README.md": "# App\n", "src/a.txt": "one\n" });
  rig = { server, dir, url, repos: openRepositories({ dir, trustedHosts: [server.host] }) };
  return rig;
}
const PATH = process.env["PATH"];
afterEach(async () => {
  process.env["PATH"] = PATH;
  await rig?.server.close();
  if (rig !== null) rmSync(rig.dir, { recursive: true, force: true });
  rig = null;
});

reposContract("git", async () => {
  const { server, repos, url, dir } = await open();
  return {
    repos,
    repo: url,
    auth: null,
    commit: (taskId, ref, content) => Promise.resolve(commitInto(repos.path(taskId), ref, { "work.txt": content })),
    tip: (branch) =>
      Promise.resolve(server.git("app", "for-each-ref", "--format=%(objectname)", `refs/heads/${branch}`) || null),
    replace: (branch) => {
      server.git("app", "update-ref", "-d", `refs/heads/${branch}`);
      return Promise.resolve(server.commit("app", branch, { "foreign.txt": `${branch}` }));
    },
    drop: (branch) => Promise.resolve(void server.git("app", "update-ref", "-d", `refs/heads/${branch}`)),
    async close() {
      await server.close();
      rmSync(dir, { recursive: true, force: true });
      rig = null;
    },
  };
});
reposContract("simulated", () => {
  const repos = openSimulatedRepositories();
  const repo = "https://git.example.com/team/app";
  return Promise.resolve({
    repos,
    repo,
    auth: null,
    commit: (taskId: string, ref: string, content: string) => repos.commit(taskId, ref, content),
    tip: (branch: string) => Promise.resolve(repos.upstream.get(`${repo}#${branch}`)?.sha ?? null),
    replace: (branch: string) => {
      const sha = "f".repeat(40);
      repos.upstream.set(`${repo}#${branch}`, { sha, pushes: 1 });
      return Promise.resolve(sha);
    },
    drop: (branch: string) => Promise.resolve(void repos.upstream.delete(`${repo}#${branch}`)),
    close: () => Promise.resolve(),
  });
});

const signal = new AbortController().signal;
const TOKEN = "s3cr3t-T0ken/with+odd=chars";
const AUTH: GitAuth = { username: "robot", token: TOKEN };
const prepare = (auth: GitAuth | null = null, over: Partial<{ repo: string; base: string; taskId: string }> = {}) => {
  if (rig === null) throw new Error("open first");
  return rig.repos.prepare(
    { taskId: "task_a1", userId: "user_a", repo: rig.url, auth, base: null, parentTaskId: null, ...over },
    signal,
  );
};
const push = (auth: GitAuth | null, sha: string, branch = "slipway/x") => {
  if (rig === null) throw new Error("open first");
  return rig.repos.push(
    { taskId: "task_a1", userId: "user_a", repo: rig.url, auth, sha, branch, expect: null },
    signal,
  );
};

function everyFile(dir: string): string[] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}
const forms = (token: string): string[] => [
  token,
  encodeURIComponent(token),
  Buffer.from(token).toString("base64"),
  Buffer.from(`robot:${token}`).toString("base64"),
];

describe("the simulated adapter", () => {
  it("fails with the configured code, the configured number of times", async () => {
    const repos = openSimulatedRepositories();
    const task = { taskId: "task_a1", userId: "u", repo: "https://git.example.com/team/app", auth: null };
    const make = () => errorCode(repos.prepare({ ...task, base: null, parentTaskId: null }, signal));
    const send = () => errorCode(repos.push({ ...task, sha: "a".repeat(40), branch: "b", expect: null }, signal));
    repos.fail("task_a1", { prepare: "repo_unreachable", push: "push_rejected", times: 2 });
    expect([await make(), await make(), await make()]).toEqual(["repo_unreachable", "repo_unreachable", "no failure"]);
    expect([await send(), await send(), await send()]).toEqual(["push_rejected", "push_rejected", "no failure"]);
    expect(await errorCode(repos.prepare({ ...task, taskId: "task_b2", base: null, parentTaskId: null }, signal))).toBe(
      "no failure",
    );
  });
});

it("[V8] one file of a change has its patch also where all patches together are too large", async () => {
  const { server, repos } = await open();
  const lines = (word: string): string => `${word}\n`.repeat(30_000);
  server.commitOn("app", "main", { "a*.txt": "1\n", "big.txt": lines("one"), "old.txt": lines("same") });
  const { baseSha } = await prepare();
  const files = { "a*.txt": "2\n", "big.txt": lines("two"), "huge.txt": lines("x".repeat(100)), "z.txt": "z\n" };
  const head = commitInto(repos.path("task_a1"), WORK_REF, files);
  const from = server.git("app", "rev-parse", "main");
  expect([baseSha, (await repos.diff("task_a1", from, head)).truncated]).toEqual([from, true]);
  const read = (path: string) => repos.diffFile("task_a1", from, head, path);
  expect((await read("z.txt")).patch).toMatch(/^diff --git a\/z.txt[\s\S]*\+z\n$/);
  expect((await read("a*.txt")).patch).toMatch(/-1\n\+2\n$/);
  const big = await read("big.txt");
  expect([big.additions, big.patch?.split("\n+two").length]).toEqual([30_000, 30_001]);
  expect(await read("huge.txt")).toMatchObject({ additions: 30_000, patch: null });
  await expect(read("old.txt")).rejects.toMatchObject({ code: "not_found" });
  await expect(read("../app")).rejects.toMatchObject({ code: "not_found" });
});

it("[V8] a changed binary file has its sizes, and its bytes before and after", async () => {
  const { server, repos } = await open();
  const old = { "a*.png": "\0one", "gone.png": "\0gone", "was.png": `\0${"same".repeat(50)}`, "text.txt": "1\n" };
  server.commitOn("app", "main", old);
  await prepare();
  const from = server.git("app", "rev-parse", "main");
  const huge = `\0${"x".repeat(10 * 2 ** 20)}`;
  const now = { "a*.png": "\0three", "new.png": "\0n", "text.txt": "2\n", "huge.bin": huge, "is.png": old["was.png"] };
  const path = repos.path("task_a1");
  const head = commitInto(path, WORK_REF, now, (work) => {
    for (const name of ["gone.png", "was.png"]) rmSync(join(work, name));
    symlinkSync("a*.png", join(work, "link.png"));
  });
  const { files } = await repos.diff("task_a1", from, head);
  expect(Object.fromEntries(files.map((file) => [file.path, file.sizes]))).toEqual({
    "a*.png": { before: 4, after: 6 },
    "gone.png": { before: 5, after: null },
    "huge.bin": { before: null, after: huge.length },
    "is.png": { before: 201, after: 201 },
    "link.png": null,
    "new.png": { before: null, after: 2 },
    "text.txt": null,
  });
  const read = async (name: string, side: "before" | "after"): Promise<string> =>
    (await repos.diffContent("task_a1", from, head, name, side)).toString();
  expect([await read("a*.png", "before"), await read("a*.png", "after")]).toEqual(["\0one", "\0three"]);
  expect([await read("is.png", "before"), await read("text.txt", "before")]).toEqual([old["was.png"], "1\n"]);
  expect(await read("gone.png", "before")).toBe("\0gone");
  for (const [name, side] of [
    ["gone.png", "after"],
    ["new.png", "before"],
    ["link.png", "after"],
    ["was.png", "before"],
    ["../app", "after"],
  ] as const)
    await expect(read(name, side), `${name} ${side}`).rejects.toMatchObject({ code: "not_found" });
  await expect(read("huge.bin", "after")).rejects.toMatchObject({ code: "payload_too_large" });
});

describe("fetching", () => {
  it("a refused credential, a missing repository, a missing branch and an unreachable host have separate codes", async () => {
    const { url, server } = await open({ auth: { username: "robot", password: TOKEN } });
    expect(await errorCode(prepare(null))).toBe("repo_auth");
    expect(await errorCode(prepare({ username: "robot", token: "wrong" }))).toBe("repo_auth");
    expect(await errorCode(prepare(AUTH, { repo: url.replace("app", "nothing") }))).toBe("repo_not_found");
    expect(await errorCode(prepare(AUTH, { base: "nowhere" }))).toBe("branch_not_found");
    expect((await prepare(AUTH)).base).toBe("main");
    server.refuse("app", { status: 503 });
    expect(await errorCode(prepare(AUTH))).toBe("repo_unreachable");
    server.refuse("app", { status: 301, text: "moved" });
    expect(await errorCode(prepare(AUTH))).toBe("repo_not_found");
    server.refuse("app", null);
    await server.close();
    expect(await errorCode(prepare(AUTH))).toBe("repo_unreachable");
  });

  it("an empty repository fails with branch_not_found", async () => {
    const { server } = await open();
    execFileSync("git", ["init", "-q", "--bare", join(server.root, "empty.git")], { env: ENV });
    expect(await errorCode(prepare(null, { repo: `${server.url}/empty.git` }))).toBe("branch_not_found");
  });

  it("the second task on a repository does not transfer existing objects again", async () => {
    const { server, repos } = await open();
    server.commit("app", "main", { "large.bin": randomBytes(500_000).toString("hex") });
    const posts = (): number =>
      server.requests.filter((one) => one.method === "POST" && one.path.endsWith("git-upload-pack")).length;
    const sent = (): number => server.requests.reduce((sum, one) => sum + one.sent, 0);
    await prepare();
    expect(sent()).toBeGreaterThan(500_000);
    const before = { posts: posts(), sent: sent() };
    await prepare(null, { taskId: "task_b2" });
    // One ls-refs, no fetch.
    expect(posts() - before.posts).toBe(1);
    expect(sent() - before.sent).toBeLessThan(2_000);
    // Nor is anything copied on this side: all objects are the mirror's.
    const objects = join(repos.path("task_b2"), "objects");
    expect(everyFile(objects).map((file) => file.slice(objects.length + 1))).toEqual(["info/alternates"]);
    expect(readFileSync(join(objects, "info/alternates"), "utf8")).toMatch(/mirrors/);
  });

  it("a task on a repository that is here starts few gits: a fork holds the event loop", async () => {
    const { dir, repos, url } = await open();
    const settings = (taskId: string, sha: string) => repos.file(taskId, sha, ".slipway.yml", 65_536);
    await settings("task_a1", (await prepare()).baseSha);
    const gits = countGits(dir);
    const { baseSha } = await prepare(null, { taskId: "task_b2" });
    await Promise.all([settings("task_b2", baseSha), settings("task_b2", baseSha)]);
    expect(gits.take()).toEqual(["ls-remote"]);
    const asked = { taskId: "task_b2", userId: "user_a", repo: url, auth: null, branch: "slipway/b" };
    const found = await repos.compareBranch({ ...asked, baseSha, work: null, expect: null }, signal);
    expect(found).toMatchObject({ relation: "absent", refusal: null, workFork: baseSha });
    expect(gits.take().toSorted()).toEqual(["ls-remote", "push"]);
    gits.stop();
    const sha = commitInto(repos.path("task_b2"), WORK_REF, { "work.txt": "work" });
    gits.start();
    expect(await repos.resolve("task_b2", WORK_REF)).toBe(sha);
    await repos.push({ ...asked, sha, expect: null }, signal);
    expect(gits.take()).toEqual(["update-ref", "ls-remote", "push"]);
    // Of another person nothing is kept.
    const other = { ...asked, taskId: "task_c3", userId: "user_c", base: null, parentTaskId: null };
    await repos.prepare(other, signal);
    gits.take();
    await settings("task_c3", baseSha);
    expect(gits.take()).toEqual(["ls-tree"]);
    gits.stop();
  });

  it("a deletion of the upstream branch does not break a task that is based on it", async () => {
    const { server, repos } = await open();
    const sha = server.commit("app", "feature", { "b.txt": "two" });
    const made = await prepare(null, { base: "feature" });
    expect(made).toEqual({ base: "feature", baseSha: sha });
    server.git("app", "update-ref", "-d", "refs/heads/feature");
    server.commit("app", "main", { "c.txt": "three" });
    await prepare(null, { taskId: "task_b2" });
    execFileSync("git", ["fsck", "--full"], { cwd: repos.path("task_a1"), env: ENV, stdio: "ignore" });
    expect(await repos.has("task_a1", sha)).toBe(true);
  });

  it("an old mirror that no task repository borrows from is removed, and the next task creates it again", async () => {
    const { repos, dir, url } = await open();
    const signal = new AbortController().signal;
    const first = await prepare();
    const [mirror = ""] = readdirSync(join(dir, "mirrors"));
    const later = Date.now() + 60_000;
    expect(await repos.reclaim(later, "remove", signal)).toEqual([]);
    const sha = commitInto(repos.path("task_a1"), WORK_REF, { "work.txt": "kept" });
    expect((await repos.diff("task_a1", first.baseSha, sha)).files).toHaveLength(1);
    await repos.remove("task_a1");
    expect(await repos.reclaim(Date.now() - 60_000, "remove", signal)).toEqual([]);
    const [found] = await repos.reclaim(later, "dry-run", signal);
    expect(found).toMatchObject({ kind: "mirror", name: mirror.replace(/\.git$/, ""), error: null });
    expect(found?.bytes).toBeGreaterThan(10_000);
    expect(readdirSync(join(dir, "mirrors"))).toEqual([mirror]);
    // A fetch that comes at the same time waits its turn, and makes it anew.
    const task = { taskId: "task_b2", userId: "user_a", repo: url, auth: null, base: null, parentTaskId: null };
    const [, again] = await Promise.all([repos.reclaim(later, "remove", signal), repos.prepare(task, signal)]);
    expect(again).toEqual(first);
    expect(await repos.resolve("task_b2", first.baseSha)).toBe(first.baseSha);
    expect(await repos.size("task_b2")).toBeGreaterThan(0);
    expect(await repos.size("task_gone")).toBe(0);
  });

  it("[D2] a prepare that was killed midway can be repeated", async () => {
    const { repos, dir } = await open();
    const first = await prepare();
    const sha = commitInto(repos.path("task_a1"), WORK_REF, { "work.txt": "kept" });
    const [mirror = ""] = readdirSync(join(dir, "mirrors"));
    for (const bare of [join(dir, "mirrors", mirror), repos.path("task_a1")]) {
      for (const lock of ["HEAD.lock", "packed-refs.lock", "refs/heads/main.lock"]) writeFileSync(join(bare, lock), "");
      mkdirSync(join(bare, "refs/slipway"), { recursive: true });
      writeFileSync(join(bare, "refs/slipway/work.lock"), "");
    }
    mkdirSync(`${repos.path("task_b2")}.new`);
    rig?.server.commit("app", "main", { "later.txt": "later" });
    expect(await prepare()).toEqual(first);
    expect(await repos.resolve("task_a1", WORK_REF)).toBe(sha);
    const next = commitInto(repos.path("task_a1"), WORK_REF, { "work.txt": "more" });
    expect(await repos.resolve("task_a1", WORK_REF)).toBe(next);
    expect((await prepare(null, { taskId: "task_b2" })).baseSha).not.toBe(first.baseSha);
    expect((await repos.list()).toSorted()).toEqual(["task_a1", "task_b2"]);
  });

  it("a cancelled task closes the connection to a host that does not answer", async () => {
    const { server, repos, url } = await open();
    server.refuse("app", { hang: true });
    const cancel = new AbortController();
    const waiting = repos.prepare(
      { taskId: "task_a1", userId: "u", repo: url, auth: null, base: null, parentTaskId: null },
      cancel.signal,
    );
    setTimeout(() => cancel.abort(), 200);
    await expect(waiting).rejects.toThrow();
    server.refuse("app", null);
    expect((await prepare()).base).toBe("main");
  });
});

describe("pushing", () => {
  async function withWork(
    options: GitServerOptions = {},
    auth: GitAuth | null = null,
  ): Promise<{ sha: string; server: GitServer }> {
    const { server, repos } = await open(options);
    await prepare(auth);
    return { server, sha: commitInto(repos.path("task_a1"), WORK_REF, { "work.txt": "done" }) };
  }

  it("each refusal of the upstream has its own code", async () => {
    const { server, sha } = await withWork();
    server.refuse("app", { status: 403, on: "push" });
    expect(await errorCode(push(null, sha))).toBe("push_auth");
    server.refuse("app", { status: 500, on: "push" });
    expect(await errorCode(push(null, sha))).toBe("remote_unreachable");
    server.refuse("app", null);
    server.hook("app", "pre-receive", 'echo "GH006: Protected branch update failed" >&2; exit 1');
    expect(await errorCode(push(null, sha))).toBe("push_rejected");
    server.hook(
      "app",
      "pre-receive",
      'echo "refusing to allow an OAuth App to create or update workflow .github/workflows/x.yml without workflow scope" >&2; exit 1',
    );
    expect(await errorCode(push(null, sha))).toBe("push_workflow_scope");
    server.hook("app", "pre-receive", "sleep 1; exit 0");
    await push(null, sha);
    await server.close();
    expect(await errorCode(push(null, sha, "later"))).toBe("remote_unreachable");
  });

  it("[W5] a push that loses the race to the same push of a killed coordinator succeeds: the branch has the commit", async () => {
    const { server, sha } = await withWork();
    server.hook("app", "update", 'git update-ref "$1" "$3"');
    await push(null, sha);
    expect(server.git("app", "rev-parse", "refs/heads/slipway/x")).toBe(sha);
    server.hook("app", "update", 'git update-ref "$1" main');
    expect(await errorCode(push(null, sha, "other"))).not.toBe("no failure");
  });

  it("[W5] a commit on which others have built is delivered, and a commit that contains theirs is pushed", async () => {
    const { server, sha } = await withWork();
    await push(null, sha);
    const bot = server.commitOn("app", "slipway/x", { "format.txt": "formatted" });
    await push(null, sha);
    expect(server.git("app", "rev-parse", "refs/heads/slipway/x")).toBe(bot);
    const path = rig?.repos.path("task_a1") ?? "";
    execFileSync("git", ["fetch", "-q", join(server.root, "app.git"), "slipway/x"], { cwd: path });
    const tree = execFileSync("git", ["rev-parse", `${bot}^{tree}`], { cwd: path, encoding: "utf8" }).trim();
    const on = ["-c", "user.name=a", "-c", "user.email=a@b", "commit-tree", tree, "-p", bot, "-m", "on top"];
    const ours = execFileSync("git", on, { cwd: path, encoding: "utf8" }).trim();
    await push(null, ours);
    expect(server.git("app", "rev-parse", "refs/heads/slipway/x")).toBe(ours);
  });

  it("a read-only credential and a wrong credential fail with push_auth", async () => {
    const { sha } = await withWork({ auth: { username: "robot", password: TOKEN, readOnly: true } }, AUTH);
    expect(await errorCode(push(AUTH, sha))).toBe("push_auth");
    expect(await errorCode(push({ username: "robot", token: "wrong" }, sha))).toBe("push_auth");
  });

  it.always("[S1] the credential is not on disk, in a command line or in evidence", async () => {
    const { server, sha } = await withWork({ auth: { username: "robot", password: TOKEN } }, AUTH);
    const dir = rig?.dir ?? "";
    server.refuse("app", { hang: true, on: "push" });
    const cancel = new AbortController();
    const slow = rig?.repos
      .push(
        { taskId: "task_a1", userId: "u", repo: rig.url, auth: AUTH, sha, branch: "b", expect: null },
        cancel.signal,
      )
      .catch(() => undefined);
    const listProcesses = (): string => execFileSync("ps", ["-eo", "args"], { encoding: "utf8" });
    // The hung push itself must be in the list: an empty list would prove nothing.
    const address = rig?.url ?? "";
    await expect.poll(listProcesses).toMatch(new RegExp(`git-remote-http.*${address}`));
    const commands = listProcesses();
    cancel.abort();
    await slow;
    server.refuse("app", null);
    await push(AUTH, sha);
    const failure = await push({ username: "robot", token: "wrong-T0ken" }, sha, "other").catch(
      (error: unknown) => JSON.stringify(error) + String((error as { evidence?: string }).evidence),
    );
    for (const form of forms(TOKEN)) {
      expect(commands).not.toContain(form);
      for (const file of everyFile(dir)) expect(readFileSync(file).includes(form), file).toBe(false);
    }
    for (const form of forms("wrong-T0ken")) expect(String(failure)).not.toContain(form);
    expect(statSync(join(dir, "askpass.sh")).mode & 0o077).toBe(0);
  });
});

describe("diffs", () => {
  it("a removed task repository and names that are not commit SHAs are rejected with a reason", async () => {
    const { repos } = await open();
    const { baseSha } = await prepare();
    await expect(repos.diff("task_gone", baseSha, baseSha)).rejects.toMatchObject({ code: "expired" });
    await expect(repos.patch("task_gone", baseSha, baseSha)).rejects.toMatchObject({ code: "expired" });
    for (const odd of ["HEAD", "--output=x", ""]) {
      await expect(repos.diff("task_a1", odd, baseSha)).rejects.toMatchObject({ code: "invalid_request" });
      expect(await repos.has("task_a1", odd)).toBe(false);
    }
    expect(() => repos.path("../etc")).toThrow();
  });

  it("lists every kind of change, including unusual file names, and returns a patch that applies", async () => {
    const { server, repos } = await open();
    server.commit("app", "main", { "old name.txt": "a\nb\nc\nd\ne\n", "gone.txt": "x\n", "bin.dat": "\0\x01\x02" });
    const { baseSha } = await prepare();
    const work = mkdtempSync(join(tmpdir(), "slipway-work-"));
    const git = (...args: string[]): string =>
      execFileSync("git", [...WHO, ...args], { cwd: work, env: ENV, encoding: "utf8" }).trim();
    git("clone", "-q", repos.path("task_a1"), ".");
    git("mv", "old name.txt", "new\nname.txt");
    git("rm", "-q", "gone.txt");
    execFileSync(
      "sh",
      [
        "-c",
        "printf 'one\\nmore\\n' > src/a.txt; printf '\\000\\001\\003' > bin.dat; printf 'diff --git a/x b/x\\n' > tricky.txt",
      ],
      { cwd: work },
    );
    git("add", "-A");
    git("commit", "-q", "-m", "all kinds");
    git("push", "-q", "origin", `HEAD:${WORK_REF}`);
    const head = git("rev-parse", "HEAD");
    const { files, truncated } = await repos.diff("task_a1", baseSha, head);
    expect(truncated).toBe(false);
    expect(
      files.map(({ path, oldPath, status, additions, deletions, binary }) => [
        path,
        oldPath,
        status,
        additions,
        deletions,
        binary,
      ]),
    ).toEqual([
      ["bin.dat", null, "modified", 0, 0, true],
      ["gone.txt", null, "deleted", 0, 1, false],
      ["new\nname.txt", "old name.txt", "renamed", 0, 0, false],
      ["src/a.txt", null, "modified", 1, 0, false],
      ["tricky.txt", null, "added", 1, 0, false],
    ]);
    expect(files[3]?.patch).toContain("+more");
    expect(files[4]?.patch).toContain("+diff --git a/x b/x");
    git("checkout", "-q", baseSha);
    execFileSync("git", ["apply", "-"], { cwd: work, env: ENV, input: await repos.patch("task_a1", baseSha, head) });
    expect(readdirSync(work)).toContain("tricky.txt");
    rmSync(work, { recursive: true, force: true });
  });

  it("a large change is truncated and marked as truncated", async () => {
    const { repos } = await open();
    const { baseSha } = await prepare();
    const sha = commitInto(repos.path("task_a1"), WORK_REF, {
      "a.txt": "small\n",
      "big.txt": "0123456789\n".repeat(11_000),
      "z.txt": "last\n",
    });
    const { files, truncated } = await repos.diff("task_a1", baseSha, sha);
    expect(truncated).toBe(false);
    expect(files).toHaveLength(3);
    const huge = commitInto(
      repos.path("task_a1"),
      WORK_REF,
      Object.fromEntries(Array.from({ length: 6 }, (_, i) => [`more${i}.txt`, "0123456789\n".repeat(9_000)])),
    );
    const cut = await repos.diff("task_a1", baseSha, huge);
    expect(cut.truncated).toBe(true);
    expect(cut.files).toHaveLength(9);
    expect(cut.files[0]?.patch).toContain("+small");
  });
});

describe("[S6] where a name points", () => {
  const answer = (...addresses: string[]) =>
    (() => Promise.resolve(addresses.map((address) => ({ address, family: 4 })))) as unknown as Parameters<
      typeof resolvePin
    >[3];

  it("pins git to the checked addresses, and rejects a name with any private address", async () => {
    expect(await resolvePin("https://git.example.com/a/b", [], signal, answer("93.184.215.14"))).toBe(
      "git.example.com:443:93.184.215.14",
    );
    expect(
      await errorCode(resolvePin("https://git.example.com/a/b", [], signal, answer("93.184.215.14", "10.0.0.1"))),
    ).toBe("repo_unreachable");
    expect(await errorCode(resolvePin("https://git.example.com/a/b", [], signal, answer("169.254.169.254")))).toBe(
      "repo_unreachable",
    );
    expect(await errorCode(resolvePin("https://git.example.com/a/b", [], signal, answer()))).toBe("repo_unreachable");
    expect(await resolvePin("http://127.0.0.1:99/a", ["127.0.0.1:99"], signal)).toBeNull();
  });

  it("recognises the private ranges", () => {
    for (const address of [
      "127.0.0.1",
      "10.1.2.3",
      "172.31.0.1",
      "192.168.1.1",
      "169.254.169.254",
      "168.63.129.16",
      "::ffff:168.63.129.16",
      "100.64.0.1",
      "0.0.0.0",
      "::1",
      "fd00::1",
      "fe80::1",
      "::ffff:127.0.0.1",
    ])
      expect(isPrivate(address), address).toBe(true);
    for (const address of ["93.184.215.14", "8.8.8.8", "168.63.129.17", "172.32.0.1", "2606:4700::1111"])
      expect(isPrivate(address), address).toBe(false);
  });
});

describe("[W12] signing", () => {
  function makeKey(kind: string, passphrase = ""): string {
    const file = join(mkdtempSync(join(tmpdir(), "slipway-key-")), "key");
    execFileSync("ssh-keygen", ["-q", "-t", kind, "-N", passphrase, "-C", "", "-f", file]);
    return file;
  }

  it("signs what is new, keeps what others made, content, author and message, and is the same each time", async () => {
    const { server, dir, url } = await open();
    const key = makeKey("ed25519");
    const repos = openRepositories({ dir, trustedHosts: [server.host], signingKeyFile: key });
    const task = { taskId: "task_1", userId: "user_a", repo: url, auth: null };
    const never = new AbortController().signal;
    const { baseSha: base } = await repos.prepare({ ...task, base: null, parentTaskId: null }, never);
    const path = repos.path("task_1");
    const git = (...args: string[]): string =>
      execFileSync("git", args, { cwd: path, env: ENV, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).trim();
    const human = commitInto(path, "refs/slipway/upstream", { "human.txt": "by hand" });
    git("update-ref", WORK_REF, human);
    const first = commitInto(path, WORK_REF, { "one.txt": "1" });
    const second = commitInto(path, WORK_REF, { "two.txt": "2" });
    const call = { taskId: "task_1", base, head: second, expect: null };

    const signed = await repos.sign(call, never);
    expect(await repos.sign(call, never)).toBe(signed);
    writeFileSync(`${key}.allowed`, `w@example.com ${readFileSync(`${key}.pub`, "utf8")}`);
    const verify = (sha: string): string =>
      git(
        "-c",
        "gpg.format=ssh",
        "-c",
        `gpg.ssh.allowedSignersFile=${key}.allowed`,
        "log",
        "-1",
        "--format=%G? %s",
        sha,
      );
    expect([signed, `${signed}^`, `${signed}~2`].map(verify)).toEqual([
      `G change ${WORK_REF}`,
      `G change ${WORK_REF}`,
      "N change refs/slipway/upstream",
    ]);
    expect(git("rev-parse", `${signed}~2`)).toBe(human);
    const format = ["log", "-1", "--format=%T %an %ae %at %cn %ct %B"];
    expect(git(...format, signed)).toBe(git(...format, second));
    expect(git(...format, `${signed}^`)).toBe(git(...format, first));
    expect(git("fsck", "--strict", "--no-dangling", signed)).toBe("");

    // A task that goes on from the commits as they were sends the ones that were pushed.
    const third = commitInto(path, WORK_REF, { "three.txt": "3" });
    const next = await repos.sign({ ...call, head: third, expect: signed }, never);
    expect(git("rev-parse", `${next}^`)).toBe(signed);
    expect(await repos.sign({ ...call, head: human }, never)).toBe(human);
  });

  it("refuses a key that cannot be used, by name and without its content", async () => {
    const missing = "/nonexistent/key";
    await expect(checkSigningKey(missing)).rejects.toThrow(
      `SLIPWAY_SIGNING_KEY_FILE: the key ${missing} cannot be used`,
    );
    await expect(checkSigningKey(makeKey("ed25519", "a passphrase"))).rejects.toThrow("without a passphrase");
    await expect(checkSigningKey(makeKey("ecdsa"))).rejects.toThrow("is no key of the kinds ed25519 or rsa");
    const readable = makeKey("ed25519");
    await checkSigningKey(readable);
    chmodSync(readable, 0o644);
    await expect(checkSigningKey(readable)).rejects.toMatchObject({ code: "config_invalid" });
  });
});
