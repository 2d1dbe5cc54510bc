/**
 * Fetches that break off, and repositories that have lost objects, against a real git server over
 * HTTP.
 */
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect } from "vitest";
import { errorMessage } from "../../src/core/error.ts";
import { readProgress } from "../../src/core/lib/git/git-progress.ts";
import { openRepositories } from "../../src/git/repositories.ts";
import { checkpointRef, WORK_REF, type Repositories } from "../../src/core/ports/repositories.ts";
import { errorCode } from "../contract/repositories.ts";
import { startGitServer, type GitServer } from "../support/git-server.ts";
import { git } from "../support/repository.ts";
import { inTurn } from "../support/vitest/full-run.ts";

const it = inTurn(3);

/** Bytes that do not compress, so that a fetch of them takes its time. */
const large = (bytes: number): string => randomBytes(bytes / 2).toString("hex");
const MB = 2 ** 20;
const DELIVERED = "refs/slipway/delivered/slipway/one";

let server: GitServer;
let dir: string;
let url: string;
let repos: Repositories;
beforeEach(async () => {
  server = await startGitServer();
  dir = mkdtempSync(join(tmpdir(), "slipway-complete-"));
  url = server.createRepo("app", { "README.md": "# App\n", "src/a.txt": "one\n" }).url;
  repos = open();
});
afterEach(async () => {
  await repos.close();
  await server.close();
  rmSync(dir, { recursive: true, force: true });
});

const open = (): Repositories => openRepositories({ dir, trustedHosts: [server.host] });
const never = new AbortController().signal;
const prepare = (
  taskId: string,
  signal = never,
  progress?: (text: string) => void,
  parentTaskId: string | null = null,
) => repos.prepare({ taskId, userId: "user_a", repo: url, auth: null, base: null, parentTaskId }, signal, progress);

function mirror(): string {
  const [name = ""] = readdirSync(join(dir, "mirrors")).filter((entry) => entry.endsWith(".git"));
  return join(dir, "mirrors", name);
}
/** What a checkout needs: every object of the base, from the task repository. */
async function expectCheckout(taskId: string, sha: string): Promise<void> {
  await git(repos.path(taskId), "fsck", "--connectivity-only");
  await git(repos.path(taskId), "archive", "--output=/dev/null", sha);
}
const packOf = (path: string): string[] =>
  readdirSync(join(path, "objects/pack")).map((name) => join(path, "objects/pack", name));
const looseOf = (path: string, sha: string): string => join(path, "objects", sha.slice(0, 2), sha.slice(2));
/** As an installation from before the proofs: loose objects, no proof. */
async function makeLoose(path: string): Promise<void> {
  for (const pack of packOf(path).filter((name) => name.endsWith(".pack"))) {
    const aside = join(dir, "aside.pack");
    renameSync(pack, aside);
    for (const rest of packOf(path)) rmSync(rest, { force: true });
    execFileSync("sh", ["-c", 'git -C "$1" unpack-objects -q < "$2"', "sh", path, aside]);
  }
  rmSync(join(path, "slipway-complete"), { force: true });
}
/** Number of requests that were answered with more than a list of refs. */
const packsSent = (): number =>
  server.requests.filter(({ path, sent }) => path.endsWith("git-upload-pack") && sent > 100_000).length;

describe("a fetch that breaks off", () => {
  it("[W7] leaves no commit without its files: the next task fetches what is missing", async () => {
    await prepare("task_a1");
    const sha = server.commit("app", "main", { "large.txt": large(12 * MB), "b.txt": "two" });
    server.shape("app", { cutAfter: 2 * MB });
    expect(await errorCode(prepare("task_b2"))).toBe("repo_unreachable");
    server.shape("app", null);
    expect(await prepare("task_b2")).toMatchObject({ baseSha: sha });
    await expectCheckout("task_b2", sha);
    expect(await repos.check(never)).toEqual([]);
  });

  it("[W7] goes on without the task that began it: the next one joins it, and nothing is sent twice", async () => {
    server.commit("app", "main", { "large.txt": large(4 * MB) });
    // Slow enough for the second task to see a part of it.
    server.shape("app", { bytesPerSecond: MB / 2 });
    const cancel = new AbortController();
    const first = prepare("task_a1", cancel.signal, () => cancel.abort());
    await expect(first).rejects.toThrow(/abort/);
    const lines: string[] = [];
    const { baseSha } = await prepare("task_b2", never, (text) => lines.push(text));
    await expectCheckout("task_b2", baseSha);
    expect(packsSent()).toBe(1);
    expect(lines.filter((line) => /^(Receiving objects|Resolving deltas): +\d+%/.test(line))).not.toEqual([]);
  });

  it("ends when the repositories are closed", async () => {
    server.commit("app", "main", { "large.txt": large(4 * MB) });
    server.shape("app", { bytesPerSecond: MB / 4 });
    const cancel = new AbortController();
    await expect(prepare("task_a1", cancel.signal, () => cancel.abort())).rejects.toThrow(/abort/);
    const begun = Date.now();
    await repos.close();
    expect(Date.now() - begun).toBeLessThan(8_000);
    server.shape("app", null);
    repos = open();
    await expectCheckout("task_a1", (await prepare("task_a1")).baseSha);
  });
});

describe("a repository that has lost objects", () => {
  it("[W7] a commit that was left without its files by an earlier version is fetched again", async () => {
    await prepare("task_a1");
    const sha = server.commit("app", "main", { "b.txt": "two" });
    await makeLoose(mirror());
    const commit = execFileSync("git", ["cat-file", "commit", sha], { cwd: join(server.root, "app.git") });
    const args = ["hash-object", "-w", "-t", "commit", "--stdin"];
    expect(execFileSync("git", args, { cwd: mirror(), input: commit }).toString().trim()).toBe(sha);
    await prepare("task_b2");
    await expectCheckout("task_b2", sha);
  });

  it.each(["a pack", "an index", "loose objects", "its configuration", "its refs"])(
    "[W7] a mirror that has lost %s is fetched again in full, and older tasks can be checked out again",
    async (what) => {
      const { baseSha } = await prepare("task_a1");
      const damage = async (): Promise<void> => {
        if (what === "a pack") for (const file of packOf(mirror())) rmSync(file, { force: true });
        if (what === "an index") truncateSync(packOf(mirror()).find((name) => name.endsWith(".idx")) ?? "", 100);
        if (what === "its configuration") truncateSync(join(mirror(), "HEAD"), 0);
        if (what === "its refs") rmSync(join(mirror(), "refs"), { recursive: true });
        if (what !== "loose objects") return;
        await makeLoose(mirror());
        rmSync(looseOf(mirror(), await git(join(server.root, "app.git"), "rev-parse", "HEAD:src/a.txt")));
      };
      await damage();
      expect(await repos.check(never)).toContainEqual(expect.objectContaining({ kind: "mirror" }));
      expect(await prepare("task_b2")).toMatchObject({ baseSha });
      await expectCheckout("task_b2", baseSha);
      await expectCheckout("task_a1", baseSha);
      expect(await repos.check(never)).toEqual([]);
    },
  );

  it("[W7] a file that was emptied is noticed when the base cannot be read, and then fetched again", async () => {
    const { baseSha } = await prepare("task_a1");
    expect(await repos.isBaseUnreadable("task_a1", never)).toBe(false);
    await makeLoose(mirror());
    const blob = looseOf(mirror(), await git(join(server.root, "app.git"), "rev-parse", "HEAD:src/a.txt"));
    execFileSync("chmod", ["u+w", blob]);
    truncateSync(blob, 0);
    expect(await repos.isBaseUnreadable("task_a1", never)).toBe(true);
    await prepare("task_b2");
    expect(await repos.isBaseUnreadable("task_a1", never)).toBe(false);
    await expectCheckout("task_b2", baseSha);
  });

  it("[W4] [W7] a task repository that cannot find its base is created anew with the work that was saved", async () => {
    const { baseSha } = await prepare("task_a1");
    const work = join(dir, "work");
    await git(dir, "clone", "-q", repos.path("task_a1"), work);
    writeFileSync(join(work, "half.txt"), "half");
    await git(work, "add", "-A");
    await git(work, "commit", "-q", "-m", "half");
    await git(work, "push", "-q", "origin", `HEAD:${checkpointRef(1)}`);
    const half = await git(work, "rev-parse", "HEAD");
    rmSync(join(repos.path("task_a1"), "objects/info/alternates"));
    expect(await repos.check(never)).toEqual([expect.objectContaining({ kind: "task", name: "task_a1" })]);
    expect(await prepare("task_a1")).toEqual({ base: "main", baseSha });
    expect(await repos.resolve("task_a1", checkpointRef(1))).toBe(half);
    await expectCheckout("task_a1", half);
    // Killed between the two renames of that.
    renameSync(repos.path("task_a1"), `${repos.path("task_a1")}.gone`);
    expect(await prepare("task_a1")).toEqual({ base: "main", baseSha });
    expect(await repos.resolve("task_a1", checkpointRef(1))).toBe(half);
  });
});

it("[W7] a push from a repository that lacks objects names that, and succeeds once they are fetched again", async () => {
  const { baseSha } = await prepare("task_a1");
  const work = join(dir, "work");
  await git(dir, "clone", "-q", repos.path("task_a1"), work);
  writeFileSync(join(work, "done.txt"), "done");
  await git(work, "add", "-A");
  await git(work, "commit", "-q", "-m", "done");
  await git(work, "push", "-q", "origin", `HEAD:${checkpointRef(1)}`);
  const sha = await git(work, "rev-parse", "HEAD");
  for (const file of packOf(mirror())) rmSync(file, { force: true });
  const push = () =>
    repos.push(
      { taskId: "task_a1", userId: "user_a", repo: url, auth: null, sha, branch: "slipway/done", expect: null },
      never,
    );
  expect(await errorCode(push())).toBe("repo_incomplete");
  expect(await prepare("task_a1")).toEqual({ base: "main", baseSha });
  await push();
  expect(server.git("app", "rev-parse", "slipway/done")).toBe(sha);
});

it("[D2] a lock that a killed git left on a ref does not block the next push to a task repository", async () => {
  await prepare("task_a1");
  const lock = join(repos.path("task_a1"), "refs/slipway/base.lock");
  writeFileSync(lock, "");
  // A lock of this moment may have its holder.
  expect(existsSync(join(repos.path("task_a1"), "refs/slipway/base.lock"))).toBe(true);
  await repos.close();
  await expect.poll(() => Date.now()).toBeGreaterThan(Date.now());
  repos = open();
  expect(existsSync(join(repos.path("task_a1"), "refs/slipway/base.lock"))).toBe(false);
  writeFileSync(lock, "");
  const [old] = [new Date(Date.now() - 120_000)];
  utimesSync(lock, old, old);
  expect(existsSync(join(repos.path("task_a1"), "refs/slipway/base.lock"))).toBe(false);
});

it.always(
  "[D2] locks that a killed process left at each name block nothing that is done with a repository",
  async () => {
    const { baseSha } = await prepare("task_a1");
    const path = repos.path("task_a1");
    const work = await git(path, "commit-tree", "-m", "work", "-p", baseSha, `${baseSha}:src`);
    const key = join(dir, "key");
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key]);
    const range = { taskId: "task_a1", base: baseSha, head: work, expect: null };
    const branch = { taskId: "task_a1", userId: "user_a", repo: url, auth: null, branch: "slipway/one", expect: null };
    const steps: Record<string, () => Promise<unknown>> = {
      "leave out": () => repos.leaveOut({ ...range, paths: ["README.md"] }, never),
      push: () => repos.push({ ...branch, sha: work }, never),
      "push again": () => repos.push({ ...branch, sha: work }, never),
      compare: () => {
        server.commit("app", branch.branch, { "others.txt": "others" });
        return repos.compareBranch({ ...branch, baseSha, work }, never);
      },
      sign: () => repos.sign(range, never),
      prepare: () => prepare("task_a1"),
      follow: () => prepare("task_a2", never, undefined, "task_a1"),
      merge: async () => expect((await repos.mergePacks(never)).filter(({ error }) => error !== null)).toEqual([]),
      "a push of the worker": () => git(path, "push", "--quiet", repos.path("task_a1"), `${work}:${WORK_REF}`),
    };
    for (const [name, step] of Object.entries(steps)) {
      await repos.close();
      for (const bare of [mirror(), path]) lockAll(bare);
      await expect.poll(() => Date.now()).toBeGreaterThan(Date.now());
      repos = openRepositories({ dir, trustedHosts: [server.host], signingKeyFile: key });
      expect(await step().then(() => "done", errorMessage), name).toBe("done");
    }
  },
);

/** The lock of each file of a repository that git or Slipway locks, also of refs to come. */
function lockAll(bare: string): void {
  const refs = readdirSync(join(bare, "refs"), { recursive: true, encoding: "utf8" }).map((name) => `refs/${name}`);
  const toCome = [DELIVERED, WORK_REF, "refs/slipway/upstream"];
  const index = `slipway-guard-index-${process.pid}`;
  for (const name of ["HEAD", "config", "packed-refs", "shallow", index, ...refs, ...toCome]) {
    const path = join(bare, name);
    if (path.endsWith(".lock") || statSync(path, { throwIfNoEntry: false })?.isDirectory()) continue;
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(`${path}.lock`, "");
  }
}

describe("git's progress", () => {
  it("is passed on once per second at most, and only in git's own words", () => {
    let now = 0;
    const seen: string[] = [];
    const read = readProgress(
      (text) => seen.push(text),
      () => now,
    );
    read("remote: Counting objects:  50% (1/2)\rremote: Counting obj");
    expect(seen).toEqual([]);
    now = 1_000;
    read("ects: 100% (2/2), done.\nReceiving objects:   1% (1/100)\r");
    expect(seen).toEqual(["Receiving objects:   1% (1/100)"]);
    now = 1_999;
    read("Receiving objects:   2% (2/100)\r");
    expect(seen).toHaveLength(1);
    now = 2_000;
    read(
      "remote: \x1b[31mCounting objects: 100%\rremote: buy now\nReceiving objects:  40% (4/10), 12.00 MiB | 1.50 MiB/s\r",
    );
    expect(seen.at(-1)).toBe("Receiving objects:  40% (4/10), 12.00 MiB | 1.50 MiB/s");
    now = 3_000;
    read("remote: nothing that git says\n");
    expect(seen).toHaveLength(2);
  });

  it("of a long fetch is bounded in number and length", () => {
    let now = 0;
    const seen: string[] = [];
    const read = readProgress(
      (text) => seen.push(text),
      () => now,
    );
    for (; now < 900_000; now += 100)
      read(`Receiving objects:  40% (4/10), 12.00 MiB | 1.50 MiB/s${"\r"}${"x".repeat(50_000)}\r`);
    expect(seen.length).toBeGreaterThan(100);
    expect(seen.length).toBeLessThan(300);
    expect(Math.max(...seen.map((text) => text.length))).toBeLessThan(200);
  });
});
