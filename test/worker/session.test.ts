/**
 * The agent's context, used by small test agents on real parts: broker, checkout, tools.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, vi } from "vitest";
import { startFakeModel } from "../../src/broker/model/fake/server.ts";
import { SETUP_FOLDER, type WorkerSpec } from "../../src/core/protocol/worker.ts";
import { createModelAgent } from "../../worker/agents/anthropic/agent.ts";
import { AgentFailure, WorkerExit, type Agent, type AgentContext } from "../../worker/agents/agent.ts";
import { Checkout, prepareRepository } from "../../worker/workspace/checkout.ts";
import { systemClock } from "../../src/core/lib/runtime/system-clock.ts";
import type { Clock } from "../../src/core/ports/runtime.ts";
import { openForwarder } from "../../worker/connection/forwarding/forward.ts";
import { HttpLink } from "../../worker/connection/http-link.ts";
import { Journal } from "../../worker/connection/journal.ts";
import { openMcp } from "../../worker/mcp/client.ts";
import { runAttempt } from "../../worker/run.ts";
import { CommandVariables } from "../../worker/tools/shell/variables.ts";
import { createTools } from "../../worker/tools/toolbox.ts";
import { Rig } from "./rig.ts";
import { inTurn } from "../support/vitest/full-run.ts";
import { isAnyLeft } from "../support/process/running.ts";

const it = inTurn(3);

let rig: Rig;
beforeEach(async () => {
  rig = await Rig.open();
});
afterEach(async () => {
  await rig.close();
});

const DONE = { title: "Done", summary: "It is done." };

/** Runs a whole attempt with this agent in this process and returns the worker's exit code. */
async function attempt(
  run: (context: AgentContext) => Promise<void>,
  spec: Partial<WorkerSpec> = {},
  clock = systemClock,
): Promise<number> {
  return await runAgent({ run: async (context) => (await run(context), DONE) }, spec, undefined, clock);
}

/** The real clock, which can be put forward: a sleep whose time has passed by that ends. */
function createLeapingClock() {
  let ahead = 0;
  const monotonic = (): number => systemClock.monotonic() + ahead;
  const clock: Clock = {
    ...systemClock,
    monotonic,
    async sleep(ms, signal) {
      const until = monotonic() + ms;
      for (let left = ms; left > 0; left = until - monotonic()) await systemClock.sleep(Math.min(left, 20), signal);
    },
  };
  return { clock, leap: (ms: number): void => void (ahead += ms) };
}

/** @param model the address of a fake model, in place of the broker's gateway. */
async function runAgent(
  agent: Agent,
  spec: Partial<WorkerSpec>,
  model?: { readonly baseURL: string; readonly token: string },
  clock = systemClock,
): Promise<number> {
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
      attachmentDir: join(stateDir, "attachments"),
      home: rig.home,
      stateDir,
      tools: createTools(root, join(stateDir, "jobs"), { PROBE_TOKEN: token }),
      agents: { probe: agent },
      variables: new CommandVariables({}),
      openMcp: async (servers, stop) => await openMcp(servers, { root, env: {}, proxy: null }, stop),
      clock,
      model: model ?? { baseURL: `${url}/anthropic`, token },
      newId: (prefix) => `${prefix}_${(ids += 1)}`,
      signal: new AbortController().signal,
    });
  } finally {
    await link.close();
    await forwarder.close();
  }
}

it("[O5] the task's MCP servers run for the agent, failing ones become notices, and none outlives the attempt", async () => {
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
  expect(isAnyLeft("sleep 76.9")).toBe(false);
});

describe("verification", () => {
  it("the agent gets the exit codes, repairs and checks again; the harness verifies once more, and each check is an event", async () => {
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

  it("the harness reports failing checks itself; without commands it reports nothing", async () => {
    await attempt(async (context) => void (await context.tool("bash", { command: "true" })), { verify: ["exit 3"] });
    expect(String(rig.workerApi.of("finished")[0]?.data["summary"])).toContain("failed (exit code 3)");
    rig.workerApi.next();
    let found: unknown = null;
    await attempt(async (context) => void (found = await context.verify()));
    expect(found).toEqual([]);
  });
});

describe("[G5] the budget", () => {
  it("the work is saved before the wait for the decision, and the wait does not count as working time", async () => {
    rig.workerApi.standing = { state: "asked", questionId: "budget_usd_1" };
    const { clock, leap } = createLeapingClock();
    const wallMs = 600_000;
    let decided = "";
    const running = attempt(
      async (context) => {
        await context.tool("bash", { command: "echo half > half.txt" });
        context.mark("7");
        decided = await context.budgetQuestion();
      },
      { wallMs },
      clock,
    );
    await rig.workerApi.until(() => rig.workerApi.of("checkpoint").some(({ data }) => data["cursor"] === "7"));
    leap(wallMs);
    await systemClock.sleep(100);
    rig.workerApi.command({ type: "answer", questionId: "q_other", text: "stop" });
    rig.workerApi.command({ type: "answer", questionId: "budget_usd_1", text: "continue" });
    expect([await running, decided]).toEqual([0, "continue"]);
    expect(rig.workerApi.of("failed")).toEqual([]);
  });

  it("`stop`, by a person or by the budget of the day, ends the attempt with its own code", async () => {
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

  it("[A6] a message that interrupts ends the running command, whose output so far is the result", async () => {
    let result: unknown = null;
    let heard: unknown = null;
    const exit = attempt(async (context) => {
      result = await context.tool("bash", { command: "echo begun; sleep 300; echo ended" });
      heard = [context.isInterrupted, await context.receiveMessages("step"), context.isInterrupted];
    });
    await rig.workerApi.until(() => rig.workerApi.deltas.some(({ text }) => text.includes("begun")));
    rig.workerApi.command({ type: "message", messageId: "m_1", text: "Wait.", mode: "steer", interrupt: true });
    expect(await exit).toBe(0);
    expect(result).toMatchObject({ output: expect.stringMatching(/^begun\n[^]*a person interrupted/), exitCode: null });
    expect(heard).toEqual([true, [{ id: "m_1", text: "Wait." }], false]);
  });

  it("[F4] the output of a running command is streamed in whole lines, without the token", async () => {
    const gate = (name: string): string => join(rig.dir, name);
    const untilGate = (name: string): string => `until [ -e ${gate(name)} ]; do sleep 0.05; done`;
    const running = attempt(
      async (context) => {
        const token = context.model?.token ?? "none";
        const parts = ["echo one; printf 'tw'", `echo "o ${token}"`, "seq 1 3000"];
        const command = parts.flatMap((part, i) => [part, untilGate(`gate-${i}`)]).join("; ");
        await context.tool("bash", { command });
      },
      { gateway: "open" },
    );
    const pieces = (): string[] => {
      const started = rig.workerApi.of("tool.started")[0]?.data["id"];
      return rig.workerApi.deltas.filter(({ messageId }) => messageId === started).map(({ text }) => text);
    };
    for (const [i, end] of ["one\n", "two [attempt token]\n", "\n3000\n"].entries()) {
      await rig.workerApi.until(() => pieces().join("").endsWith(end));
      writeFileSync(gate(`gate-${i}`), "");
    }
    await running;
    const text = pieces().join("");
    expect(text).toMatch(/^one\ntwo \[attempt token\]\n/);
    expect(text).toContain("\n3000\n");
    expect(text.length).toBeLessThan(6_000);
    expect(pieces().every((piece) => piece.endsWith("\n"))).toBe(true);
  });

  it("[G6] one notice is emitted when four fifths of the time are used", async () => {
    const near = () => rig.workerApi.of("notice").filter(({ data }) => data["code"] === "budget_near");
    rig.workerApi.standing = { state: "continue" };
    await attempt(
      async (context) => {
        await context.sleep(1_500);
        await context.budgetQuestion();
        await rig.workerApi.until(() => near().length > 0);
        // The clock of the attempt stops and continues: the warning is not repeated.
        await context.budgetQuestion();
        await context.sleep(100);
      },
      { wallMs: 5_000 },
    );
    expect(near()).toHaveLength(1);
    expect(String(near()[0]?.data["text"])).toBe("4 of 5 seconds are used.");
  });
});

it("the repository's instructions are in the context, those of a folder in the first result below it", async () => {
  await rig.close();
  rig = await Rig.open({ "AGENTS.md": "Use tabs.\n", "lib/AGENTS.md": "Keep it small.\n", "lib/a.js": "1\n" });
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

describe("a setup that fails", () => {
  const FAILING = { setup: [{ command: "echo no compiler; exit 3", timeoutMs: 10_000 }] };
  const FINISH = { name: "finish", input: { title: "Done", summary: "It is done." } };
  const closers: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const close of closers.splice(0)) await close();
  });

  it("reaches the agent as a note; the prompt stays as it was given", async () => {
    let seen: unknown = null;
    await attempt(async ({ spec, notes }) => void (seen = { prompt: spec.prompt, notes }), FAILING);
    expect(seen).toEqual({ prompt: "Do the work", notes: [expect.stringContaining("no compiler")] });
    rig.workerApi.next();
    await attempt(async ({ notes }) => void (seen = notes), { notes: ["From the coordinator."] });
    expect(seen).toEqual(["From the coordinator."]);
  });

  it("is the same note for a worker that restarts within the attempt", async () => {
    const coloured = { setup: [{ command: "printf '\\033[31mno compiler\\033[0m'; exit 3", timeoutMs: 10_000 }] };
    const seen: (readonly string[])[] = [];
    const exit = attempt(async ({ notes }) => {
      seen.push(notes);
      throw new WorkerExit(7);
    }, coloured);
    expect(await exit).toBe(7);
    await attempt(async ({ notes }) => void seen.push(notes), coloured);
    expect(rig.workerApi.of("tool.started")).toHaveLength(1);
    expect(seen[0]).toEqual([expect.stringContaining("no compiler")]);
    expect(seen[1]).toEqual(seen[0]);
  });

  /** Two attempts: the first ends after one turn, the second continues its conversation. */
  async function twoAttempts(first: Partial<WorkerSpec>, second: Partial<WorkerSpec>): Promise<string> {
    const turns = [{ tools: [{ name: "read", input: { path: "a.txt" } }] }, { tools: [FINISH] }];
    const fake = await startFakeModel({ scenarios: { default: { turns } }, apiKey: "att_key" });
    closers.push(() => fake.close());
    const model = { baseURL: fake.url, token: "att_key" };
    expect(await runAgent(createModelAgent({ turns: 1 }), { ...first, gateway: "open" }, model)).toBe(0);
    expect(rig.workerApi.of("failed")).toHaveLength(1);
    rig.workerApi.next();
    expect(await runAgent(createModelAgent(), { ...second, gateway: "open" }, model)).toBe(0);
    expect(rig.workerApi.of("finished")).toHaveLength(1);
    return JSON.stringify(fake.requests().at(-1)?.request.messages);
  }

  it("is reported to the model by the next attempt too, when only that one's setup failed", async () => {
    expect(await twoAttempts({}, FAILING)).toContain("no compiler");
  });

  it("is withdrawn by the next attempt, when that one's setup passes", async () => {
    const text = await twoAttempts(FAILING, {});
    expect(text).toContain("no compiler");
    expect(text).toContain("no longer apply");
  });

  it("is reported once, when both attempts fail alike", async () => {
    expect((await twoAttempts(FAILING, FAILING)).split("ended with exit code 3")).toHaveLength(2);
  });
});

describe("transcript and model", () => {
  it("[X2] the next attempt gets the records of an attempt that failed", async () => {
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

  it("the context has a model exactly when the installation has a gateway", async () => {
    const models: unknown[] = [];
    const look = async (context: AgentContext): Promise<void> => void models.push(context.model?.baseURL ?? null);
    await attempt(look, { gateway: "none" });
    rig.workerApi.next();
    await attempt(look, { gateway: "open" });
    expect(models).toEqual([null, expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+\/anthropic$/)]);
  });

  it("the attempt's token is removed from the output of tools", async () => {
    let output = "";
    await attempt(
      async (context) => void (output = (await context.tool("bash", { command: "echo $PROBE_TOKEN" })).output),
    );
    expect(output).toContain("[attempt token]");
    expect(JSON.stringify(rig.workerApi.events)).not.toContain("att_");
  });
});

describe("a setup whose results are kept", () => {
  const MAKE =
    'mkdir -p ignored && echo made > ignored/a && echo tool > "$HOME/tool" && echo ran >> "$HOME/../../runs"';
  const SPEC = { setup: [{ command: MAKE, timeoutMs: 10_000 }], setupCache: 1 };
  const runs = (): number =>
    existsSync(join(rig.dir, "runs")) ? readFileSync(join(rig.dir, "runs"), "utf8").trim().split("\n").length : 0;
  const made = (): string[] =>
    [join(rig.workspace, "ignored/a"), join(rig.home, "tool")].map((path) => readFileSync(path, "utf8"));
  const detail = (): unknown =>
    rig.workerApi
      .of("task.step")
      .filter(({ data }) => data["name"] === "setup")
      .at(-1)?.data["detail"];

  /** @param spoil changes what is kept before the next attempt. */
  async function runTwice(spoil: () => void = () => undefined): Promise<void> {
    vi.stubEnv("HOME", rig.home);
    mkdirSync(rig.home, { recursive: true });
    await attempt(async () => undefined, SPEC);
    expect([runs(), detail()]).toEqual([1, "kept for later tasks"]);
    spoil();
    rig.workerApi.next();
    vi.stubEnv("HOME", rig.home);
    mkdirSync(rig.home, { recursive: true });
    await attempt(async () => undefined, SPEC);
    expect(made()).toEqual(["made\n", "tool\n"]);
  }
  afterEach(() => vi.unstubAllEnvs());

  it("[C1] is restored beside what the commit has, and does not run again", async () => {
    await runTwice();
    expect(runs()).toBe(1);
    expect(detail()).toMatch(/^from the cache of 2023-11-14T22:13:20.000Z; not run: mkdir/);
    expect(readFileSync(join(rig.workspace, "a.txt"), "utf8")).toBe("one\ntwo\nthree\n");
  });

  it.each([
    ["is cut off", (): void => void (rig.workerApi.setupBreaks = true)],
    ["is no archive", (): void => void (rig.workerApi.setup = Buffer.alloc(50_000, 7))],
  ])("[C3] one that %s is removed again, and the commands run", async (_what, spoil) => {
    await runTwice(spoil);
    expect(runs()).toBe(2);
    expect(rig.workerApi.of("notice").some(({ data }) => data["code"] === "setup_cache")).toBe(true);
  });

  /** A workspace like one that began as a copy; `onDisk` is in it. */
  function copyDisk(onDisk: Readonly<Record<string, string>>): void {
    const folder = join(rig.workspace, SETUP_FOLDER);
    for (const [path, content] of Object.entries(onDisk)) {
      mkdirSync(join(folder, "workspace", path, ".."), { recursive: true });
      writeFileSync(join(folder, "workspace", path), content);
    }
    const seed = mkdtempSync(join(rig.dir, "seed-"));
    mkdirSync(join(seed, "home"));
    writeFileSync(join(seed, "home/tool"), "tool\n");
    execFileSync("tar", ["-c", "-f", join(folder, "home.tar"), "-C", seed, "home/tool"]);
    rig.workerApi.isSetupOnDisk = true;
  }

  it("[C4] is moved into place where the workspace began as a copy of its disk; what the commit has stays", async () => {
    await runTwice(() => {
      rig.workerApi.attempt += 1;
      copyDisk({ "ignored/a": "made\n", "a.txt": "other\n" });
      rig.workerApi.attempt -= 1;
    });
    expect(runs()).toBe(1);
    expect(detail()).toMatch(/^from the cache of 2023/);
    expect(readFileSync(join(rig.workspace, "a.txt"), "utf8")).toBe("one\ntwo\nthree\n");
    expect(existsSync(join(rig.workspace, SETUP_FOLDER))).toBe(false);
  });

  it("[C4] a disk that began empty after all is made by the commands, and one that nobody asks for is emptied", async () => {
    await runTwice(() => void (rig.workerApi.isSetupOnDisk = true));
    expect(runs()).toBe(2);
    rig.workerApi.next();
    copyDisk({ "ignored/a": "old\n" });
    rig.workerApi.setup = null;
    await attempt(async () => undefined, { setup: [{ command: "ls -a", timeoutMs: 10_000 }] });
    expect(rig.workerApi.of("tool.finished").at(-1)?.data["output"]).not.toContain(SETUP_FOLDER);
    expect(existsSync(join(rig.workspace, "ignored"))).toBe(false);
  });

  it("[C3] a worker that was killed in its setup neither uses nor saves one", async () => {
    vi.stubEnv("HOME", rig.home);
    mkdirSync(rig.state, { recursive: true });
    mkdirSync(rig.home, { recursive: true });
    writeFileSync(join(rig.state, "setup-begun"), "");
    await attempt(async () => undefined, SPEC);
    expect([runs(), detail(), rig.workerApi.setup]).toEqual([1, null, null]);
  });
});
