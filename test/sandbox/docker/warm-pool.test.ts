/** The warm pool on a real engine: the sandbox contract holds, and the pool's own rules. */
import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync, statSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFinished } from "vitest";
import { LABELS } from "../../../src/sandbox/docker/container-spec.ts";
import { sandboxContract } from "../../contract/sandbox.ts";
import { openDockerRig, type DockerRig } from "../../support/docker/sandbox-rig.ts";
import { describeWithDocker, dockerClient } from "../../support/docker/engine.ts";
import { openPeers, type Peers } from "../../support/process/sandbox-peer.ts";
import type { Sandbox, SandboxSpec } from "../../../src/core/ports/sandbox.ts";
import { inFullRuns, inTurn } from "../../support/vitest/full-run.ts";

const never = new AbortController().signal;
let serial = 0;

const it = inTurn(3);

describeWithDocker("Docker with a warm pool", () => {
  const docker = dockerClient();
  let peers: Peers;
  const openRig = openDockerRig(() => peers, 1);

  beforeAll(async () => {
    peers = await openPeers();
  });
  afterAll(() => peers.close());

  const crashpoints = ["sandbox.claimed", "sandbox.emptied", "sandbox.moved"];
  inFullRuns(describe)("the contract", () =>
    sandboxContract("docker with a pool", openRig, { processes: true, outOfMemory: true, crashpoints }),
  );

  describe("the pool", () => {
    let rig: DockerRig;
    let sandbox: Sandbox;

    beforeEach(async () => {
      rig = await openRig();
      sandbox = rig.open();
      await sandbox.prepare(() => undefined, never);
      await sandbox.maintainPool({ grow: true }, never);
    });
    afterEach(() => rig.close());

    function testSpec(token: string): SandboxSpec {
      const taskId = `tsk_w${process.pid}x${++serial}`;
      const socketDir = join(rig.socketBase, `${taskId}-a1`);
      mkdirSync(socketDir);
      chmodSync(socketDir, 0o755);
      return { name: `slipway-${taskId}-a1`, taskId, attempt: 1, socketDir, token, limits: {} };
    }

    /** Ids of the unclaimed containers. */
    async function listPooled(): Promise<string[]> {
      const filters = { label: [`${LABELS.instance}=${rig.options.instance}`, LABELS.pool] };
      const all = await docker.listContainers({ all: true, filters });
      return all.filter(({ Names }) => Names[0]?.startsWith("/slipway-pool-")).map(({ Id }) => Id);
    }
    const containerId = async (spec: SandboxSpec): Promise<string> =>
      (await docker.getContainer(spec.name).inspect()).Id;
    const folders = (): string[] => readdirSync(rig.socketBase).filter((name) => name.startsWith("pool-"));

    it.always("[D1] a task claims the pooled container, which gets the attempt's name and socket folder", async () => {
      const [ahead] = await listPooled();
      expect(await sandbox.list()).toEqual([]);
      expect(await sandbox.poolStatus()).toEqual({ wanted: 1, ready: 1, reason: null });
      const spec = testSpec("run:cat /run/slipway/attempt.json; ls -a /run/slipway; id -u");
      await sandbox.ensure(spec, never);
      const exit = await sandbox.wait(spec.name, never);
      expect(await containerId(spec)).toBe(ahead);
      expect(exit).toMatchObject({ exitCode: 0, tail: expect.stringMatching(/"attempt":1/) });
      expect(folders()).toEqual([]);
      expect(statSync(join(spec.socketDir, "attempt.json")).mode & 0o077).toBe(process.getuid?.() === 0 ? 0 : 0o044);
      expect(await sandbox.list()).toEqual([{ name: spec.name, taskId: spec.taskId, attempt: 1, state: "exited" }]);
    });

    it("[S1] a pooled container has no token, and its settings never contain one", async () => {
      const spec = testSpec("sleep");
      await sandbox.ensure(spec, never);
      const info = await docker.getContainer(spec.name).inspect();
      expect(JSON.stringify(info)).not.toContain("SLIPWAY_TOKEN");
      expect(JSON.stringify(info)).not.toContain('"sleep"');
    });

    it("[D3] a container serves one attempt and is removed with it; the next maintenance replaces it up to the size", async () => {
      const [first] = await listPooled();
      const spec = testSpec("exit:0");
      await sandbox.ensure(spec, never);
      expect(await listPooled()).toEqual([]);
      for (let i = 0; i < 3; i++) await sandbox.maintainPool({ grow: true }, never);
      const [second, ...more] = await listPooled();
      expect([second === undefined, second === first, more]).toEqual([false, false, []]);
      const { Mounts } = await docker.getContainer(spec.name).inspect();
      await sandbox.wait(spec.name, never);
      await sandbox.remove(spec.name);
      await expect(
        docker.getVolume(Mounts.find(({ Destination }) => Destination === "/workspace")?.Name ?? "").inspect(),
      ).rejects.toMatchObject({
        statusCode: 404,
      });
      expect(await listPooled()).toEqual([second]);
    });

    it("[D9] the pool does not grow while claiming is paused", async () => {
      await sandbox.ensure(testSpec("sleep"), never);
      await sandbox.maintainPool({ grow: false }, never);
      expect(await listPooled()).toEqual([]);
      expect(await sandbox.poolStatus()).toMatchObject({ ready: 0, reason: null });
    });

    it("a task with other limits gets a new container and leaves the pooled one", async () => {
      const before = await listPooled();
      const spec = { ...testSpec("sleep"), limits: { memoryMb: 192 } };
      await sandbox.ensure(spec, never);
      expect((await docker.getContainer(spec.name).inspect()).HostConfig.Memory).toBe(192 * 2 ** 20);
      expect(await listPooled()).toEqual(before);
    });

    it.each([
      ["ended", (id: string) => docker.getContainer(id).kill()],
      ["is gone", (id: string) => docker.getContainer(id).remove({ force: true, v: true })],
      ["is frozen", (id: string) => docker.getContainer(id).pause()],
    ])("[D2] a container that %s while it waited harms no task: the cold way is taken", async (_what, harm) => {
      const [dead = ""] = await listPooled();
      await harm(dead);
      const spec = testSpec("exit:7");
      await sandbox.ensure(spec, never);
      expect(await containerId(spec)).not.toBe(dead);
      expect(await sandbox.wait(spec.name, never)).toMatchObject({ exitCode: 7 });
      expect(await sandbox.list()).toHaveLength(1);
    });

    it("[D1] concurrent tasks never share a pooled container", async () => {
      const specs = [testSpec("exit:3"), testSpec("exit:4"), testSpec("exit:5")];
      await Promise.all(specs.map((spec) => sandbox.ensure(spec, never)));
      const exits = await Promise.all(specs.map((spec) => sandbox.wait(spec.name, never)));
      expect(exits.map((exit) => exit.exitCode)).toEqual([3, 4, 5]);
      expect(new Set(await Promise.all(specs.map(containerId))).size).toBe(3);
    });

    it("[D2] the next coordinator takes the pool over", async () => {
      const before = await listPooled();
      await sandbox.close();
      const next = rig.open();
      await next.maintainPool({ grow: true }, never);
      expect(await listPooled()).toEqual(before);
      const spec = testSpec("exit:7");
      await next.ensure(spec, never);
      expect(await containerId(spec)).toBe(before[0]);
      expect(await next.wait(spec.name, never)).toMatchObject({ exitCode: 7 });
    });

    it("pooled containers with outdated settings are removed with their folders", async () => {
      const before = await listPooled();
      const larger = rig.open({ memoryMb: 320 });
      await larger.maintainPool({ grow: true }, never);
      const [other = "", ...more] = await listPooled();
      expect(more).toEqual([]);
      expect(before).not.toContain(other);
      expect((await docker.getContainer(other).inspect()).HostConfig.Memory).toBe(320 * 2 ** 20);
      const { size, dir } = { size: 0, dir: rig.socketBase };
      await rig.open({ memoryMb: 320, pool: { size, dir } }).maintainPool({ grow: true }, never);
      expect(await listPooled()).toEqual([]);
    });

    it("surplus containers are removed with their folders", async () => {
      const pool = { size: 3, dir: rig.socketBase };
      await rig.open({ pool }).maintainPool({ grow: true }, never);
      expect(await listPooled()).toHaveLength(3);
      expect(folders()).toHaveLength(3);
      await rig.open().maintainPool({ grow: true }, never);
      expect(await listPooled()).toHaveLength(1);
      expect(folders()).toHaveLength(1);
    });

    it("[D9] a pool that cannot grow reports the reason, backs off, and fails no task", async () => {
      const broken = rig.open({ memoryMb: 1 });
      await broken.maintainPool({ grow: true }, never);
      const told = await broken.poolStatus();
      expect(told).toMatchObject({ wanted: 1, ready: 0, reason: expect.stringMatching(/memory/i) });
      expect(folders().length).toBeLessThanOrEqual(1);
      await broken.maintainPool({ grow: true }, never);
      const spec = { ...testSpec("exit:0"), limits: { memoryMb: 128 } };
      await broken.ensure(spec, never);
      expect(await broken.wait(spec.name, never)).toMatchObject({ exitCode: 0 });
    });

    it("[D2] a coordinator without a pool completes an unfinished claim", async () => {
      const spec = testSpec("exit:7");
      const first = rig.peer?.(spec, "sandbox.claimed");
      await first?.waitForOutput("ready");
      first?.go();
      expect(await first?.ended).toBe("SIGKILL");
      const next = rig.open({ pool: { size: 0, dir: rig.socketBase } });
      await next.ensure(spec, never);
      expect(await next.wait(spec.name, never)).toMatchObject({ exitCode: 7 });
      expect(existsSync(join(spec.socketDir, "attempt.json"))).toBe(true);
    });

    it("the folder may have another path on the engine's machine", async () => {
      const to = `${rig.socketBase}-on-the-host`;
      symlinkSync(rig.socketBase, to);
      onTestFinished(() => rmSync(to));
      const other = rig.open({ hostDir: { from: rig.socketBase, to }, memoryMb: 320 });
      await other.maintainPool({ grow: true }, never);
      const spec = testSpec("exit:7");
      const [ahead] = await listPooled();
      await other.ensure(spec, never);
      expect(await containerId(spec)).toBe(ahead);
      expect(await other.wait(spec.name, never)).toMatchObject({ exitCode: 7 });
    });
  });
});
