/** The process rules B1 to B4, with real processes. */
import { mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Logs } from "../../../worker/tools/shell/logs.ts";
import { Bash } from "../../../worker/tools/shell/bash.ts";
import { isAnyLeft, isRunning } from "../../support/process/running.ts";

let dir: string;
let bash: Bash;
beforeEach(() => {
  dir = realpathSync(mkdtempSync(join(tmpdir(), "sw-bash-")));
  mkdirSync(join(dir, "work"));
  bash = new Bash(join(dir, "work"), new Logs(join(dir, "jobs")));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const run = async (command: string, timeoutMs = 20_000, signal = new AbortController().signal) =>
  await bash.run(command, timeoutMs, signal);

it("exit code and both outputs are returned in order, and the current folder is kept", async () => {
  expect(await run("echo out; echo err >&2; mkdir d; cd d; exit 9")).toMatchObject({
    output: "out\nerr\n",
    exitCode: 9,
    truncated: false,
  });
  expect((await run("pwd")).output).toBe(`${dir}/work/d\n`);
  bash.resetCwd();
  expect((await run("pwd")).output).toBe(`${dir}/work\n`);
});

it("[O7] commands get the image's variables and none of the worker's", async () => {
  vi.stubEnv("CARGO_HOME", "/usr/local/cargo");
  vi.stubEnv("SLIPWAY_TOKEN", "secret");
  vi.stubEnv("NODE_COMPILE_CACHE", "/worker/cache");
  vi.stubEnv("LD_LIBRARY_PATH", "");
  vi.stubEnv("NODE_OPTIONS", "");
  vi.stubEnv("SLIPWAY_IMAGE_ENV", JSON.stringify({ LD_LIBRARY_PATH: "/opt/lib" }));
  const { output } = await run("env");
  vi.unstubAllEnvs();
  expect(output).toMatch(/^CARGO_HOME=\/usr\/local\/cargo$/m);
  expect(output).toMatch(/^LD_LIBRARY_PATH=\/opt\/lib$/m);
  expect(output).not.toMatch(/SLIPWAY_TOKEN|SLIPWAY_IMAGE_ENV|NODE_COMPILE_CACHE|NODE_OPTIONS|secret/);
});

it("a removed current folder is replaced by the root", async () => {
  await run("mkdir d; cd d; rmdir ../d");
  expect((await run("pwd")).output).toBe(`${dir}/work\n`);
});

it("standard input is empty, and no start-up file is read", async () => {
  expect(await run("cat; read x; echo $?")).toMatchObject({ output: "1\n", exitCode: 0 });
});

it("[O1] a child that keeps the output open does not delay the end", async () => {
  const result = await run("sleep 71.5 & echo done");
  expect(result).toMatchObject({ output: "done\n", exitCode: 0 });
  expect(result.ms).toBeLessThan(60_000);
  expect(isAnyLeft("sleep 71.5")).toBe(false);
});

it("[O1] no process outlives the command, even in another session or ignoring SIGTERM", async () => {
  const deaf = `trap "" TERM; sleep 72.5`;
  const result = await run(
    `setsid sleep 72.5 & setsid bash -c '${deaf}' & bash -c '${deaf}' & sleep 0.2; echo started`,
  );
  expect(result.output).toBe("started\n");
  expect(isAnyLeft("sleep 72.5")).toBe(false);
});

it.runIf(process.platform === "linux")(
  "[O1] no process outlives the command in another session with a cleaned environment",
  async () => {
    const result = await run("env -i setsid sleep 72.25 </dev/null >/dev/null 2>&1 & sleep 0.2; echo started");
    expect(result.output).toBe("started\n");
    expect(isAnyLeft("sleep 72.25")).toBe(false);
  },
);

it("a time limit ends the command", async () => {
  const result = await run("echo begun; setsid bash -c 'trap \"\" TERM; sleep 73.5' & sleep 73.5", 10_000);
  expect(result.exitCode).toBe(null);
  expect(result.output).toMatch(/^begun\n\n\[stopped: it did not end within 10000 ms\. /);
  expect(result.ms).toBeLessThan(60_000);
  expect(isAnyLeft("sleep 73.5")).toBe(false);
});

it("[O1] a flood is stopped, and its log stays within the limit", async () => {
  const result = await run("trap '' TERM; head -c 400000000 /dev/zero | tr '\\0' y; yes");
  expect(result).toMatchObject({ exitCode: null, truncated: true });
  expect(result.output).toContain("more than 20 MB");
  expect(result.output.length).toBeLessThan(17_000);
  const [log, ...rest] = readdirSync(join(dir, "jobs"));
  expect(rest).toEqual([]);
  expect(statSync(join(dir, "jobs", log ?? "")).size).toBe(20 * 1024 * 1024);
});

it("logs of complete output are removed; of the others the newest are kept, within 64 MB", async () => {
  await run("echo short");
  expect(readdirSync(join(dir, "jobs"))).toEqual([]);
  for (let i = 0; i < 5; i += 1) await run("head -c 19000000 /dev/zero");
  expect(readdirSync(join(dir, "jobs"))).toHaveLength(3);
});

it("long output is shown by head and tail, cut between characters", async () => {
  const result = await run(`printf a; for i in $(seq 30000); do printf '\u20ac'; done; echo end`);
  expect(result.truncated).toBe(true);
  expect(result.output).not.toContain("\ufffd");
  expect(result.output).toMatch(
    /^a\u20ac+\n\[\.\.\. \d+ bytes left out; the complete output: read .* \.\.\.\]\n\u20ac+end\n$/,
  );
});

it("abort ends the command and everything that it started", async () => {
  const stop = new AbortController();
  const running = run("setsid sleep 74.5 & sleep 74.5", 60_000, stop.signal);
  running.catch(() => undefined);
  await expect.poll(() => isRunning("sleep 74.5")).toBe(true);
  stop.abort();
  await expect(running).rejects.toThrow();
  expect(isAnyLeft("sleep 74.5")).toBe(false);
});

it("a signal has no exit code; an unknown command has the one of bash", async () => {
  expect(await run("kill -9 $$")).toMatchObject({ exitCode: null });
  expect(await run("no-such-command-here")).toMatchObject({ exitCode: 127 });
  expect(await run("if")).toMatchObject({ exitCode: 2 });
});

it("the environment is built from an allow-list", async () => {
  process.env["SLIPWAY_TOKEN"] = "att_secret";
  try {
    const { output } = await run("env");
    expect(output).not.toContain("att_secret");
    expect(output).toMatch(/^GIT_TERMINAL_PROMPT=0$/m);
    expect(output).toMatch(/^PAGER=cat$/m);
  } finally {
    delete process.env["SLIPWAY_TOKEN"];
  }
});

it("a command that is not installed is answered with those that are", async () => {
  const { output } = await run("no-such-command-here --x");
  expect(output).toMatch(/\[no-such-command-here is not installed here\. These are: .*node/);
  expect((await run("exit 127")).output).toBe("");
});
