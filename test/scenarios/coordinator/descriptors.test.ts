/** A coordinator whose file descriptors are used up by connections. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { hasPrlimit } from "../../support/process/descriptors.ts";
import { startGitServer, type GitServer } from "../../support/git-server.ts";
import { eventually, startServer, type RealServer } from "../../support/process/server.ts";

const DESCRIPTORS = 300;
/** A limit at which nothing can be opened: Node itself holds the numbers below it for its life. */
const NONE_LEFT = 8;
const HOME = process.env["SLIPWAY_TEST_HOME"];

let dir: string;
let upstream: GitServer;
let server: RealServer;
const sockets: Socket[] = [];

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "slipway-descriptors-"));
  upstream = await startGitServer();
  server = await startServer({
    dataDir: join(dir, "data"),
    descriptors: DESCRIPTORS,
    env: { SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host },
    ...(HOME === undefined ? {} : { home: HOME }),
  });
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await server.kill("SIGTERM");
  await upstream.close();
  rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
});

const countFiles = (): number => readdirSync(`/proc/${server.pid}/fd`).length;

/** Idle connections, as many as are wanted at any time: one that is closed is opened again. */
function flood(count: number): () => void {
  const { hostname, port } = new URL(server.url);
  let isOn = true;
  const open = (): void => {
    const socket = connect({ host: hostname, port: Number(port) });
    sockets.push(socket);
    socket.on("error", () => undefined);
    socket.on("close", () => void setTimeout(() => isOn && open(), 50));
  };
  for (let i = 0; i < count; i += 1) open();
  return () => {
    isOn = false;
    for (const socket of sockets.splice(0)) socket.destroy();
  };
}

/** A task that writes a file and then works until `go` exists. */
async function submitWaiting(go: string): Promise<WireTask> {
  const { url } = upstream.createRepo("app");
  const script = [
    { bash: `echo one > one.txt; while ! [ -e ${go} ]; do sleep 0.1; done` },
    { finish: { title: "One", summary: "One file." } },
  ];
  const { body } = await server.call("POST", "/v1/tasks", { repo: url, prompt: "Do it.", script });
  const { id } = body as WireTask;
  return eventually(async () => {
    const task = await server.task(id);
    return task.state === "running" ? task : null;
  }, "the task runs");
}

const settled = (id: string): Promise<WireTask> =>
  eventually(async () => {
    const task = await server.task(id);
    return task.settledAt === null ? null : task;
  }, "the task settles");

it.runIf(process.platform === "linux")(
  "[Y3] 400 idle connections to a server with 300 descriptors: it goes on, and the task that commits meanwhile ends in done",
  async () => {
    const go = join(dir, "go");
    const { id, branch } = await submitWaiting(go);
    const stop = flood(400);
    await expect.poll(countFiles).toBeGreaterThan(DESCRIPTORS / 4);
    writeFileSync(go, "");
    const isPushed = (): boolean => upstream.git("app", "branch", "--list", branch).trim() !== "";
    // While the connections go on; a descriptor that is missing for a moment only delays it.
    await expect.poll(() => isPushed() || server.process.exitCode !== null).toBe(true);
    stop();
    expect(server.process.exitCode, server.stderr()).toBeNull();
    expect(await settled(id)).toMatchObject({ state: "done", outcome: "pushed", attempt: 1 });
  },
);

it.runIf(hasPrlimit)(
  "[Y3] no descriptor is left while a task commits: the server logs it, goes on, and the task ends in done",
  async () => {
    const go = join(dir, "go");
    const { id } = await submitWaiting(go);
    const setLimit = (soft: number): void =>
      void execFileSync("prlimit", ["--pid", String(server.pid), `--nofile=${soft}:`]);
    setLimit(NONE_LEFT);
    writeFileSync(go, "");
    await expect.poll(() => server.stderr().includes("EMFILE") || server.process.exitCode !== null).toBe(true);
    expect(server.process.exitCode, server.stderr()).toBeNull();
    setLimit(DESCRIPTORS);
    expect(await settled(id)).toMatchObject({ state: "done", outcome: "pushed" });
  },
);
