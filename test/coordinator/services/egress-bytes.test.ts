/** The bytes that a task may move: real sockets through the real proxy, counted by the service. */
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { createConnectProxy } from "../../../src/broker/connect-proxy.ts";
import { openBroker } from "../../../src/broker/server.ts";
import { createEgressService, type EgressService } from "../../../src/coordinator/services/egress.ts";
import type { Broker } from "../../../src/core/ports/broker.ts";
import { ALICE, openHarness, type Harness } from "../../support/coordinator/harness.ts";
import { MemoryWorkerApi } from "../../worker/memory-worker-api.ts";
import { quiet, SECRET } from "../../worker/rig.ts";

const MIB = 2 ** 20;
const KEY = "egress.bytes";
let harness: Harness;
let dir: string;
let host: Server;
/** What the host outside has received. */
let received: number;
let place: string;
const brokers: Broker[] = [];
const sockets: Socket[] = [];

beforeEach(async () => {
  harness = await openHarness({ settings: { egress: ["allowlist"], egressMb: 40 } });
  dir = mkdtempSync(join(tmpdir(), "sw-egress-bytes-"));
  received = 0;
  // Takes what it gets, and answers each 8 bytes "SEND nnn" with nnn MiB.
  host = createServer((socket) => {
    socket.on("error", () => socket.destroy());
    socket.on("data", (piece) => {
      received += piece.length;
      const wanted = /^SEND (\d{3})$/.exec(piece.toString("latin1"))?.[1];
      if (wanted !== undefined) socket.write(Buffer.alloc(Number(wanted) * MIB));
    });
  });
  await new Promise<void>((resolve) => host.listen(0, "127.0.0.1", resolve));
  place = `packages.example:${(host.address() as AddressInfo).port}`;
  await harness.coordinator.egress.change(null, { allow: [place] });
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const broker of brokers.splice(0)) await broker.close();
  await new Promise((resolve) => host.close(resolve));
  await harness.close();
  rmSync(dir, { recursive: true, force: true });
});

/** A broker of a coordinator that asks this service; @returns the socket of the attempt. */
async function door(taskId: string, api: EgressService): Promise<{ path: string; token: string }> {
  const broker = openBroker({
    dir: join(dir, `run${brokers.length}`),
    workerApi: new MemoryWorkerApi(),
    repoPath: () => dir,
    secrets: () => [SECRET],
    instance: `test${brokers.length}`,
    log: quiet,
    serveTunnel: createConnectProxy({ api, log: quiet, trustedHosts: [place], resolve: async () => ["127.0.0.1"] }),
  });
  brokers.push(broker);
  const { socketDir, token } = await broker.open(taskId, 1);
  return { path: join(socketDir, "b.sock"), token };
}

interface Tunnel {
  readonly socket: Socket;
  head: string;
  /** Bytes after the head. */
  bytes: number;
  isClosed: boolean;
}

async function open({ path, token }: { path: string; token: string }): Promise<Tunnel> {
  const socket = connect(path, () =>
    socket.write(`CONNECT ${place} HTTP/1.1\r\nhost: x\r\nproxy-authorization: Bearer ${token}\r\n\r\n`),
  );
  sockets.push(socket);
  const tunnel: Tunnel = { socket, head: "", bytes: 0, isClosed: false };
  socket.on("error", () => undefined).on("close", () => (tunnel.isClosed = true));
  socket.on("data", (piece) => {
    if (tunnel.head.startsWith("HTTP/1.1 200")) tunnel.bytes += piece.length;
    else tunnel.head += piece.toString("latin1");
  });
  await expect.poll(() => tunnel.head).toMatch(/^HTTP\/1\.1 \d+ [^]*\r\n\r\n/);
  return tunnel;
}

/** A second coordinator on the same database. */
const restarted = (): EgressService =>
  createEgressService({
    repos: harness.repos,
    sandbox: harness.sandbox,
    store: harness.store,
    taskLog: harness.coordinator.taskLog,
    variables: { redactNow: (_id, text) => text },
    log: quiet,
    trustedHosts: [],
    egress: ["allowlist"],
    egressMb: 40,
  });

const usedUp = async (id: string): Promise<string[]> =>
  (await harness.store.events(id, 0, 1_000)).items
    .filter(({ data }) => data["code"] === "egress_used_up")
    .map(({ data }) => String(data["text"]));

async function begin(): Promise<string> {
  const { id } = await harness.submit({ egress: "allowlist" });
  await harness.until(id, "provisioning");
  return id;
}

it("[S5] both directions and all tunnels of a task share its bytes; above them a tunnel is cut and none opens", async () => {
  const id = await begin();
  const entry = await door(id, harness.coordinator.egress);
  const [up, down, idle] = [await open(entry), await open(entry), await open(entry)];
  up.socket.write(Buffer.alloc(10 * MIB));
  await expect.poll(() => received).toBe(10 * MIB);
  down.socket.write("SEND 020");
  await expect.poll(() => down.bytes).toBe(20 * MIB);
  expect([up.isClosed, down.isClosed]).toEqual([false, false]);
  down.socket.write("SEND 020");
  await expect.poll(() => down.isClosed).toBe(true);
  expect(received + down.bytes).toBeLessThanOrEqual(40 * MIB);
  const before = received;
  up.socket.write("more");
  idle.socket.write("more");
  await expect.poll(() => [up.isClosed, idle.isClosed]).toEqual([true, true]);
  expect(received).toBe(before);
  const refused = await open(entry);
  expect(refused.head).toMatch(/^HTTP\/1\.1 403 .*40 MB.*SLIPWAY_EGRESS_MB/);
  expect(refused.head).toContain('"code":"egress_used_up"');
  await harness.coordinator.taskLog.idle();
  expect(await usedUp(id)).toEqual([expect.stringMatching(/all that one task may.*SLIPWAY_EGRESS_MB/)]);
  // Others go on.
  const other = await begin();
  expect((await open(await door(other, harness.coordinator.egress))).head).toMatch(/^HTTP\/1\.1 200/);
});

it("[S5] a restart forgets no more than 16 MiB, and nothing once the bytes are used up", async () => {
  const id = await begin();
  const first = await open(await door(id, harness.coordinator.egress));
  first.socket.write("SEND 039");
  await expect.poll(() => first.bytes).toBe(39 * MIB);
  await expect.poll(async () => await harness.store.setting(KEY)).not.toBeNull();
  const counts = JSON.parse((await harness.store.setting(KEY)) ?? "{}") as Record<string, number>;
  expect(39 * MIB - (counts[id] ?? 0)).toBeLessThan(16 * MIB);
  const second = await open(await door(id, restarted()));
  second.socket.write("SEND 039");
  await expect.poll(() => second.isClosed).toBe(true);
  expect(second.bytes).toBeLessThan(16 * MIB + MIB);
  await expect
    .poll(async () => JSON.parse((await harness.store.setting(KEY)) ?? "{}") as object)
    .toEqual({ [id]: 40 * MIB });
  const third = await open(await door(id, restarted()));
  expect(third.head).toMatch(/^HTTP\/1\.1 403 .*all that one task may/);
});

it("[F8] a settled task leaves no count, neither in memory nor in the store", async () => {
  const id = await begin();
  const api = harness.coordinator.egress;
  const tunnel = await open(await door(id, api));
  tunnel.socket.write("SEND 020");
  await expect.poll(async () => await harness.store.setting(KEY)).toContain(id);
  await harness.coordinator.tasks.cancel(ALICE, id, false);
  await harness.until(id, "cancelled");
  await expect.poll(async () => await harness.store.setting(KEY)).toBeNull();
  expect(api.spend(id, 1, 1)).toBe("The task is over.");
});
