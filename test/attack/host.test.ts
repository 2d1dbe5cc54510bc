/**
 * Items 65-66: a list of escapes from a container, each tried from inside one
 * task, and, as a positive control, in an unconfined container.
 */
import { execFile, spawnSync } from "node:child_process";
import { createSocket, type Socket } from "node:dgram";
import { getServers } from "node:dns";
import { createServer, type AddressInfo, type Server } from "node:net";
import { networkInterfaces } from "node:os";
import { afterAll, beforeAll, expect } from "vitest";
import { openAttackTarget, type AttackTarget } from "../support/docker/attacker.ts";
import { attackBattery, type Facts, type AttackAttempt } from "../support/docker/attack-battery.ts";
import { BASE_IMAGE, describeWithDocker } from "../support/docker/engine.ts";
import { inTurnTogether } from "../support/vitest/full-run.ts";
import { PATIENCE_MS } from "../support/vitest/patience.ts";

const it = inTurnTogether(3, 1);

describeWithDocker("a way out of the container", () => {
  let stage: AttackTarget;
  let facts: Facts;
  const heard: string[] = [];
  const closing: (() => void)[] = [];
  /** A container with a network: a person's own, beside Slipway. */
  const bystander = `slipway-test-bystander-${process.pid}`;

  beforeAll(async () => {
    stage = await openAttackTarget();
    const tcp = await listen("0.0.0.0");
    const udp = await listenUdp();
    const abstractName = `slipway-canary-${process.pid}`;
    const abstract = createServer((socket) => (heard.push("abstract"), socket.destroy())).listen(`\0${abstractName}`);
    closing.push(() => abstract.close());
    const serve = "require('net').createServer((s) => s.end()).listen(7000, '0.0.0.0')";
    docker("run", "-d", "--rm", "--name", bystander, BASE_IMAGE, "node", "-e", serve);
    const otherTask = await stage.submit([{ bash: "touch /dev/shm/theirs && echo there" }, { wait: 600_000 }]);
    await stage.says(otherTask, "there");
    facts = {
      addresses: Object.values(networkInterfaces()).flatMap((list) =>
        (list ?? []).filter(({ family, internal }) => family === "IPv4" && !internal).map(({ address }) => address),
      ),
      tcpPort: (tcp.address() as AddressInfo).port,
      udpPort: udp.address().port,
      loopbackPorts: [stage.server.url, stage.upstream.url].map((url) => Number(new URL(url).port)),
      abstractName,
      container: { address: docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", bystander).trim(), port: 7_000 },
      dataDir: stage.data,
      serverPid: stage.server.pid,
      otherTask,
      resolvers: getServers().map((server) => server.replace(/^\[|\](:\d+)?$|(?<=^[\d.]+):\d+$/g, "")),
    };
  });
  afterAll(async () => {
    for (const close of closing) close();
    spawnSync("docker", ["rm", "-f", bystander]);
    await stage.close();
  });

  function docker(...args: string[]): string {
    const { status, stdout, stderr } = spawnSync("docker", args, { encoding: "utf8" });
    if (status !== 0) throw new Error(stderr);
    return stdout;
  }

  async function listen(host: string): Promise<Server> {
    const server = createServer((socket) => (heard.push("tcp"), socket.destroy()));
    await new Promise<void>((resolve) => server.listen(0, host, resolve));
    closing.push(() => server.close());
    return server;
  }

  async function listenUdp(): Promise<Socket> {
    const socket = createSocket("udp4");
    socket.on("message", (_, from) => (heard.push("udp"), socket.send("back", from.port, from.address)));
    await new Promise<void>((resolve) => socket.bind(0, "0.0.0.0", resolve));
    closing.push(() => socket.close());
    return socket;
  }

  /** A port that the canaries of this process do not use. */
  function spawned(args: readonly string[], input: string): Promise<{ stdout: string; stderr: string }> {
    return new Promise((resolve) => {
      const child = execFile("docker", args, { timeout: PATIENCE_MS, maxBuffer: 2 ** 26 }, (_error, stdout, stderr) =>
        resolve({ stdout, stderr }),
      );
      child.stdin?.end(input);
    });
  }

  const shown = (text: string): string => text.trim().split("\n").slice(-2).join(" | ").slice(0, 120);

  it("[S1] [S5] (65, 66) every escape is refused, and no canary receives a connection", async () => {
    const tries = attackBattery(facts);
    const { said, task } = await stage.attack(
      tries.map(({ command }) => ({ bash: `{ ${command}\n} 2>&1`, timeoutMs: 20_000 })),
    );
    expect(said).toHaveLength(tries.length);
    const results = tries.map((one, i) => ({ ...one, output: said[i]?.output ?? "" }));
    console.log(results.map(({ name, output }) => `${name.padEnd(60)} ${shown(output)}`).join("\n"));
    const reached = results.filter(({ output, refusal }) => output.includes("REACHED") || !refusal.test(output));
    expect(reached.map(({ name, output }) => `${name}: ${output}`)).toEqual([]);
    expect(heard).toEqual([]);
    expect(task).toMatchObject({ state: "done", attempt: 1 });
  });

  it("the same escapes succeed in an unconfined container", async () => {
    const tries = attackBattery(facts).filter(({ control }) => control === "reaches");
    const script = tries.map(({ command }, i) => `echo "@@${i}"\n{ ${command}\n} 2>&1`).join("\n");
    const capabilities = [
      "SYS_ADMIN",
      "NET_ADMIN",
      "NET_RAW",
      "SYS_PTRACE",
      "MKNOD",
      "SYSLOG",
      "SYS_NICE",
      "SYS_CHROOT",
    ];
    const free = [
      ...capabilities.map((name) => `--cap-add=${name}`),
      ...["seccomp=unconfined", "systempaths=unconfined", "apparmor=unconfined"].map(
        (option) => `--security-opt=${option}`,
      ),
      ...["network", "pid", "ipc"].map((name) => `--${name}=host`),
      "--device=/dev/kmsg",
      "--volume=/:/host",
      `--volume=${stage.data}:${stage.data}`,
    ];
    const { stdout, stderr } = await spawned(["run", "--rm", "-i", ...free, BASE_IMAGE, "bash"], script);
    const outputs = stdout.split(/^@@\d+\n/m).slice(1);
    const missed = tries.flatMap((one: AttackAttempt, i) =>
      outputs[i]?.includes("REACHED") === true ? [] : [`${one.name}: ${shown(outputs[i] ?? "")}`],
    );
    expect(missed, stderr).toEqual([]);
    expect(new Set(heard)).toEqual(new Set(["tcp", "udp", "abstract"]));
  });
});
