/**
 * SIGKILL at each named crash point of a real coordinator; the next one must come to the same kind
 * of end (rule D2).
 */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect } from "vitest";
import { runDoctor } from "../../src/app/checker/doctor.ts";
import { readConfig } from "../../src/app/config.ts";
import { checkInvariants } from "../../src/coordinator/invariants.ts";
import { deriveInstanceId } from "../../src/core/lib/runtime/instance-id.ts";
import { openProcessSandbox } from "../../src/sandbox/process/sandbox.ts";
import { openSqliteReader } from "../../src/store/sqlite/store.ts";
import type { WireTask } from "../../src/core/protocol/rest.ts";
import { startGitServer, type GitServer } from "../support/git-server.ts";
import { createServerClock } from "../support/process/clock.ts";
import { eventually, launch, ROOT, startServer, type RealServer } from "../support/process/server.ts";
import { sampled } from "../support/random.ts";
import { inTurn } from "../support/vitest/full-run.ts";

const it = inTurn(6);
/** Longer than repositories and artifacts are kept. */
const RETENTION_MS = 40 * 24 * 3_600_000;

let upstream: GitServer;
let repo: { url: string };
let data: string;
let server: RealServer | null = null;

beforeAll(async () => {
  upstream = await startGitServer();
  repo = upstream.createRepo("app");
});
afterAll(() => upstream.close());
beforeEach(() => {
  data = join(mkdtempSync(join(tmpdir(), "slipway-crash-")), "data");
});
afterEach(async () => {
  await server?.kill("SIGTERM");
  server = null;
  rmSync(join(data, ".."), { recursive: true, force: true, maxRetries: 5 });
});

/** The deadline of a cancel would end what no restart goes on with. */
const policy = { backoffMs: 200, backoffCapMs: 400, graceMs: 2_000, cancelMs: 600_000 };
const options = (crash?: string) => ({
  dataDir: data,
  policy,
  env: { SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host, ...(crash === undefined ? {} : { SLIPWAY_CRASH: crash }) },
});
const DONE = [{ bash: "echo one > one.txt" }, { say: "done" }, { finish: { title: "One", summary: "One file." } }];
const FAILS = [{ exit: 7 }];
/** Runs until `letGo`, or the test is over. */
const waits = (): object[] => [
  { bash: `echo one > one.txt; while [ -d ${data} ] && [ ! -e ${getGate()} ]; do sleep 0.1; done` },
  { finish: { title: "One", summary: "" } },
];
const getGate = (): string => join(data, "..", "gate");
const letGo = (): void => writeFileSync(getGate(), "");
const LEAVES_WORK = [{ bash: "echo one > one.txt" }, { exit: 7 }];
const KEY = { "idempotency-key": "the-one" };

/**
 * The submit may die with the server; sending it again with its key returns the same task (R1, R5).
 */
async function submit(to: RealServer, script: readonly object[]): Promise<string | null> {
  const body = { repo: repo.url, prompt: "Do it.", script, maxAttempts: 2 };
  const answer = await to.call("POST", "/v1/tasks", body, KEY).catch(() => null);
  return answer !== null && answer.status < 300 ? (answer.body as WireTask).id : null;
}

async function settledOn(on: RealServer, id: string): Promise<WireTask> {
  return eventually(
    async () => {
      const task = await on.task(id);
      return task.settledAt === null ? null : task;
    },
    `task ${id} settles; ${on.stderr().slice(-2_000)}`,
  );
}

/** From the store, the engine and the upstream: nothing lost, nothing doubled, nothing left. */
async function lawful(task: WireTask): Promise<void> {
  const store = openSqliteReader({ dir: data, migrations: join(ROOT, "migrations/sqlite") });
  const sandbox = openProcessSandbox({
    dir: data,
    workerFile: join(ROOT, "dist/worker.mjs"),
    instance: deriveInstanceId(data),
  });
  try {
    await eventually(async () => ((await sandbox.list()).length === 0 ? true : null), "[D3] no sandbox is left");
    const { tasks, violations } = await checkInvariants({ store, sandbox, maxConcurrent: 4 });
    expect(violations).toEqual([]);
    expect(tasks).toBe(1);
  } finally {
    await sandbox.close();
    await store.close();
  }
  if (task.state !== "done") return;
  expect(upstream.git("app", "rev-list", "--count", `main..${task.branch}`)).toBe("1");
  expect(upstream.git("app", "rev-parse", task.branch)).toBe(task.headSha);
  expect(upstream.git("app", "show", `${task.branch}:one.txt`)).toBe("one");
}

/** Dies at the point while it serves the task; a healthy coordinator takes over. */
async function crashAndRecover(point: string, script: readonly object[]): Promise<WireTask> {
  const doomed = await startServer(options(point));
  const first = await submit(doomed, script);
  expect(await doomed.exited, doomed.stderr()).toBe("SIGKILL");
  server = await startServer(options());
  const id = await submit(server, script);
  if (id === null) throw new Error("the task could not be submitted again");
  if (first !== null) expect(id).toBe(first);
  return settledOn(server, id);
}

const POINTS = [
  "store.before:4",
  "store.inside:4",
  "store.after:4",
  "store.inside:5",
  "store.after:6",
  "store.inside:7",
  "store.inside:9",
  "record.committed:1",
  "record.committed:2",
  "record.committed:3",
  "record.committed:4",
  "record.committed:6",
  "effect.before:1",
  "effect.before:2",
  "effect.before:3",
  "effect.after:1",
  "sandbox.before:1",
  "sandbox.created:1",
  "sandbox.spawned:1",
  "sandbox.after:1",
  "mirror.fetched:1",
  "repository.made:1",
  "sandbox.ended:1",
  "push.before:1",
  "push.after:1",
];

describe("[D2] killed at a named point, a restart ends in done", () => {
  for (const point of sampled(POINTS, 3)) {
    it.always(`[R1] [R5] [W5] ${point}`, async () => {
      const task = await crashAndRecover(point, DONE);
      expect(task).toMatchObject({ state: "done", outcome: "pushed" });
      await lawful(task);
    });
  }
});

describe("[D2] killed around a failure, a restart ends in the same failure", () => {
  for (const point of sampled(["timer:1", "store.inside:8"], 1)) {
    it.always(`[D6] [T5] ${point}`, async () => {
      const task = await crashAndRecover(point, FAILS);
      expect(task).toMatchObject({ state: "failed", failure: { code: "attempts_exhausted" }, attempt: 2 });
      await lawful(task);
    });
  }
});

it("[D2] [D7] killed while it stops the worker of a cancelled task, a restart ends in cancelled", async () => {
  const doomed = await startServer(options("sandbox.stopping:1"));
  const id = (await submit(doomed, [{ hang: true }])) ?? "";
  await eventually(async () => ((await doomed.task(id)).state === "running" ? true : null), "it runs");
  // It is recorded before the worker is stopped, and so not sent again.
  await doomed.call("POST", `/v1/tasks/${id}/cancel`, {}, KEY).catch(() => null);
  expect(await doomed.exited, doomed.stderr()).toBe("SIGKILL");
  server = await startServer(options());
  const task = await settledOn(server, id);
  expect(task).toMatchObject({ state: "cancelled", failure: null });
  await lawful(task);
});

const KEPT = ["artifact.named:1", "salvage.kept:1"];
it.each(sampled(KEPT, 1))("[D2] [W6] %s: a restart keeps the unsaved work once", async (point) => {
  const task = await crashAndRecover(point, LEAVES_WORK);
  expect(task).toMatchObject({ state: "failed", failure: { code: "attempts_exhausted" }, attempt: 2 });
  const events = (await server?.events(task.id)) ?? [];
  const kept = events.filter(({ data }) => "code" in data && data.code === "salvaged").map(({ attempt }) => attempt);
  expect(kept).toEqual([1, 2]);
  await lawful(task);
});

it("[D2] killed in a garbage collection, the next one removes the rest", async () => {
  const clock = createServerClock(join(data, ".."));
  const start = (crash?: string): Promise<RealServer> => {
    const { env, ...others } = options(crash);
    return startServer({ ...others, env: { ...env, ...clock.env } });
  };
  clock.set(-RETENTION_MS);
  const first = await start();
  const id = (await submit(first, LEAVES_WORK)) ?? "";
  await settledOn(first, id);
  await first.kill("SIGTERM");
  clock.set(0);
  const has = (...path: string[]): boolean => existsSync(join(data, ...path));
  const left = (): boolean[] => [has("git", "tasks", `${id}.git`), has("artifacts", id)];
  expect(left()).toEqual([true, true]);

  const doomed = await start("collection.removed:5");
  const collect = (on: RealServer) => on.call("POST", "/v1/ops/gc", {});
  await collect(doomed).catch(() => null);
  expect(await doomed.exited, doomed.stderr()).toBe("SIGKILL");
  expect(left(), "the repository is removed, the artifact is not").toEqual([false, true]);

  server = await start();
  expect((await collect(server)).status).toBe(200);
  expect(left()).toEqual([false, false]);
  const config = readConfig({ SLIPWAY_DATA_DIR: data, SLIPWAY_SANDBOX: "process" }, {});
  expect((await runDoctor({ config })).filter(({ ok }) => !ok)).toEqual([]);
});

describe("killed before it serves", () => {
  it("[M2] in the first migration: the next start makes the database", async () => {
    const doomed = launch(options("migration:1"));
    expect(await doomed.exited).toBe("SIGKILL");
    server = await startServer(options());
    const id = await submit(server, DONE);
    expect((await settledOn(server, id ?? "")).state).toBe("done");
  });

  it("[D2] in the boot, again and again, while a worker runs: it is adopted in the end", async () => {
    server = await startServer(options());
    const id = (await submit(server, waits())) ?? "";
    await eventually(async () => ((await server?.task(id))?.state === "running" ? true : null), "it runs");
    await server.kill();
    for (let i = 0; i < 3; i += 1) expect(await launch(options("boot:1")).exited).toBe("SIGKILL");
    server = await startServer(options());
    letGo();
    const task = await settledOn(server, id);
    expect(task).toMatchObject({ state: "done", attempt: 1 });
    await lawful(task);
  });

  it("[D2] in the boot, when a task was adopted: the next boot adopts it again, and all go on", async () => {
    const first = await startServer(options());
    const script = waits();
    const ids: string[] = [];
    for (const branch of ["work/a", "work/b"]) {
      const body = { repo: repo.url, prompt: "Do it.", script, branch };
      ids.push(((await first.call("POST", "/v1/tasks", body)).body as WireTask).id);
    }
    for (const id of ids)
      await eventually(async () => ((await first.task(id)).state === "running" ? true : null), "it runs");
    await first.kill();
    expect(await launch(options("adopted:1")).exited).toBe("SIGKILL");
    const second = await startServer(options());
    server = second;
    letGo();
    for (const id of ids) expect(await settledOn(second, id)).toMatchObject({ state: "done", attempt: 1 });
    const events = (await Promise.all(ids.map((id) => second.events(id)))).flat();
    const adoptions = events.filter(({ data }) => "code" in data && data.code === "adopted");
    expect(adoptions.length, "the boot that was killed adopted one as well").toBeGreaterThan(ids.length);
  });

  it("[D2] SIGTERM leaves the worker running and exits in time; the next start adopts it", async () => {
    server = await startServer(options());
    const id = (await submit(server, waits())) ?? "";
    await eventually(async () => ((await server?.task(id))?.state === "running" ? true : null), "it runs");
    const stopped = server;
    expect(await stopped.kill("SIGTERM")).toBe(0);
    // The times are those of its log: on a busy machine this process learns late of the end.
    const at = (text: string): number =>
      Date.parse(new RegExp(`"time":"([^"]*)".*"msg":"${text}`).exec(stopped.stderr())?.[1] ?? "");
    await expect.poll(() => stopped.stderr()).toContain('"msg":"stopped;');
    expect(at("stopped;") - at("stopping")).toBeLessThan(5_000);
    server = await startServer(options());
    letGo();
    const task = await settledOn(server, id);
    expect(task).toMatchObject({ state: "done", attempt: 1 });
    await lawful(task);
  });
});

describe("[R9] killed while a person is deleted, a restart completes it", () => {
  it.each(sampled(["person.begun:1", "deletion.begun:1", "person.files:1"], 1))("%s", async (point) => {
    server = await startServer(options(point));
    const body = { email: "ann@example.com", password: "seven green lanterns" };
    const { id } = (await server.call("POST", "/v1/users", { ...body, role: "user" })).body as { id: string };
    const { accessToken } = (await server.call("POST", "/v1/auth/login", body, { authorization: "" })).body as {
      accessToken: string;
    };
    const asAnn = { authorization: `Bearer ${accessToken}` };
    const task = { repo: repo.url, prompt: "p", agent: "scripted", script: [{ wait: 60_000 }] };
    expect((await server.call("POST", "/v1/tasks", task, asAnn)).status).toBe(201);
    await server.call("DELETE", `/v1/users/${id}?tasks=cancel`).catch(() => null);
    expect(await server.exited).toBe("SIGKILL");
    const config = readConfig({ SLIPWAY_DATA_DIR: data, SLIPWAY_SANDBOX: "process" }, {});
    expect((await runDoctor({ config })).find(({ rule }) => rule === "R9")).toMatchObject({ ok: false });
    server = await startServer(options());
    expect((await server.call("GET", "/v1/tasks", undefined, asAnn)).status).toBe(401);
    await eventually(
      async () => ((await runDoctor({ config })).some(({ rule, ok }) => rule === "R9" && ok) ? true : null),
      "the deletion ends",
    );
    expect((await server.call("GET", "/v1/tasks")).body).toMatchObject({ items: [] });
    expect((await runDoctor({ config })).filter(({ ok }) => !ok)).toEqual([]);
  });
});

describe("[R7] killed while a task is deleted, a restart completes it", () => {
  it.each(sampled(["deletion.begun:1", "deletion.part:2"], 1))("%s", async (point) => {
    server = await startServer(options(point));
    const id = (await submit(server, DONE)) ?? "";
    const { threadId } = await settledOn(server, id);
    await server.call("DELETE", `/v1/tasks/${id}`).catch(() => null);
    expect(await server.exited).toBe("SIGKILL");
    const config = readConfig({ SLIPWAY_DATA_DIR: data, SLIPWAY_SANDBOX: "process" }, {});
    const half = (await runDoctor({ config })).filter(({ ok }) => !ok);
    expect(half).toMatchObject([{ rule: "R7", findings: [{ taskId: id }] }]);

    server = await startServer(options());
    const on = server;
    expect((await on.call("GET", `/v1/tasks/${id}`)).status).toBe(404);
    expect((await on.call("GET", "/v1/tasks")).body).toMatchObject({ items: [] });
    await eventually(
      async () => ((await runDoctor({ config })).some(({ rule, ok }) => rule === "R7" && ok) ? true : null),
      "the deletion ends",
    );
    expect((await runDoctor({ config })).filter(({ ok }) => !ok)).toEqual([]);
    expect((await on.call("GET", `/v1/threads/${threadId}/conversation`)).status).toBe(404);
    expect(existsSync(join(data, "git", "tasks", `${id}.git`))).toBe(false);
    expect((await on.call("DELETE", `/v1/tasks/${id}`)).status).toBe(204);
  });
});
