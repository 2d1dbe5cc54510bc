/**
 * The agent that has a model, in a real container: clone, explore, edit, run the tests, finish,
 * verify, push.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Database from "../../../src/store/sqlite/driver.ts";
import { afterAll, beforeAll, expect, it } from "vitest";
import { deriveInstanceId } from "../../../src/core/lib/runtime/instance-id.ts";
import type { Turn } from "../../../src/broker/model/fake/scenario.ts";
import { startFakeModel, type FakeModel } from "../../../src/broker/model/fake/server.ts";
import { sandboxName } from "../../../src/core/task.ts";
import type { WireEvent } from "../../../src/core/protocol/events.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { describeWithDocker, dockerClient } from "../../support/docker/engine.ts";
import { startGitServer, type GitServer } from "../../support/git-server.ts";
import { disksDir, removeRemains } from "../../support/docker/cleanup.ts";
import { eventually, startServer, type RealServer } from "../../support/process/server.ts";

const KEY = "sk-real-key-of-the-server-0123456789";
const FILES = {
  "AGENTS.md": "Run `node --test` before you finish.\n",
  "add.mjs": "export const add = (a, b) => a - b;\n",
  "add.test.mjs":
    'import test from "node:test";\nimport assert from "node:assert";\nimport { add } from "./add.mjs";\ntest("adds", () => assert.equal(add(2, 3), 5));\n',
};
const bash = (command: string) => ({ name: "bash", input: { command } });
const TURNS: Turn[] = [
  {
    say: "I look around.",
    tools: [
      { name: "glob", input: { pattern: "**/*.mjs" } },
      { name: "grep", input: { pattern: "export const" } },
    ],
  },
  { tools: [{ name: "read", input: { path: "add.mjs" } }, bash("node --test")] },
  { say: "The sign is wrong.", tools: [{ name: "edit", input: { path: "add.mjs", old: "a - b", new: "a + b" } }] },
  {
    tools: [
      bash(
        "node --test && (env; cat /proc/1/environ /run/slipway/* | tr '\\0' '\\n') 2>/dev/null | tail -50; until [ -e /tmp/go ]; do sleep 0.1; done",
      ),
    ],
  },
  { tools: [{ name: "finish", input: { title: "Add, do not subtract", summary: "The sign was wrong." } }] },
];

describeWithDocker("[G2] [S1] [A1] an agent with a model in a container", () => {
  const docker = dockerClient();
  let dir: string;
  let upstream: GitServer;
  let fake: FakeModel;
  let server: RealServer;
  let id: string;
  let task: WireTask;
  let events: WireEvent[];
  let inspected: string;
  let seenLive: string[];

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), "slipway-agent-docker-"));
    upstream = await startGitServer();
    const { url: repo } = upstream.createRepo("app", FILES);
    fake = await startFakeModel({ scenarios: { default: { turns: TURNS } }, apiKey: KEY });
    const env = { SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host, ANTHROPIC_API_KEY: KEY, ANTHROPIC_BASE_URL: fake.url };
    server = await startServer({ dataDir: join(dir, "data"), sandbox: "docker", env });
    const { status, body } = await server.call("POST", "/v1/tasks", {
      repo,
      prompt: "Make add add.",
      verify: ["node --test"],
    });
    expect(status).toBe(201);
    ({ id } = body as WireTask);
    await eventually(async () => (fake.requests().length >= 4 ? true : null), "the fourth turn is asked for");
    await eventually(
      async () =>
        (await server.events(id)).some(({ data }) => JSON.stringify(data).includes("/tmp/go")) ? true : null,
      "it waits",
    );
    seenLive = (await server.events(id)).map(({ type }) => type);
    inspected = JSON.stringify(await docker.getContainer(sandboxName(id, 1)).inspect());
    execFileSync("docker", ["exec", sandboxName(id, 1), "touch", "/tmp/go"]);
    task = await eventually(async () => {
      const now = await server.task(id);
      return now.settledAt === null ? null : now;
    }, "it settles");
    events = await server.events(id);
  });
  afterAll(async () => {
    await server.kill("SIGTERM");
    await removeRemains(deriveInstanceId(join(dir, "data")), disksDir(join(dir, "data")));
    await fake.close();
    await upstream.close();
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  });

  it("ends with its change upstream, verified by the harness", () => {
    expect(task).toMatchObject({ state: "done", outcome: "pushed", attempt: 1, title: expect.any(String) as string });
    expect(upstream.git("app", "show", `${task.branch}:add.mjs`)).toContain("a + b");
    expect(upstream.git("app", "log", "-1", "--format=%s", task.branch)).toBe("Add, do not subtract");
    const verified = events.filter(({ type }) => type === "verify").map(({ data }) => data["exitCode"]);
    expect(verified.length).toBeGreaterThan(0);
    expect(new Set(verified)).toEqual(new Set([0]));
  });

  it("messages, tool calls, usage and cost were visible while it worked", () => {
    expect(seenLive).toEqual(expect.arrayContaining(["message", "tool.started", "tool.finished", "usage"]));
    expect(task.usage.turns).toBe(TURNS.length);
    expect(Math.abs(task.usage.usd - fake.spentUsd())).toBeLessThanOrEqual(fake.spentUsd() / 100);
  });

  it("the rows agree with the log", () => {
    const db = new Database(join(dir, "data", "slipway.db"), { readonly: true });
    const calls = db.prepare("SELECT id, name FROM tool_calls WHERE task_id = ? ORDER BY rowid").all(id) as {
      id: string;
      name: string;
    }[];
    const messages = db.prepare("SELECT id FROM messages WHERE task_id = ?").pluck().all(id) as string[];
    const transcript = db.prepare("SELECT n FROM transcripts WHERE task_id = ? ORDER BY n").pluck().all(id) as number[];
    db.close();
    const started = events
      .filter(({ type }) => type === "tool.started")
      .map(({ data }) => ({ id: data["id"], name: data["name"] }));
    expect(calls).toEqual(started);
    expect(calls.map(({ name }) => name).slice(0, 6)).toEqual(["glob", "grep", "read", "bash", "edit", "bash"]);
    const said = events.filter(({ type }) => type === "message").map(({ data }) => String(data["id"]));
    expect(messages.toSorted()).toEqual(said.toSorted());
    expect(transcript).toEqual(transcript.map((_, index) => index + 1));
  });

  it("the real key is only in the coordinator", () => {
    expect(inspected).not.toContain(KEY);
    expect(JSON.stringify(events)).not.toContain(KEY);
    for (const root of [join(dir, "data"), upstream.root])
      for (const name of readdirSync(root, { recursive: true, encoding: "utf8" })) {
        const path = join(root, name);
        if (statSync(path).isFile() && statSync(path).size < 2 ** 26)
          expect([name, readFileSync(path).includes(KEY)]).toEqual([name, false]);
      }
  });
});
