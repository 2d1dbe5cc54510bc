/**
 * A branch that a thread shares with people, bots and itself: a real coordinator process, real
 * workers, a real git server.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect } from "vitest";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { startGitServer, type GitServer } from "../../support/git-server.ts";
import { eventually, startServer, type RealServer } from "../../support/process/server.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(3);

let upstream: GitServer;
let server: RealServer;
let dir: string;
let repo: string;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "slipway-shared-"));
  upstream = await startGitServer();
  repo = upstream.createRepo("app", { "README.md": "# App\n" }).url;
  server = await start();
});
afterEach(async () => {
  await server.kill("SIGTERM");
  await upstream.close();
  rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
});

function start(env: Readonly<Record<string, string>> = {}): Promise<RealServer> {
  const policy = { backoffMs: 100, backoffCapMs: 500 };
  return startServer({
    dataDir: join(dir, "data"),
    policy,
    env: { SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host, ...env },
  });
}
async function post(path: string, body: object): Promise<WireTask> {
  const answer = await server.call("POST", path, body);
  expect(answer.status).toBe(201);
  return answer.body as WireTask;
}
const submit = (prompt = "The first change."): Promise<WireTask> => post("/v1/tasks", { repo, prompt });
const message = (id: string, text: string): Promise<WireTask> => post(`/v1/tasks/${id}/messages`, { text });
const settled = (id: string): Promise<WireTask> =>
  eventually(async () => {
    const task = await server.task(id);
    return task.settledAt === null ? null : task;
  }, `task ${id} settles`);
const tip = (branch: string): string =>
  upstream.git("app", "for-each-ref", "--format=%(objectname)", `refs/heads/${branch}`);

it("[W5] [W8] two follow-ups of one task run one after the other, and the branch has the work of both", async () => {
  const { id, branch } = await submit();
  expect((await settled(id)).state).toBe("done");
  const [first, second] = [await message(id, "The second change."), await message(id, "The third change.")];
  const waiting = await server.task(second.id);
  if (waiting.state === "queued") expect(waiting.wait?.reason).toBe("thread_busy");
  expect([(await settled(first.id)).outcome, (await settled(second.id)).outcome]).toEqual(["pushed", "pushed"]);
  const commits = upstream.git("app", "rev-list", `refs/heads/main..refs/heads/${branch}`).split("\n");
  expect(commits).toHaveLength(3);
  expect((await server.task(second.id)).headSha).toBe(commits[0]);
  expect((await server.task(first.id)).headSha).toBe(commits[1]);
  const [ended, began] = [await server.task(first.id), await server.task(second.id)];
  expect(Date.parse(began.startedAt ?? "")).toBeGreaterThanOrEqual(Date.parse(ended.settledAt ?? ""));
});

it("[W5] a push over work that others pushed meanwhile is rejected, and pushing again is rejected too", async () => {
  const script = [
    { write: { path: "a.txt", content: "a\n" } },
    { ask: { question: "Go on?" } },
    { finish: { title: "A change", summary: "Done." } },
  ];
  const { id, branch } = await post("/v1/tasks", { repo, prompt: "A change.", script });
  const question = await eventually(async () => (await server.task(id)).question, "it asks");
  const foreign = upstream.commit("app", branch, { "people.txt": "by hand" });
  await server.call("POST", `/v1/tasks/${id}/answer`, { questionId: question.id, text: "yes" });
  const failed = await settled(id);
  expect([failed.state, failed.failure?.code]).toEqual(["failed", "push_rejected"]);
  // From the push it would be rejected again.
  expect(failed.failure?.advice).toContain("If the branch has moved, retry from `checkpoint`");
  const again = await settled((await post(`/v1/tasks/${id}/retry`, { from: "push" })).id);
  expect([again.state, again.failure?.code]).toEqual(["failed", "push_rejected"]);
  expect(tip(branch)).toBe(foreign);
});

it("[W5] [D2] killed after the push, with a bot's commit on top since, a restart ends in done", async () => {
  await server.kill("SIGTERM");
  server = await start({ SLIPWAY_CRASH: "push.after" });
  const { id, branch } = await submit();
  await server.exited;
  expect(tip(branch)).not.toBe("");
  const bot = upstream.commitOn("app", branch, { "format.txt": "formatted" });
  server = await start();
  expect((await settled(id)).outcome).toBe("pushed");
  expect(tip(branch)).toBe(bot);
});

it("[W5] [D2] killed after the push, with the branch merged and deleted since, it is not made again", async () => {
  await server.kill("SIGTERM");
  server = await start({ SLIPWAY_CRASH: "push.after" });
  const { id, branch } = await submit();
  await server.exited;
  upstream.git("app", "update-ref", "refs/heads/main", tip(branch));
  upstream.git("app", "update-ref", "-d", `refs/heads/${branch}`);
  server = await start();
  expect((await settled(id)).outcome).toBe("pushed");
  expect(tip(branch)).toBe("");
});
