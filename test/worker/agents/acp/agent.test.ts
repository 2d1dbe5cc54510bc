/**
 * An agent program behind the harness: a second process that speaks the protocol through the same
 * SDK, with the real broker and checkout.
 */
import { existsSync, readFileSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect } from "vitest";
import { Rig, type Running } from "../../rig.ts";
import { sampled } from "../../../support/random.ts";
import { inTurn } from "../../../support/vitest/full-run.ts";
import { WORKER_ENV, type WorkerSpec } from "../../../../src/core/protocol/worker.ts";
import { isAnyLeft } from "../../../support/process/running.ts";

const it = inTurn(4);

/** Other runs on the machine may have such programs too. */
const OWN = `run-${process.pid}`;
const PROGRAM = `exec ${JSON.stringify(process.execPath)} ${JSON.stringify(join(import.meta.dirname, "program.mjs"))} ${OWN}`;

let rig: Rig;
beforeEach(async () => {
  rig = await Rig.open();
});
afterEach(async () => {
  await rig.close();
});

const use = (lines: readonly string[], spec: Partial<WorkerSpec> = {}): void => {
  rig.workerApi.overrides = {
    agent: "test",
    program: { protocol: "acp", command: PROGRAM },
    prompt: lines.join("\n"),
    ...spec,
  };
};
const start = async (lines: readonly string[], spec: Partial<WorkerSpec> = {}): Promise<Running> => {
  use(lines, spec);
  return await rig.start(null);
};
const run = async (lines: readonly string[], spec: Partial<WorkerSpec> = {}): Promise<number | null> => {
  use(lines, spec);
  return await rig.run(null);
};
const blocks = (): string[] =>
  rig.workerApi
    .of("message")
    .flatMap(({ data }) =>
      (data["content"] as { type: string; text: string }[]).map(({ type, text }) => `${type}: ${text}`),
    );
/** @param dir beside the workspace. */
const prompts = (dir = dirname(rig.workspace)): string[] =>
  readFileSync(join(dir, "prompts.txt"), "utf8")
    .split(/^--- \d+\n/m)
    .slice(1);

it.always(
  "[O6] messages, thinking, plans and tool calls become events; the last message becomes the summary",
  async () => {
    const lines = [
      "think Hm.",
      "say Hello",
      "say  there.",
      "plan",
      "write b.txt=new",
      "fail",
      "open",
      "say I wrote b.txt.",
    ];
    expect(await run(lines)).toBe(0);
    expect(blocks()).toEqual(["thinking: Hm.", "text: Hello there.", "text: I wrote b.txt."]);
    expect(rig.workerApi.of("todo")[0]?.data["items"]).toEqual([
      { text: "Look", status: "completed" },
      { text: "Write", status: "in_progress" },
    ]);
    const started = rig.workerApi.of("tool.started").map(({ data }) => data);
    expect(started.map(({ name }) => name)).toEqual(["edit", "shell", "read"]);
    expect(started[0]?.["input"]).toEqual({ title: "Write b.txt", path: "b.txt" });
    const finished = rig.workerApi.of("tool.finished").map(({ data }) => data);
    expect(finished.map(({ output, exitCode }) => [output, exitCode])).toEqual([
      ["written", 0],
      ['{"why":"no luck"}', 1],
      ["[no end was reported]", null],
    ]);
    expect(finished.map(({ id }) => id)).toEqual(started.map(({ id }) => id));
    expect(await rig.show(rig.finalSha(), "b.txt")).toBe("new");
    expect(rig.workerApi.of("finished")[0]?.data).toMatchObject({ title: "think Hm.", summary: "I wrote b.txt." });
  },
);

it("[O6] a call that is announced before its input is known is emitted once, with its input", async () => {
  await run(["announce"]);
  expect(rig.workerApi.of("tool.started").map(({ data }) => [data["name"], data["input"]])).toEqual([
    ["Bash", { title: "ls -l", command: "ls -l" }],
  ]);
  expect(rig.workerApi.of("tool.finished").map(({ data }) => data["output"])).toEqual(["a.txt"]);
});

it("[O6] a call whose command and title come later is emitted once, with them and the tool's name", async () => {
  await run(["begin npm test", "begin npm run build@700"]);
  expect(rig.workerApi.of("tool.started").map(({ data }) => [data["name"], data["input"]])).toEqual([
    ["bash", { title: "npm test", command: "npm test", cwd: expect.any(String) }],
    ["bash", { title: "npm run build", command: "npm run build", cwd: expect.any(String) }],
  ]);
});

it("[O6] what the program's maker tells its users is a notice", async () => {
  await run(["note We change our prices.", "say Done with the parser."]);
  expect(blocks()).toEqual(["text: Done with the parser."]);
  expect(rig.workerApi.of("notice").map(({ data }) => data["text"])).toContain("We change our prices.");
});

it("[O6] permissions are granted and reported", async () => {
  await run(["permit"]);
  expect(blocks()).toEqual(["text: permission: yes"]);
  expect(rig.workerApi.of("notice").map(({ data }) => data["code"])).toContain("permission_given");
});

it("[O6] a form becomes one question per field; an earlier answer is reused", async () => {
  const running = await start(["ask", "visit"]);
  await rig.workerApi.until(() => rig.workerApi.of("question").length === 1);
  const first = rig.workerApi.of("question")[0]?.data;
  expect(first).toMatchObject({ question: "Which colour?\ncolour", options: ["red", "green"] });
  rig.workerApi.command({ type: "answer", questionId: String(first?.["id"]), text: "green" });
  await rig.workerApi.until(() => rig.workerApi.of("question").length === 2);
  const second = rig.workerApi.of("question")[1]?.data;
  rig.workerApi.command({ type: "answer", questionId: String(second?.["id"]), text: "yes" });
  expect(await running.exit).toBe(0);
  expect(blocks()[0]).toContain('answer: {"action":"accept","content":{"colour":"green","sure":true}}');
  expect(blocks()[0]).toContain("visit: decline");
  rig.workerApi.next();
  const answers = { [String(first?.["id"])]: "red", [String(second?.["id"])]: "no" };
  expect(await run(["ask"], { answers })).toBe(0);
  expect(blocks().at(-1)).toContain('{"colour":"red","sure":false}');
});

it("[O6] the environment holds the gateway's address and the attempt's token as key; without a gateway neither", async () => {
  await run(["env"], { gateway: "open", model: "claude-x" });
  expect(blocks()[0]).toMatch(
    /^text: http:\/\/127\.0\.0\.1:\d+\/anthropic \[attempt token\] claude-x - http:\/\/127\.0\.0\.1:\d+$/,
  );
  rig.workerApi.next();
  await run(["env"], { gateway: "none" });
  expect(blocks().at(-1)).toMatch(/^text: - - - - http/);
});

it("[O6] the program's own cost counts only without a gateway", async () => {
  await run(["usage"], { gateway: "none" });
  expect(rig.workerApi.of("usage").map(({ data }) => data["usd"])).toEqual([0.25, 0.5]);
  rig.workerApi.next();
  await run(["usage"], { gateway: "open" });
  expect(rig.workerApi.of("usage")).toHaveLength(2);
});

it("[O6] a steering message interrupts the turn and starts the next one; a follow-up waits for the end", async () => {
  const running = await start(["write b.txt=1", "wait 60000"]);
  await rig.workerApi.until(() => rig.workerApi.of("tool.finished").length > 0);
  rig.workerApi.command({ type: "message", messageId: "m1", text: "write c.txt=2", mode: "follow_up" });
  rig.workerApi.command({ type: "message", messageId: "m2", text: "write d.txt=3", mode: "steer" });
  expect(await running.exit).toBe(0);
  const [, second = "", third = ""] = prompts();
  expect(second).toContain("write d.txt=3\n\n(You were interrupted");
  expect(third).toContain("write c.txt=2");
  expect(rig.workerApi.of("message.status").map(({ data }) => data["id"])).toEqual(["m2", "m1"]);
  expect(await rig.files(rig.finalSha())).toEqual([".gitignore", "a.txt", "b.txt", "c.txt", "d.txt"]);
});

it("[O6] a message is put into the running turn where the program offers that, unless it interrupts", async () => {
  const program = { protocol: "acp" as const, command: `${PROGRAM} steer` };
  const running = await start(["write b.txt=1", "injected", "wait 60000"], { program });
  await rig.workerApi.until(() => rig.workerApi.of("tool.finished").length > 0);
  rig.workerApi.command({ type: "message", messageId: "m1", text: "Look at c.txt", mode: "steer" });
  await rig.workerApi.until(() => rig.workerApi.deltas.some(({ text }) => text === "steered: Look at c.txt"));
  rig.workerApi.command({ type: "message", messageId: "m2", text: "say stopped", mode: "steer", interrupt: true });
  expect(await running.exit).toBe(0);
  expect(prompts()).toHaveLength(2);
  expect(prompts()[1]).toContain("say stopped");
  expect(rig.workerApi.of("message.status").map(({ data }) => data["id"])).toEqual(["m1", "m2"]);
});

const state = ["memory"];
/** Each attempt has the same folder, as in a container. */
const runAt = async (lines: readonly string[], spec: Partial<WorkerSpec>): Promise<number | null> => {
  const folder = join(rig.dir, "workspace");
  rmSync(folder, { recursive: true, force: true });
  use(lines, spec);
  return await rig.run(null, { [WORKER_ENV.workspace]: folder });
};
const RESUMING: [string, string][] = [
  ["session/resume", "resume"],
  ["session/load, whose repetition is left out", "load"],
];
it.each(sampled(RESUMING, 1))(
  "[O12] a later attempt continues the program's own conversation with %s",
  async (_, word) => {
    const program = { protocol: "acp" as const, command: `${PROGRAM} ${word}`, state };
    await runAt(["say one", "write b.txt=1", "die"], { program });
    expect(rig.workerApi.of("failed")).toHaveLength(1);
    rig.workerApi.next();
    const delivered = [{ id: "m1", text: "Mind the tests." }];
    expect(await runAt(["recall"], { program, delivered, notes: [] })).toBe(0);
    const [, second = ""] = prompts(rig.dir);
    expect(second).toMatch(/^An earlier attempt at this task was interrupted[^]*Mind the tests\.$/m);
    expect(second).not.toContain("done so far");
    expect(blocks().join()).not.toContain("replayed");
  },
);

it("[O12] a conversation that cannot be continued begins again, with what was done", async () => {
  const program = { protocol: "acp" as const, command: `${PROGRAM} resume`, state };
  await runAt(["torn", "say I look at the parser", "write b.txt=1", "die"], { program });
  rig.workerApi.next();
  expect(await runAt(["say two"], { program })).toBe(0);
  expect(prompts(rig.dir)[1]).toMatch(
    /^say two[^]*\[agent\] I look at the parser\n\[action\] edit: Write b\.txt \(done\)/,
  );
  expect(rig.workerApi.of("notice").map(({ data }) => data["text"])).toContainEqual(
    expect.stringContaining("no conversation: torn). It begins a new one"),
  );
});

it("[O12] without saved files, or without the ability, nothing is tried", async () => {
  await runAt(["say one", "die"], { program: { protocol: "acp", command: `${PROGRAM} resume`, state: [] } });
  rig.workerApi.next();
  expect(await runAt(["say two"], { program: { protocol: "acp", command: PROGRAM, state } })).toBe(0);
  expect(prompts(rig.dir)[1]).toContain("[agent] one");
  expect(rig.workerApi.of("notice")).toEqual([]);
});

it("[O6] mode, model and effort are set where they are offered; else people are told", async () => {
  const command = `${PROGRAM} options`;
  const spec = { model: "claude-b", effort: "max" as const };
  await run(["chosen"], { program: { protocol: "acp", command }, ...spec });
  expect(blocks()).toEqual(['text: {"mode":"bypassPermissions","model":"maker/claude-b","effort":"max"}']);
  expect(rig.workerApi.of("notice")).toEqual([]);
  rig.workerApi.next();
  const other = { model: "claude-c", effort: "high" as const };
  await run(["chosen"], { program: { protocol: "acp", command, mode: "plan" }, ...other });
  expect(blocks().at(-1)).toBe('text: {"mode":"plan","model":"maker/claude-a","effort":"low"}');
  expect(rig.workerApi.of("notice").map(({ data }) => data["text"])).toEqual([
    'The program has no model "claude-c": it offers maker/claude-a, maker/claude-b, and works with its own.',
    'The program has no effort "high": it offers low, max, and works with its own.',
  ]);
  rig.workerApi.next();
  await run(["chosen"], { program: { protocol: "acp", command: `${PROGRAM} modes` } });
  expect(blocks().at(-1)).toContain('"mode":"bypassPermissions"');
});

it("[O6] a program without a login ends the task with the ways that it offers; a key of its environment is used", async () => {
  await run(["say x"], { program: { protocol: "acp", command: `${PROGRAM} login` } });
  expect(rig.workerApi.of("failed")[0]?.data).toMatchObject({
    code: "program_auth",
    message: expect.stringContaining("It offers: Log in (Opens a browser)."),
  });
  rig.workerApi.next();
  expect(await run(["say x"], { program: { protocol: "acp", command: `${PROGRAM} key` } })).toBe(0);
  expect(blocks()).toEqual(["text: x"]);
});

it("[O6] cancelled, it stops in time, its work is saved and its processes have ended", async () => {
  const seconds = `77.${process.pid}`;
  const running = await start([`daemon ${seconds}`, "stubborn", "write b.txt=1", "wait 60000"]);
  await rig.workerApi.until(() => rig.workerApi.of("tool.finished").length > 0);
  const begun = performance.now();
  const graceMs = 90_000;
  rig.workerApi.command({ type: "cancel", graceMs });
  expect(await running.exit).toBe(0);
  expect(performance.now() - begun).toBeLessThan(graceMs);
  expect(rig.workerApi.of("checkpoint").at(-1)?.data).toMatchObject({ files: 1 });
  expect([isAnyLeft(`sleep ${seconds}`), isAnyLeft(`program.mjs ${OWN}`)]).toEqual([false, false]);
});

it("[O6] failing checks are sent back to the program", async () => {
  expect(await run(["say done"], { verify: ["grep -q fixed a.txt"] })).toBe(0);
  expect(prompts()).toHaveLength(2);
  expect(prompts()[1]).toContain("grep -q fixed a.txt ended with 1");
  expect(rig.workerApi.of("verify").map(({ data }) => data["exitCode"])).toEqual([1, 0]);
  expect(String(rig.workerApi.of("finished")[0]?.data["summary"])).toContain("`grep -q fixed a.txt`: passed");
});

it("[S9] what would hold the push back is sent to the program once, without a question", async () => {
  rig.workerApi.findings = [{ kind: "secret", path: ".env", detail: "line 1, github: GITHUB_TOKEN", holds: true }];
  expect(await run(["say done"])).toBe(0);
  expect(rig.workerApi.inspected).toHaveLength(1);
  expect(rig.workerApi.of("verify").map(({ data }) => data["command"])).toEqual(["slipway: what would be pushed"]);
  expect(String(rig.workerApi.of("verify")[0]?.data["tail"])).toContain(".env: line 1, github: GITHUB_TOKEN");
});

it("[O6] a turn that stops at a limit is continued, a refusal is a failure", async () => {
  expect(await run(["stop max_tokens", "say end"])).toBe(0);
  expect(prompts()).toHaveLength(2);
  rig.workerApi.next();
  await run(["stop refusal"]);
  expect(rig.workerApi.of("failed")[0]?.data).toMatchObject({
    code: "agent_error",
    message: expect.stringContaining("the model refused"),
  });
});

const FAILING: readonly (readonly [string, string[], string, string, string | null])[] = [
  ["a program that dies", ["die"], PROGRAM, "it ended with exit code 9", "the disk of dreams is full"],
  ["a program that gives up", ["error no way"], PROGRAM, "gave up", null],
  ["a program that floods", ["flood"], PROGRAM, "a line of more than 10 MB|more than 20 MB", null],
  ["another version", ["say x"], `${PROGRAM} old`, "speaks version 7", null],
  [
    "a command that does not exist",
    ["say x"],
    "no-such-agent-here",
    "exit code 127",
    "no-such-agent-here: command not found",
  ],
  ["a program that speaks another protocol", ["say x"], "echo hello; echo world >&2; exit 4", "exit code 4", "world"],
];
it.each(sampled(FAILING, 2))(
  "[O6] %s fails with a readable message, and its work is saved",
  async (_, lines, command, message, evidence) => {
    await run(["write b.txt=1", ...lines], { program: { protocol: "acp", command } });
    const failed = rig.workerApi.of("failed")[0]?.data;
    expect(failed?.["code"]).toBe("agent_error");
    expect(failed?.["message"]).toMatch(new RegExp(message));
    if (evidence !== null) expect(failed?.["evidence"]).toContain(evidence);
    if (lines[0] !== "say x") expect(rig.workerApi.of("checkpoint").at(-1)?.data).toMatchObject({ files: 1 });
    expect(isAnyLeft(`program.mjs ${OWN}`)).toBe(false);
  },
);

it("the program gets the task's MCP servers and the repository's instructions", async () => {
  await rig.close();
  rig = await Rig.open({ "a.txt": "a", "AGENTS.md": "Use tabs." });
  await run(["say x"], {
    mcpServers: { calc: { command: "calc", args: ["-v"], env: { A: "1" } }, far: { url: "https://example.com/mcp" } },
  });
  expect(JSON.parse(await rig.show(rig.finalSha(), "mcp.json"))).toEqual([
    { name: "calc", command: "calc", args: ["-v"], env: [{ name: "A", value: "1" }] },
  ]);
  expect(rig.workerApi.of("notice").map(({ data }) => data["text"])).toEqual([
    expect.stringContaining('"far" is left out'),
  ]);
  expect(prompts()[0]).toContain("Use tabs.");
  expect(existsSync(join(rig.workspace, "prompts.txt"))).toBe(false);
});
