/** Commands in the background, with real processes. */
import { mkdirSync, mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { createTools, type Toolbox } from "../../../worker/tools/toolbox.ts";
import type { ToolInput, ToolResult } from "../../../worker/tools/tool.ts";
import { isAnyLeft, isRunning } from "../../support/process/running.ts";

let dir: string;
let tools: Toolbox;
beforeEach(() => {
  dir = realpathSync(mkdtempSync(join(tmpdir(), "sw-jobs-")));
  mkdirSync(join(dir, "work"));
  tools = createTools(join(dir, "work"), join(dir, "jobs"));
});
afterEach(async () => {
  await tools.close();
  rmSync(dir, { recursive: true, force: true });
});

const run = async (name: string, input: ToolInput, signal = new AbortController().signal): Promise<ToolResult> =>
  await tools.run(name, input, signal);
const start = async (command: string): Promise<string> => {
  const { output } = await run("bash", { command, background: true });
  return /job_\w+/.exec(output)?.[0] ?? output;
};

it("a job runs in the background; each status call returns the new output", async () => {
  const id = await start("echo one; while [ ! -e go ]; do sleep 0.05; done; echo two; exit 3");
  await expect.poll(async () => (await run("job", { action: "status", id })).output).toContain("one");
  expect((await run("job", { action: "status", id })).output).toMatch(/is running.*\n\[no new output\]$/);
  expect((await run("job", { action: "list" })).output).toMatch(new RegExp(`^${id} is running.*echo one`));
  await run("bash", { command: "touch go" });
  const end = await run("job", { action: "wait", id, timeoutMs: 20_000 });
  expect(end).toMatchObject({ exitCode: 3, truncated: false });
  expect(end.output).toMatch(/ended with exit code 3, after .*s\.\ntwo\n$/);
});

it("waiting has a limit, and ends when the agent is stopped", async () => {
  const id = await start("sleep 75.1");
  expect(await run("job", { action: "wait", id, timeoutMs: 100 })).toMatchObject({ exitCode: 0 });
  const stop = new AbortController();
  const waiting = run("job", { action: "wait", id, timeoutMs: 60_000 }, stop.signal);
  stop.abort();
  await expect(waiting).rejects.toThrow();
});

it("[O1] killing a job ends its processes in other sessions and those that ignore SIGTERM", async () => {
  const deaf = `trap "" TERM; sleep 75.2`;
  const id = await start(`setsid sleep 75.2 & setsid bash -c '${deaf}' & ${deaf}`);
  await expect.poll(() => isRunning("sleep 75.2")).toBe(true);
  const killed = await run("job", { action: "kill", id });
  expect(killed.exitCode).toBe(null);
  expect(killed.output).toContain("was killed");
  expect(isAnyLeft("sleep 75.2")).toBe(false);
});

it("[O1] closing the tools ends every job, and no more are started", async () => {
  await start("setsid sleep 75.3 & sleep 75.3");
  await start("nohup sleep 75.3 >/dev/null 2>&1 & disown; sleep 75.3");
  await expect.poll(() => isRunning("sleep 75.3")).toBe(true);
  await tools.close();
  expect(isAnyLeft("sleep 75.3")).toBe(false);
  expect(await run("bash", { command: "sleep 75.3", background: true })).toMatchObject({ exitCode: 1 });
});

it("[O1] the children of a job end with its shell", async () => {
  const id = await start("sleep 75.4 & echo started");
  expect((await run("job", { action: "wait", id })).output).toContain("exit code 0");
  expect(isAnyLeft("sleep 75.4")).toBe(false);
});

it("[O3] a job's long output is shown by head and tail, and its log can be read page by page", async () => {
  const id = await start("seq 1 200000");
  const { output, truncated } = await run("job", { action: "wait", id });
  expect(truncated).toBe(true);
  expect(output.length).toBeLessThan(17_500);
  const path = /read \{"path": "([^"]+)"\}/.exec(output)?.[1] ?? "";
  expect((await run("read", { path, start: 100_000, end: 100_001 })).output).toBe("100000\t100000\n100001\t100001");
  const long = await run("bash", { command: "seq 1 100000" });
  const log = /read \{"path": "([^"]+)"\}/.exec(long.output)?.[1] ?? "";
  expect((await run("read", { path: log, start: 50_000, end: 50_000 })).output).toBe(" 50000\t50000");
});

it("[O2] in the worker's own directory only the logs can be read, and none can be written", async () => {
  for (const path of [join(dir, "jobs"), join(dir, "jobs", "..", "secret"), join(dir, "jobs", "missing.log")])
    expect(await run("read", { path })).toMatchObject({ exitCode: 1 });
  expect(await run("write", { path: join(dir, "jobs", "x.log"), content: "" })).toMatchObject({ exitCode: 1 });
});

it("a flood is stopped; unknown jobs and too many jobs are error results", async () => {
  const id = await start("yes");
  expect((await run("job", { action: "wait", id, timeoutMs: 60_000 })).output).toContain("more than 20 MB");
  expect((await run("job", { action: "status", id: "job_none" })).output).toContain(`There is no job "job_none"`);
  expect((await run("job", { action: "look" })).output).toContain("must be one of status, wait, kill, list");
  for (let i = 0; i < 8; i += 1) await start("sleep 75.5");
  expect((await run("bash", { command: "true", background: true })).output).toContain("8 jobs are running");
});

it("[O10] waiting ends as soon as a port accepts connections, or the output matches", async () => {
  const server = `require("net").createServer().listen(0, "127.0.0.1", function () { require("fs").writeFileSync("port", String(this.address().port)); console.log("listening"); })`;
  const id = await start(`sleep 0.3; exec node -e '${server}'`);
  const text = await run("job", { action: "wait", id, pattern: "^listen", timeoutMs: 20_000 });
  expect(text.output).toMatch(/^Output that matches "\^listen" is there\.\n.* is running/);
  const port = Number((await run("bash", { command: "cat port" })).output);
  expect((await run("job", { action: "wait", id, port, timeoutMs: 20_000 })).output).toContain(
    `port ${port} is there.`,
  );
  const never = await run("job", { action: "wait", id, pattern: "absent", timeoutMs: 200 });
  expect(never.output).toContain("is not there yet.");
  await run("job", { action: "kill", id });
  const ended = await run("job", { action: "wait", id, pattern: "absent", timeoutMs: 20_000 });
  expect(ended.output).toContain("is not there.");
  for (const wrong of [{ port: 70_000 }, { pattern: "(" }])
    expect(await run("job", { action: "wait", id, ...wrong })).toMatchObject({ exitCode: 1 });
});
