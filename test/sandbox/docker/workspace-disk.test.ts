/**
 * Disk limits of workspaces on a real engine, attacked from inside; and no disk is left after a
 * crash of the coordinator at any point.
 */
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { extract } from "tar-stream";
import { Readable } from "node:stream";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect } from "vitest";
import { LoopDevices } from "../../../src/sandbox/docker/disk/loop-devices.ts";
import type { Limits } from "../../../src/core/task.ts";
import { openDockerRig, type DockerRig } from "../../support/docker/sandbox-rig.ts";
import { describeWithDocker, dockerClient, needsLoops } from "../../support/docker/engine.ts";
import { findRemains } from "../../support/docker/cleanup.ts";
import { openPeers, type Peers } from "../../support/process/sandbox-peer.ts";
import { sampled } from "../../support/random.ts";
import type { Sandbox, SandboxExit, SandboxSpec } from "../../../src/core/ports/sandbox.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(6);

const never = new AbortController().signal;
const NOTHING = { containers: [], volumes: [], files: [], devices: [] };
const nobody = (): Promise<boolean> => Promise.resolve(false);
let serial = 0;

describeWithDocker("workspaces", () => {
  const docker = dockerClient();
  let peers: Peers;
  let rig: DockerRig;
  let sandbox: Sandbox;

  beforeAll(async () => {
    peers = await openPeers();
  });
  afterAll(() => peers.close());
  afterEach(() => rig.close());

  async function open(warm?: number, changes: Parameters<DockerRig["open"]>[0] = {}): Promise<void> {
    rig = await openDockerRig(() => peers, warm)();
    sandbox = rig.open(changes);
    await sandbox.prepare(() => undefined, never);
  }

  function testSpec(command: string, limits: Limits = { diskMb: 64 }): SandboxSpec {
    const taskId = `tsk_k${process.pid}x${++serial}`;
    const socketDir = join(rig.socketBase, `${taskId}-a1`);
    mkdirSync(socketDir);
    chmodSync(socketDir, 0o755);
    return {
      name: `slipway-${taskId}-a1`,
      taskId,
      attempt: 1,
      socketDir,
      token: command === "sleep" ? command : `run:${command}`,
      limits,
    };
  }

  async function runs(spec: SandboxSpec, using = sandbox): Promise<SandboxExit> {
    await using.ensure(spec, never);
    return await using.wait(spec.name, never);
  }

  const wall = async (of: Sandbox) => (await of.hardeningChecks()).find(({ name }) => name === "disk of workers");
  const left = () => findRemains(rig.options.instance, rig.disks);

  /** One run of garbage collection when no task needs anything. */
  async function tick(using = sandbox): Promise<void> {
    for (const { name } of await using.list()) await using.remove(name);
    for (const { name, error } of await using.reclaim(nobody, "remove", never))
      expect([name, error]).toEqual([name, null]);
  }

  const FILL = `cd "$SLIPWAY_WORKSPACE"
    fallocate -l 200M a 2>&1; rm -f a
    dd if=/dev/zero of=b bs=1M count=200 2>&1; du -m b; rm b
    echo "one more" > c && cat c`;
  /** Creates empty files until that fails; prints their number. */
  const FILES = `cd "$SLIPWAY_WORKSPACE"; mkdir f; cd f
    node -e 'const fs=require("fs");let n=0;try{for(;n<200000;n++)fs.writeFileSync("x"+n,"")}catch(e){console.log(e.code)};console.log("files",n)'`;

  describe("on loop devices", () => {
    beforeEach(async ({ skip }) => {
      await open();
      await needsLoops(skip);
    });

    it.always(
      "[Y2] a worker that fills its disk gets ENOSPC and can continue after deleting; other tasks are not affected",
      async () => {
        expect(await wall(sandbox)).toMatchObject({
          state: "full",
          detail: expect.stringMatching(/the kernel enforces the size of workspaces/),
        });
        const other = testSpec(
          `cd "$SLIPWAY_WORKSPACE"; sleep 1; for i in $(seq 20); do dd if=/dev/zero of=x$i bs=1M count=1 2>/dev/null; sleep 0.1; done; du -sm .`,
        );
        const [filled, quiet] = await Promise.all([runs(testSpec(FILL)), runs(other)]);
        expect(filled.tail.match(/No space left on device/g)).toHaveLength(2);
        expect(Number(/^(\d+)\s+b$/m.exec(filled.tail)?.[1])).toBeLessThanOrEqual(64);
        expect(filled.tail).toContain("one more\none more".slice(0, 8));
        expect(filled).toMatchObject({ exitCode: 0, diskFull: false });
        expect(quiet).toMatchObject({ exitCode: 0, tail: expect.stringMatching(/^2[01]\s/m) });
      },
    );

    it("[Y2] the number of files is limited too", async () => {
      const { tail } = await runs(testSpec(FILES));
      expect(tail).toContain("ENOSPC");
      expect(Number(/files (\d+)/.exec(tail)?.[1])).toBeLessThan((64 * 2 ** 20) / 16_384);
    });

    it.each([
      ["space", "dd if=/dev/zero of=b bs=1M; exit 3"],
      ["files", "i=0; while : > x$i; do i=$((i+1)); done; exit 3"],
    ])("[Y2] a failed worker with no %s left is disk_full; another failed worker is not", async (_what, command) => {
      expect(await runs(testSpec(`cd "$SLIPWAY_WORKSPACE"; ${command}`))).toMatchObject({
        exitCode: 3,
        diskFull: true,
      });
      expect(await runs(testSpec("exit 3"))).toMatchObject({ exitCode: 3, diskFull: false });
    });

    it("a workspace starts empty, belongs to the worker, and has the task's size, or the server's", async () => {
      const look = `cd "$SLIPWAY_WORKSPACE"; ls -A | wc -l; stat -c "%u:%g" .; df -m --output=size . | tail -1`;
      const sizes = await Promise.all(
        [{ diskMb: 128 }, {}].map(async (limits) => {
          const [, files, owner, size] = (await runs(testSpec(look, limits))).tail.split("\n");
          expect([files, owner]).toEqual(["0", "10001:10001"]);
          return Number(size);
        }),
      );
      expect(sizes[0]).toBeGreaterThan(110);
      expect(sizes[0]).toBeLessThanOrEqual(128);
      expect(sizes[1]).toBeGreaterThan(230);
      expect(sizes[1]).toBeLessThanOrEqual(256);
    });

    it("[C4] a workspace begins as a copy of what an archive holds: a task that spoils it changes no other", async () => {
      const name = `probe-kept-${process.pid}`;
      const inBase = (file: string): string => join(rig.socketBase, file);
      const [made, archive, disk] = [inBase("made"), inBase("setup.tar"), inBase("setup.img")];
      mkdirSync(join(made, "workspace/deps/locked"), { recursive: true });
      mkdirSync(join(made, "home/agent/mod"), { recursive: true });
      writeFileSync(join(made, "workspace/deps/a"), "kept\n");
      writeFileSync(join(made, "home/agent/mod/tool"), "tool\n");
      for (const folder of ["workspace/deps/locked", "home/agent/mod"]) chmodSync(join(made, folder), 0o555);
      execFileSync("tar", ["-c", "-f", archive, "-C", made, "workspace/deps", "home/agent/mod"]);
      const first = testSpec(`true`);
      await runs(first);
      const place = await sandbox.setupPlace?.(first.name, never);
      expect(place).toMatchObject({ digest: null, sizeMb: 64 });
      const where = { environment: place?.environment ?? "", sizeMb: 64 };
      await sandbox.makeSetupDisk?.(where, { archive, disk }, never);
      // One that cannot be unpacked leaves nothing either.
      writeFileSync(archive, "no archive");
      const broken = sandbox.makeSetupDisk?.(where, { archive, disk: `${disk}2` }, never);
      await expect(broken).rejects.toThrow(/it ended with 2/);
      expect(existsSync(`${disk}2`)).toBe(false);

      const asked: unknown[] = [];
      const findSetupDisk: SandboxSpec["findSetupDisk"] = async (of) => {
        asked.push(of);
        return { digest: name, path: disk };
      };
      const look = `cd "$SLIPWAY_WORKSPACE"/.slipway-setup; cat workspace/deps/a; tar -t -f home.tar; ls; stat -c %u workspace/deps/a
        echo poison > workspace/deps/a; chmod u+w workspace/deps/locked; rm home.tar`;
      for (const spec of [testSpec(look), testSpec(look)].map((each) => ({ ...each, findSetupDisk }))) {
        const { tail } = await runs(spec);
        const lines = tail.trim().split("\n").slice(-6);
        expect(lines).toEqual(["kept", "home/agent/mod/", "home/agent/mod/tool", "home.tar", "workspace", "10001"]);
        expect(await sandbox.setupPlace?.(spec.name, never)).toMatchObject({ digest: name, sizeMb: 64 });
      }
      expect(asked).toEqual([where, where]);
      // An image that disappears costs time, not the task.
      rmSync(disk);
      const empty = await runs({ ...testSpec('ls -A "$SLIPWAY_WORKSPACE" | wc -l'), findSetupDisk });
      expect(empty.tail.trim()).toMatch(/0$/);
      await tick();
      expect(await left()).toEqual(NOTHING);
    });

    it("[D3] volume, image and device are removed with the container", async () => {
      const spec = testSpec("sleep");
      await sandbox.ensure(spec, never);
      expect(await left()).toMatchObject({
        volumes: [spec.name],
        files: [`${spec.name}.dev`, `${spec.name}.img`],
        devices: [expect.stringMatching(/^loop/)],
      });
      await Promise.all([sandbox.remove(spec.name), sandbox.remove(spec.name)]);
      expect(await left()).toEqual(NOTHING);
    });

    const CREATION = ["disk.made", "disk.attached", "sandbox.created"];
    it.each(sampled(CREATION, 1))(
      "[D3] after a crash at %s one garbage collection removes everything",
      async (point) => {
        const peer = rig.peer?.(testSpec("sleep"), point);
        await peer?.waitForOutput("ready");
        peer?.go();
        expect(await peer?.ended).toBe("SIGKILL");
        expect((await left()).files).not.toEqual([]);
        // Container and disk are created concurrently; the engine may create it after the crash.
        for (const end = Date.now() + 10_000; Date.now() < end && (await left()).containers.length === 0;)
          await delay(50);
        await tick();
        expect(await left()).toEqual(NOTHING);
      },
    );

    it.each(sampled(["sandbox.removed", "disk.volume.removed"], 1))(
      "[D3] after a crash at %s during removal one garbage collection removes everything",
      async (point) => {
        const peer = rig.startCrashing(testSpec("sleep"), point);
        await peer.waitForOutput("ready");
        peer.go();
        expect(await peer.ended).toBe("SIGKILL");
        const { containers, devices } = await left();
        expect([containers, devices.length]).toEqual([[], 1]);
        await tick();
        expect(await left()).toEqual(NOTHING);
      },
    );

    it.each(sampled(CREATION, 1))(
      "[D2] after a crash at %s the next ensure results in one running sandbox with one device",
      async (point) => {
        const spec = testSpec('df "$SLIPWAY_WORKSPACE" | tail -1; exit 7');
        const peer = rig.peer?.(spec, point);
        await peer?.waitForOutput("ready");
        peer?.go();
        await peer?.ended;
        // The attempt still needs it, so nothing is reclaimed.
        expect(await sandbox.reclaim((name) => Promise.resolve(name === spec.name), "remove", never)).toEqual([]);
        expect(await runs(spec)).toMatchObject({ exitCode: 7, tail: expect.stringMatching(/\.dev/) });
        expect((await left()).devices).toHaveLength(1);
      },
    );

    it("[W6] after a restart of the machine a workspace is found again, even if another image has its device", async () => {
      const spec = testSpec('echo mine > "$SLIPWAY_WORKSPACE/whose"');
      await runs(spec);
      const [device] = (await left()).devices;
      // Like after a restart: no image is attached, and another image gets the device first.
      execFileSync("losetup", ["--detach", `/dev/${device}`]);
      const strange = new LoopDevices(rig.disks);
      await strange.attach("slipway-pool-strange", 16);
      const [taken, ...others] = (await left()).devices;
      expect(others).toEqual([]);
      // If another process took the device, the link is set to the other image's, which is the
      // same situation.
      rmSync(strange.devicePath(spec.name));
      symlinkSync(`/dev/${taken}`, strange.devicePath(spec.name));
      expect(await contents(await sandbox.salvage(spec.name, never))).toContain("mine\n");
      expect((await left()).devices).toHaveLength(2);
    });

    it("[D7] a volume of a running attempt is kept, and a failed removal is reported", async () => {
      const spec = testSpec("sleep");
      await sandbox.ensure(spec, never);
      expect(await sandbox.reclaim(nobody, "remove", never)).toEqual([]);
      expect((await left()).devices).toHaveLength(1);
    });
  });

  describe("of the warm pool", () => {
    beforeEach(async ({ skip }) => {
      await open(1);
      await needsLoops(skip);
      await sandbox.maintainPool({ grow: true }, never);
    });

    it("exist before the claim, are kept by it, and are removed with the container", async () => {
      const [ahead] = await docker.listContainers({ filters: { label: [`slipway.instance=${rig.options.instance}`] } });
      const write = 'cd "$SLIPWAY_WORKSPACE"; dd if=/dev/urandom of=b bs=1M count=40 conv=fsync 2>/dev/null';
      const spec = testSpec(`${write}; df -m --output=size . | tail -1`, {});
      const { tail } = await runs(spec);
      // What it takes of the disk is known by the name of the sandbox, not of the pooled one.
      const use = await sandbox.workspaces?.();
      expect([use?.dir, [...(use?.bytes.keys() ?? [])]]).toEqual([rig.disks, [spec.name]]);
      expect(use?.bytes.get(spec.name)).toBeGreaterThan(40 * 2 ** 20);
      expect((await docker.getContainer(spec.name).inspect()).Id).toBe(ahead?.Id);
      expect(Number(/^\s*(\d+)$/m.exec(tail)?.[1])).toBeGreaterThan(230);
      await sandbox.remove(spec.name);
      expect(await left()).toEqual(NOTHING);
    });

    it("[D3] a task with another size does not claim a pooled container", async () => {
      const spec = testSpec("sleep", { diskMb: 64 });
      await sandbox.ensure(spec, never);
      expect((await left()).containers).toHaveLength(2);
    });
  });

  describe("in watch mode", () => {
    it.each([
      ["space", "dd if=/dev/zero of=b bs=1M count=100 2>/dev/null; sleep 60"],
      ["files", 'node -e \'for(let n=0;n<5000;n++)require("fs").writeFileSync("x"+n,"")\'; sleep 60'],
    ])(
      "[Y2] a worker that uses too much %s is killed as disk_full; another worker continues",
      async (_what, command) => {
        await open();
        const watching = rig.open({ disk: { mode: "watch", dir: rig.disks, defaultMb: 256 } });
        expect(await wall(watching)).toMatchObject({
          state: "degraded",
          detail: expect.stringMatching(/SLIPWAY_DISK=watch.*is killed some seconds later/),
        });
        const other = testSpec(
          'dd if=/dev/zero of="$SLIPWAY_WORKSPACE/x" bs=1M count=40 2>/dev/null; sleep 9; echo done',
        );
        const spec = testSpec(`cd "$SLIPWAY_WORKSPACE"; ${command}`);
        const [greedy, quiet] = await Promise.all([runs(spec, watching), runs(other, watching)]);
        expect(greedy).toMatchObject({ exitCode: 137, diskFull: true, outOfMemory: false });
        expect(quiet).toMatchObject({ exitCode: 0, diskFull: false, tail: expect.stringMatching(/done/) });
        // An adapter that did not measure it classifies it the same.
        expect(
          await rig.open({ disk: { mode: "watch", dir: rig.disks, defaultMb: 256 } }).wait(spec.name, never),
        ).toMatchObject({
          diskFull: true,
        });
        await tick(watching);
        expect(await left()).toEqual(NOTHING);
      },
    );

    it("[Y2] measurements become more frequent as the limit approaches", async () => {
      await open();
      const watching = rig.open({ disk: { mode: "watch", dir: rig.disks, defaultMb: 64 } });
      const slowly = "for i in $(seq 500); do dd if=/dev/zero of=x$i bs=1M count=4 2>/dev/null; sleep 0.1; done";
      const spec = testSpec(`cd "$SLIPWAY_WORKSPACE"; ${slowly}`, {});
      expect(await runs(spec, watching)).toMatchObject({ exitCode: 137, diskFull: true });
      const { Mountpoint } = await docker.getVolume(spec.name).inspect();
      const written = Number(execFileSync("du", ["-sm", Mountpoint], { encoding: "utf8" }).split("\t")[0]);
      // At most 40 MiB per second: a pause of 5 s would allow more than 260.
      expect(written).toBeGreaterThan(64);
      expect(written).toBeLessThan(180);
    });

    it("[Y2] without access to the engine's files the engine measures", async () => {
      await open();
      const elsewhere = rig.open({ docker: { socketPath: "/var/run/docker.sock" } });
      expect(await wall(elsewhere)).toMatchObject({
        state: "degraded",
        detail: expect.stringMatching(/on another machine/),
      });
      const spec = testSpec('dd if=/dev/zero of="$SLIPWAY_WORKSPACE/b" bs=1M count=100 2>/dev/null; sleep 60');
      expect(await runs(spec, elsewhere)).toMatchObject({ exitCode: 137, diskFull: true });
    });
  });

  it("[Y2] in tmpfs mode ENOSPC occurs at half of the memory, and nothing can be salvaged", async () => {
    await open(undefined, { disk: { mode: "tmpfs", dir: "/nowhere", defaultMb: 4_096 } });
    const spec = testSpec(FILL, {});
    const exit = await runs(spec);
    expect(exit.tail.match(/No space left on device/g)).toHaveLength(2);
    expect(Number(/^(\d+)\s+b$/m.exec(exit.tail)?.[1])).toBeLessThanOrEqual(128);
    await expect(sandbox.salvage(spec.name, never)).rejects.toThrow("in memory");
    await sandbox.remove(spec.name);
    expect(await left()).toEqual(NOTHING);
  });

  it.always("SLIPWAY_DISK=loop without loop devices is sandbox_unavailable with the reason", async () => {
    await open();
    const elsewhere = rig.open({
      docker: { socketPath: "/var/run/docker.sock" },
      disk: { mode: "loop", dir: rig.disks, defaultMb: 64 },
    });
    const expected = {
      code: "sandbox_unavailable",
      message: /SLIPWAY_DISK=loop does not work here: the engine is on another machine/,
    };
    await expect(elsewhere.check()).rejects.toMatchObject(expected);
    await expect(elsewhere.ensure(testSpec("sleep"), never)).rejects.toMatchObject(expected);
  });

  it.always("garbage collection keeps unknown files in the folder and removes stale drafts", async () => {
    await open();
    writeFileSync(join(rig.disks, "notes.txt"), "");
    writeFileSync(join(rig.disks, "young.abc.new"), "");
    writeFileSync(join(rig.disks, "old.abc.new"), "");
    execFileSync("touch", ["-d", "2 minutes ago", join(rig.disks, "old.abc.new"), join(rig.disks, "notes.txt")]);
    // As of a device, which is older than the link to it.
    symlinkSync(join(rig.disks, "notes.txt"), join(rig.disks, "link.abc.new"));
    await tick();
    expect((await left()).files.toSorted()).toEqual(["link.abc.new", "notes.txt", "young.abc.new"]);
    for (const name of ["notes.txt", "link.abc.new"]) rmSync(join(rig.disks, name));
  });
});

async function contents(tar: AsyncIterable<Uint8Array> | null): Promise<string> {
  const reader = extract();
  Readable.from(tar ?? []).pipe(reader as unknown as NodeJS.WritableStream);
  let all = "";
  for await (const entry of reader) for await (const part of entry) all += String(part);
  return all;
}
