/** A day of a real server in its log at `info`: what happened, and no secret. Metrics beside it. */
import { readFileSync, rmSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { KnownSecrets, openLog } from "../../src/app/monitoring/open-log.ts";
import { secretForms } from "../../src/core/lib/json/redaction.ts";
import type { WireTask } from "../../src/core/protocol/rest.ts";
import { startGitServer, type GitServer } from "../support/git-server.ts";
import { eventually, ROOT, startServer, type RealServer } from "../support/process/server.ts";

const EMAIL = "ada@example.org";
const SECRETS = {
  password: "planted password 0815",
  wrong: "planted wrong word 4711",
  git: "ghp_plantedGitCredential0123456789",
  key: "sk-ant-planted-model-key-0123456789",
  prompt: "planted-in-the-prompt-99",
  answer: "planted-in-the-answer-98",
  file: "planted-in-a-file-97",
};

interface Line {
  readonly level: string;
  readonly time: string;
  readonly msg: string;
  readonly [field: string]: unknown;
}

let dir = "";
let upstream: GitServer;
let server: RealServer;
let text = "";
let lines: Line[] = [];
const tokens: string[] = [];
let metrics = "";

async function post(path: string, body: object, token = server.token): Promise<{ status: number; body: unknown }> {
  return await server.call("POST", path, body, { authorization: `Bearer ${token}` });
}

async function until(id: string, what: string): Promise<void> {
  await eventually(async () => {
    const task = await server.task(id);
    return task.state === what || task.phase === what ? true : null;
  }, `${id} is ${what}`);
}

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "slipway-day-"));
  upstream = await startGitServer();
  const { url: repo } = upstream.createRepo("app");
  server = await startServer({
    dataDir: dir,
    env: {
      SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host,
      SLIPWAY_ADMIN_EMAIL: EMAIL,
      SLIPWAY_ADMIN_PASSWORD: SECRETS.password,
      ANTHROPIC_API_KEY: SECRETS.key,
      SLIPWAY_MAXCONCURRENT: "9",
    },
    policy: { backoffMs: 10, backoffCapMs: 10, graceMs: 200 },
  });
  expect((await post("/v1/auth/login", { email: EMAIL, password: SECRETS.wrong }, "x")).status).toBe(401);
  const login = (await post("/v1/auth/login", { email: EMAIL, password: SECRETS.password }, "x")).body as {
    accessToken: string;
    refreshToken: string;
  };
  tokens.push(login.accessToken, login.refreshToken);
  const made = (await post("/v1/tokens", { name: "laptop", scopes: ["read"] }, login.accessToken)).body as {
    token: string;
  };
  tokens.push(made.token);
  expect((await post("/v1/tasks", { repo, prompt: "x" }, made.token)).status).toBe(403);
  await post("/v1/credentials", { host: "git.example.org", kind: "token", token: SECRETS.git }, login.accessToken);
  const submit = async (script: object[], more: object = {}): Promise<string> => {
    const asked = { repo, prompt: SECRETS.prompt, agent: "scripted", script, ...more };
    return ((await post("/v1/tasks", asked)).body as WireTask).id;
  };
  const finish = { finish: { title: "Work", summary: SECRETS.file } };
  const done = await submit([
    { write: { path: "a.txt", content: SECRETS.file } },
    { usage: { inputTokens: 10, usd: 0.25 } },
    { ask: { question: SECRETS.prompt, options: ["yes"] } },
    finish,
  ]);
  await until(done, "awaiting_input");
  const { question } = await server.task(done);
  await post(`/v1/tasks/${done}/answer`, { questionId: question?.id, text: SECRETS.answer });
  await until(done, "done");
  const failed = await submit([{ bash: `echo ${SECRETS.file}` }, { exit: 7 }], { maxAttempts: 2 });
  await until(failed, "failed");
  metrics = String((await server.call("GET", "/metrics")).body);
  await server.kill("SIGTERM");
  text = server.stderr();
  lines = text.split("\n").flatMap((line) => (line.startsWith("{") ? [JSON.parse(line) as Line] : []));
});

afterAll(async () => {
  await server.kill("SIGKILL");
  await upstream.close();
  rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
});

const told = (msg: string): Line[] => lines.filter((line) => line.msg === msg);

describe("[S1] the log at info", () => {
  it("tells the day in order: start, log-ins, refusals, tasks with their codes, stop", () => {
    const story = [
      "starting",
      "SLIPWAY_MAXCONCURRENT is no setting, and is ignored. Did you mean SLIPWAY_MAX_CONCURRENT?",
      "a request was refused",
      "login",
      "createToken",
      "putCredential",
      "a task was submitted",
      "an attempt begins",
      "a task asks a person",
      "answerQuestion",
      "a task ended",
      "an attempt failed, and is tried again",
      "stopping",
      "stopped; workers go on, and the next start adopts them",
    ];
    const first = story.map((msg) => lines.findIndex((line) => line.msg === msg));
    expect(first).toEqual(first.toSorted((a, b) => a - b));
    expect(first[0]).toBe(0);
    expect(told("a request was refused").map(({ code }) => code)).toEqual(["invalid_credentials", "forbidden"]);
    expect(told("login")).toMatchObject([{ user: expect.stringMatching(/^user_/), address: "127.0.0.1" }]);
    expect(told("a task ended")).toMatchObject([
      { state: "done", outcome: "pushed", attempts: 1, usd: 0.25 },
      { state: "failed", code: "attempts_exhausted", attempts: 2 },
    ]);
  });

  it("is read without a tool: levels are words, times have a date", () => {
    for (const { level, time } of lines)
      expect([level, time]).toEqual([
        expect.stringMatching(/^(info|warn|error)$/),
        expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
      ]);
  });

  it("holds no secret that the server knows, also where an error repeats it in another form", () => {
    const written: string[] = [];
    const secrets = new KnownSecrets();
    const log = openLog("info", secrets, { write: (line) => void written.push(line) });
    secrets.add(SECRETS.key, null);
    secrets.add('pass "word" 0815');
    log.error(
      { error: `401: ${SECRETS.key}`, more: { url: `https://h/?key=${encodeURIComponent(SECRETS.key)}` } },
      "x",
    );
    log.warn({ header: `Basic ${Buffer.from(`u:${SECRETS.key}`).toString("base64")}` }, 'typed pass "word" 0815');
    for (const secret of [SECRETS.key, 'pass "word" 0815'])
      for (const form of secretForms(secret)) expect(written.join("")).not.toContain(form);
    expect(written.map((line) => JSON.parse(line) as object)).toMatchObject([
      { level: "error", error: "401: [secret]", more: { url: "https://h/?key=[secret]" }, msg: "x" },
      { level: "warn", msg: "typed [secret]" },
    ]);
  });

  it("holds none of the secrets that were typed, made or submitted", () => {
    const operator = readFileSync(join(dir, "operator.token"), "utf8").trim();
    for (const secret of [...Object.values(SECRETS), ...tokens, operator]) expect(text).not.toContain(secret);
  });
});

describe("metrics", () => {
  const value = (series: string): number =>
    Number(
      metrics
        .split("\n")
        .find((line) => line.startsWith(`${series} `))
        ?.split(" ")
        .at(-1),
    );

  it("count ends, failures by code, durations and cost", () => {
    expect(value('slipway_tasks_ended_total{state="done"}')).toBe(1);
    expect(value('slipway_task_failures_total{code="attempts_exhausted"}')).toBe(1);
    expect(value("slipway_attempts_total")).toBe(3);
    expect(value("slipway_cost_usd_total")).toBe(0.25);
    expect(value("slipway_task_seconds_count")).toBe(2);
    expect(value("slipway_queue_wait_seconds_count")).toBe(2);
    expect(value("slipway_running_seconds_count")).toBe(3);
    expect(value('slipway_http_problems_total{code="invalid_credentials"}')).toBe(1);
    expect(value("slipway_tasks_stuck")).toBe(0);
    expect(metrics).toMatch(/^slipway_build_info\{version="\d+\.\d+\.\d+",node="v\d+\.\d+\.\d+"\} 1$/m);
  });

  it("the dashboard uses only metrics that exist, and the documents name the same", () => {
    const known = new Set(
      [...metrics.matchAll(/^# TYPE (\w+) (\w+)$/gm)].flatMap(([, name = "", kind]) =>
        kind === "histogram" ? [name, `${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
      ),
    );
    const names = (file: string): string[] =>
      [...readFileSync(join(ROOT, file), "utf8").matchAll(/\b(?:slipway|process|nodejs)_[a-z0-9_]+/g)].map(
        ([name]) => name,
      );
    const shown = names("docs/deploy/grafana-dashboard.json");
    expect(new Set(shown).size).toBeGreaterThan(20);
    expect(shown.filter((name) => !known.has(name))).toEqual([]);
    expect(names("docs/deploy/alerts.yml").filter((name) => !known.has(name))).toEqual([]);
  });
});
