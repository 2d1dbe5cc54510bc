/**
 * Tasks from submit to done in real containers, with a real coordinator process and a private
 * upstream. All tests share one data folder, as an installation does; each starts the coordinator
 * with its own settings, and the last one checks the invariants over all tasks.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type Docker from "dockerode";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { checkInvariants } from "../../../src/coordinator/invariants.ts";
import { openDockerSandbox } from "../../../src/sandbox/docker/sandbox.ts";
import { openSqliteReader } from "../../../src/store/sqlite/store.ts";
import { sandboxName, type Policy } from "../../../src/core/task.ts";
import type { WireEvent } from "../../../src/core/protocol/events.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { EngineEvents } from "../../support/docker/engine-events.ts";
import { describeWithDocker, dockerClient } from "../../support/docker/engine.ts";
import { disksDir, removeRemains } from "../../support/docker/cleanup.ts";
import { startGitServer, type GitServer } from "../../support/git-server.ts";
import { eventually, ROOT, startServer, type RealServer } from "../../support/process/server.ts";
import { sampled } from "../../support/random.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const TOKEN = "gh0_S3cr3t/Token+0123456789";
const KEY = "5ec2e7".repeat(10) + "0a1b";
/** Half of it is for saving the work, which takes seconds on a busy machine. */
const GRACE_MS = 20_000;
const POLICY: Partial<Policy> = { backoffMs: 100, backoffCapMs: 200, graceMs: GRACE_MS, cancelMs: 6 * GRACE_MS };
const FILE = { bash: "echo one > one.txt; id -u" };
const FINISH = { finish: { title: "One", summary: "One file." } };
/** Until `release`. */
const HOLD = { bash: "until [ -e /tmp/go ]; do sleep 0.1; done", timeoutMs: 600_000 };
const HOLD_FIRST = { ...HOLD, bash: `[ "$SLIPWAY_ATTEMPT" != 1 ] || ${HOLD.bash}` };

const it = inTurn(6);

describeWithDocker("[D1] [D2] [D3] tasks in containers", () => {
  const docker = dockerClient();
  let upstream: GitServer;
  let repo: { url: string };
  let dir: string;
  let data: string;
  let instance: string;
  let events: EngineEvents;
  let running: RealServer | null = null;
  /** Tasks of this file. */
  const ids = new Set<string>();
  let serial = 0;

  beforeAll(async () => {
    events = await EngineEvents.follow(docker);
    upstream = await startGitServer({ auth: { username: "x-access-token", password: TOKEN } });
    repo = upstream.createRepo("app");
    dir = mkdtempSync(join(tmpdir(), "slipway-e2e-"));
    data = join(dir, "data");
    instance = createHash("sha256").update(data).digest("hex").slice(0, 12);
    const server = await start();
    const { status } = await server.call("POST", "/v1/credentials", {
      host: upstream.host,
      kind: "token",
      token: TOKEN,
    });
    expect(status).toBe(201);
    // The first task of an installation builds the image, which the tests should not measure.
    await settled(await submit([{ say: "hello" }]));
    await stop();
  });
  afterEach(stop);
  afterAll(async () => {
    events.close();
    await removeRemains(instance, disksDir(data));
    await upstream.close();
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  });

  async function stop(): Promise<void> {
    await running?.kill("SIGTERM");
    running = null;
  }

  async function start(crash?: string): Promise<RealServer> {
    const env = {
      SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host,
      SLIPWAY_SECRET_KEY: KEY,
      // The warm pool is tested in warm-pool.test.ts.
      SLIPWAY_WARM: "0",
      ...(crash === undefined ? {} : { SLIPWAY_CRASH: crash }),
    };
    running = await startServer({ dataDir: data, sandbox: "docker", policy: POLICY, env });
    return running;
  }

  function server(): RealServer {
    if (running === null) throw new Error("no server runs");
    return running;
  }

  /** The idempotency key makes it safe to repeat after the server was killed. */
  async function submit(script: readonly object[], more: object = {}, key = `docker-${++serial}`): Promise<string> {
    const body = { repo: repo.url, prompt: "Do it.", script, ...more };
    const answer = await server().call("POST", "/v1/tasks", body, { "idempotency-key": key });
    expect(answer.status, JSON.stringify(answer.body)).toBeLessThan(300);
    const { id } = answer.body as WireTask;
    ids.add(id);
    return id;
  }

  const settled = (id: string): Promise<WireTask> =>
    eventually(
      async () => {
        const task = await server().task(id);
        return task.settledAt === null ? null : task;
      },
      `task ${id} settles; ${server().stderr().slice(-2_000)}`,
    );
  const waitForToolOutput = (id: string, text: string): Promise<WireEvent> =>
    eventually(
      async () => (await server().events(id)).find((event) => JSON.stringify(event.data).includes(text)) ?? null,
      `the output contains "${text}"`,
    );

  /** Containers of this installation, running or not. */
  const mine = (): Promise<Docker.ContainerInfo[]> =>
    docker.listContainers({ all: true, filters: { label: [`slipway.instance=${instance}`] } });
  const inspect = (id: string, attempt = 1): Promise<Docker.ContainerInspectInfo> =>
    docker.getContainer(sandboxName(id, attempt)).inspect();
  const gone = (): Promise<true> =>
    eventually(async () => ((await mine()).length === 0 ? true : null), "[D3] no container is left");

  /** Names of all containers ever created for this task. */
  const created = async (id: string): Promise<(string | undefined)[]> =>
    (await events.ofContainers("create", { "slipway.task": id })).map(({ name }) => name);

  function expectUpstream(task: WireTask): void {
    expect(task).toMatchObject({ state: "done", outcome: "pushed" });
    expect(upstream.git("app", "rev-parse", `refs/heads/${task.branch}`)).toBe(task.headSha);
    expect(upstream.git("app", "rev-list", "--count", `main..${task.branch}`)).toBe("1");
    expect(upstream.git("app", "show", `${task.branch}:one.txt`)).toBe("one");
  }

  it.always(
    "[S1] [S5] a task is done in a container without network, capabilities or secrets, which is removed",
    async () => {
      await start();
      const id = await submit([FILE, HOLD, FINISH], { limits: { memoryMb: 512, cpus: 1 } });
      await waitForToolOutput(id, "10001");
      const name = sandboxName(id, 1);
      const info = await inspect(id);
      expect(info.Config.Labels).toMatchObject({
        "slipway.instance": instance,
        "slipway.task": id,
        "slipway.attempt": "1",
      });
      expect(info.Config.User).toBe("10001:10001");
      expect(info.HostConfig).toMatchObject({
        NetworkMode: "none",
        CapDrop: ["ALL"],
        CapAdd: null,
        ReadonlyRootfs: true,
        Privileged: false,
        SecurityOpt: expect.arrayContaining(["no-new-privileges:true"]),
        Memory: 512 * 2 ** 20,
        NanoCpus: 1e9,
      });
      expect(Object.keys(info.NetworkSettings.Networks)).toEqual(["none"]);
      expect(Object.fromEntries(info.Mounts.map(({ Destination, RW }) => [Destination, RW]))).toEqual({
        "/run/slipway": false,
        "/workspace": true,
      });
      expect(holders(name, "slipway/socket-that-is-nowhere")).toEqual([]);
      const token =
        info.Config.Env.find((variable) => variable.startsWith("SLIPWAY_TOKEN="))?.slice("SLIPWAY_TOKEN=".length) ?? "";
      expect(holders(name, token)).toContain("/proc/1/environ");
      const operator = readFileSync(join(data, "operator.token"), "utf8").trim();
      for (const secret of [TOKEN, `x-access-token:${TOKEN}`, KEY, operator]) {
        for (const form of [secret, Buffer.from(secret).toString("base64"), encodeURIComponent(secret)]) {
          expect(JSON.stringify(info)).not.toContain(form);
          expect(holders(name, form)).toEqual([]);
        }
      }
      release(id);
      const task = await settled(id);
      expectUpstream(task);
      expect(task.attempt).toBe(1);
      await gone();
      const steps = (await server().events(id)).filter(
        ({ type, data: { status } }) => type === "task.step" && status === "ended",
      );
      // Repository and container are prepared concurrently.
      expect(new Set(steps.map((step) => step.data["name"]))).toEqual(
        new Set(["mirror", "image", "container", "connect", "clone", "setup"]),
      );
      expect(steps.slice(3).map((step) => step.data["name"])).toEqual(["connect", "clone", "setup"]);
      expect(JSON.stringify(await server().events(id))).not.toContain(token);
      expect(readdirSync(join(data, "run"))).toEqual([]);
    },
  );

  /**
   * Files readable by the worker's user that contain this text, among those that it can write and
   * the environments of all processes.
   */
  function holders(name: string, text: string): string[] {
    const command = "grep -rslF -f - /workspace /home/agent /tmp /run/slipway /proc/[0-9]*/environ || true";
    return execFileSync("docker", ["exec", "-i", name, "sh", "-c", command], { input: `${text}\n`, encoding: "utf8" })
      .trim()
      .split("\n")
      .filter((line) => line !== "");
  }

  it("[D1] after SIGKILL of the coordinator the container continues, the next start adopts it, and no attempt is lost", async () => {
    await start();
    const id = await submit([FILE, HOLD, { bash: "echo still there" }, FINISH]);
    await waitForToolOutput(id, "10001");
    const before = await inspect(id);
    expect(await server().kill()).toBe("SIGKILL");
    await delay(500);
    expect((await inspect(id)).State.Running).toBe(true);
    await start();
    await waitForToolOutput(id, "adopted");
    const after = await inspect(id);
    expect([after.Id, after.State.StartedAt, after.State.Running]).toEqual([before.Id, before.State.StartedAt, true]);
    release(id);
    const task = await settled(id);
    expectUpstream(task);
    expect(task.attempt).toBe(1);
    expect(JSON.stringify(await server().events(id))).toContain("still there");
    expect(await created(id)).toEqual([sandboxName(id, 1)]);
    await gone();
  });

  for (const point of sampled(["sandbox.created:1", "sandbox.after:1", "push.after:1"], 1)) {
    it(`[W5] after SIGKILL at ${point} the task is done with one container`, async () => {
      const doomed = await start(point);
      const key = `crash-${point}`;
      const id = await submit([FILE, FINISH], {}, key);
      expect(await doomed.exited).toBe("SIGKILL");
      await start();
      expect(await submit([FILE, FINISH], {}, key)).toBe(id);
      const task = await settled(id);
      expectUpstream(task);
      expect(task.attempt).toBe(1);
      expect(await created(id)).toEqual([sandboxName(id, 1)]);
      await gone();
    });
  }

  it("[D7] [W4] a cancel while a command ignores SIGTERM ends in time and keeps the work", async () => {
    await start();
    const id = await submit([FILE, { bash: "trap '' TERM INT HUP; echo deaf >> one.txt; while :; do sleep 1; done" }]);
    await waitForToolOutput(id, "trap");
    await eventually(async () => (execIn(id, "cat one.txt").includes("deaf") ? true : null), "the command runs");
    const begun = Date.now();
    expect((await server().call("POST", `/v1/tasks/${id}/cancel`)).status).toBeLessThan(300);
    const task = await settled(id);
    expect(task.state).toBe("cancelled");
    expect(Date.now() - begun).toBeLessThan(3 * GRACE_MS);
    await gone();
    const diff = await server().call("GET", `/v1/tasks/${id}/diff?format=patch`);
    expect(diff.body).toContain("+deaf");
  });

  it("[D7] a cancel while the worker is frozen ends by the engine", async () => {
    await start();
    const id = await submit([FILE, { bash: "kill -STOP $PPID; sleep 300" }]);
    await eventually(
      async () => (/^T/m.test(execIn(id, "cat /proc/*/stat | cut -d' ' -f3")) ? true : null),
      "the worker is frozen",
    );
    const begun = Date.now();
    await server().call("POST", `/v1/tasks/${id}/cancel`);
    const task = await settled(id);
    expect(task.state).toBe("cancelled");
    expect(Date.now() - begun).toBeGreaterThanOrEqual(GRACE_MS / 2);
    expect(Date.now() - begun).toBeLessThan(3 * GRACE_MS);
    await gone();
  });

  /** Ends HOLD. @returns false while the container does not run. */
  const touch = (id: string, attempt: number): boolean =>
    spawnSync("docker", ["exec", sandboxName(id, attempt), "touch", "/tmp/go"]).status === 0;
  const release = (id: string): void => expect(touch(id, 1)).toBe(true);

  /** The output of a command in the container; empty while there is none. */
  function execIn(id: string, command: string): string {
    const { stdout } = spawnSync("docker", ["exec", sandboxName(id, 1), "sh", "-c", command], { encoding: "utf8" });
    return stdout;
  }

  it("[T5] a container removed from outside is an interruption: retried without losing an attempt", async () => {
    await start();
    const id = await submit([FILE, HOLD_FIRST, FINISH], { maxAttempts: 1 });
    await waitForToolOutput(id, "10001");
    await docker.getContainer(sandboxName(id, 1)).remove({ force: true, v: true });
    const task = await settled(id);
    expectUpstream(task);
    expect(task.attempt).toBe(2);
    expect(await created(id)).toEqual([sandboxName(id, 1), sandboxName(id, 2)]);
    const { body } = await server().call("GET", `/v1/tasks/${id}/attempts`);
    expect(body).toMatchObject({
      items: [
        { number: 1, exitCode: null, failure: "interrupted" },
        { number: 2, failure: null },
      ],
    });
    await gone();
  });

  it("[T5] [W4] a container stopped from outside, as by a restarting engine, saves its work and loses no attempt", async () => {
    await start();
    const id = await submit([FILE, HOLD_FIRST, FINISH], { maxAttempts: 1 });
    // What is saved already leaves little to save within the engine's patience.
    await eventually(
      async () => (await server().events(id)).find(({ type }) => type === "checkpoint") ?? null,
      "the file is saved",
    );
    await docker.getContainer(sandboxName(id, 1)).stop({ t: 10 });
    const task = await settled(id);
    expectUpstream(task);
    expect(task.attempt).toBe(2);
    const { body } = await server().call("GET", `/v1/tasks/${id}/attempts`);
    expect(body).toMatchObject({
      items: [
        { number: 1, failure: "interrupted" },
        { number: 2, failure: null },
      ],
    });
    expect(JSON.stringify(await server().events(id))).toContain("resuming from saved work");
    await gone();
  });

  it("a worker that is killed for its memory is retried with twice as much", async () => {
    await start();
    // The kernel kills the process with the highest oom_score_adj, unless another one is larger by
    // half of the limit: here the worker instead of one of the consumers.
    const eat = "for i in 1 2 3 4; do tail /dev/zero & done; wait";
    const first = `if [ "$SLIPWAY_ATTEMPT" = 1 ]; then echo 1000 > /proc/$PPID/oom_score_adj; ${eat}; fi`;
    const id = await submit([FILE, { bash: first }, HOLD, FINISH], { limits: { memoryMb: 128 } });
    const memory = await eventually(
      async () => (await inspect(id, 2).catch(() => null))?.HostConfig.Memory ?? null,
      "there is a second container",
    );
    expect(memory).toBe(256 * 2 ** 20);
    await eventually(() => Promise.resolve(touch(id, 2) ? true : null), "the second worker goes on");
    const task = await settled(id);
    expectUpstream(task);
    expect(task.attempt).toBe(2);
    const { body } = await server().call("GET", `/v1/tasks/${id}/attempts`);
    expect(body).toMatchObject({
      items: [
        { number: 1, exitCode: 137, failure: "out_of_memory" },
        { number: 2, failure: null },
      ],
    });
    await gone();
  });

  it("[W6] after SIGKILL of the worker during a tool the artifact contains the work after the last checkpoint, without regenerable files", async () => {
    await start();
    const mess =
      "mkdir -p node_modules/x .cache; echo y | tee node_modules/x/i.js > .cache/z; ln -s /etc/passwd link; ln -s one.txt fine";
    const id = await submit([FILE, { bash: `echo late > late.txt; ${mess}; kill -9 $PPID; sleep 60` }], {
      maxAttempts: 1,
    });
    const task = await settled(id);
    expect(task).toMatchObject({ state: "failed", failure: { code: "attempts_exhausted" } });
    await gone();
    const { body } = await server().call("GET", `/v1/tasks/${id}/artifacts`);
    expect(body).toMatchObject({ items: [{ name: "a1-workspace.tar.gz", attempt: 1 }] });
    expect(JSON.stringify(await server().events(id))).toContain("slipway artifacts");
    const file = join(dir, "salvaged.tar.gz");
    const got = spawnSync(
      process.execPath,
      [join(ROOT, "dist/slipway.mjs"), "artifacts", id, "--out", file, "--data-dir", data],
      {
        encoding: "utf8",
      },
    );
    expect([got.status, got.stderr]).toEqual([0, expect.stringContaining("fresh checkout")]);
    const names = execFileSync("tar", ["tzf", file], { encoding: "utf8" }).trim().split("\n");
    expect(names).toEqual(expect.arrayContaining(["workspace/late.txt", "workspace/one.txt", "workspace/fine"]));
    expect(names.filter((name) => /node_modules|\.cache|\.git\/|link$/.test(name))).toEqual([]);
    expect(execFileSync("tar", ["xzOf", file, "workspace/late.txt"], { encoding: "utf8" })).toBe("late\n");
    // The checkpoint remains available.
    const diff = await server().call("GET", `/v1/tasks/${id}/diff?format=patch`);
    expect(diff.body).toContain("+one");
  });

  it("[W6] [W4] a cancel with grace leaves a checkpoint and no artifact; a frozen worker leaves an artifact", async () => {
    await start();
    const saved = await submit([FILE, { bash: "echo more > more.txt; sleep 300" }]);
    await waitForToolOutput(saved, "sleep 300");
    await eventually(async () => (execIn(saved, "cat more.txt").includes("more") ? true : null), "the command runs");
    await server().call("POST", `/v1/tasks/${saved}/cancel`);
    expect((await settled(saved)).state).toBe("cancelled");
    const frozen = await submit([FILE, { bash: "echo ice > ice.txt; kill -STOP $PPID; sleep 300" }]);
    await eventually(
      async () => (/^T/m.test(execIn(frozen, "cat /proc/*/stat | cut -d' ' -f3")) ? true : null),
      "the worker is frozen",
    );
    await server().call("POST", `/v1/tasks/${frozen}/cancel`);
    expect((await settled(frozen)).state).toBe("cancelled");
    await gone();
    const artifacts = async (id: string) =>
      (await server().call("GET", `/v1/tasks/${id}/artifacts`)).body as { items: { name: string }[] };
    expect((await artifacts(saved)).items).toEqual([]);
    expect((await server().call("GET", `/v1/tasks/${saved}/diff?format=patch`)).body).toContain("+more");
    expect((await artifacts(frozen)).items).toMatchObject([{ name: "a1-workspace.tar.gz" }]);
    expect(JSON.stringify(await server().events(frozen))).toContain("salvaged");
  });

  it.always("[T1] [T2] [T4] [W1] the invariants hold for all tasks of this file", async () => {
    await start();
    await gone();
    const store = openSqliteReader({ dir: data, migrations: join(ROOT, "migrations/sqlite") });
    const sandbox = openDockerSandbox({
      instance,
      workerFile: join(ROOT, "dist/worker.mjs"),
      dockerfile: join(ROOT, "Dockerfile"),
    });
    try {
      const { tasks, violations } = await checkInvariants({ store, sandbox, maxConcurrent: 4 });
      expect(violations).toEqual([]);
      expect(tasks).toBe(ids.size);
    } finally {
      await sandbox.close();
      await store.close();
    }
  });
});
