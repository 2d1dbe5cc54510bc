/** Settings in `.slipway.yml`, allowed or not, with a real coordinator and engine. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect } from "vitest";
import { deriveInstanceId } from "../../../src/core/lib/runtime/instance-id.ts";
import { openEngine } from "../../../src/sandbox/docker/engine.ts";
import { openWorkerImage } from "../../../src/sandbox/docker/image/worker-image.ts";
import { sandboxName } from "../../../src/core/task.ts";
import type { WireEvent } from "../../../src/core/protocol/events.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { describeWithDocker, dockerClient } from "../../support/docker/engine.ts";
import { startGitServer, type GitServer } from "../../support/git-server.ts";
import { dropImage, importImage, rootfs } from "../../support/docker/images.ts";
import { disksDir, removeRemains } from "../../support/docker/cleanup.ts";
import { eventually, ROOT, startServer, type RealServer } from "../../support/process/server.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(6);

const LOCAL = `slipway-test-scenario:${process.pid}`;
const IMAGE = `docker.io/library/${LOCAL}`;
const FINISH = { finish: { title: "Done", summary: "" } };
const HOLD = { bash: "echo holding; until [ -e /tmp/go ]; do sleep 0.1; done" };

describeWithDocker("[S5] [S6] settings of a repository", () => {
  const docker = dockerClient();
  let upstream: GitServer;
  let dir: string;
  let server: RealServer;
  let serial = 0;

  beforeAll(async () => {
    const source = { dockerfile: join(ROOT, "Dockerfile"), workerFile: join(ROOT, "dist/worker.mjs") };
    const own = openWorkerImage(openEngine({}), source);
    await own.prepare(() => undefined, new AbortController().signal);
    importImage(LOCAL, rootfs(await own.name(), "mkdir opt; echo theirs > opt/theirs"), [
      "ENV PATH=/usr/bin:/bin",
      "ENV CARGO_HOME=/usr/local/cargo NODE_ENV=development",
    ]);
    upstream = await startGitServer();
    dir = mkdtempSync(join(tmpdir(), "slipway-wish-"));
    const env = {
      SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host,
      SLIPWAY_IMAGES: "slipway-test-scenario:*",
      SLIPWAY_WARM: "1",
    };
    server = await startServer({
      dataDir: join(dir, "data"),
      sandbox: "docker",
      policy: { backoffMs: 100, backoffCapMs: 200 },
      env,
    });
  });
  afterAll(async () => {
    await server.kill("SIGTERM");
    await removeRemains(deriveInstanceId(join(dir, "data")), disksDir(join(dir, "data")));
    const base = await docker.getImage(LOCAL).inspect();
    for (const image of await docker.listImages())
      if (image.Labels?.["slipway.base"] === base.Id) await dropImage(image.Id);
    await dropImage(LOCAL);
    await upstream.close();
    rmSync(dir, { recursive: true, force: true });
  });

  /** Submits a task on a repository with this `.slipway.yml`. */
  async function submit(config: string, script: readonly object[], more: object = {}): Promise<string> {
    const { url } = upstream.createRepo(`app-${++serial}`, { ".slipway.yml": config, "README.md": "# App\n" });
    const { status, body } = await server.call("POST", "/v1/tasks", { repo: url, prompt: "Do it.", script, ...more });
    expect(status, JSON.stringify(body)).toBe(201);
    return (body as WireTask).id;
  }
  const settled = (id: string): Promise<WireTask> =>
    eventually(
      async () => {
        const task = await server.task(id);
        return task.settledAt === null ? null : task;
      },
      `task ${id} settles; ${server.stderr().slice(-2_000)}`,
    );
  /** Without the progress of a step and the signs of life, which a slow machine has. */
  const listNotices = (events: readonly WireEvent[]): string[] =>
    events
      .filter(({ type, data }) => type === "notice" && !/^(?:step\.|working$)/.test(String(data["code"])))
      .map(({ data }) => `${String(data["code"])}: ${String(data["text"])}`);
  const listOutputs = (events: readonly WireEvent[]): string[] =>
    events.filter(({ type }) => type === "tool.finished").map(({ data }) => String(data["output"]));

  it("[O7] image, setup and checks apply, with the variables of the image; the first task prepares the image with visible progress, the second reuses it", async () => {
    const config = `image: ${LOCAL}\nsetup:\n  - echo ready > /workspace/.made\nverify:\n  - cat /opt/theirs\n  - "false"\n`;
    const script = [
      { bash: "cat /opt/theirs .made; command -v node || echo no node; echo $CARGO_HOME $NODE_ENV" },
      HOLD,
      { bash: "rm .made; echo x > x.txt" },
      FINISH,
    ];
    const id = await submit(config, script);
    await eventually(async () => (listOutputs(await server.events(id)).length > 1 ? true : null), "it works");
    const info = await docker.getContainer(sandboxName(id, 1)).inspect();
    expect(info.Config).toMatchObject({ User: "10001:10001", Entrypoint: ["/worker/node", "/worker/worker.mjs"] });
    expect(info.HostConfig).toMatchObject({ NetworkMode: "none", CapDrop: ["ALL"], ReadonlyRootfs: true });
    execFileSync("docker", ["exec", sandboxName(id, 1), "touch", "/tmp/go"]);
    expect(await settled(id)).toMatchObject({ state: "done", outcome: "pushed", attempt: 1 });
    const events = await server.events(id);
    expect(JSON.stringify(events)).toContain(`adding the worker to ${IMAGE}`);
    expect(listOutputs(events).slice(0, 2)).toEqual(["", "theirs\nready\nno node\n/usr/local/cargo development\n"]);
    const verified = events
      .filter(({ type }) => type === "verify")
      .map(({ data }) => [data["command"], data["exitCode"]]);
    expect(verified).toEqual([
      ["cat /opt/theirs", 0],
      ["false", 1],
    ]);
    const again = await submit(config, [{ bash: "cat /opt/theirs" }, FINISH]);
    expect(await settled(again)).toMatchObject({ state: "done" });
    expect(JSON.stringify(await server.events(again))).not.toContain("adding the worker");
  });

  it("a failed setup is reported to users and to the agent, which starts anyway", async () => {
    const id = await submit("setup:\n  - echo before\n  - echo broken pipe dream; exit 3\n  - echo never\n", [
      { bash: "echo works" },
      FINISH,
    ]);
    expect(await settled(id)).toMatchObject({ state: "done" });
    const events = await server.events(id);
    expect(listOutputs(events)).toEqual(["before\n", "broken pipe dream\n", "works\n"]);
    expect(listNotices(events)).toEqual([
      expect.stringMatching(/^setup_failed: .*exit code 3\. The 1 after it did not run\.\nbroken pipe dream/),
    ]);
  });

  it.each([
    ["image: [\n", /^config_invalid: .*line \d+: .*goes on without it/],
    ["images: node\n", /^config_unknown_key: .*line 1: the key "images"/],
    ["image: '../../etc'\n", /^config_invalid: .*line 1: image: Give a name like/],
    ["egress: { hosts: ['example.org:443'] }\n", /^egress_wish: .*example\.org:443\. That alone opens nothing/],
  ])("%j: a notice explains it, and the task continues", async (config, text) => {
    const id = await submit(config, [{ bash: "command -v node" }, FINISH]);
    expect(await settled(id)).toMatchObject({ state: "done" });
    expect(listNotices(await server.events(id))).toEqual([expect.stringMatching(text)]);
  });

  it("an image that is not allowed ends the task before a sandbox is created; `default` selects Slipway's own", async () => {
    const id = await submit("image: ghcr.io/somebody/else:1\n", [FINISH]);
    const task = await settled(id);
    expect(task).toMatchObject({
      state: "failed",
      failure: { code: "image_not_allowed", message: expect.stringContaining("ghcr.io/somebody/else:1") },
    });
    expect((await server.events(id)).filter(({ data }) => data["name"] === "container")).toEqual([]);
    const own = await submit("image: ghcr.io/somebody/else:1\n", [{ bash: "command -v node" }, FINISH], {
      image: "default",
    });
    expect(await settled(own)).toMatchObject({ state: "done" });
  });

  it("the image of a task is checked at submit", async () => {
    const { url } = upstream.createRepo("door");
    for (const [image, code] of [
      ["../x", "invalid_image"],
      [`sha256:${"a".repeat(64)}`, "invalid_image"],
      ["ghcr.io/somebody/else", "image_not_allowed"],
    ]) {
      const { status, body } = await server.call("POST", "/v1/tasks", {
        repo: url,
        prompt: "x",
        script: [FINISH],
        image,
      });
      expect([status, (body as { code: string }).code]).toEqual([400, code]);
    }
  });
});
