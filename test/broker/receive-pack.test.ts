/** What a worker can move: real pushes of a real git through the real broker. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { openForwarder, type Forwarder } from "../../worker/connection/forwarding/forward.ts";
import { git } from "../support/repository.ts";
import { Rig } from "../worker/rig.ts";
import { checkpointRef, WORK_REF } from "../../src/core/ports/repositories.ts";

const ATTEMPT = 2;
let rig: Rig;
let forwarder: Forwarder;
let token: string;
let clone: string;
let mine: string;

beforeEach(async () => {
  rig = await Rig.open();
  rig.workerApi.attempt = ATTEMPT;
  const opened = await rig.broker.open(rig.workerApi.taskId, ATTEMPT);
  token = opened.token;
  forwarder = await openForwarder(join(opened.socketDir, "b.sock"));
  clone = join(rig.dir, "clone");
  await git(rig.dir, "clone", "-q", rig.repo, clone);
  await git(clone, "commit", "-q", "--allow-empty", "-m", "mine");
  mine = await git(clone, "rev-parse", "HEAD");
});
afterEach(async () => {
  await forwarder.close();
  await rig.close();
});

interface Pushed {
  readonly ok: boolean;
  readonly said: string;
}

function push(...refspecs: string[]): Promise<Pushed> {
  const header = `http.extraHeader=Authorization: Bearer ${token}`;
  const url = `http://127.0.0.1:${forwarder.port}/git/repo.git`;
  const env = { ...process.env, GIT_TERMINAL_PROMPT: "0" };
  return new Promise((resolve) => {
    execFile("git", ["-c", header, "push", "--force", url, ...refspecs], { cwd: clone, env }, (error, stdout, stderr) =>
      resolve({ ok: error === null, said: stdout + stderr }),
    );
  });
}

/** Every ref of the task repository and what it points at. */
const refs = async (): Promise<string[]> =>
  (await git(rig.repo, "for-each-ref", "--format=%(refname) %(objectname)")).split("\n");

it("[S4] the work and this attempt's checkpoints can be pushed, again and again", async () => {
  const before = await refs();
  expect(await push(`HEAD:${WORK_REF}`, `HEAD:${checkpointRef(ATTEMPT)}`)).toMatchObject({ ok: true });
  expect((await refs()).toSorted()).toEqual(
    [...before, `${WORK_REF} ${mine}`, `${checkpointRef(ATTEMPT)} ${mine}`].toSorted(),
  );
  await git(clone, "commit", "-q", "--amend", "--allow-empty", "-m", "other");
  expect(await push(`HEAD:${WORK_REF}`)).toMatchObject({ ok: true });
  expect(await git(rig.repo, "rev-parse", WORK_REF)).toBe(await git(clone, "rev-parse", "HEAD"));
});

it.each([
  ["the base branch", ["HEAD:refs/heads/main"]],
  ["another branch", ["HEAD:refs/heads/evil"]],
  ["a tag", ["HEAD:refs/tags/v1"]],
  ["the base's own ref", ["HEAD:refs/slipway/base"]],
  ["another attempt's checkpoint", [`HEAD:${checkpointRef(ATTEMPT - 1)}`]],
  ["a ref below the work", [`HEAD:${WORK_REF}/more`]],
  ["HEAD itself", ["HEAD:HEAD"]],
  ["a replacement", ["HEAD:refs/replace/0123456789012345678901234567890123456789"]],
  ["the work with something else", [`HEAD:${WORK_REF}`, "HEAD:refs/heads/evil"]],
  ["everything there is", ["--mirror"]],
])("[S4] a push of %s is refused whole, with the reason, and moves nothing", async (_what, refspecs) => {
  const before = await refs();
  const { ok, said } = await push(...refspecs);
  expect(ok).toBe(false);
  expect(said).toMatch(/can be pushed|not a ref update|not deleted/);
  expect(await refs()).toEqual(before);
});

it("[S4] what is saved cannot be deleted", async () => {
  await push(`HEAD:${WORK_REF}`, `HEAD:${checkpointRef(ATTEMPT)}`);
  const before = await refs();
  for (const ref of [WORK_REF, checkpointRef(ATTEMPT), "refs/heads/main"])
    expect((await push(`:${ref}`)).ok).toBe(false);
  expect(await refs()).toEqual(before);
});
