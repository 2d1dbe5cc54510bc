/**
 * An agent program offered by an installation, end to end: a real server, its gateway before the
 * fake model, worker and program as processes.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { startFakeModel, type FakeModel } from "../../../src/broker/model/fake/server.ts";
import type { WireEvent } from "../../../src/core/protocol/events.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { startGitServer, type GitServer } from "../../support/git-server.ts";
import { eventually, startServer, type RealServer } from "../../support/process/server.ts";

const KEY = "sk-real-key-of-the-server-0123456789";
const PROGRAM = `exec ${JSON.stringify(process.execPath)} ${JSON.stringify(join(import.meta.dirname, "../../worker/agents/acp/program.mjs"))}`;

let dir: string;
let upstream: GitServer;
let fake: FakeModel;
let server: RealServer;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "slipway-acp-"));
  upstream = await startGitServer();
  fake = await startFakeModel({ scenarios: { default: { turns: [{ say: "Hello from the model." }] } }, apiKey: KEY });
  const env = {
    SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host,
    SLIPWAY_LOG_LEVEL: "error",
    SLIPWAY_ACP_COMMANDS: `tester=${PROGRAM}`,
    SLIPWAY_AGENT: "tester",
    ANTHROPIC_API_KEY: KEY,
    ANTHROPIC_BASE_URL: fake.url,
  };
  server = await startServer({ dataDir: join(dir, "data"), env });
});
afterEach(async () => {
  await server.kill("SIGKILL");
  await fake.close();
  await upstream.close();
  rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
});

const holding = (folder: string, text: string): string[] =>
  readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => {
    const path = join(folder, name);
    return statSync(path).isFile() && readFileSync(path).includes(text);
  });

it("[O6] [S1] a program of the installation reaches the model by the gateway alone; its use is counted there, its work is pushed", async () => {
  const { body: offer } = await server.call("GET", "/v1/config");
  expect(offer).toMatchObject({ agents: ["tester", "anthropic", "scripted"] });
  const { url } = upstream.createRepo("app");
  const submitted = await server.call("POST", "/v1/tasks", { repo: url, prompt: "model\nwrite b.txt=new" });
  expect(submitted.status).toBe(201);
  const { id } = submitted.body as WireTask;
  const task = await eventually(async () => {
    const now = await server.task(id);
    return now.settledAt === null ? null : now;
  }, "the task settles");
  expect(task).toMatchObject({ agent: "tester", outcome: "pushed", state: "done" });
  expect(task.usage.turns).toBe(1);
  expect(task.usage.outputTokens).toBeGreaterThan(0);
  const { body } = await server.call("GET", `/v1/tasks/${id}/events?limit=500`);
  const messages = (body as { items: WireEvent[] }).items
    .filter(({ type }) => type === "message")
    .map(({ data }) => JSON.stringify(data));
  expect(messages.join()).toContain("Hello from the model.");
  expect(holding(join(dir, "data"), KEY)).toEqual([]);
});
