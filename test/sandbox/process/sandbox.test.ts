import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { readClaim } from "../../../src/sandbox/process/process-dir.ts";
import { isAlive } from "../../../src/sandbox/process/processes.ts";
import { openProcessSandbox } from "../../../src/sandbox/process/sandbox.ts";
import { eventually, sandboxContract, type SandboxRig } from "../../contract/sandbox.ts";
import { openPeers, type Peers } from "../../support/process/sandbox-peer.ts";
import type { Sandbox, SandboxSpec } from "../../../src/core/ports/sandbox.ts";

const workerFile = join(import.meta.dirname, "../../support/process/stand-in-worker.mjs");
const never = new AbortController().signal;
let peers: Peers;

beforeAll(async () => {
  peers = await openPeers();
});
afterAll(() => peers.close());

/** The worker's own process below its keeper. */
function workerPid(keeper: number): number {
  return Number(execFileSync("ps", ["-o", "pid=", "--ppid", String(keeper)], { encoding: "utf8" }).trim());
}

function lives(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) [ZX]/s.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

async function openRig(): Promise<SandboxRig & { dir: string }> {
  const dir = mkdtempSync(join(tmpdir(), "slipway-process-"));
  const options = { dir, workerFile, instance: "test" };
  const opened: Sandbox[] = [];
  const box = (name: string) => join(dir, "sandboxes", name);
  const keeperOf = async (name: string) => (await readClaim(box(name)))?.pid ?? 0;
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
      process.kill(-(await keeperOf(name)), "SIGKILL");
      rmSync(box(name), { recursive: true });
    },
    async killWorker(name) {
      process.kill(workerPid(await keeperOf(name)), "SIGKILL");
    },
    async close() {
      const sweeper = openProcessSandbox(options);
      for (const { name } of await sweeper.list()) await sweeper.remove(name);
      await Promise.all([sweeper, ...opened].map((one) => one.close()));
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

  function specOf(token: string): SandboxSpec {
    const taskId = `tsk_p${process.pid}x${++serial}`;
    return { name: `slipway-${taskId}-a1`, taskId, attempt: 1, socketDir: rig.dir, token, limits: {} };
  }

  const box = (spec: SandboxSpec) => join(rig.dir, "sandboxes", spec.name);

  async function keeperOf(spec: SandboxSpec): Promise<number> {
    return (await readClaim(box(spec)))?.pid ?? 0;
  }

  it("says loudly that it does not isolate", async () => {
    expect(sandbox.isolates).toBe(false);
    expect(await sandbox.check()).toMatch(/NOT ISOLATED.*not enforced/);
  });

  it("the worker's environment is exactly this", async () => {
    const spec = specOf("env");
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

  it("[D7] stop reaps children that left the session and ignore SIGTERM", async () => {
    const spec = specOf("family");
    await sandbox.ensure(spec, never);
    await eventually(async () => readFileSync(join(box(spec), "log"), "utf8").includes("child"), "the child started");
    const child = Number(/child (\d+)/.exec(readFileSync(join(box(spec), "log"), "utf8"))?.[1]);
    expect(lives(child)).toBe(true);
    await sandbox.stop(spec.name, 5_000);
    expect(lives(child)).toBe(false);
  });

  it("[D1] when the keeper is killed, its orphaned worker is killed too and nothing is started again", async () => {
    const spec = specOf("deaf");
    await sandbox.ensure(spec, never);
    const keeper = await keeperOf(spec);
    await eventually(async () => workerPid(keeper) > 0, "the worker started");
    const worker = workerPid(keeper);
    process.kill(keeper, "SIGKILL");
    await sandbox.ensure(spec, never);
    expect(await sandbox.wait(spec.name, never)).toMatchObject({ exitCode: null });
    expect(lives(worker)).toBe(false);
  });

  it("[D1] a process that only has the keeper's number is not taken for it", async () => {
    const spec = specOf("exit:0");
    await sandbox.ensure(spec, never);
    await sandbox.wait(spec.name, never);
    rmSync(join(box(spec), "exit"));
    writeFileSync(join(box(spec), "claim"), `${process.pid} some other start\n`);
    expect(await sandbox.wait(spec.name, never)).toMatchObject({ exitCode: null });
    await sandbox.stop(spec.name, 0);
    await sandbox.remove(spec.name);
  });

  it("the keeper's own words about its start are those that the adapter reads", async () => {
    const spec = specOf("sleep");
    await sandbox.ensure(spec, never);
    const claim = await readClaim(box(spec));
    expect(claim).not.toBe(null);
    expect(await isAlive(claim!)).toBe(true);
    expect(await isAlive({ pid: claim!.pid, start: `${claim!.start}1` })).toBe(false);
  });

  it("a stopped sandbox that never ran cannot start any more", async () => {
    const spec = specOf("sleep");
    const dead = peers.start({
      adapter: { kind: "process", options: { dir: rig.dir, workerFile, instance: "test" } },
      spec,
      crashAt: "sandbox.created",
    });
    await dead.said("ready");
    dead.go();
    await dead.ended;
    await sandbox.stop(spec.name, 0);
    await sandbox.ensure(spec, never);
    expect(await sandbox.wait(spec.name, never)).toMatchObject({ exitCode: null, tail: "" });
  });

  it("removes folders that even their owner may not write to", async () => {
    const spec = specOf('run:mkdir -p "$HOME/a/b" && touch "$HOME/a/b/c" && chmod 500 "$HOME/a/b" "$HOME/a"');
    await sandbox.ensure(spec, never);
    await sandbox.wait(spec.name, never);
    await sandbox.remove(spec.name);
    expect(existsSync(box(spec))).toBe(false);
  });

  it("another installation's sandbox is neither listed nor adopted", async () => {
    const spec = specOf("sleep");
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
