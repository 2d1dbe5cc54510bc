/**
 * A machine without a Docker engine: the server starts, scripted tasks run as plain processes,
 * tasks of agents with a model wait, and continue without a restart when an engine answers. The
 * engine appears as a socket that leads to the real one.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { deriveInstanceId } from "../../../src/core/lib/runtime/instance-id.ts";
import { startFakeModel, type FakeModel } from "../../../src/broker/model/fake/server.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { disksDir, removeRemains } from "../../support/docker/cleanup.ts";
import { describeWithDocker } from "../../support/docker/engine.ts";
import { startGitServer, type GitServer } from "../../support/git-server.ts";
import { eventually, startServer, type RealServer } from "../../support/process/server.ts";

const KEY = "sk-key-of-the-server-0123456789";
const ENGINE = process.env["DOCKER_HOST"]?.replace(/^unix:\/\//, "") ?? "/var/run/docker.sock";
const CONFIG = "setup:\n  - touch /tmp/slipway-setup-ran\nverify:\n  - 'true'\n";

describeWithDocker("without a Docker engine", () => {
  let dir: string;
  let upstream: GitServer;
  let repo: string;
  let fake: FakeModel;
  let server: RealServer;
  let engine: Server | null = null;
  let waiting: string;
  let adopted: string;

  const start = (): Promise<RealServer> =>
    startServer({
      dataDir: join(dir, "data"),
      env: {
        SLIPWAY_SANDBOX: "",
        DOCKER_HOST: `unix://${join(dir, "docker.sock")}`,
        SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host,
        SLIPWAY_WARM: "0",
        ANTHROPIC_API_KEY: KEY,
        ANTHROPIC_BASE_URL: fake.url,
      },
    });

  async function submit(body: object): Promise<string> {
    const answer = await server.call("POST", "/v1/tasks", { repo, prompt: "p", ...body });
    expect(answer.status).toBe(201);
    return (answer.body as WireTask).id;
  }

  const reach = (id: string, test: (task: WireTask) => boolean, what: string): Promise<WireTask> =>
    eventually(async () => {
      const task = await server.task(id);
      return test(task) ? task : null;
    }, what);

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), "slipway-no-engine-"));
    upstream = await startGitServer();
    repo = upstream.createRepo("app", { "README.md": "# App\n", ".slipway.yml": CONFIG }).url;
    const finish = { name: "finish", input: { title: "t", summary: "s" } };
    fake = await startFakeModel({ scenarios: { default: { turns: [{ tools: [finish] }] } }, apiKey: KEY });
    server = await start();
  });
  afterAll(async () => {
    await server.kill("SIGTERM");
    engine?.close();
    await removeRemains(deriveInstanceId(join(dir, "data")), disksDir(join(dir, "data")));
    await fake.close();
    await upstream.close();
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  });

  it("the server serves, and its log names what works and how to install an engine", async () => {
    expect(server.stderr()).toMatch(/No Docker engine answers.*NOT ISOLATED.*apt-get install -y docker\.io/s);
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
  });

  it("a scripted task runs as a process to the end; commands of the repository do not run", async () => {
    const script = [{ write: { path: "a.txt", content: "a" } }, { finish: { title: "t", summary: "s" } }];
    const id = await submit({ agent: "scripted", script });
    const task = await reach(id, ({ settledAt }) => settledAt !== null, "the scripted task settles");
    expect(task).toMatchObject({ state: "done", outcome: "pushed", attempt: 1 });
    const events = await server.events(id);
    const codes = events.filter(({ type }) => type === "notice").map(({ data }) => data["code"]);
    expect(codes).toContain("commands_withheld");
    expect(events.some(({ data }) => JSON.stringify(data).includes("slipway-setup-ran"))).toBe(false);
    expect(events.filter(({ type }) => type === "verify")).toEqual([]);
  });

  it("a task of an agent with a model waits with a reason, without a slot and through a restart; others pass it", async () => {
    waiting = await submit({ agent: "anthropic" });
    const reason = async (): Promise<string | undefined> => (await server.task(waiting)).wait?.reason;
    await expect.poll(reason).toBe("sandbox_unavailable");
    await server.kill("SIGKILL");
    server = await start();
    await expect.poll(reason).toBe("sandbox_unavailable");
    const held = { bash: `until [ -e ${join(dir, "gate")} ]; do sleep 0.1; done` };
    adopted = await submit({ agent: "scripted", script: [held, { finish: { title: "t", summary: "s" } }] });
    await reach(adopted, ({ state }) => state === "running", "the scripted task runs");
    expect((await server.task(waiting)).state).toBe("queued");
    expect(fake.requests()).toEqual([]);
  });

  it("when an engine answers, the task that waited runs in a container, and the running process ends where it is", async () => {
    engine = createServer((socket) => {
      const inner = connect(ENGINE);
      for (const [from, to] of [
        [socket, inner],
        [inner, socket],
      ] as const) {
        from.pipe(to);
        from.on("error", () => to.destroy());
      }
    });
    await new Promise<void>((resolve) => engine?.listen(join(dir, "docker.sock"), resolve));
    const task = await reach(waiting, ({ settledAt }) => settledAt !== null, "the task that waited settles");
    expect(task).toMatchObject({ state: "done", attempt: 1 });
    const events = await server.events(waiting);
    expect(JSON.stringify(events)).toContain("slipway-setup-ran");
    writeFileSync(join(dir, "gate"), "");
    expect(await reach(adopted, ({ settledAt }) => settledAt !== null, "the process settles")).toMatchObject({
      state: "done",
      attempt: 1,
    });
  });

  it("from then on the installation waits for its engine instead of falling back", async () => {
    engine?.close();
    rmSync(join(dir, "docker.sock"), { force: true });
    await server.kill("SIGKILL");
    server = await start();
    const id = await submit({ agent: "scripted", script: [{ finish: { title: "t", summary: "s" } }] });
    await expect.poll(async () => (await server.task(id)).wait?.reason).toBe("sandbox_unavailable");
  });
});
