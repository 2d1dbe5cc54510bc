import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect } from "vitest";
import { LABELS } from "../../../src/sandbox/docker/container-spec.ts";
import { dockerOptions, openDockerSandbox, type DockerSandboxOptions } from "../../../src/sandbox/docker/sandbox.ts";
import { sandboxContract } from "../../contract/sandbox.ts";
import { dockerfile, openDockerRig, workerFile, type DockerRig } from "../../support/docker/sandbox-rig.ts";
import { BASE_IMAGE, describeWithDocker, dockerClient } from "../../support/docker/engine.ts";
import { openPeers, type Peers } from "../../support/process/sandbox-peer.ts";
import type { Sandbox, SandboxSpec } from "../../../src/core/ports/sandbox.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(6);

const never = new AbortController().signal;
let serial = 0;

describeWithDocker("Docker", () => {
  let peers: Peers;
  const openRig = openDockerRig(() => peers);

  beforeAll(async () => {
    peers = await openPeers();
  });
  afterAll(() => peers.close());

  sandboxContract("docker", openRig, { processes: true, outOfMemory: true, crashpoints: ["sandbox.created"] });

  describe("containers", () => {
    let rig: DockerRig;
    let sandbox: Sandbox;
    let socketDir: string;

    beforeEach(async () => {
      rig = await openRig();
      sandbox = rig.open();
      socketDir = mkdtempSync(join(tmpdir(), "slipway-sock-"));
      chmodSync(socketDir, 0o755);
      await sandbox.prepare(() => undefined, never);
    });
    afterEach(async () => {
      await rig.close();
      rmSync(socketDir, { recursive: true, force: true });
    });

    function testSpec(token: string): SandboxSpec {
      const taskId = `tsk_d${process.pid}x${++serial}`;
      return { name: `slipway-${taskId}-a1`, taskId, attempt: 1, socketDir, token, limits: {} };
    }

    /** The output of a command in a worker's container. */
    async function inside(command: string): Promise<string> {
      const spec = testSpec(`run:${command}`);
      await sandbox.ensure(spec, never);
      return (await sandbox.wait(spec.name, never)).tail;
    }

    it("reclaims only volumes and networks of finished attempts", async () => {
      const docker = dockerClient();
      const label = { [LABELS.instance]: rig.options.instance };
      const n = `${process.pid}x${++serial}`;
      const volume = (name: string, labels: Record<string, string>) =>
        docker.createVolume({ Name: name, Labels: labels });
      await volume(`slipway-task_v${n}-a1`, label);
      await volume(`slipway-task_w${n}-a2`, label);
      await volume(`slipway-pool-${n}-1`, label);
      await volume(`slipway-task_o${n}-a1`, { [LABELS.instance]: "another" });
      await docker.createNetwork({ Name: `slipway-task_v${n}-a1`, Labels: label });
      const wanted = (name: string) => Promise.resolve(name === `slipway-task_w${n}-a2`);
      const gone = [
        { kind: "volume", name: `slipway-task_v${n}-a1`, error: null },
        { kind: "network", name: `slipway-task_v${n}-a1`, error: null },
      ];
      try {
        expect(await sandbox.reclaim(wanted, "dry-run", never)).toMatchObject(gone);
        expect(await sandbox.reclaim(wanted, "remove", never)).toMatchObject(gone);
        expect(await sandbox.reclaim(wanted, "remove", never)).toEqual([]);
        const { Volumes } = await docker.listVolumes();
        const left = Volumes.map(({ Name }) => Name).filter((name) => name.includes(n));
        expect(left.toSorted()).toEqual([`slipway-pool-${n}-1`, `slipway-task_o${n}-a1`, `slipway-task_w${n}-a2`]);
      } finally {
        for (const name of [
          `slipway-task_v${n}-a1`,
          `slipway-task_w${n}-a2`,
          `slipway-pool-${n}-1`,
          `slipway-task_o${n}-a1`,
        ])
          await docker
            .getVolume(name)
            .remove()
            .catch(() => undefined);
      }
    });

    it.always("[S5] a worker has no network, no capabilities, no root and a read-only image", async () => {
      const output =
        await inside(`id -u; grep -E "^(CapEff|CapBnd|NoNewPrivs|Seccomp):" /proc/self/status | tr -s "[:space:]" " "; echo;
        ls /sys/class/net | tr "\\n" " "; touch /worker/x 2>&1; touch /etc/x 2>&1; touch /run/slipway/x 2>&1;
        node -e 'fetch("http://127.0.0.1:1").catch(e => console.log("loopback", e.cause.code)); require("net").connect(53, "192.0.2.1").on("error", e => console.log("outside", e.code))'`);
      expect(output).toContain("10001");
      expect(output).toMatch(/CapEff: 0+ CapBnd: 0+ NoNewPrivs: 1 Seccomp: 2/);
      expect(output).toContain("\nlo ");
      expect(output).not.toContain("eth0");
      expect(output.match(/Read-only file system/g)).toHaveLength(3);
      expect(output).toContain("outside ENETUNREACH");
    });

    /** The numbers are those of x86-64. */
    it.runIf(process.arch === "x64")(
      "[Y1] system calls that help to escape fail, and those that workers need succeed",
      async () => {
        const calls = {
          io_uring_setup: "425,1,0",
          unshare_user: "272,0x10000000",
          setns: "308,0,0",
          mount: "165,0,0,0,0,0",
          ptrace: "101,0,0,0,0",
          process_vm_readv: "310,1,0,0,0,0,0",
          keyctl: "250,0,0,0",
          bpf: "321,0,0,0",
          perf_event_open: "298,0,0,0,0,0",
          userfaultfd: "323,0",
          open_by_handle_at: "304,0,0,0",
          finit_module: "313,0,0,0",
          kexec_load: "246,0,0,0,0",
          clone_newuser: "56,0x10000011,0,0,0,0",
          vsock: "41,40,1,0",
          packet: "41,17,3,0",
          alg: "41,38,5,0",
          netlink_audit: "41,16,3,9",
          mptcp: "41,2,1,262",
          mptcp6: "41,10,1,262",
          sctp: "41,2,1,132",
          udplite: "41,2,2,136",
          settimeofday: "164,0,0",
          chroot: "161,0",
        };
        const tries = Object.entries(calls).map(
          ([name, call]) => `$r=syscall(${call}); print "${name} $r ", $!+0, "\\n";`,
        );
        const output = await inside(`perl -e '${tries.join(" ")} print "clone3 ", syscall(435,0,0), " ", $!+0, "\\n"'
        git --version; node -e 'console.log("node", require("child_process").execSync("echo ok").toString().trim(), new (require("worker_threads").Worker)("", { eval: true }).threadId > 0)'
        bash -c 'echo a | cat | wc -l'; rg --version | head -1; perl -e 'use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0) and print "unix "; socket(S, AF_INET6, SOCK_DGRAM, 0) and print "inet6 "; socket(S, AF_INET, SOCK_STREAM, 6) and print "tcp "; socket(S, AF_INET, SOCK_DGRAM, 17) and print "udp\\n"'`);
        const refused = Object.keys(calls).filter((name) => output.includes(`${name} -1 1\n`));
        expect(refused, output).toEqual(Object.keys(calls));
        expect(output).toContain("clone3 -1 38\n");
        expect(output).toMatch(/git version .*\nnode ok true\n1\nripgrep .*\nunix inet6 tcp udp/);
      },
    );

    it.always("[D4] [S1] the container's settings are exactly these", async () => {
      const spec = testSpec("run:sleep 30");
      await sandbox.ensure({ ...spec, limits: { memoryMb: 128, cpus: 0.5 } }, never);
      const { Config, HostConfig, Mounts } = await dockerClient().getContainer(spec.name).inspect();
      const {
        NetworkMode,
        CapDrop,
        CapAdd,
        Privileged,
        ReadonlyRootfs,
        Init,
        PidsLimit,
        Memory,
        MemorySwap,
        NanoCpus,
        IpcMode,
        PidMode,
        UTSMode,
        UsernsMode,
      } = HostConfig;
      expect({
        NetworkMode,
        CapDrop,
        CapAdd,
        Privileged,
        ReadonlyRootfs,
        Init,
        PidsLimit,
        Memory,
        MemorySwap,
        NanoCpus,
        IpcMode,
        PidMode,
        UTSMode,
        UsernsMode,
      }).toEqual({
        NetworkMode: "none",
        CapDrop: ["ALL"],
        CapAdd: null,
        Privileged: false,
        ReadonlyRootfs: true,
        Init: true,
        PidsLimit: 512,
        Memory: 128 * 2 ** 20,
        MemorySwap: 128 * 2 ** 20,
        NanoCpus: 5e8,
        IpcMode: "private",
        PidMode: "",
        UTSMode: "",
        UsernsMode: "",
      });
      expect(HostConfig.SecurityOpt?.[0]).toBe("no-new-privileges:true");
      // An empty list of masked paths would remove the engine's masks of /proc.
      expect(HostConfig.MaskedPaths?.length).toBeGreaterThan(5);
      expect(HostConfig.ReadonlyPaths?.length).toBeGreaterThan(3);
      expect([
        HostConfig.Devices ?? [],
        HostConfig.Binds ?? [],
        HostConfig.ExtraHosts ?? [],
        HostConfig.PortBindings ?? {},
      ]).toEqual([[], [], [], {}]);
      expect(
        Object.values(HostConfig.Tmpfs ?? {}).every(
          (options) => /size=.*nr_inodes=/.test(String(options)) && /nosuid,nodev/.test(String(options)),
        ),
      ).toBe(true);
      expect(
        Mounts.map(({ Destination, Type, RW }) => `${Destination} ${Type} ${RW}`).toSorted((a, b) => (a < b ? -1 : 1)),
      ).toEqual(["/run/slipway bind false", "/workspace volume true"]);
      expect(Config.User).toBe("10001:10001");
    });

    it("programs in /tmp, home and workspace can be executed, and the worker owns all three", async () => {
      const output = await inside(
        `for d in /tmp "$HOME" "$SLIPWAY_WORKSPACE"; do printf '#!/bin/sh\\necho ran $0\\n' > $d/p; chmod +x $d/p; $d/p; done; stat -c "%u %n" /workspace /home/agent`,
      );
      expect(output).toContain("ran /tmp/p");
      expect(output).toContain("ran /home/agent/p");
      expect(output).toContain("ran /workspace/p");
      expect(output).toContain("10001 /workspace");
      expect(output).toContain("10001 /home/agent");
    });

    it("limits of the task and of the server apply, without swap", async () => {
      const spec = { ...testSpec("sleep"), limits: { memoryMb: 192, cpus: 0.5 } };
      await sandbox.ensure(spec, never);
      const { HostConfig } = await dockerClient().getContainer(spec.name).inspect();
      expect(HostConfig).toMatchObject({
        Memory: 192 * 1_048_576,
        MemorySwap: 192 * 1_048_576,
        NanoCpus: 5e8,
        PidsLimit: 512,
        NetworkMode: "none",
        ReadonlyRootfs: true,
        AutoRemove: false,
        Privileged: false,
      });
    });

    it("[D3] remove deletes the workspace's volume", async () => {
      const spec = testSpec("exit:0");
      await sandbox.ensure(spec, never);
      const docker = dockerClient();
      const { Mounts } = await docker.getContainer(spec.name).inspect();
      const volume = Mounts.find((mount) => mount.Destination === "/workspace")?.Name ?? "";
      await docker.getVolume(volume).inspect();
      await sandbox.remove(spec.name);
      await expect(docker.getVolume(volume).inspect()).rejects.toMatchObject({ statusCode: 404 });
    });

    it("[D1] a foreign container of that name is not adopted and not started", async () => {
      const spec = testSpec("sleep");
      await rig.open().ensure({ ...spec, taskId: "tsk_other" }, never);
      await expect(sandbox.ensure(spec, never)).rejects.toMatchObject({ code: "sandbox_unavailable" });
      const other = openDockerSandbox({ ...rig.options, instance: `${rig.options.instance}-other` });
      await expect(other.ensure({ ...spec, taskId: "tsk_other" }, never)).rejects.toMatchObject({
        code: "sandbox_unavailable",
      });
      expect(await other.list()).toEqual([]);
      await other.close();
    });

    it("an out-of-memory kill of a child is not a failure when the worker exits with 0", async () => {
      const spec = testSpec(
        `run:node -e 'const a = []; for (;;) a.push(Buffer.alloc(16777216, 1))' >/dev/null 2>&1; echo went on`,
      );
      await sandbox.ensure(spec, never);
      const exit = await sandbox.wait(spec.name, never);
      expect(exit).toMatchObject({ exitCode: 0, outOfMemory: false });
      expect(exit.tail).toContain("went on");
    });

    it("a missing socket folder is reported with the engine's message", async () => {
      const spec = { ...testSpec("sleep"), socketDir: join(socketDir, "nothing") };
      await expect(sandbox.ensure(spec, never)).rejects.toMatchObject({
        code: "sandbox_unavailable",
        evidence: expect.stringMatching(/nothing/),
      });
    });
  });

  describe("images", () => {
    const made: string[] = [];
    let dir: string;
    beforeEach(() => {
      dir = mkdtempSync(join(tmpdir(), "slipway-image-"));
    });
    afterEach(async () => {
      rmSync(dir, { recursive: true, force: true });
      for (const name of made.splice(0))
        await dockerClient()
          .getImage(name)
          .remove({ force: true })
          .catch(() => undefined);
    });

    function builder(options: Partial<DockerSandboxOptions>): Sandbox {
      return openDockerSandbox({ instance: "images", workerFile, dockerfile, ...options });
    }

    it("builds the worker image once, with progress, and a new image for a changed worker", async () => {
      const file = join(dir, "worker.mjs");
      writeFileSync(file, `console.log("worker of ${dir}");`);
      const sandbox = builder({ workerFile: file });
      const output: string[] = [];
      const report = (text: string) => void output.push(text);
      await Promise.all([sandbox.prepare(report, never), sandbox.prepare(() => undefined, never)]);
      const image = /building (slipway-worker:[0-9a-f]{12})/.exec(output.join("\n"))?.[1] ?? "";
      made.push(image);
      expect(output.filter((line) => line.startsWith("building"))).toHaveLength(1);
      expect((await dockerClient().getImage(image).inspect()).Config.User).toBe("10001:10001");
      output.length = 0;
      await sandbox.prepare(report, never);
      expect(output).toEqual([]);
      writeFileSync(file, `console.log("a newer worker of ${dir}");`);
      await sandbox.prepare(report, never);
      const newer = /building (slipway-worker:[0-9a-f]{12})/.exec(output.join("\n"))?.[1] ?? "";
      made.push(newer);
      expect(newer).not.toBe(image);
      await sandbox.close();
    });

    it("an aborted prepare ends at once", async () => {
      const sandbox = builder({});
      await expect(sandbox.prepare(() => undefined, AbortSignal.abort())).rejects.toMatchObject({ name: "AbortError" });
      await sandbox.close();
    });

    it("a failed build is image_missing or image_pull_failed, with the builder's output", async () => {
      const broken = join(dir, "Dockerfile");
      writeFileSync(broken, `FROM ${BASE_IMAGE} AS worker\nRUN echo the reason is this && exit 3\n`);
      const sandbox = builder({ dockerfile: broken });
      await expect(sandbox.prepare(() => undefined, never)).rejects.toMatchObject({
        code: "image_pull_failed",
        evidence: expect.stringMatching(/the reason is this/),
      });
      await sandbox.close();
      const without = builder({ workerFile: join(dir, "nothing.mjs") });
      await expect(without.prepare(() => undefined, never)).rejects.toMatchObject({ code: "image_missing" });
      await without.close();
    });
  });
});

describe("an unavailable engine", () => {
  let dir: string;
  let server: Server | null = null;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "slipway-engine-"));
  });
  afterEach(async () => {
    await new Promise<void>((resolve) => (server === null ? resolve() : server.close(() => resolve())));
    server = null;
    rmSync(dir, { recursive: true, force: true });
  });

  function open(options: Partial<DockerSandboxOptions> = {}): Sandbox {
    return openDockerSandbox({
      docker: { socketPath: join(dir, "e.sock") },
      instance: "x",
      workerFile,
      dockerfile,
      timeoutMs: 300,
      outageMs: 400,
      pollMs: 100,
      ...options,
    });
  }

  const spec: SandboxSpec = {
    name: "slipway-x-a1",
    taskId: "x",
    attempt: 1,
    socketDir: "/nowhere",
    token: "t",
    limits: {},
  };

  async function expectAllRejected(sandbox: Sandbox): Promise<void> {
    const unavailable = { code: "sandbox_unavailable" };
    await expect(sandbox.check()).rejects.toMatchObject(unavailable);
    await expect(sandbox.prepare(() => undefined, never)).rejects.toMatchObject(unavailable);
    await expect(sandbox.ensure(spec, never)).rejects.toMatchObject(unavailable);
    await expect(sandbox.wait(spec.name, never)).rejects.toMatchObject(unavailable);
    await expect(sandbox.stop(spec.name, 100)).rejects.toMatchObject(unavailable);
    await expect(sandbox.remove(spec.name)).rejects.toMatchObject(unavailable);
    await expect(sandbox.list()).rejects.toMatchObject(unavailable);
    await sandbox.close();
  }

  it.always("[D7] every call rejects with sandbox_unavailable when nothing listens", () => expectAllRejected(open()));

  it.always("[D7] every call rejects with sandbox_unavailable when the engine hangs", async () => {
    const sockets = new Set<{ destroy(): void }>();
    server = createServer((socket) => sockets.add(socket.on("error", () => undefined)));
    await new Promise<void>((resolve) => server?.listen(join(dir, "e.sock"), resolve));
    await expectAllRejected(open());
    for (const socket of sockets) socket.destroy();
  });

  it.always("[D2] wait tolerates a restart of the engine and reports the exit", async () => {
    const sandbox = open({ outageMs: 20_000 });
    const end = sandbox.wait(spec.name, never);
    end.catch(() => undefined);
    await delay(500);
    server = createHttpServer((_, answer) => answer.writeHead(404, { connection: "close" }).end("{}"));
    await new Promise<void>((resolve) => server?.listen(join(dir, "e.sock"), resolve));
    expect(await end).toMatchObject({ exitCode: null });
    await sandbox.close();
  });

  it.always("[D7] an abort ends a call to a hung engine before the timeout", async () => {
    const sockets = new Set<{ destroy(): void }>();
    server = createServer((socket) => sockets.add(socket.on("error", () => undefined)));
    await new Promise<void>((resolve) => server?.listen(join(dir, "e.sock"), resolve));
    const sandbox = open({ timeoutMs: 60_000 });
    await expect(sandbox.ensure(spec, AbortSignal.timeout(50))).rejects.toMatchObject({ name: "TimeoutError" });
    await sandbox.close();
    for (const socket of sockets) socket.destroy();
  });

  it.always("DOCKER_HOST selects the engine", () => {
    expect(dockerOptions({})).toEqual({});
    expect(dockerOptions({ DOCKER_HOST: "unix:///run/user/1/docker.sock" })).toEqual({
      socketPath: "/run/user/1/docker.sock",
    });
  });
});
