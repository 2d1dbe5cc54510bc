/**
 * From a submission to a pull request: a real coordinator process, a real git server, and GitHub as
 * the package `emulate` has it.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { start as startCommand } from "../../cli/command.ts";
import type { ForgeDouble } from "../../git/forges/forge-double.ts";
import { GITHUB_TOKEN, startGitHubDouble } from "../../git/forges/github-double.ts";
import { compileComponents, type OpenapiDocument } from "../../http/openapi/validators.ts";
import { startGitServer, type GitServer } from "../../support/git-server.ts";
import { eventually, startServer, type RealServer } from "../../support/process/server.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(3);

const PUBLIC_URL = "https://slipway.example.com";
const SCRIPT = [
  { bash: "echo one >> one.txt" },
  { finish: { title: "Add one", summary: "One more line in **one.txt**." } },
];

let upstream: GitServer;
let github: ForgeDouble;
let server: RealServer;
let dir: string;

const launch = (env: Readonly<Record<string, string>> = {}): Promise<RealServer> =>
  startServer({
    dataDir: join(dir, "data"),
    policy: { backoffMs: 50, backoffCapMs: 200 },
    env: {
      SLIPWAY_TRUSTED_REPO_HOSTS: `${upstream.host},${new URL(github.apiUrl).host}`,
      SLIPWAY_GITHUB_URL: upstream.url,
      SLIPWAY_GITHUB_API_URL: github.apiUrl,
      SLIPWAY_PUBLIC_URL: PUBLIC_URL,
      SLIPWAY_LOG_LEVEL: "debug",
      ...env,
    },
  });
const restart = async (env: Readonly<Record<string, string>> = {}): Promise<void> => {
  await server.kill("SIGTERM");
  server = await launch(env);
};
const storeCredential = async (token: string): Promise<void> => {
  const { status } = await server.call("POST", "/v1/credentials", {
    host: upstream.host,
    kind: "token",
    token,
    check: false,
  });
  expect(status).toBeLessThan(300);
};

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "slipway-pulls-"));
  upstream = await startGitServer();
  upstream.createRepo("octocat/app", { "README.md": "# App\n" });
  github = await startGitHubDouble(upstream.url);
  server = await launch();
  await storeCredential(GITHUB_TOKEN);
});
afterAll(async () => {
  await server.kill("SIGTERM");
  await github.close();
  await upstream.close();
  rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
});
afterEach(async () => {
  const open = (await github.pulls()).filter(({ state }) => state === "open").map(({ head }) => head);
  expect(new Set(open).size, "one open pull request for each branch").toBe(open.length);
});

const post = async (path: string, body: object): Promise<WireTask> => {
  const answer = await server.call("POST", path, body);
  expect(answer.status, JSON.stringify(answer.body)).toBe(201);
  return answer.body as WireTask;
};
const submit = (changes: object = {}): Promise<WireTask> =>
  post("/v1/tasks", {
    repo: `${github.repo}.git`,
    prompt: "Add a line.",
    script: SCRIPT,
    pullRequest: "ready",
    verify: ["grep -q one one.txt"],
    ...changes,
  });
const settled = (id: string): Promise<WireTask> =>
  eventually(
    async () => {
      const task = await server.task(id);
      return task.settledAt === null ? null : task;
    },
    `task ${id} settles; ${server.stderr().slice(-2_000)}`,
  );
const pullOf = async (task: WireTask) => (await github.pulls()).filter(({ head }) => head === task.branch);
const tip = (branch: string): string =>
  upstream.git("octocat/app", "for-each-ref", "--format=%(objectname)", `refs/heads/${branch}`);

it("[S1] a task that asked for one ends with a pull request; the token is nowhere but in its header", async () => {
  const task = await settled((await submit({ pullRequest: "draft" })).id);
  expect([task.state, task.outcome], JSON.stringify(task.failure)).toEqual(["done", "pushed"]);
  const [pull, ...more] = await pullOf(task);
  expect(more).toEqual([]);
  expect(pull).toMatchObject({ title: "Add one", base: "main", draft: true, state: "open" });
  expect(task.pullRequest).toEqual({
    url: `${github.repo}/pull/${pull?.number}`,
    number: pull?.number,
    state: "draft",
  });
  expect(pull?.body.split("\n")).toEqual([
    "One more line in **one.txt**.",
    "",
    "Verification:",
    "- `grep -q one one.txt`: passed",
    "",
    "---",
    "",
    `[Slipway task](${PUBLIC_URL}/tasks/${task.id}) \`${task.id}\` · agent scripted`,
  ]);
  expect(tip(task.branch)).toBe(task.headSha);
  const said = JSON.stringify(await server.events(task.id)) + server.stderr();
  expect(said).not.toContain(GITHUB_TOKEN);
  for (const entry of readdirSync(join(dir, "data"), { recursive: true, withFileTypes: true }))
    if (entry.isFile())
      expect(readFileSync(join(entry.parentPath, entry.name)).includes(GITHUB_TOKEN), entry.name).toBe(false);
});

it("`slipway submit --pull-request` prints the address of the pull request", async () => {
  const args = ["submit", `${github.repo}.git`, "Add a line.", "--pull-request", "ready", "--watch"];
  const env = { SLIPWAY_URL: server.url, SLIPWAY_TOKEN: server.token };
  const { out, err, code } = await startCommand(dir, args, { env }).ended;
  expect([code, err], out).toEqual([0, ""]);
  const [task] = ((await server.call("GET", "/v1/tasks?limit=1")).body as { items: WireTask[] }).items;
  expect(out).toContain(task?.pullRequest?.url ?? "no pull request");
});

it("[W9] [D2] killed after it was opened, a restart ends in done with one pull request", async () => {
  await restart({ SLIPWAY_CRASH: "pull_request.after" });
  const { id } = await submit();
  await server.exited;
  server = await launch();
  const task = await settled(id);
  expect([task.state, task.attempt]).toEqual(["done", 1]);
  expect(await pullOf(task)).toHaveLength(1);
});

it("[W9] a forge that fails, or whose answer is lost, is asked again without another run of the agent", async () => {
  github.fail({ method: "GET", status: 503 });
  github.fail({ method: "POST", how: "lost" });
  const task = await settled((await submit()).id);
  expect([task.state, task.attempt]).toEqual(["done", 1]);
  expect(await pullOf(task)).toHaveLength(1);
});

it("a rate limit is waited for, also when it is longer than the longest wait for other failures", async () => {
  github.fail({ method: "POST", status: 429, headers: { "retry-after": "2" } });
  const { id } = await submit();
  expect((await settled(id)).state).toBe("done");
  const states = (await server.events(id)).filter(({ type }) => type === "task.state");
  const [waits, goesOn] = states.slice(states.findIndex(({ to }) => to === "retrying"));
  expect(waits?.data).toMatchObject({ code: "forge_rate_limited" });
  expect(Date.parse(goesOn?.at ?? "") - Date.parse(waits?.at ?? "")).toBeGreaterThan(1_000);
});

it("[W9] a refused credential fails the pull request, not the push; retried from `push` no agent runs", async () => {
  await storeCredential("ghp_wrong");
  const failed = await settled((await submit()).id);
  expect([failed.state, failed.failure?.code, failed.failure?.stage]).toEqual([
    "failed",
    "pull_request_auth",
    "pushing",
  ]);
  expect(failed.failure?.advice).toContain("The branch is pushed");
  expect(tip(failed.branch)).toBe(failed.headSha);
  await storeCredential(GITHUB_TOKEN);
  const again = await settled((await post(`/v1/tasks/${failed.id}/retry`, { from: "push" })).id);
  expect([again.state, again.attempt]).toEqual(["done", 0]);
  const [pull] = await pullOf(again);
  expect(pull).toMatchObject({ title: "Add one", number: again.pullRequest?.number });
  expect(pull?.body).toContain("- `grep -q one one.txt`: passed");
  const more = await settled((await post(`/v1/tasks/${failed.id}/messages`, { text: "More." })).id);
  expect([more.state, more.pullRequest?.number]).toEqual(["done", pull?.number]);
});

it("[W9] a follow-up updates the pull request of its thread, and a merged one is followed by a new one", async () => {
  const first = await settled((await submit()).id);
  const number = first.pullRequest?.number ?? 0;
  await github.edit(number, { title: "Edited by hand", body: "Also by hand." });
  const second = await settled((await post(`/v1/tasks/${first.id}/messages`, { text: "More." })).id);
  expect([second.outcome, second.pullRequest?.number]).toEqual(["pushed", number]);
  expect(tip(first.branch)).toBe(second.headSha);
  expect(await pullOf(first)).toMatchObject([{ title: "Edited by hand", body: "Also by hand.", state: "open" }]);
  await github.settle(number, "merge");
  const third = await settled((await post(`/v1/tasks/${second.id}/messages`, { text: "And more." })).id);
  expect(third.pullRequest).toMatchObject({ state: "open" });
  expect((await pullOf(first)).map(({ state }) => state)).toEqual(["merged", "open"]);
});

it("[V1] state and checks are read from the forge when somebody looks, also by `slipway inspect`", async () => {
  const { id, pullRequest } = await settled((await submit()).id);
  const number = pullRequest?.number ?? 0;
  await github.report(number, { build: "passed", lint: "failed" });
  const { status, body } = await server.call("GET", `/v1/tasks/${id}/pull-request`);
  const checks = { passed: 1, failed: 1, running: 0, failing: ["lint"] };
  expect([status, body]).toMatchObject([200, { ...pullRequest, state: "open", checks, problem: null }]);
  const document = (await server.call("GET", "/openapi.json")).body as OpenapiDocument;
  expect(compileComponents(document)("PullRequest", body)).toEqual([]);
  const env = { SLIPWAY_URL: server.url, SLIPWAY_TOKEN: server.token };
  const { out } = await startCommand(dir, ["inspect", id], { env }).ended;
  expect(out).toContain(`${pullRequest?.url ?? ""} open, checks: 1 passed, 1 failed (lint)`);
});
