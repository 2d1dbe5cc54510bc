import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect } from "vitest";
import { readClaim } from "../../../src/sandbox/process/process-dir.ts";
import { isAlive } from "../../../src/sandbox/process/processes.ts";
import { openProcessSandbox } from "../../../src/sandbox/process/sandbox.ts";
import { eventually, sandboxContract, type SandboxRig } from "../../contract/sandbox.ts";
import { openPeers, type Peers } from "../../support/process/sandbox-peer.ts";
import type { Sandbox, SandboxSpec } from "../../../src/core/ports/sandbox.ts";
import { inTurn } from "../../support/vitest/full-run.ts";
import { isProcessAlive } from "../../support/process/running.ts";

const it = inTurn(3);

const workerFile = join(import.meta.dirname, "../../support/process/stand-in-worker.mjs");
const never = new AbortController().signal;
let peers: Peers;

beforeAll(async () => {
  peers = await openPeers();
});
afterAll(() => peers.close());

/** The worker of a sandbox, once it runs: other programs run below its supervisor before. */
async function findWorker(dir: string): Promise<number> {
  let worker = 0;
  await eventually(async () => {
    if (!readFileSync(join(dir, "log"), "utf8").includes("started attempt")) return false;
    const supervisor = (await readClaim(dir))?.pid ?? 0;
    const { stdout } = spawnSync("ps", ["-o", "pid=", "--ppid", String(supervisor)], { encoding: "utf8" });
    worker = Number(stdout.trim());
    return worker > 0;
  }, "the worker started");
  return worker;
}

async function openRig(): Promise<SandboxRig & { dir: string }> {
  const dir = mkdtempSync(join(tmpdir(), "slipway-process-"));
  const options = { dir, workerFile, instance: "test" };
  const opened: Sandbox[] = [];
  const getDir = (name: string) => join(dir, "sandboxes", name);
  const getSupervisor = async (name: string) => (await readClaim(getDir(name)))?.pid ?? 0;
  return {
    dir,
    open() {
      const sandbox = openProcessSandbox(options);
      opened.push(sandbox);
      return sandbox;
    },
    peer: (spec, crashAt) =>
      peers.start({ adapter: { kind: "process", options }, spec, ...(crashAt === undefined ? {} : { crashAt }) }),
    async vanish(name) {
      process.kill(-(await getSupervisor(name)), "SIGKILL");
      rmSync(getDir(name), { recursive: true });
    },
    async killWorker(name) {
      process.kill(await findWorker(getDir(name)), "SIGKILL");
    },
    async close() {
      const cleaner = openProcessSandbox(options);
      for (const { name } of await cleaner.list()) await cleaner.remove(name);
      await Promise.all([cleaner, ...opened].map((one) => one.close()));
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

sandboxContract("process", openRig, {
  processes: true,
  outOfMemory: false,
  crashpoints: ["sandbox.created", "sandbox.spawned"],
});

describe("process sandbox", () => {
  let rig: Awaited<ReturnType<typeof openRig>>;
  let sandbox: Sandbox;
  let serial = 0;

  beforeEach(async () => {
    rig = await openRig();
    sandbox = rig.open();
  });
  afterEach(() => rig.close());

  function testSpec(token: string): SandboxSpec {
    const taskId = `tsk_p${process.pid}x${++serial}`;
    return { name: `slipway-${taskId}-a1`, taskId, attempt: 1, socketDir: rig.dir, token, limits: {} };
  }

  const getDir = (spec: SandboxSpec) => join(rig.dir, "sandboxes", spec.name);

  async function getSupervisor(spec: SandboxSpec): Promise<number> {
    return (await readClaim(getDir(spec)))?.pid ?? 0;
  }

  it("check reports that it does not isolate", async () => {
    expect(sandbox.isolates).toBe(false);
    expect(await sandbox.check()).toMatch(/NOT ISOLATED.*not enforced/);
  });

  it("the worker's environment contains exactly these variables", async () => {
    const spec = testSpec("env");
    await sandbox.ensure(spec, never);
    const { tail } = await sandbox.wait(spec.name, never);
    const names = (tail.split("\n")[1] ?? "")
      .split(" ")
      .filter((name) => !["PWD", "OLDPWD", "SHLVL", "_"].includes(name));
    expect(names).toEqual([
      "HOME",
      "LANG",
      "PATH",
      "SLIPWAY_ATTEMPT",
      "SLIPWAY_BOX",
      "SLIPWAY_SOCKET",
      "SLIPWAY_STATE",
      "SLIPWAY_TOKEN",
      "SLIPWAY_WORKSPACE",
      "TMPDIR",
    ]);
  });

  it.runIf(process.platform === "linux").each(["stop", "remove", "exit"] as const)(
    "[D3] [O1] a daemon in another session with a cleaned environment ends with its sandbox: %s",
    async (how) => {
      const rest = how === "exit" ? "" : "; sleep 60";
      const spec = testSpec(
        `run:(cd / && exec env -i setsid sleep 77.${++serial}) > /dev/null 2>&1 & echo $! > pid${rest}`,
      );
      await sandbox.ensure(spec, never);
      const file = join(getDir(spec), "workspace", "pid");
      if (how !== "exit") {
        await eventually(
          async () => existsSync(file) && readFileSync(file, "utf8").endsWith("\n"),
          "the daemon started",
        );
        const daemon = Number(readFileSync(file, "utf8"));
        expect(isProcessAlive(daemon)).toBe(true);
        await (how === "stop" ? sandbox.stop(spec.name, 5_000) : sandbox.remove(spec.name));
        expect(isProcessAlive(daemon)).toBe(false);
      } else {
        await sandbox.wait(spec.name, never);
        expect(isProcessAlive(Number(readFileSync(file, "utf8")))).toBe(false);
      }
    },
  );

  it("[D7] stop kills children that left the session and ignore SIGTERM", async () => {
    const spec = testSpec("family");
    await sandbox.ensure(spec, never);
    await eventually(
      async () => readFileSync(join(getDir(spec), "log"), "utf8").includes("child"),
      "the child started",
    );
    const child = Number(/child (\d+)/.exec(readFileSync(join(getDir(spec), "log"), "utf8"))?.[1]);
    expect(isProcessAlive(child)).toBe(true);
    await sandbox.stop(spec.name, 5_000);
    expect(isProcessAlive(child)).toBe(false);
  });

  it("[D1] when the supervisor is killed, its worker is killed too and nothing is started again", async () => {
    const spec = testSpec("deaf");
    await sandbox.ensure(spec, never);
    const supervisor = await getSupervisor(spec);
    const worker = await findWorker(getDir(spec));
    process.kill(supervisor, "SIGKILL");
    await sandbox.ensure(spec, never);
    expect(await sandbox.wait(spec.name, never)).toMatchObject({ exitCode: null });
    expect(isProcessAlive(worker)).toBe(false);
  });

  it("[D1] another process with the supervisor's id is not mistaken for it", async () => {
    const spec = testSpec("exit:0");
    await sandbox.ensure(spec, never);
    await sandbox.wait(spec.name, never);
    rmSync(join(getDir(spec), "exit"));
    writeFileSync(join(getDir(spec), "claim"), `${process.pid} some other start\n`);
    expect(await sandbox.wait(spec.name, never)).toMatchObject({ exitCode: null });
    await sandbox.stop(spec.name, 0);
    await sandbox.remove(spec.name);
  });

  it("the supervisor's claim contains the start time that the adapter reads", async () => {
    const spec = testSpec("sleep");
    await sandbox.ensure(spec, never);
    const claim = await readClaim(getDir(spec));
    expect(claim).not.toBe(null);
    expect(await isAlive(claim!)).toBe(true);
    expect(await isAlive({ pid: claim!.pid, start: `${claim!.start}1` })).toBe(false);
  });

  it("a sandbox that was stopped before it ran cannot start", async () => {
    const spec = testSpec("sleep");
    const dead = peers.start({
      adapter: { kind: "process", options: { dir: rig.dir, workerFile, instance: "test" } },
      spec,
      crashAt: "sandbox.created",
    });
    await dead.waitForOutput("ready");
    dead.go();
    await dead.ended;
    await sandbox.stop(spec.name, 0);
    await sandbox.ensure(spec, never);
    expect(await sandbox.wait(spec.name, never)).toMatchObject({ exitCode: null, tail: "" });
  });

  it("removes folders without write permission", async () => {
    const spec = testSpec('run:mkdir -p "$HOME/a/b" && touch "$HOME/a/b/c" && chmod 500 "$HOME/a/b" "$HOME/a"');
    await sandbox.ensure(spec, never);
    await sandbox.wait(spec.name, never);
    await sandbox.remove(spec.name);
    expect(existsSync(getDir(spec))).toBe(false);
  });

  it("a sandbox of another installation is neither listed nor adopted", async () => {
    const spec = testSpec("sleep");
    await sandbox.ensure(spec, never);
    const other = openProcessSandbox({ dir: rig.dir, workerFile, instance: "other" });
    expect(await other.list()).toEqual([]);
    await expect(other.ensure(spec, never)).rejects.toMatchObject({ code: "sandbox_unavailable" });
    await other.close();
  });

  it("a missing worker program is image_missing", async () => {
    const other = openProcessSandbox({ dir: rig.dir, workerFile: join(rig.dir, "nothing.mjs"), instance: "test" });
    await expect(other.prepare(() => undefined, never)).rejects.toMatchObject({ code: "image_missing" });
    await other.close();
  });

  it("a name cannot leave the folder", async () => {
    await expect(sandbox.remove("../elsewhere")).rejects.toMatchObject({ code: "internal" });
  });
});
