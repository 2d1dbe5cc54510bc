/**
 * The agent that has a model, end to end: a real server and worker processes, git over HTTP, the
 * fake model over HTTP, and SIGKILL.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect } from "vitest";
import { createSocketFactory } from "../../../src/cli/connect.ts";
import { SlipwayClient } from "../../../src/client/client.ts";
import type { Turn } from "../../../src/broker/model/fake/scenario.ts";
import { startFakeModel, type FakeModel } from "../../../src/broker/model/fake/server.ts";
import { openSqliteReader } from "../../../src/store/sqlite/store.ts";
import type { Policy } from "../../../src/core/task.ts";
import type { WireEvent } from "../../../src/core/protocol/events.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { TRANSCRIPT_BYTES } from "../../../src/core/ports/records/transcripts.ts";
import { WORKER_ENV } from "../../../src/core/protocol/worker.ts";
import { startGitServer, type GitServer } from "../../support/git-server.ts";
import { run } from "../../cli/command.ts";
import { killProcess } from "../../support/process/running.ts";
import { eventually, ROOT, startServer, type RealServer } from "../../support/process/server.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(4);
const KEY = "sk-real-key-of-the-server-0123456789";
const FINISH = { name: "finish", input: { title: "Do the work", summary: "It is done." } };

let dir: string;
let upstream: GitServer;
let fake: FakeModel | null = null;
let server: RealServer | null = null;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "slipway-agent-"));
  upstream = await startGitServer();
});
afterEach(async () => {
  await server?.kill("SIGKILL");
  workers().forEach(killProcess);
  await fake?.close();
  await upstream.close();
  [server, fake] = [null, null];
  rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
});

/** Between the end of a coordinator and the start of the next, ms; no result depends on it. */
const DOWNTIME_MS = 150;

/** Worker processes of this test's server. */
function workers(): number[] {
  const mine = `${WORKER_ENV.workspace}=${join(dir, "data")}`;
  return readdirSync("/proc").flatMap((name) => {
    try {
      const env = /^\d+$/.test(name) ? readFileSync(`/proc/${name}/environ`, "utf8").split("\0") : [];
      return env.some((pair) => pair.startsWith(mine)) && env.some((pair) => pair.startsWith(WORKER_ENV.token))
        ? [Number(name)]
        : [];
    } catch {
      return [];
    }
  });
}

/** Leaves its name in the checkout, and once per run in a file beside it. */
const step = (name: string, then = "true") => ({
  name: "bash",
  input: { command: `echo ${name} >> ${join(dir, "log")}; echo ${name} >> work.txt; ${then}` },
});
const ran = (): string[] =>
  existsSync(join(dir, "log")) ? readFileSync(join(dir, "log"), "utf8").trim().split("\n") : [];
/** @param then by step: what its command does after it left its name. */
const work = (count: number, then: Readonly<Record<number, string>> = {}): Turn[] =>
  Array.from({ length: count }, (_, i) => ({ say: `Step ${i}.`, tools: [step(`s${i}`, then[i])], delayMs: 8 }));

async function begin(policy: Partial<Policy> = {}): Promise<RealServer> {
  const env = {
    SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host,
    SLIPWAY_LOG_LEVEL: "error",
    ANTHROPIC_API_KEY: KEY,
    ANTHROPIC_BASE_URL: fake?.url ?? "",
  };
  server = await startServer({ dataDir: join(dir, "data"), env, policy: { backoffMs: 50, ...policy } });
  return server;
}

async function open(turns: Turn[], policy: Partial<Policy> = {}): Promise<RealServer> {
  fake = await startFakeModel({ scenarios: { default: { turns } }, apiKey: KEY });
  return await begin(policy);
}

async function submit(more: object = {}): Promise<WireTask> {
  const { url } = upstream.createRepo("app");
  const { status, body } = await server!.call("POST", "/v1/tasks", { repo: url, prompt: "Do the work.", ...more });
  expect(status).toBe(201);
  return body as WireTask;
}

const settled = (id: string): Promise<WireTask> =>
  eventually(async () => {
    const task = await server!.task(id).catch(() => null);
    return task !== null && task.settledAt !== null ? task : null;
  }, `${id} settles`);

async function transcript(id: string): Promise<{ n: number; attempt: number }[]> {
  const store = openSqliteReader({ dir: join(dir, "data"), migrations: join(ROOT, "migrations/sqlite") });
  try {
    return (await store.records(id, 0, TRANSCRIPT_BYTES)).map(({ n, attempt }) => ({ n, attempt }));
  } finally {
    await store.close();
  }
}

/** Files under the folder that hold the text. */
function holding(folder: string, text: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => {
    const path = join(folder, name);
    return statSync(path).isFile() && readFileSync(path).includes(text);
  });
}

describe("a task with a model", () => {
  it.always(
    "[G2] [S1] usage and cost are seen live, and agree with what the provider billed; the key is nowhere",
    async () => {
      const seen = join(dir, "seen");
      const untilSeen = `until [ -e ${seen} ]; do sleep 0.05; done`;
      const { url, token } = await open([...work(5, { 1: untilSeen }), { tools: [FINISH] }]);
      const { id, agent, model } = await submit({ verify: ["grep -q s4 work.txt"] });
      expect([agent, model]).toEqual(["anthropic", "claude-sonnet-5-5"]);
      const client = new SlipwayClient({ baseUrl: url, token, WebSocket: createSocketFactory() });
      const live: WireEvent[] = [];
      const between: number[] = [];
      for await (const event of client.watch(id)) {
        live.push(event);
        if (event.type !== "usage") continue;
        between.push((await client.task(id)).usage.usd);
        writeFileSync(seen, "");
      }
      const task = await settled(id);
      expect([task.state, task.outcome, task.usage.turns]).toEqual(["done", "pushed", 6]);
      expect(Math.abs(task.usage.usd - fake!.spentUsd())).toBeLessThan(fake!.spentUsd() / 100);
      expect(live.filter(({ type, to }) => type === "usage" && to === "running")).toHaveLength(6);
      expect(between[0]).toBeLessThan(between.at(-1)!);
      expect(live.filter(({ type }) => type === "verify").map(({ data }) => data["exitCode"])).toEqual([0]);
      expect((await transcript(id)).map(({ n }, i) => n - i)).toEqual((await transcript(id)).map(() => 1));
      expect(holding(join(dir, "data"), KEY)).toEqual([]);
      expect(holding(upstream.root, KEY)).toEqual([]);
    },
  );

  it("[A10] [X2] the worker is killed twice: the next attempt goes on from the transcript and repeats nothing", async () => {
    // Each kill meets a command that runs.
    const hang = "sleep 600";
    await open([...work(8, { 1: hang, 4: hang }), { tools: [FINISH] }]);
    const { id } = await submit();
    for (const lines of [2, 5]) {
      await eventually(async () => (ran().length >= lines ? true : null), `${lines} steps`);
      const killed = workers();
      killed.forEach(killProcess);
      await expect.poll(() => workers().filter((pid) => killed.includes(pid))).toEqual([]);
    }
    const task = await settled(id);
    expect([task.state, task.attempt]).toEqual(["done", 3]);
    expect(ran().length).toBe(new Set(ran()).size);
    expect(new Set((await transcript(id)).map(({ attempt }) => attempt))).toEqual(new Set([1, 2, 3]));
    expect((await transcript(id)).map(({ n }, i) => n - i)).toEqual((await transcript(id)).map(() => 1));
  });

  it("[W2] [X3] the coordinator is killed three times: the worker waits for it, and each step runs once", async () => {
    await open([...work(8), { tools: [FINISH] }]);
    const { id } = await submit();
    for (const lines of [1, 3, 6]) {
      await eventually(async () => (ran().length >= lines ? true : null), `${lines} steps`);
      await server!.kill("SIGKILL");
      await delay(DOWNTIME_MS);
      await begin();
    }
    const task = await settled(id);
    expect([task.state, task.attempt]).toEqual(["done", 1]);
    expect(ran()).toEqual(Array.from({ length: 8 }, (_, i) => `s${i}`));
    expect(task.usage.usd).toBeLessThanOrEqual(fake!.spentUsd() * 1.01);
  });
});

describe("[G5] the budget of a task with a model", () => {
  const phase = (id: string, wanted: string): Promise<WireTask> =>
    eventually(async () => {
      const task = await server!.task(id);
      return task.phase === wanted ? task : null;
    }, wanted);

  it("opens a question; it parks, and the answer resumes the task", async () => {
    await open([...work(5), { tools: [FINISH] }], { parkMs: 400 });
    const { id } = await submit({ budget: { turns: 3 } });
    const question = await eventually(async () => (await server!.task(id)).question, "it asks");
    expect(question.id).toBe("budget_turns_3");
    await phase(id, "parked");
    await eventually(async () => (workers().length === 0 ? true : null), "its worker is gone");
    const answer = { questionId: "budget_turns_3", text: "continue" };
    expect((await server!.call("POST", `/v1/tasks/${id}/answer`, answer)).status).toBe(200);
    const task = await settled(id);
    expect([task.state, task.attempt, task.budget, task.usage.turns]).toEqual(["done", 2, { turns: 6 }, 6]);
    expect(ran()).toEqual(["s0", "s1", "s2", "s3", "s4"]);
    const near = (await server!.events(id)).filter(({ data }) => data["code"] === "budget_near");
    expect(near.map(({ data }) => data["limit"])).toEqual([3, 6]);
  });

  it("minutes: a command that runs on parks the task, and `slipway answer` with a number goes on", async () => {
    const slow = { name: "bash", input: { command: "sleep 90" } };
    await open([...work(2), { tools: [slow] }, { tools: [FINISH] }]);
    const { id } = await submit({ budget: { minutes: 0.5 } });
    expect((await phase(id, "parked")).question?.id).toBe("budget_minutes_30000");
    const cli = (...args: string[]) => run(dir, [...args, "--data-dir", join(dir, "data")]);
    expect((await cli("inspect", id)).out).toMatch(/^budget +0\.5 minutes of work$/m);
    const wrong = await cli("answer", id, "later");
    expect([wrong.code, wrong.err]).toEqual([2, expect.stringContaining("must be continue, stop or an amount")]);
    expect((await cli("answer", id, "20")).code).toBe(0);
    const task = await settled(id);
    expect([task.state, task.attempt, task.budget]).toEqual(["done", 2, { minutes: 20.5 }]);
    expect(ran()).toEqual(["s0", "s1"]);
    const near = (await server!.events(id)).filter(({ data }) => data["code"] === "budget_near");
    expect(near).toHaveLength(1);
  });

  it("`stop` ends the task and keeps the work", async () => {
    await open([...work(9), { tools: [FINISH] }]);
    const { id } = await submit({ budget: { turns: 2 } });
    await phase(id, "awaiting_input");
    await server!.call("POST", `/v1/tasks/${id}/answer`, { questionId: "budget_turns_2", text: "no" });
    const task = await settled(id);
    expect([task.state, task.failure?.code]).toEqual(["failed", "budget_exceeded"]);
    const { body } = await server!.call("GET", `/v1/tasks/${id}/diff`);
    expect((body as { files: { path: string }[] }).files.map(({ path }) => path)).toEqual(["work.txt"]);
    expect(ran()).toEqual(["s0", "s1"]);
  });
});

it("[X2] [A7] a follow-up continues the conversation of the previous task", async () => {
  await open([{ tools: [step("one")] }, { tools: [FINISH] }, { tools: [step("two")] }, { tools: [FINISH] }]);
  const { id } = await submit();
  await settled(id);
  const { status, body } = await server!.call("POST", `/v1/tasks/${id}/messages`, { text: "And now the rest." });
  expect(status).toBe(201);
  const next = await settled((body as WireTask).id);
  expect([next.state, next.outcome, ran()]).toEqual(["done", "pushed", ["one", "two"]]);
  const said = JSON.stringify(fake!.requests().at(-1)?.request.messages);
  expect(said).toContain("Do the work.");
  expect(said).toContain("And now the rest.");
  const first = (await transcript(id)).length;
  expect((await transcript(next.id)).map(({ attempt }) => attempt).slice(0, first)).toEqual(
    Array.from({ length: first }, () => 0),
  );
});
