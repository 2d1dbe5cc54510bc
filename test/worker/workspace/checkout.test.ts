/** Checkpoints and commits in a real repository, through the real broker. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { Checkout } from "../../../worker/workspace/checkout.ts";
import { openForwarder, type Forwarder } from "../../../worker/connection/forwarding/forward.ts";
import { Unreachable } from "../../../worker/workspace/workspace.ts";
import type { WorkerSpec } from "../../../src/core/protocol/worker.ts";
import { Rig } from "../rig.ts";
import { commitFiles, git } from "../../support/repository.ts";

let rig: Rig;
let forwarder: Forwarder;
const never = new AbortController().signal;

beforeEach(async () => {
  rig = await Rig.open();
});
afterEach(async () => {
  await forwarder.close();
  await rig.close();
});

const spec = async (): Promise<WorkerSpec> => await rig.workerApi.spec(rig.workerApi.taskId, rig.workerApi.attempt);

async function open(overrides: { stateDir?: string; token?: string } = {}): Promise<Checkout> {
  const checkout = await openBase(overrides);
  await checkout.restore(await spec(), never);
  return checkout;
}

/** As it is before the setup, where there is one. */
async function openBase(overrides: { stateDir?: string; token?: string } = {}): Promise<Checkout> {
  const { socketDir, token } = await rig.broker.open(rig.workerApi.taskId, rig.workerApi.attempt);
  forwarder = await openForwarder(join(socketDir, "b.sock"));
  mkdirSync(overrides.stateDir ?? rig.state, { recursive: true });
  const checkout = new Checkout({
    root: rig.workspace,
    stateDir: overrides.stateDir ?? rig.state,
    url: `http://127.0.0.1:${forwarder.port}/git/repo.git`,
    authorization: `Basic ${Buffer.from(`w:${overrides.token ?? token}`).toString("base64")}`,
  });
  await checkout.open(await spec(), never);
  return checkout;
}

const put = (path: string, content: string): void => writeFileSync(join(rig.workspace, path), content);
const inside = async (...args: string[]): Promise<string> => await git(rig.workspace, ...args);

it("a checkpoint contains staged, unstaged and untracked files but no ignored ones, and leaves the agent's index unchanged", async () => {
  const checkout = await open();
  put("a.txt", "staged\n");
  await inside("add", "a.txt");
  put("a.txt", "staged\nunstaged\n");
  put("new file.txt", "untracked\n");
  mkdirSync(join(rig.workspace, "ignored"));
  put("ignored/x", "x");
  const before = [
    await inside("status", "--porcelain=v2", "--branch"),
    await inside("diff", "--cached"),
    await inside("diff"),
    await inside("log", "--oneline"),
  ];
  const saved = await checkout.checkpoint(never);
  expect([
    await inside("status", "--porcelain=v2", "--branch"),
    await inside("diff", "--cached"),
    await inside("diff"),
    await inside("log", "--oneline"),
  ]).toEqual(before);
  expect(await rig.files(saved.sha)).toEqual([".gitignore", "a.txt", "new file.txt"]);
  expect(await rig.show(saved.sha, "a.txt")).toBe("staged\nunstaged\n");
  expect(saved).toMatchObject({ files: 2, additions: 3, deletions: 3 });
  expect(await git(rig.repo, "rev-parse", "refs/slipway/checkpoints/1")).toBe(saved.sha);
  expect(await checkout.checkpoint(never)).toEqual(saved);
});

it("without changes the checkpoint is the current commit, and nothing is pushed", async () => {
  const checkout = await open();
  const nothing = { sha: rig.workerApi.baseSha, files: 0, additions: 0, deletions: 0 };
  const pushed = (): Promise<string> => git(rig.repo, "for-each-ref", "--format=%(objectname)", "refs/slipway");
  const before = await pushed();
  expect(await checkout.checkpoint(never)).toEqual(nothing);
  expect(await pushed()).toBe(before);
  // Also when a change was taken back.
  put("a.txt", "work\n");
  const { sha } = await checkout.checkpoint(never);
  expect(await pushed()).toContain(sha);
  await inside("checkout", "--quiet", "--force", ".");
  expect(await checkout.checkpoint(never)).toEqual(nothing);
});

it("[S10] where a setup follows, the checkout is the base first; saved work is laid over what the setup made", async () => {
  const checkout = await open();
  put("a.txt", "work\n");
  put("package.json", '{ "scripts": { "postinstall": "evil" } }');
  await inside("commit", "--quiet", "--all", "-m", "a commit of the agent");
  const { sha } = await checkout.checkpoint(never);
  await forwarder.close();
  rig.workerApi.next();
  rig.workerApi.overrides = { resume: { sha, cursor: null }, setup: [{ command: "npm ci", timeoutMs: 1_000 }] };
  const again = await openBase();
  expect(existsSync(join(rig.workspace, "package.json"))).toBe(false);
  expect(readFileSync(join(rig.workspace, "a.txt"), "utf8")).toBe("one\ntwo\nthree\n");
  // What a setup does: ignored files, others, and a change of a file of the base.
  mkdirSync(join(rig.workspace, "ignored"));
  put("ignored/dependency", "installed");
  put("generated.txt", "the agent had deleted it");
  put("a.txt", "formatted\n");
  for (const _ of ["once", "after a restart"]) await again.restore(await spec(), never);
  expect(await inside("status", "--porcelain")).toBe("?? package.json");
  expect(await inside("log", "-1", "--format=%s")).toBe("a commit of the agent");
  expect(readFileSync(join(rig.workspace, "a.txt"), "utf8")).toBe("work\n");
  expect(readFileSync(join(rig.workspace, "ignored/dependency"), "utf8")).toBe("installed");
  expect((await again.checkpoint(never)).sha).toMatch(/^[0-9a-f]{40}$/);
});

it("hooks, file-system monitors and commit signatures that the tree configures do not run", async () => {
  const checkout = await open();
  mkdirSync(join(rig.workspace, ".githooks"));
  for (const hook of ["pre-commit", "pre-push", "commit-msg", "reference-transaction"]) {
    writeFileSync(join(rig.workspace, ".git/hooks", hook), `#!/bin/sh\ntouch ${rig.dir}/hooked\nexit 1\n`, {
      mode: 0o755,
    });
  }
  await inside("config", "core.fsmonitor", `touch ${rig.dir}/hooked; false`);
  await inside("config", "commit.gpgSign", "true");
  put("b.txt", "b");
  const sha = await checkout.finalCommit({ title: "Add b", summary: "" }, never);
  expect(await rig.files(sha)).toContain("b.txt");
  await expect(git(rig.dir, "hash-object", "hooked")).rejects.toThrow();
});

it("the identity in the repository's configuration is used", async () => {
  const checkout = await open();
  await inside("config", "user.email", "me@example.org");
  put("b.txt", "b");
  const sha = await checkout.finalCommit({ title: "Add b", summary: "" }, never);
  expect(await git(rig.repo, "log", "-1", "--format=%an %ae", sha)).toBe("Slipway me@example.org");
});

it("[W11] the last commit has the summary as its body, the author of the task, and the person as co-author", async () => {
  const author = { name: "Build Robot", email: "robot@example.org" };
  const coAuthors = [{ name: "ann", email: "ann@example.org" }];
  rig.workerApi.overrides = { commit: { author, coAuthors } };
  const checkout = await open();
  put("b.txt", "b");
  const summary = "Because c needs it.\n\nVerification:\n- `npm test`: passed";
  const sha = await checkout.finalCommit({ title: "Add b\nInjected: yes", summary }, never);
  expect(await git(rig.repo, "log", "-1", "--format=%an <%ae>%n%B", sha)).toBe(
    `Build Robot <robot@example.org>\nAdd b Injected: yes\n\n${summary}\n\nCo-authored-by: ann <ann@example.org>`,
  );
  expect(await git(rig.repo, "log", "-1", "--format=%(trailers)", sha)).toBe("Co-authored-by: ann <ann@example.org>");
});

it("links, nested repositories with and without a commit, and a file name with a line feed can be saved", async () => {
  const checkout = await open();
  symlinkSync("/etc/passwd", join(rig.workspace, "link"));
  for (const name of ["empty", "nested"]) {
    mkdirSync(join(rig.workspace, name));
    await git(join(rig.workspace, name), "init", "-q");
  }
  await git(join(rig.workspace, "nested"), "commit", "-q", "--allow-empty", "-m", "x");
  put("line\nbreak", "x");
  const saved = await checkout.checkpoint(never);
  expect(await git(rig.repo, "ls-tree", "-r", saved.sha)).toMatch(/120000 blob \w+\tlink/);
  const sha = await checkout.finalCommit({ title: "odd", summary: "" }, never);
  expect((await git(rig.repo, "ls-tree", "--name-only", "-z", sha)).split("\0")).toContain("line\nbreak");
});

it("the state folder inside the checkout is neither committed nor removed", async () => {
  const stateDir = join(rig.workspace, ".slipway-state");
  mkdirSync(stateDir, { recursive: true });
  writeFileSync(join(stateDir, "journal.jsonl"), "x");
  const checkout = await open({ stateDir });
  put("b.txt", "b");
  const sha = await checkout.finalCommit({ title: "Add b", summary: "" }, never);
  expect(await rig.files(sha)).toEqual([".gitignore", "a.txt", "b.txt"]);
  expect(await inside("status", "--porcelain")).toBe("");
  expect(await git(rig.dir, "hash-object", join(stateDir, "journal.jsonl"))).toMatch(/^[0-9a-f]{40}$/);
});

it("commits on another branch or on a detached HEAD are part of the work", async () => {
  const checkout = await open();
  await inside("checkout", "-q", "-b", "feature/x");
  put("b.txt", "b");
  await inside("add", "-A");
  await inside("commit", "-q", "-m", "on a branch");
  await inside("checkout", "-q", "--detach");
  put("c.txt", "c");
  const sha = await checkout.finalCommit({ title: "detached", summary: "" }, never);
  expect(await rig.subjects(sha)).toEqual(["detached", "on a branch"]);
  expect(await git(rig.repo, "for-each-ref", "--format=%(refname)")).toBe("refs/heads/main\nrefs/slipway/work");
});

it("a resumed attempt keeps a finished commit as history and a checkpoint as uncommitted changes", async () => {
  const first = await open();
  put("b.txt", "b");
  const finished = await first.finalCommit({ title: "Add b", summary: "" }, never);
  put("c.txt", "c");
  const { sha } = await first.checkpoint(never);
  await forwarder.close();
  rig.workerApi.next();
  rig.workerApi.overrides = { resume: { sha, cursor: null } };
  const second = await open();
  expect(await inside("status", "--porcelain")).toBe("?? c.txt");
  expect(await inside("rev-parse", "HEAD")).toBe(finished);
  expect(await rig.subjects(await second.finalCommit({ title: "Add c", summary: "" }, never))).toEqual([
    "Add c",
    "Add b",
  ]);
});

it("the attempt's token is not stored in the checkout", async () => {
  const { token } = await rig.broker.open(rig.workerApi.taskId, 1);
  await open();
  expect(spawnSync("grep", ["-rqF", token, rig.workspace]).status).toBe(1);
  expect(spawnSync("grep", ["-rqF", rig.workerApi.baseSha, rig.workspace]).status).toBe(0);
  expect(await inside("config", "--list", "--local")).not.toContain("127.0.0.1");
});

it("a refusal by the task repository rejects with Unreachable", async () => {
  await expect(open({ token: "att_wrong" })).rejects.toBeInstanceOf(Unreachable);
});

it("[W10] a merge in conflict survives a checkpoint and becomes a merge commit with the work", async () => {
  const seed = join(rig.dir, "seed");
  const side = await commitFiles(seed, { "a.txt": "theirs\n" }, "theirs");
  await git(rig.repo, "fetch", "-q", seed, "+HEAD:refs/slipway/side");
  await git(seed, "reset", "-q", "--hard", rig.workerApi.baseSha);
  const ours = await commitFiles(seed, { "a.txt": "ours\n" }, "ours");
  await git(rig.repo, "fetch", "-q", seed, "+HEAD:refs/slipway/ours");
  rig.workerApi.baseSha = side;
  rig.workerApi.overrides = { resume: { sha: ours, cursor: null }, mergeBase: { name: "main", sha: side } };
  const first = await open();
  expect(await inside("diff", "--name-only", "--diff-filter=U")).toBe("a.txt");
  const { sha } = await first.checkpoint(never);
  await forwarder.close();
  rig.workerApi.next();
  rig.workerApi.overrides = { resume: { sha, cursor: null }, mergeBase: { name: "main", sha: side } };
  const second = await open();
  expect(await inside("rev-parse", "HEAD", "MERGE_HEAD")).toBe(`${ours}\n${side}`);
  put("a.txt", "both\n");
  const head = await second.finalCommit({ title: "Merge it", summary: "" }, never);
  expect(await git(rig.repo, "rev-list", "--parents", "-1", head)).toBe(`${head} ${ours} ${side}`);
  expect(await rig.show(head, "a.txt")).toBe("both\n");
});
