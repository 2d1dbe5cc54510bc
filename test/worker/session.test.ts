/**
 * What the harness gives to an agent, tried by agents of a few lines on real parts: broker,
 * checkout, tools.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { WorkerSpec } from "../../src/core/protocol/worker.ts";
import { AgentFailure, type Agent, type AgentContext } from "../../worker/agents/agent.ts";
import { Checkout, prepareRepository } from "../../worker/workspace/checkout.ts";
import { systemClock } from "../../src/core/lib/system-clock.ts";
import { openForwarder } from "../../worker/connection/forward.ts";
import { HttpLink } from "../../worker/connection/http-link.ts";
import { Journal } from "../../worker/connection/journal.ts";
import { openMcp } from "../../worker/mcp/client.ts";
import { runAttempt } from "../../worker/run.ts";
import { createTools } from "../../worker/tools/toolbox.ts";
import { Rig } from "./rig.ts";

let rig: Rig;
beforeEach(() => {
  rig = new Rig();
});
afterEach(async () => {
  await rig.close();
});

const DONE = { title: "Done", summary: "It is done." };

/** A whole attempt with this agent, in this process. @returns the worker's exit code. */
async function attempt(run: (context: AgentContext) => Promise<void>, spec: Partial<WorkerSpec> = {}): Promise<number> {
  rig.workerApi.overrides = { ...spec, agent: "probe" };
  const { attempt: number, taskId } = rig.workerApi;
  const { socketDir, token } = await rig.broker.open(taskId, number);
  const socketPath = join(socketDir, "b.sock");
  const forwarder = await openForwarder(socketPath);
  const url = `http://127.0.0.1:${forwarder.port}`;
  const [root, stateDir] = [rig.workspace, rig.state];
  const link = new HttpLink({
    socketPath,
    token,
    attempt: number,
    journal: new Journal(stateDir, number),
    clock: systemClock,
  });
  const agent: Agent = { run: async (context) => (await run(context), DONE) };
  const authorization = `Basic ${Buffer.from(`worker:${token}`).toString("base64")}`;
  let ids = 0;
  try {
    return await runAttempt({
      link,
      workspace: new Checkout({
        root,
        stateDir,
        repository: prepareRepository(root, stateDir),
        url: `${url}/git/repo.git`,
        authorization,
      }),
      tools: createTools(root, join(stateDir, "jobs"), { PROBE_TOKEN: token }),
      agents: { probe: agent },
      openMcp: async (servers, stop) => await openMcp(servers, { root, env: {}, proxy: null }, stop),
      clock: systemClock,
      model: { baseURL: `${url}/anthropic`, token },
      newId: (prefix) => `${prefix}_${(ids += 1)}`,
      signal: new AbortController().signal,
    });
  } finally {
    await link.close();
    await forwarder.close();
  }
}

test("[O5] servers of tools of the task are there for the agent, those that are not are notices, and none outlives it", async () => {
  const mcpServers = {
    calc: { command: process.execPath, args: [join(import.meta.dirname, "mcp/server.mjs"), "", "sleep 76.9"] },
    gone: { command: "no-such" },
  };
  let sum = "";
  const code = await attempt(
    async (context) => {
      expect(context.toolSchemas.map(({ name }) => name)).toContain("mcp__calc__add");
      sum = (await context.tool("mcp__calc__add", { a: 2, b: 3 })).output;
    },
    { mcpServers },
  );
  expect([code, sum]).toEqual([0, "5"]);
  expect(rig.workerApi.of("notice").map(({ data }) => data["code"])).toEqual(["mcp_problem"]);
  expect(spawnSync("pgrep", ["-f", "sleep 76\\.9"]).status).toBe(1);
});

describe("verification", () => {
  test("an agent sees exit codes, repairs, sees them again; the harness proves it once more, and all of it is told", async () => {
    const seen: (number | null)[] = [];
    const verify = ["grep -q fixed a.txt", "test -f a.txt"];
    const code = await attempt(
      async (context) => {
        const first = await context.verify();
        expect(first.map(({ command }) => command)).toEqual(verify);
        seen.push(...first.map(({ exitCode }) => exitCode));
        await context.tool("bash", { command: "echo fixed > a.txt" });
        seen.push(...(await context.verify()).map(({ exitCode }) => exitCode));
      },
      { verify },
    );
    expect([code, seen]).toEqual([0, [1, 0, 0, 0]]);
    expect(rig.workerApi.of("verify").map(({ data }) => data["exitCode"])).toEqual([1, 0, 0, 0, 0, 0]);
    expect(String(rig.workerApi.of("finished")[0]?.data["summary"])).toContain("`grep -q fixed a.txt`: passed");
  });

  test("the harness says what failed, whatever the agent believes; without commands there is nothing to say", async () => {
    await attempt(async (context) => void (await context.tool("bash", { command: "true" })), { verify: ["exit 3"] });
    expect(String(rig.workerApi.of("finished")[0]?.data["summary"])).toContain("failed (exit code 3)");
    rig.workerApi.next();
    let found: unknown = null;
    await attempt(async (context) => void (found = await context.verify()));
    expect(found).toEqual([]);
  });
});

describe("[G5] the budget", () => {
  test("an agent waits for the decision: its work is saved first, and waiting is no working time", async () => {
    rig.workerApi.standing = { state: "asked", questionId: "budget_usd_1" };
    let decided = "";
    const running = attempt(
      async (context) => {
        await context.tool("bash", { command: "echo half > half.txt" });
        context.mark("7");
        decided = await context.budgetQuestion();
      },
      { wallMs: 1_500 },
    );
    await rig.workerApi.until(() => rig.workerApi.of("checkpoint").some(({ data }) => data["cursor"] === "7"));
    await systemClock.sleep(1_600);
    rig.workerApi.command({ type: "answer", questionId: "q_other", text: "stop" });
    rig.workerApi.command({ type: "answer", questionId: "budget_usd_1", text: "continue" });
    expect([await running, decided]).toEqual([0, "continue"]);
    expect(rig.workerApi.of("failed")).toEqual([]);
  });

  test("`stop`, by a person or by a day's budget, ends the attempt with its own code", async () => {
    const stop = async (context: AgentContext): Promise<void> => {
      if ((await context.budgetQuestion()) === "stop")
        throw new AgentFailure("budget_exceeded", "The budget is used up.");
    };
    rig.workerApi.standing = { state: "stop", reason: "Your budget for today is used up." };
    expect(await attempt(stop)).toBe(0);
    rig.workerApi.next();
    rig.workerApi.standing = { state: "asked", questionId: "budget_turns_2" };
    rig.workerApi.command({ type: "answer", questionId: "budget_turns_2", text: "stop" });
    expect(await attempt(stop)).toBe(0);
    expect(rig.workerApi.of("failed").map(({ data }) => data["code"])).toEqual(["budget_exceeded", "budget_exceeded"]);
  });

  test("[G6] four fifths of the time are told once", async () => {
    const near = () => rig.workerApi.of("notice").filter(({ data }) => data["code"] === "budget_near");
    rig.workerApi.standing = { state: "continue" };
    await attempt(
      async (context) => {
        await context.sleep(1_300);
        await context.budgetQuestion();
        await context.sleep(1_300);
      },
      { wallMs: 3_000 },
    );
    expect(near()).toHaveLength(1);
    expect(String(near()[0]?.data["text"])).toMatch(/ of 0\.1 minutes are used/);
  });
});

test("what the repository wants an agent to know is there: at the beginning, and where a folder is touched", async () => {
  await rig.close();
  rig = new Rig({ "AGENTS.md": "Use tabs.\n", "lib/AGENTS.md": "Keep it small.\n", "lib/a.js": "1\n" });
  let seen: string[] = [];
  await attempt(async (context) => {
    const outputs = [];
    for (const path of ["AGENTS.md", "lib/a.js", "lib/a.js"])
      outputs.push((await context.tool("read", { path })).output);
    seen = [context.instructions, ...outputs];
  });
  expect(seen.map((text) => [text.includes("Use tabs."), text.includes("Keep it small.")])).toEqual([
    [true, false],
    [true, false],
    [false, true],
    [false, false],
  ]);
});

describe("memory and model", () => {
  test("[X2] the next attempt finds what the last one wrote down, though that one died", async () => {
    await attempt(async (context) => {
      await context.transcript.append({ role: "user", text: "one" });
      await context.transcript.append({ role: "assistant", text: "two" });
      throw new AgentFailure("agent_error", "lost");
    });
    rig.workerApi.next();
    let found: unknown = null;
    await attempt(async (context) => void (found = context.transcript.records));
    expect(found).toEqual([
      { attempt: 1, data: { role: "user", text: "one" } },
      { attempt: 1, data: { role: "assistant", text: "two" } },
    ]);
  });

  test("a model is there exactly where the installation has one", async () => {
    const models: unknown[] = [];
    const look = async (context: AgentContext): Promise<void> => void models.push(context.model?.baseURL ?? null);
    await attempt(look, { gateway: "none" });
    rig.workerApi.next();
    await attempt(look, { gateway: "open" });
    expect(models).toEqual([null, expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+\/anthropic$/)]);
  });

  test("the attempt's token is in nothing that a tool brings back", async () => {
    let output = "";
    await attempt(
      async (context) => void (output = (await context.tool("bash", { command: "echo $PROBE_TOKEN" })).output),
    );
    expect(output).toContain("[attempt token]");
    expect(JSON.stringify(rig.workerApi.events)).not.toContain("att_");
  });
});
