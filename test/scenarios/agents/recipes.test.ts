/**
 * The recipes of docs/agents.md on the real npm packages, in a container behind a real server and
 * its gateway, with the fake model: a whole task to a pushed branch, with a budget question, a kill
 * and a message in the middle. It downloads several hundred megabytes, so it is asked for with
 * SLIPWAY_RECIPES=1; where the packages cannot be installed, the suite is skipped by name.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { deriveInstanceId } from "../../../src/core/lib/runtime/instance-id.ts";
import type { Turn } from "../../../src/broker/model/fake/scenario.ts";
import { startFakeModel, type FakeModel, type ServedRequest } from "../../../src/broker/model/fake/server.ts";
import { sandboxName } from "../../../src/core/task.ts";
import type { WireEvent } from "../../../src/core/protocol/events.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { openEngine } from "../../../src/sandbox/docker/engine.ts";
import { openWorkerImage } from "../../../src/sandbox/docker/image/worker-image.ts";
import Database from "../../../src/store/sqlite/driver.ts";
import { disksDir, removeRemains } from "../../support/docker/cleanup.ts";
import { dockerAvailable, dockerClient } from "../../support/docker/engine.ts";
import { dropImage } from "../../support/docker/images.ts";
import { startGitServer, type GitServer } from "../../support/git-server.ts";
import { eventually, ROOT, startServer, type RealServer } from "../../support/process/server.ts";

const KEY = "sk-real-key-of-the-server-0123456789";
const PACKAGES = ["@agentclientprotocol/claude-agent-acp@0.101.0", "opencode-ai@1.18.33"];
/** Kept between runs: the packages are several hundred megabytes. */
const PREFIX = join(tmpdir(), "slipway-recipes", PACKAGES.join("+").replaceAll(/[^\w.+-]/g, "_"));
const IMAGE = `slipway-test-recipes:${process.pid}`;
const OPENCODE = {
  autoupdate: false,
  share: "disabled",
  enabled_providers: ["anthropic"],
  permission: "allow",
  provider: {
    anthropic: { options: { baseURL: "{env:ANTHROPIC_BASE_URL}/v1", apiKey: "{env:ANTHROPIC_API_KEY}" } },
  },
};
const MODULES = "/opt/recipes/node_modules";
const CLAUDE = `${MODULES}/@anthropic-ai/claude-agent-sdk-linux-x64/claude`;
const AGENTS = {
  claude: { protocol: "acp", command: `node ${MODULES}/@agentclientprotocol/claude-agent-acp/dist/index.js` },
  opencode: { protocol: "acp", command: `${MODULES}/opencode-linux-x64/bin/opencode acp` },
  "claude-once": {
    protocol: "exec",
    command: `${CLAUDE} -p --dangerously-skip-permissions --output-format stream-json --verbose`,
    output: "stream-json",
  },
};

/** Why the recipes cannot run here; null = they can. */
function whyNot(): string | null {
  if (process.env["SLIPWAY_RECIPES"] !== "1") return "SLIPWAY_RECIPES is not 1";
  if (!dockerAvailable()) return "no Docker engine";
  if (existsSync(join(PREFIX, "complete"))) return null;
  try {
    const args = ["install", "--prefix", PREFIX, "--no-save", "--ignore-scripts", "--no-audit", "--no-fund"];
    execFileSync("npm", [...args, ...PACKAGES], { stdio: "pipe", timeout: 300_000 });
    writeFileSync(join(PREFIX, "complete"), "");
    return null;
  } catch (error) {
    return `the npm packages cannot be installed: ${String(error).split("\n", 1)[0]}`;
  }
}

function buildImage(base: string): void {
  writeFileSync(join(PREFIX, "opencode.json"), JSON.stringify(OPENCODE));
  const dockerfile = [
    `FROM ${base}`,
    "USER 0",
    "COPY node_modules /opt/recipes/node_modules",
    "COPY opencode.json /etc/opencode.json",
    "ENV OPENCODE_CONFIG=/etc/opencode.json DISABLE_TELEMETRY=1 CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 \\",
    "    CLAUDE_CODE_ENABLE_PROMPT_SUGGESTION=false CLAUDE_CODE_DISABLE_TERMINAL_TITLE=1",
    "ENTRYPOINT []",
  ];
  writeFileSync(join(PREFIX, "Dockerfile"), dockerfile.join("\n"));
  execFileSync("docker", ["build", "-q", "-t", IMAGE, PREFIX], { stdio: "pipe" });
}

const missing = whyNot();

describe.runIf(missing === null)(
  `[O6] [O11] [O12] recipes of real programs${missing === null ? "" : ` (skipped: ${missing})`}`,
  { timeout: 400_000 },
  () => {
    let dir: string;
    let upstream: GitServer;
    let fake: FakeModel;
    let server: RealServer;
    let url: string;

    const shell = (name: string, command: string, say: string): Turn => ({
      say,
      tools: [{ name, input: { command, description: say } }],
    });
    // A turn is chosen by the number of answers in the conversation, which may grow by one when a
    // program closes the call that the kill interrupted.
    const turns = (name: string): Turn[] => [
      shell(name, "echo one > one.txt", "I write one.txt."),
      shell(name, "echo two > two.txt; until [ -e /tmp/two ]; do sleep 0.2; done", "I write two.txt."),
      shell(name, "echo three > three.txt; until [ -e /tmp/three ]; do sleep 0.2; done", "I write three.txt."),
      shell(name, "echo three > three.txt; until [ -e /tmp/three ]; do sleep 0.2; done", "I write three.txt."),
      { say: "Wrote the three files." },
    ];

    beforeAll(async () => {
      const source = { dockerfile: join(ROOT, "Dockerfile"), workerFile: join(ROOT, "dist/worker.mjs") };
      const own = openWorkerImage(openEngine({}), source);
      await own.prepare(() => undefined, new AbortController().signal);
      buildImage(await own.name());
      dir = mkdtempSync(join(tmpdir(), "slipway-recipes-"));
      upstream = await startGitServer();
      ({ url } = upstream.createRepo("app", { "README.md": "# App\n" }));
      fake = await startFakeModel({
        scenarios: {
          default: { turns: [{ say: "A title" }], afterwards: "again" },
          upper: { turns: turns("Bash"), afterwards: "again" },
          lower: { turns: turns("bash"), afterwards: "again" },
          once: { turns: [shell("Bash", "echo one > one.txt", "I write one.txt."), { say: "Wrote one.txt." }] },
        },
        apiKey: KEY,
      });
      writeFileSync(join(dir, "agents.json"), JSON.stringify(AGENTS));
      server = await startServer({
        dataDir: join(dir, "data"),
        sandbox: "docker",
        policy: { backoffMs: 100, backoffCapMs: 200 },
        env: {
          SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host,
          SLIPWAY_IMAGES: "slipway-test-recipes:*",
          SLIPWAY_AGENTS_FILE: join(dir, "agents.json"),
          SLIPWAY_WARM: "0",
          ANTHROPIC_API_KEY: KEY,
          ANTHROPIC_BASE_URL: fake.url,
        },
      });
    }, 600_000);
    afterAll(async () => {
      await server.kill("SIGTERM");
      await removeRemains(deriveInstanceId(join(dir, "data")), disksDir(join(dir, "data")));
      const docker = dockerClient();
      const base = await docker.getImage(IMAGE).inspect();
      for (const image of await docker.listImages())
        if (image.Labels?.["slipway.base"] === base.Id) await dropImage(image.Id);
      await dropImage(IMAGE);
      await fake.close();
      await upstream.close();
      rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
    });

    async function submit(agent: string, prompt: string, budget: object): Promise<string> {
      const task = { repo: url, prompt, agent, image: IMAGE, budget };
      const { status, body } = await server.call("POST", "/v1/tasks", task);
      expect(status, JSON.stringify(body)).toBe(201);
      return (body as WireTask).id;
    }
    const settled = (id: string): Promise<WireTask> =>
      eventually(async () => {
        const task = await server.task(id);
        return task.settledAt === null ? null : task;
      }, `task ${id} settles`);
    const event = (id: string, what: string, test: (event: WireEvent) => boolean): Promise<WireEvent> =>
      eventually(async () => (await server.events(id)).find(test) ?? null, what);
    const runs = (id: string, command: string): Promise<WireEvent> =>
      event(
        id,
        `${command} runs`,
        ({ type, data }) => type === "tool.started" && JSON.stringify(data["input"]).includes(command),
      );
    const release = (id: string, attempt: number, file: string): Promise<true> =>
      eventually(async () => {
        try {
          execFileSync("docker", ["exec", sandboxName(id, attempt), "touch", file], { stdio: "pipe" });
          return true;
        } catch {
          return null;
        }
      }, `attempt ${attempt} has a container`);
    /** How often the program's own conversation was saved. */
    const countSaves = (id: string): number => {
      const db = new Database(join(dir, "data", "slipway.db"), { readonly: true });
      const records = db.prepare("SELECT record FROM transcripts WHERE task_id = ?").pluck().all(id) as string[];
      db.close();
      return records.filter((record) => record.includes('"program.session"')).length;
    };
    const textOf = ({ request }: ServedRequest): string => JSON.stringify(request.messages);

    it.each([
      ["claude", "upper", false],
      ["opencode", "lower", true],
    ])("%s: a budget question, a kill, a message, a pushed branch", async (agent, scenario, writesWhileToolRuns) => {
      const before = fake.requests().length;
      const id = await submit(agent, `Write three files. [scenario:${scenario}]`, { usd: 0.005 });
      const question = await event(id, "it asks for more", ({ type }) => type === "question");
      const answer = { questionId: String(question.data["id"]), text: "$5" };
      expect((await server.call("POST", `/v1/tasks/${id}/answer`, answer)).status).toBeLessThan(300);
      const second = await runs(id, "two.txt");
      expect(second.data).toMatchObject({ name: expect.stringMatching(/^bash$/i) });
      const saves = writesWhileToolRuns ? countSaves(id) : 0;
      const hasBoth = ({ type, seq, data }: WireEvent): boolean =>
        type === "checkpoint" && seq > second.seq && Number(data["files"]) >= 2;
      await event(id, "both files are saved", hasBoth);
      await eventually(async () => (countSaves(id) > saves ? true : null), "its conversation is saved");
      execFileSync("docker", ["kill", sandboxName(id, 1)]);
      await release(id, 2, "/tmp/two");
      await runs(id, "three.txt");
      const message = { text: "Mind the fourth file.", mode: "steer" };
      expect((await server.call("POST", `/v1/tasks/${id}/messages`, message)).status).toBeLessThan(300);
      await eventually(
        async () => (fake.requests().some((one) => textOf(one).includes("Mind the fourth file.")) ? true : null),
        "the message reaches the model",
      );
      await release(id, 2, "/tmp/three");
      const task = await settled(id);
      expect(task, JSON.stringify(task.failure)).toMatchObject({ state: "done", outcome: "pushed", attempt: 2 });
      for (const name of ["one", "two", "three"])
        expect(upstream.git("app", "show", `${task.branch}:${name}.txt`)).toBe(name);
      // The second attempt continued the program's own conversation.
      const codes = (await server.events(id)).map(({ data }) => data["code"]);
      expect(codes).not.toContain("session_new");
      const requests = fake.requests().slice(before);
      // Requests without tools are for titles.
      const resumed = requests.find(
        (one) => (one.request.tools ?? []).length > 0 && textOf(one).includes("An earlier attempt at this task was"),
      );
      expect(resumed === undefined ? "" : textOf(resumed)).toContain('"input":{"command":"echo one > one.txt"');
    });

    it("claude-once: a command line with stream-json, a pushed branch, its calls and cost", async () => {
      const id = await submit("claude-once", "Write a file. [scenario:once]", { usd: 5 });
      const task = await settled(id);
      expect(task, JSON.stringify(task.failure)).toMatchObject({
        state: "done",
        outcome: "pushed",
      });
      await runs(id, "one.txt");
      expect(task.usage.usd).toBeGreaterThan(0);
    });
  },
);
