/** Starting, bounding and ending processes. */
import { readFileSync, mkdtempSync, rmSync, writeFileSync, existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  ProcessStartError,
  runProcessGroup,
  runTool,
  startProcess,
  ToolExitError,
  type ProcessGroupOptions,
} from "../../../../src/core/lib/runtime/process-group.ts";
import { isProcessAlive } from "../../../support/process/running.ts";
import { hasPrlimit, withDescriptors } from "../../../support/process/descriptors.ts";

let dir: string;
beforeEach(() => void (dir = mkdtempSync(join(tmpdir(), "slipway-group-"))));
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const run = (script: string, options: Partial<ProcessGroupOptions> = {}) =>
  runProcessGroup("/bin/sh", ["-c", script], {
    cwd: dir,
    env: { PATH: process.env["PATH"] },
    maxStdoutBytes: 1_000,
    maxStderrChars: 10,
    timeout: { kind: "total", ms: 60_000 },
    graceMs: 0,
    ...options,
  });

const readPid = (name: string): number =>
  existsSync(join(dir, name)) ? Number(readFileSync(join(dir, name), "utf8")) : 0;

/** Stopped once it has written its id into the file. */
async function stopped(name: string, script: string, graceMs: number) {
  const stop = new AbortController();
  const result = run(script, { signal: stop.signal, graceMs });
  await expect.poll(() => readPid(name)).toBeGreaterThan(0);
  stop.abort();
  return await result;
}

describe("a process group", () => {
  it("returns output, the end of the errors and the exit code", async () => {
    const { stopped, exitCode, stdout, stderr } = await run("cat; echo 0123456789abcdef >&2; exit 3", { input: "in" });
    expect([stopped, exitCode, stdout.toString(), stderr]).toEqual([null, 3, "in", "789abcdef\n"]);
  });

  it("an input that breaks off ends the input", async () => {
    const input = new PassThrough();
    input.write("part");
    const result = run("cat", { input });
    input.destroy(new Error("broken"));
    expect((await result).exitCode).toBe(0);
  });

  it("output restarts an idle time-out, silence ends the group", async () => {
    const script = "for i in $(seq 15); do sleep 0.4; echo .; done; sleep 60";
    const startedAt = performance.now();
    const { stopped, stdout } = await run(script, { timeout: { kind: "idle", ms: 5_000 } });
    expect([stopped, stdout.toString()]).toEqual(["timeout", ".\n".repeat(15)]);
    expect(performance.now() - startedAt).toBeLessThan(60_000);
  });

  it("a total time-out counts from the start, whatever is written", async () => {
    const { stopped } = await run("while :; do echo x; sleep 0.05; done", { timeout: { kind: "total", ms: 500 } });
    expect(stopped).toBe("timeout");
  });

  it("more output than allowed stops it, and no more is kept", async () => {
    const { stopped, stdout } = await run("yes", { maxStdoutBytes: 100 });
    expect([stopped, stdout.length]).toEqual(["output_limit", 100]);
  });

  it.runIf(process.platform === "linux")("SIGTERM comes first, then SIGKILL for what ignores it", async () => {
    const polite = await stopped("polite", "trap 'echo bye; exit 0' TERM; echo $$ > polite; sleep 60 & wait", 30_000);
    expect([polite.stopped, polite.exitCode, polite.stdout.toString()]).toEqual(["aborted", 0, "bye\n"]);
    const deaf = await stopped("deaf", "trap '' TERM; echo $$ > deaf; while :; do sleep 1; done", 200);
    expect([deaf.stopped, deaf.exitSignal]).toEqual(["aborted", "SIGKILL"]);
    expect(isProcessAlive(readPid("deaf"))).toBe(false);
  });

  it.runIf(process.platform === "linux")("an abort ends the whole group, and is awaited", async () => {
    const cancel = new AbortController();
    const result = run("sleep 60 & echo $! > child; sleep 60", { signal: cancel.signal });
    await expect.poll(() => readPid("child")).toBeGreaterThan(0);
    cancel.abort();
    expect((await result).stopped).toBe("aborted");
    expect(isProcessAlive(readPid("child"))).toBe(false);
  });

  it("a signal that was aborted before stops it at once", async () => {
    expect((await run("sleep 60", { signal: AbortSignal.abort() })).stopped).toBe("aborted");
  });
});

describe("starting", () => {
  const env = { PATH: process.env["PATH"] };

  it("a missing program and a missing folder are typed errors", async () => {
    const missing = await runTool("slipway-no-such-program", [], { env, timeoutMs: 1_000 }).catch(
      (error: unknown) => error,
    );
    expect(missing).toBeInstanceOf(ProcessStartError);
    expect(missing).toMatchObject({ code: "ENOENT", isMissing: true });
    writeFileSync(join(dir, "data"), "not a program", { mode: 0o600 });
    await expect(runTool(join(dir, "data"), [], { env, timeoutMs: 1_000 })).rejects.toMatchObject({ code: "EACCES" });
    await expect(run("true", { cwd: join(dir, "gone") })).rejects.toBeInstanceOf(ProcessStartError);
  });

  it("a name that Node refuses is one as well", async () => {
    await expect(startProcess("a\0b", [], { stdio: ["ignore", "ignore", "ignore"] })).rejects.toBeInstanceOf(
      ProcessStartError,
    );
  });

  it("a tool that fails rejects with its exit code and its errors", async () => {
    const failed = await runTool("/bin/sh", ["-c", "echo out; echo why >&2; exit 4"], { env, timeoutMs: 10_000 }).catch(
      (error: unknown) => error,
    );
    expect(failed).toBeInstanceOf(ToolExitError);
    expect(failed).toMatchObject({ message: "/bin/sh ended with 4: why", stdout: "out\n" });
    await expect(runTool("sleep", ["60"], { env, timeoutMs: 100 })).rejects.toThrow("sleep was stopped (timeout)");
  });

  it.runIf(hasPrlimit).each([0, 1, 2, 3, 4, 5, 6, 7])(
    "[Y3] with %i descriptors left a start works or is a typed error; afterwards it works",
    async (free) => {
      const result = await withDescriptors(free, () =>
        run("echo ok").then(
          ({ stdout }) => stdout.toString(),
          (error: unknown) => error,
        ),
      );
      if (free === 0) expect(result).toMatchObject({ name: "ProcessStartError", code: "EMFILE" });
      else if (result !== "ok\n") expect(result).toBeInstanceOf(ProcessStartError);
      expect((await run("echo ok")).stdout.toString()).toBe("ok\n");
    },
  );
});
