/**
 * Command lines behind the harness: real processes, with the real broker and checkout.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect } from "vitest";
import { Rig, type Running } from "../../rig.ts";
import type { ExecProgram } from "../../../../src/core/values/agent-program.ts";
import type { WorkerSpec } from "../../../../src/core/protocol/worker.ts";
import { inTurn } from "../../../support/vitest/full-run.ts";
import { isAnyLeft, isRunning } from "../../../support/process/running.ts";

const it = inTurn(3);

let rig: Rig;
beforeEach(async () => {
  rig = await Rig.open();
});
afterEach(async () => {
  await rig.close();
});

type Settings = Partial<WorkerSpec> & { readonly output?: ExecProgram["output"] };

function use(command: string, { output, ...spec }: Settings = {}): void {
  const program = { protocol: "exec" as const, command, ...(output === undefined ? {} : { output }) };
  rig.workerApi.overrides = { agent: "test", prompt: "Fix the parser", program, ...spec };
}
async function start(command: string, settings: Settings = {}): Promise<Running> {
  use(command, settings);
  return await rig.start(null);
}
async function run(command: string, settings: Settings = {}): Promise<number | null> {
  use(command, settings);
  return await rig.run(null);
}
const blocks = (): string[] =>
  rig.workerApi
    .of("message")
    .flatMap(({ data }) =>
      (data["content"] as { type: string; text: string }[]).map(({ type, text }) => `${type}: ${text}`),
    );
/** What the runs got as prompts, in order. */
const prompts = (): string[] => readFileSync(join(rig.dir, "prompts.txt"), "utf8").split("=====\n").slice(1);
const record = (): string =>
  `{ echo =====; cat "$PROMPT_FILE"; echo; } >> ${JSON.stringify(join(rig.dir, "prompts.txt"))}`;

it.each([
  ["standard input", "cat > b.txt"],
  ["an argument, and as a file", 'printf "%s" "$PROMPT" > b.txt; cmp "$PROMPT_FILE" b.txt'],
])("[O11] the prompt arrives as %s", async (_, command) => {
  expect(await run(command, { prompt: 'Fix "a" and $HOME' })).toBe(0);
  expect(await rig.show(rig.finalSha(), "b.txt")).toMatch(/^Fix "a" and \$HOME\n/);
  expect(rig.workerApi.of("finished")[0]?.data).toMatchObject({ title: 'Fix "a" and $HOME' });
});

it("[O11] lines become messages without terminal escapes; what a line overwrites of itself is left out", async () => {
  const lines = "printf '\\033[32mgreen\\033[0m\\n10%%\\r50%%\\r100%%\\n'; echo not shown >&2; echo x > b.txt";
  const running = await start(`${lines}; until [ -e ${join(rig.dir, "go")} ]; do sleep 0.05; done`);
  const streamed = (): string => rig.workerApi.deltas.map(({ text }) => text).join("");
  await rig.workerApi.until(() => streamed().includes("100%"));
  writeFileSync(join(rig.dir, "go"), "");
  expect(await running.exit).toBe(0);
  expect(blocks()).toEqual(["text: green\n100%\n"]);
  expect(streamed()).toBe("green\n100%\n");
});

it("[O11] a flood of output is bounded, and its end is shown", async () => {
  expect(await run("head -c 3000000 /dev/zero | tr '\\0' x | fold -w 100; echo last words; echo x > b.txt")).toBe(0);
  const text = blocks().join("");
  expect(text.length).toBeLessThan(700_000);
  expect(text).toMatch(/more characters of output are not shown[^]*last words\n$/);
});

it("[O11] lines of stream-json become messages, thoughts, calls, a plan and cost", async () => {
  const call = (id: string, name: string, input: object) => ({
    type: "assistant",
    message: { content: [{ type: "tool_use", id, name, input }] },
  });
  const result = (id: string, content: unknown, is_error = false) => ({
    type: "user",
    message: { content: [{ type: "tool_result", tool_use_id: id, content, is_error }] },
  });
  const lines = [
    { type: "system", subtype: "init", session_id: "s" },
    { type: "assistant", message: { content: [{ type: "thinking", thinking: "Hm." }, { type: "new_kind" }] } },
    { type: "assistant", message: { content: [{ type: "text", text: "I look." }] } },
    call("t1", "Bash", { command: "npm test", description: "Run the tests" }),
    { type: "assistant", parent_tool_use_id: "t1", message: { content: [{ type: "text", text: "a sub-agent" }] } },
    result("t1", [{ type: "text", text: "1 failed" }], true),
    call("t2", "TodoWrite", { todos: [{ content: "Fix it", status: "in_progress", activeForm: "Fixing" }] }),
    result("t2", "ok"),
    { type: "assistant", message: { content: [{ type: "text", text: "Fixed the crash on empty files." }] } },
    { type: "result", subtype: "success", is_error: false, result: "Fixed it.", total_cost_usd: 0.25 },
  ];
  const file = join(rig.dir, "lines.jsonl");
  writeFileSync(file, `a warning\n${lines.map((line) => JSON.stringify(line)).join("\n")}\n`);
  expect(await run(`cat ${file}; echo x > b.txt`, { output: "stream-json" })).toBe(0);
  expect(blocks()).toEqual([
    "text: a warning\n",
    "thinking: Hm.",
    "text: I look.",
    "text: Fixed the crash on empty files.",
  ]);
  const tools = rig.workerApi.of("tool.started").map(({ data }) => [data["name"], data["input"]]);
  expect(tools[0]).toEqual(["Bash", { title: "npm test", command: "npm test", description: "Run the tests" }]);
  expect(rig.workerApi.of("tool.finished").map(({ data }) => [data["output"], data["exitCode"]])).toEqual([
    ["1 failed", 1],
    ["ok", 0],
  ]);
  expect(rig.workerApi.of("todo")[0]?.data["items"]).toEqual([{ text: "Fix it", status: "in_progress" }]);
  expect(rig.workerApi.of("usage").map(({ data }) => data["usd"])).toEqual([0.25]);
  expect(rig.workerApi.of("finished")[0]?.data).toMatchObject({ title: "Fixed the crash on empty files" });
});

it.each([
  ["an exit code", "echo half done; echo no luck >&2; exit 3", {}, "exit code 3", "no luck"],
  ["a missing program", "no-such-agent-here", {}, "exit code 127", "command not found"],
  [
    "a report of failure",
    `echo '{"type":"result","subtype":"error_max_turns","is_error":true}'`,
    { output: "stream-json" as const },
    "gave up: error_max_turns",
    null,
  ],
])(
  "[O11] %s fails the attempt, with the end of standard error; the work is saved",
  async (_, command, settings, message, evidence) => {
    expect(await run(`echo x > b.txt; ${command}`, settings)).toBe(0);
    const failed = rig.workerApi.of("failed")[0]?.data;
    expect(failed).toMatchObject({ code: "agent_error", message: expect.stringContaining(message) });
    if (evidence !== null) expect(failed?.["evidence"]).toContain(evidence);
    expect(rig.workerApi.of("checkpoint").at(-1)?.data).toMatchObject({ files: 1 });
  },
);

it("[O11] a message waits for the end of the run, which knows the task and what was done so far", async () => {
  const command = `${record()}; if [ -e b.txt ]; then echo x > c.txt; else echo I wrote b.txt; echo x > b.txt; until [ -e ${join(rig.dir, "go")} ]; do sleep 0.05; done; fi`;
  const running = await start(command);
  await rig.workerApi.until(() => rig.workerApi.of("ready").length > 0);
  await rig.workerApi.deliver({ type: "message", messageId: "m1", text: "And write c.txt", mode: "steer" });
  writeFileSync(join(rig.dir, "go"), "");
  expect(await running.exit).toBe(0);
  const [first = "", second = "", ...more] = prompts();
  expect(more).toEqual([]);
  expect(first).not.toContain("done so far");
  expect(second).toMatch(
    /^Fix the parser\n[^]*\[task\] Fix the parser\n\[agent\] I wrote b\.txt\n[^]*And write c\.txt/,
  );
  expect(rig.workerApi.of("message.status").map(({ data }) => data["id"])).toEqual(["m1"]);
});

it("[O11] a message that interrupts ends the run with everything that it started", async () => {
  const seconds = `78.${process.pid}`;
  const command = `${record()}; if [ -e b.txt ]; then echo done; else echo x > b.txt; setsid sleep ${seconds} & sleep ${seconds}; fi`;
  const running = await start(command);
  await rig.workerApi.until(() => isRunning(`sleep ${seconds}`));
  rig.workerApi.command({ type: "message", messageId: "m1", text: "Stop that", mode: "steer", interrupt: true });
  expect(await running.exit).toBe(0);
  expect(prompts()[1]).toContain("Stop that\n\n(You were interrupted");
  expect(isAnyLeft(`sleep ${seconds}`)).toBe(false);
});

it("[O11] cancelled, it ends with everything that it started, and its work is saved", async () => {
  const seconds = `79.${process.pid}`;
  const running = await start(`trap '' TERM; echo x > b.txt; setsid sleep ${seconds} & sleep ${seconds}`);
  await rig.workerApi.until(() => isRunning(`sleep ${seconds}`));
  rig.workerApi.command({ type: "cancel", graceMs: 60_000 });
  expect(await running.exit).toBe(0);
  expect(rig.workerApi.of("checkpoint").at(-1)?.data).toMatchObject({ files: 1 });
  expect(isAnyLeft(`sleep ${seconds}`)).toBe(false);
});

it("[O11] the next attempt is given what was asked and done", async () => {
  const command = `${record()}; echo I look at the parser; echo x > b.txt; [ -e ${join(rig.dir, "again")} ]`;
  expect(await run(command)).toBe(0);
  expect(rig.workerApi.of("failed")).toHaveLength(1);
  rig.workerApi.next();
  writeFileSync(join(rig.dir, "again"), "");
  expect(await run(command)).toBe(0);
  expect(prompts()[1]).toMatch(/earlier attempt[^]*\[task\] Fix the parser\n\[agent\] I look at the parser/);
});

it("[O11] a budget that is used up becomes a question; the run is repeated after more was granted", async () => {
  rig.workerApi.standing = { state: "continue" };
  const command = `${record()}; [ -e b.txt ] || { echo x > b.txt; echo 'API Error: 402 The budget of $0.01 is used up.'; exit 1; }`;
  expect(await run(command, { gateway: "open" })).toBe(0);
  expect(prompts()[1]).toContain("You stopped before the end");
  rig.workerApi.next();
  rig.workerApi.standing = { state: "stop", reason: "no" };
  await run("echo 'The budget of $0.01 is used up.'", { gateway: "open" });
  expect(rig.workerApi.of("failed").at(-1)?.data).toMatchObject({ code: "budget_exceeded" });
});

it("[O11] it has the gateway's address and the attempt's token as key, and shows signs of life", async () => {
  const gate = join(rig.dir, "gate");
  const command = `echo "$ANTHROPIC_BASE_URL $ANTHROPIC_API_KEY $ANTHROPIC_MODEL"; until [ -e ${gate} ]; do sleep 0.05; done; echo x > b.txt`;
  const running = await start(command, { gateway: "open", model: "claude-x", signMs: 100 });
  await rig.workerApi.until(() => rig.workerApi.of("notice").some(({ data }) => data["code"] === "working"));
  writeFileSync(gate, "");
  expect(await running.exit).toBe(0);
  expect(blocks()[0]).toMatch(/^text: http:\/\/127\.0\.0\.1:\d+\/anthropic \[attempt token\] claude-x\n$/);
});

it("[O11] failing checks are given to the next run", async () => {
  const command = `${record()}; if [ -e b.txt ]; then echo fixed > a.txt; else echo x > b.txt; fi`;
  expect(await run(command, { verify: ["grep -q fixed a.txt"] })).toBe(0);
  expect(prompts()[1]).toContain("grep -q fixed a.txt ended with 1");
  expect(rig.workerApi.of("verify").map(({ data }) => data["exitCode"])).toEqual([1, 0]);
});
