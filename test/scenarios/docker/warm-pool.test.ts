/**
 * Tasks that claim a pooled worker, with a real coordinator process that is killed at each step of
 * the claim, the real worker and engine.
 */
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type Docker from "dockerode";
import { afterAll, afterEach, beforeAll, beforeEach, expect } from "vitest";
import { sandboxName } from "../../../src/core/task.ts";
import type { Overview, WireTask } from "../../../src/core/protocol/rest.ts";
import { EngineEvents } from "../../support/docker/engine-events.ts";
import { describeWithDocker, dockerClient } from "../../support/docker/engine.ts";
import { disksDir, removeRemains } from "../../support/docker/cleanup.ts";
import { startGitServer, type GitServer } from "../../support/git-server.ts";
import { eventually, startServer, type RealServer } from "../../support/process/server.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(6);
/** Processor time between two looks at a worker that has booted, ms. */
const QUIET_CPU_MS = 5;
const SCRIPT = [{ bash: "echo one > one.txt" }, { finish: { title: "One", summary: "One file." } }];

describeWithDocker("[D1] [D2] [D3] tasks with a warm pool", () => {
  const docker = dockerClient();
  let upstream: GitServer;
  let repo: string;
  let dir: string;
  let data: string;
  let instance: string;
  let events: EngineEvents;
  let server: RealServer;
  let serial = 0;

  beforeAll(async () => {
    events = await EngineEvents.follow(docker);
    upstream = await startGitServer();
    repo = upstream.createRepo("app").url;
    dir = mkdtempSync(join(tmpdir(), "slipway-warm-"));
    data = join(dir, "data");
    instance = createHash("sha256").update(data).digest("hex").slice(0, 12);
    server = await start();
    // The first task of an installation builds the image.
    await settled(await submit());
    await server.kill("SIGTERM");
  });
  beforeEach(async () => {
    server = await start();
  });
  afterEach(async () => {
    await server.kill("SIGTERM");
  });
  afterAll(async () => {
    events.close();
    await removeRemains(instance, disksDir(data));
    await upstream.close();
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  });

  const start = (crash?: string, warm = "1"): Promise<RealServer> =>
    startServer({
      dataDir: data,
      sandbox: "docker",
      env: {
        SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host,
        SLIPWAY_WARM: warm,
        ...(crash === undefined ? {} : { SLIPWAY_CRASH: crash }),
      },
    });

  async function submit(key = `warm-${++serial}`): Promise<string> {
    const answer = await server.call(
      "POST",
      "/v1/tasks",
      { repo, prompt: "Do it.", script: SCRIPT },
      { "idempotency-key": key },
    );
    expect(answer.status, JSON.stringify(answer.body)).toBeLessThan(300);
    return (answer.body as WireTask).id;
  }

  const settled = (id: string): Promise<WireTask> =>
    eventually(
      async () => {
        const task = await server.task(id);
        return task.settledAt === null ? null : task;
      },
      `task ${id} settles; ${server.stderr().slice(-2_000)}`,
    );

  const listContainers = (): Promise<Docker.ContainerInfo[]> =>
    docker.listContainers({ all: true, filters: { label: [`slipway.instance=${instance}`] } });
  const waiting = async (): Promise<string[]> =>
    (await listContainers())
      .filter((container) => container.Names[0]?.startsWith("/slipway-pool-"))
      .map((container) => container.Id);
  const overview = async (): Promise<Overview> => (await server.call("GET", "/v1/ops/overview")).body as Overview;
  /** The pooled container, as soon as it exists. */
  const ready = (): Promise<string> =>
    eventually(
      async () => ((await overview()).sandbox.warm?.ready === 1 ? ((await waiting())[0] ?? null) : null),
      "a worker waits",
    );
  /** The current name of the container, while it exists. */
  const containerName = async (id: string): Promise<string | null> =>
    (await listContainers()).find((container) => container.Id === id)?.Names[0]?.replace(/^\//, "") ?? null;

  /** Containers created for this task instead of claimed. */
  const madeFor = (id: string): Promise<object[]> => events.ofContainers("create", { "slipway.task": id });

  function expectDone(task: WireTask): void {
    expect(task).toMatchObject({ state: "done", outcome: "pushed", attempt: 1 });
    expect(upstream.git("app", "show", `${task.branch}:one.txt`)).toBe("one");
    expect(upstream.git("app", "rev-list", "--count", `main..${task.branch}`)).toBe("1");
  }

  it.always(
    "a task is done in the pooled container; then another one is started, and nothing else is left",
    async () => {
      const ahead = await ready();
      const id = await submit();
      await eventually(
        async () => ((await containerName(ahead)) === sandboxName(id, 1) ? true : null),
        "the waiting container is the task's",
      );
      expectDone(await settled(id));
      await eventually(async () => ((await containerName(ahead)) === null ? true : null), "it went with its attempt");
      const next = await ready();
      expect(next).not.toBe(ahead);
      expect((await listContainers()).map((container) => container.Id)).toEqual([next]);
      // The socket folder of the ended attempt is removed after its container.
      await expect.poll(() => readdirSync(join(data, "run"))).toEqual([expect.stringMatching(/^pool-/)]);
    },
  );

  for (const point of ["sandbox.claimed", "sandbox.emptied", "sandbox.moved", "sandbox.after"]) {
    it(`[W5] after SIGKILL at ${point} the task is done in the first attempt, in the pooled container`, async () => {
      const ahead = await ready();
      await server.kill("SIGTERM");
      server = await start(`${point}:1`);
      await ready();
      const key = `warm-${point}`;
      await submit(key).catch(() => undefined);
      expect(await server.exited).toBe("SIGKILL");
      server = await start();
      const id = await submit(key);
      expect(await containerName(ahead)).toSatisfy((name) => name === null || name === sandboxName(id, 1));
      expectDone(await settled(id));
      expect(await madeFor(id)).toEqual([]);
    });
  }

  it("a stop keeps the pooled worker for the next start; a start without a pool removes it", async () => {
    const ahead = await ready();
    await server.kill("SIGTERM");
    expect(await waiting()).toEqual([ahead]);
    server = await start();
    expect(await ready()).toBe(ahead);
    await server.kill("SIGTERM");
    server = await start(undefined, "0");
    await eventually(async () => ((await waiting()).length === 0 ? true : null), "it is removed");
    expectDone(await settled(await submit()));
  });

  it("[D9] the pool does not grow while the queue is paused, and a pooled worker uses no processor time", async () => {
    const ahead = await ready();
    const cpu = async (): Promise<number> => {
      const stats = (await docker
        .getContainer(ahead)
        .stats({ stream: false, "one-shot": true })) as Docker.ContainerStats;
      return stats.cpu_stats.cpu_usage.total_usage / 1e6;
    };
    // The worker boots after its container has started.
    let before = await cpu();
    await eventually(async () => {
      const last = before;
      before = await cpu();
      return before - last < QUIET_CPU_MS ? true : null;
    }, "the worker waits");
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    expect((await cpu()) - before).toBeLessThan(300);
    await server.call("POST", "/v1/ops/queue/pause");
    await docker.getContainer(ahead).remove({ force: true, v: true });
    expect((await overview()).sandbox.warm).toEqual({ wanted: 1, ready: 0, reason: null });
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    expect(await waiting()).toEqual([]);
    await server.call("POST", "/v1/ops/queue/resume");
    await ready();
  });
});
