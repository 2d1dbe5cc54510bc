/**
 * Fan-out: one event to many sockets. Ours: the bus delivers a hint, the hub reads the store and
 * sends through the WebSocket server. The floor: a bare ws loop that sends one prepared frame of
 * the same size. Both serve the same number of clients from this process, rounds alternate within
 * one run, and the clients live in a process of their own. A round's time runs from the
 * announcement (floor: the first send) until a client has the frame; the clock is the machine's
 * monotonic one, which both processes share.
 */
import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import { connect, type AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { WebSocketServer, type WebSocket } from "ws";
import { attachWebSocketServer } from "../../../src/http/live/websocket-server.ts";
import type { Store } from "../../../src/core/ports/store.ts";
import { systemClock } from "../../../src/core/lib/runtime/system-clock.ts";
import { BENCH_TASK, createBenchTask, openBenchStore, percentile, quiet } from "../../support.ts";
import { openBenchHub } from "./hub.ts";
import type { Bus } from "../../../src/core/ports/runtime.ts";
import { PROTOCOL } from "../../../src/core/protocol/stream-constants.ts";

/**
 * Milliseconds until half, and 99 %, of the sockets have the frame, in the middle one of all
 * rounds: one round that the machine disturbed decides nothing.
 */
export interface Spread {
  readonly p50: number;
  readonly p99: number;
}

export interface FanoutResult {
  readonly sockets: number;
  readonly rounds: number;
  readonly ours: Spread;
  readonly floor: Spread;
  /** p99 of ours by p99 of the floor: 1 = as fast as a bare loop. */
  readonly ratio: number;
}

const WARM_UP = 5;
/**
 * More than the least time between two frames of a channel: the first event after a pause is
 * measured.
 */
const REST_MS = 40;
const TEXT = "x".repeat(200);
const CLIENTS = "--fanout-clients";
/** Sockets of one user; the server allows no more. */
const PER_USER = 20;

export async function fanout(
  options: { readonly sockets?: number; readonly rounds?: number } = {},
): Promise<FanoutResult> {
  const { sockets = 2_000, rounds = 60 } = options;
  const { store, close } = await openBenchStore();
  const ours = await serveOurs(store);
  const floor = await serveFloor();
  const clients = await startClients([ours.port, floor.port], sockets);
  try {
    const times: Record<"ours" | "floor", number[][]> = { ours: [], floor: [] };
    for (let round = 0; round < rounds + WARM_UP; round++) {
      // The first one runs with cold caches, so they alternate.
      const order = round % 2 === 0 ? (["ours", "floor"] as const) : (["floor", "ours"] as const);
      for (const side of order) {
        await systemClock.sleep(REST_MS);
        const arrived = await clients.round(side === "ours" ? 0 : 1, side === "ours" ? ours.send : floor.send);
        if (round >= WARM_UP) times[side].push(arrived);
      }
    }
    const [a, b] = [spread(times.ours), spread(times.floor)];
    return { sockets, rounds, ours: a, floor: b, ratio: a.p99 / b.p99 };
  } finally {
    clients.stop();
    await ours.close();
    await floor.close();
    await close();
  }
}

function spread(rounds: readonly number[][]): Spread {
  const middle = (p: number): number =>
    percentile(
      rounds.map((times) => percentile(times, p)),
      50,
    );
  return { p50: middle(50), p99: middle(99) };
}

const nowNs = (): bigint => process.hrtime.bigint();

// ---------------------------------------------------------------- the two servers

interface Side {
  readonly port: number;
  /** Sends one event to everyone. @returns when it began, in ns. */
  send(): Promise<bigint>;
  close(): Promise<void>;
}

async function serveOurs(store: Store): Promise<Side> {
  const { hub, bus } = openBenchHub(store);
  const server = createServer();
  const visitor = (token: string) =>
    Promise.resolve({ userId: token, role: "operator" as const, sessionId: null, expiresAt: null });
  const live = attachWebSocketServer(server, {
    hub,
    authenticate: visitor,
    redeemTicket: visitor,
    isSessionValid: () => Promise.resolve(true),
    allowedOrigins: () => [],
    clock: systemClock,
    log: quiet,
  });
  const grow = await growingTask(store);
  return {
    port: await listening(server),
    send: () => grow(bus),
    async close() {
      await live.close();
      hub.close();
      await bus.close();
      await ended(server);
    },
  };
}

/** A task in the store; each call commits one more event and then announces it. */
async function growingTask(store: Store): Promise<(bus: Bus) => Promise<bigint>> {
  const task = await createBenchTask(store);
  const data = { level: "info", code: "note", text: TEXT };
  return async (bus) => {
    await task.append([{ type: "notice", from: "queued", to: "queued", data }]);
    const begun = nowNs();
    bus.publishHint({ taskId: BENCH_TASK, userId: "user_1", seq: task.seq() });
    return begun;
  };
}

async function serveFloor(): Promise<Side> {
  const server = createServer();
  const wss = new WebSocketServer({ server, perMessageDeflate: false, handleProtocols: () => PROTOCOL });
  const open = new Set<WebSocket>();
  wss.on("connection", (ws) => {
    ws.send('{"type":"ready"}');
    ws.once("message", () => {
      ws.send('{"type":"subscribed"}');
      ws.send('{"type":"events"}');
      open.add(ws);
    });
  });
  // About as long as the frame that ours sends for one event.
  const item = {
    taskId: BENCH_TASK,
    seq: 10,
    at: new Date().toISOString(),
    attempt: 0,
    type: "notice",
    from: "queued",
    to: "queued",
  };
  const data = { level: "info", code: "note", text: TEXT };
  const frame = Buffer.from(
    JSON.stringify({ type: "events", topic: `task:${BENCH_TASK}`, items: [{ ...item, data }], cursor: 10 }),
  );
  return {
    port: await listening(server),
    async send() {
      const begun = nowNs();
      for (const ws of open) ws.send(frame, { binary: false });
      return begun;
    },
    async close() {
      for (const ws of open) ws.terminate();
      wss.close();
      await ended(server);
    },
  };
}

async function listening(server: Server): Promise<number> {
  server.listen({ port: 0, host: "127.0.0.1", backlog: 4_096 });
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

async function ended(server: Server): Promise<void> {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
}

// ---------------------------------------------------------------- the clients

type FromClients = { readonly ready: true } | { readonly arrived: readonly string[] };

interface Clients {
  /** One frame to all clients of a side. @returns each one's delay in ms. */
  round(side: 0 | 1, send: () => Promise<bigint>): Promise<number[]>;
  stop(): void;
}

async function startClients(ports: readonly [number, number], sockets: number): Promise<Clients> {
  const child: ChildProcess = fork(fileURLToPath(import.meta.url), [CLIENTS, String(sockets), ...ports.map(String)], {
    execArgv: [],
  });
  const told = async (): Promise<FromClients> => ((await once(child, "message")) as [FromClients])[0];
  await told();
  return {
    async round(side, send) {
      const prepared = told();
      child.send({ side });
      await prepared;
      const done = told();
      const begun = await send();
      const result = await done;
      if (!("arrived" in result)) throw new Error("the clients answered out of turn");
      return result.arrived.map((at) => Number(BigInt(at) - begun) / 1e6);
    },
    stop: () => void child.kill(),
  };
}

/**
 * Runs in the child: opens the sockets, then reports for each round when each got its frame.
 */
async function runClients(sockets: number, ports: readonly number[]): Promise<void> {
  let arrived: bigint[] = [];
  let side = -1;
  const onFrame = (from: number): void => {
    if (from !== side) return;
    arrived.push(nowNs());
    if (arrived.length === sockets) process.send?.({ arrived: arrived.map(String) });
  };
  for (const [index, port] of ports.entries()) {
    for (let n = 0; n < sockets; n += 50) {
      const batch = Array.from({ length: Math.min(50, sockets - n) }, (_, i) =>
        openClient(port, n + i, () => onFrame(index)),
      );
      await Promise.all(batch);
    }
  }
  process.on("message", (message: { side: number }) => {
    arrived = [];
    side = message.side;
    process.send?.({ ready: true });
  });
  process.send?.({ ready: true });
}

/**
 * The least that a client can be: no parsing, one read = one frame, as frames come one at a time.
 * Resolves when it follows the task.
 */
function openClient(port: number, n: number, onFrame: () => void): Promise<void> {
  const socket = connect(port, "127.0.0.1");
  const payload = Buffer.from(JSON.stringify({ type: "subscribe", topic: `task:${BENCH_TASK}`, after: 0 }));
  const subscribe = Buffer.concat([Buffer.from([0x81, 0x80 | payload.length, 0, 0, 0, 0]), payload]);
  const headers = [
    "GET /v1/stream HTTP/1.1",
    "Host: 127.0.0.1",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    `Sec-WebSocket-Key: ${Buffer.alloc(16, n % 251).toString("base64")}`,
    `Sec-WebSocket-Protocol: ${PROTOCOL}`,
    `Authorization: Bearer user_${Math.floor(n / PER_USER)}`,
  ];
  socket.write(`${headers.join("\r\n")}\r\n\r\n`);
  return new Promise((resolve, reject) => {
    let text = "";
    let asked = false;
    let following = false;
    socket.on("error", reject);
    socket.on("data", (chunk) => {
      if (following) return onFrame();
      text += chunk.toString("latin1");
      if (!asked && text.includes('"ready"')) {
        asked = true;
        socket.write(subscribe);
      }
      if (text.includes('"events"')) {
        following = true;
        text = "";
        resolve();
      }
    });
  });
}

if (process.argv[2] === CLIENTS) await runClients(Number(process.argv[3]), process.argv.slice(4).map(Number));
