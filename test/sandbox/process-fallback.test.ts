import { describe, expect, it } from "vitest";
import type { Sandbox } from "../../src/core/ports/sandbox.ts";
import { TaskFailure } from "../../src/core/failure.ts";
import { ProcessFallback } from "../../src/sandbox/process-fallback.ts";
import { openSimulatedSandbox } from "../../src/sandbox/simulated.ts";

const spec = (name: string, agent = "scripted") => ({
  name,
  agent,
  taskId: "t",
  attempt: 1,
  socketDir: "/",
  token: "",
  limits: {},
});
const { signal } = new AbortController();

/** Two engines in memory: one that stands for Docker and can be absent, one for processes. */
function openFallback({ hadEngine = false } = {}) {
  const untilAborted = (_spec: unknown, stop: AbortSignal) =>
    new Promise<number>((resolve) => stop.addEventListener("abort", () => resolve(0)));
  const engine = { isUp: false, seen: 0 };
  const docker = openSimulatedSandbox({ run: untilAborted });
  const process = openSimulatedSandbox({ run: untilAborted });
  const absent: Sandbox = {
    ...docker,
    check: async () => {
      if (!engine.isUp) throw new TaskFailure("sandbox_unavailable", { detail: "connect ENOENT." });
      return "Docker";
    },
  };
  const sandbox = new ProcessFallback({
    docker: absent,
    process,
    isProcess: (name) => process.created.includes(name),
    hadEngine,
    rememberEngine: async () => void engine.seen++,
  });
  return { sandbox, engine, docker, process };
}

describe("before an engine has answered", () => {
  it("runs the scripted agent as a process and has no sandbox for other agents", async () => {
    const { sandbox, docker, process } = openFallback();
    expect(await sandbox.check()).toMatch(/No Docker engine answers \(connect ENOENT\)\..*NOT ISOLATED.*docker\.io/s);
    expect([sandbox.isAvailableFor("scripted"), sandbox.isAvailableFor("anthropic")]).toEqual([true, false]);
    expect(sandbox.isolates).toBe(false);
    await sandbox.ensure(spec("a"), signal);
    await expect(sandbox.ensure(spec("other", "anthropic"), signal)).rejects.toThrow("No Docker engine answers.");
    expect([process.created, docker.created]).toEqual([["a"], []]);
    expect(sandbox.runsRepositoryCommands("a")).toBe(false);
    await sandbox.close();
  });

  it("uses the engine as soon as it answers, remembers it once, and never falls back again", async () => {
    const { sandbox, engine, docker } = openFallback();
    await sandbox.check();
    engine.isUp = true;
    expect(await sandbox.check()).toBe("Docker");
    await sandbox.check();
    expect(engine.seen).toBe(1);
    engine.isUp = false;
    await expect(sandbox.check()).rejects.toThrow();
    expect([sandbox.isolates, sandbox.isAvailableFor("anthropic")]).toEqual([true, true]);
    await sandbox.ensure(spec("b"), signal);
    expect(docker.created).toEqual(["b"]);
    expect(sandbox.runsRepositoryCommands("b")).toBe(true);
    await sandbox.close();
  });
});

it("an installation that had an engine waits for it", async () => {
  const { sandbox, docker } = openFallback({ hadEngine: true });
  await expect(sandbox.check()).rejects.toThrow();
  await sandbox.ensure(spec("c"), signal);
  expect(docker.created).toEqual(["c"]);
  await sandbox.close();
});

it("a sandbox stays with the adapter that created it", async () => {
  const { sandbox, engine, docker, process } = openFallback();
  await sandbox.ensure(spec("old"), signal);
  engine.isUp = true;
  await sandbox.check();
  await sandbox.ensure(spec("old"), signal);
  await sandbox.ensure(spec("new"), signal);
  expect([process.created, docker.created]).toEqual([["old"], ["new"]]);
  expect((await sandbox.list()).map(({ name }) => name).toSorted()).toEqual(["new", "old"]);
  await sandbox.stop("old", 10);
  expect(await sandbox.wait("old", signal)).toMatchObject({ exitCode: 143 });
  await sandbox.remove("old");
  expect((await sandbox.list()).map(({ name }) => name)).toEqual(["new"]);
  await sandbox.close();
});
