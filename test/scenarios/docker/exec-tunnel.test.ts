/**
 * An engine reached by TCP, so that nothing of this machine is mounted into its containers. The
 * real coordinator detects this, and workers reach their broker through the exec tunnel.
 */
import { createHash } from "node:crypto";
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { dockerOptions } from "../../../src/sandbox/docker/engine.ts";
import { sandboxName, type Policy } from "../../../src/core/task.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { describeWithDocker, dockerClient } from "../../support/docker/engine.ts";
import { disksDir, removeRemains } from "../../support/docker/cleanup.ts";
import { startGitServer, type GitServer } from "../../support/git-server.ts";
import { eventually, ROOT, startServer, type RealServer } from "../../support/process/server.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(2);

const POLICY: Partial<Policy> = { backoffMs: 100, backoffCapMs: 200, graceMs: 6_000 };
const FILE = { bash: "echo one > one.txt" };
const HOLD = { bash: "echo holding; until [ -e /tmp/go ]; do sleep 0.1; done" };
const FINISH = { finish: { title: "One", summary: "One file." } };

/** Forwards a TCP port to the engine's socket, so that the engine counts as remote. */
async function farEngine(): Promise<{ host: string; close(): void }> {
  const path = dockerOptions().socketPath ?? "/var/run/docker.sock";
  const open = new Set<Socket>();
  const server: Server = createServer({ allowHalfOpen: true }, (near) => {
    const far = connect({ path, allowHalfOpen: true });
    for (const [source, target] of [
      [near, far],
      [far, near],
    ] as const) {
      open.add(source);
      source.pipe(target);
      source.on("error", () => target.destroy());
      source.on("close", () => (open.delete(source), target.destroy()));
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    host: `tcp://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () => {
      server.close();
      for (const socket of open) socket.destroy();
    },
  };
}

describeWithDocker("[S1] an engine without access to the coordinator's files", () => {
  const docker = dockerClient();
  let engine: { host: string; close(): void };
  let upstream: GitServer;
  let repo: { url: string };
  let dir: string;
  let instance: string;
  let server: RealServer;

  beforeAll(async () => {
    engine = await farEngine();
    upstream = await startGitServer();
    repo = upstream.createRepo("app", { "big.bin": Buffer.alloc(8 * 2 ** 20, "0123456789abcdef").toString("latin1") });
    dir = mkdtempSync(join(tmpdir(), "slipway-far-"));
    instance = createHash("sha256").update(join(dir, "data")).digest("hex").slice(0, 12);
    await start();
    await settled(await submit([{ say: "hello" }]));
  });
  afterEach(async () => {
    await eventually(async () => ((await containers()).length === 0 ? true : null), "[D3] no container is left");
  });
  afterAll(async () => {
    await server.kill("SIGTERM");
    await removeRemains(instance, disksDir(join(dir, "data")));
    await upstream.close();
    engine.close();
    rmSync(dir, { recursive: true, force: true });
  });

  async function start(): Promise<void> {
    const env = { SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host, DOCKER_HOST: engine.host };
    server = await startServer({ dataDir: join(dir, "data"), sandbox: "docker", policy: POLICY, env });
  }
  const containers = () => docker.listContainers({ all: true, filters: { label: [`slipway.instance=${instance}`] } });
  async function submit(script: readonly object[], more: object = {}): Promise<string> {
    const { status, body } = await server.call("POST", "/v1/tasks", {
      repo: repo.url,
      prompt: "Do it.",
      script,
      ...more,
    });
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
  const says = (id: string, text: string) =>
    eventually(
      async () => (JSON.stringify(await server.events(id)).includes(text) ? true : null),
      `"${text}" is checks`,
    );
  const inside = (id: string, command: string): Promise<string> =>
    new Promise((resolve) =>
      execFile("docker", ["exec", sandboxName(id, 1), "bash", "-c", command], (_error, out, err) => resolve(out + err)),
    );
  const go = (id: string) => inside(id, "touch /tmp/go");
  function expectDone(task: WireTask): void {
    expect(task).toMatchObject({ state: "done", outcome: "pushed", attempt: 1 });
    expect(upstream.git("app", "show", `${task.branch}:one.txt`)).toBe("one");
  }

  it.always("a task is done without a mount, a network or a port", async () => {
    const id = await submit([FILE, { bash: "wc -c < big.bin" }, HOLD, FINISH]);
    await says(id, "holding");
    const info = await docker.getContainer(sandboxName(id, 1)).inspect();
    expect(info.Mounts.map(({ Type, Destination }) => [Type, Destination])).toEqual([["volume", "/workspace"]]);
    expect(Object.keys(info.NetworkSettings.Networks)).toEqual(["none"]);
    expect(info.HostConfig.PortBindings ?? {}).toEqual({});
    expect(await inside(id, "cat /proc/net/tcp /proc/net/tcp6 | grep -c ' 0A ' || true")).toMatch(/^[012]\n$/);
    await go(id);
    expectDone(await settled(id));
    expect(JSON.stringify(await server.events(id))).toContain("8388608");
  });

  it("[D1] after SIGKILL of the coordinator the next one opens a new tunnel, and no attempt is lost", async () => {
    const id = await submit([FILE, HOLD, FINISH]);
    await says(id, "holding");
    await server.kill();
    await start();
    await go(id);
    expectDone(await settled(id));
  });

  it("[S6] a relay that is killed or sends garbage is restarted, and affects nothing else", async () => {
    const id = await submit([FILE, HOLD, FINISH]);
    await says(id, "holding");
    // The brackets prevent the search from matching its own command line.
    const relays =
      "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null | grep -q 'worker.mj[s] relay' && echo ${p#/proc/}; done; true";
    const first = await eventually(async () => /^\d+\n$/.exec(await inside(id, relays))?.[0] ?? null, "a helper runs");
    await inside(id, `kill -9 $(${relays})`);
    const again = async () => {
      const now = await inside(id, relays);
      return /^\d+\n$/.test(now) && now !== first ? now : null;
    };
    const second = await eventually(again, "another helper runs");
    // Every process of the worker's user can write to the relay's streams. After a protocol
    // error the coordinator stops reading.
    await inside(id, `timeout 3 head -c 3000000 /dev/urandom > /proc/$(${relays})/fd/1`);
    const third = async () => {
      const now = await again();
      return now === null || now === second ? null : now;
    };
    await eventually(third, "a helper that talked nonsense is replaced");
    await go(id);
    expectDone(await settled(id));
    expect((await server.call("GET", "/readyz")).status).toBe(200);
  });

  it("[D7] [W4] a cancel reaches the worker, and its last events are delivered", async () => {
    const id = await submit([FILE, HOLD]);
    await says(id, "holding");
    expect((await server.call("POST", `/v1/tasks/${id}/cancel`)).status).toBeLessThan(300);
    const task = await settled(id);
    expect(task.state).toBe("cancelled");
    const { body } = await server.call("GET", `/v1/tasks/${id}/diff?format=patch`);
    expect(String(body)).toContain("+one");
  });

  it("doctor reports the transport and the hardening checks", async () => {
    const env = {
      ...process.env,
      DOCKER_HOST: engine.host,
      SLIPWAY_SANDBOX: "docker",
      SLIPWAY_WORKER_TOOLS: "slim",
      SLIPWAY_DATA_DIR: join(dir, "data"),
    };
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [join(ROOT, "dist/slipway.mjs"), "doctor", "--json"],
      { env },
    );
    const checks = JSON.parse(stdout) as { rule: string; ok: boolean; detail: string }[];
    expect(checks.filter(({ ok }) => !ok)).toEqual([]);
    expect(checks.find(({ rule }) => rule === "door")?.detail).toContain("through the engine");
    expect(checks.map(({ rule }) => rule)).toEqual(
      expect.arrayContaining(["engine", "system calls", "users", "control groups", "limits"]),
    );
  });
});
