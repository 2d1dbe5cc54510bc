import { expect, it } from "vitest";
import { runProcessGroup } from "../../../../src/core/lib/runtime/process-group.ts";
import { startRunTimer } from "../../../../src/core/lib/runtime/run-timer.ts";

/** As SIGSTOP does: this process does nothing, others go on. */
function stopFor(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

const run = (script: string, timeout: { kind: "total" | "idle"; ms: number }) =>
  runProcessGroup("sh", ["-c", script], {
    cwd: "/",
    env: { PATH: process.env["PATH"] },
    maxStdoutBytes: 1_000,
    maxStderrChars: 1_000,
    timeout,
    graceMs: 0,
  });

it.each(["total", "idle"] as const)(
  "[D11] a program that ended while this process was stopped kept its %s limit",
  async (kind) => {
    const running = run("sleep 1; echo done", { kind, ms: 4_000 });
    stopFor(6_000);
    expect(await running).toMatchObject({ stopped: null, exitCode: 0 });
  },
);

it.each(["total", "idle"] as const)("a program that does not end is stopped at its %s limit", async (kind) => {
  const begun = performance.now();
  expect(await run("sleep 60", { kind, ms: 1_200 })).toMatchObject({ stopped: "timeout" });
  expect(performance.now() - begun).toBeGreaterThanOrEqual(1_199);
});

it("a refresh starts the whole time again", async () => {
  const begun = performance.now();
  await new Promise<void>((done) => {
    const timer = startRunTimer(1_300, done);
    setTimeout(() => timer.refresh(), 1_200);
  });
  expect(performance.now() - begun).toBeGreaterThanOrEqual(2_498);
});
