import { connect, type Socket } from "node:net";
import { afterEach, expect, it } from "vitest";
import { WebSocket } from "ws";
import { SOCKETS_PER_USER } from "../../../src/http/live/websocket-server.ts";
import { connectClient, createStreamClient, upTo, type StreamClient } from "./stream-client.ts";
import {
  ALICE,
  BOB,
  ORIGIN,
  openLiveServer,
  serves,
  until,
  type LiveServer,
  type LiveServerOptions,
} from "./live-server.ts";
import { frame, rawSocket, type RawSocket } from "./raw-websocket.ts";

const alice = `token-${ALICE.userId}`;
const AUTH = { Authorization: `Bearer ${alice}` };
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const servers: LiveServer[] = [];
async function openServer(options: LiveServerOptions = {}): Promise<LiveServer> {
  const server = await openLiveServer(options);
  servers.push(server);
  return server;
}
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close()));
});

async function stranger(server: LiveServer): Promise<StreamClient> {
  const client = createStreamClient(new WebSocket(server.url, "slipway.v1"));
  await until("open", () => client.ws.readyState === WebSocket.OPEN);
  return client;
}

const closedWith = (client: StreamClient, code: number, ms?: number): Promise<void> =>
  until(`close ${code}, had ${client.closed()}`, () => client.closed() === code, ms);

it("[S6] foreign origins and invalid credentials are rejected before the upgrade (item 56)", async () => {
  const server = await openServer();
  server.tickets.set("good", ALICE);
  const refused: [number, Record<string, string>][] = [
    [403, { ...AUTH, Origin: "https://evil.example" }],
    [403, { ...AUTH, Origin: "null" }],
    [403, { ...AUTH, Origin: `${ORIGIN}.evil.example` }],
    [403, { ...AUTH, Origin: "" }],
    [403, { Origin: "https://evil.example", "Sec-WebSocket-Protocol": "slipway.v1, ticket.good" }],
    [401, { Authorization: "Bearer wrong" }],
    [401, { Authorization: "Bearer" }],
    [401, { Authorization: "" }],
    [401, { Authorization: "Basic YTpi" }],
    [401, { Authorization: "Bearer wrong", "Sec-WebSocket-Protocol": "slipway.v1, ticket.good" }],
    [401, { "Sec-WebSocket-Protocol": "slipway.v1, ticket.unknown" }],
    [401, { "Sec-WebSocket-Protocol": "slipway.v1, ticket." }],
    [401, { "Sec-WebSocket-Protocol": "slipway.v1, ticket.good, ticket.other" }],
    [400, { ...AUTH, "Sec-WebSocket-Protocol": "chat" }],
    [400, { "Sec-WebSocket-Protocol": "ticket.good" }],
    [400, { ...AUTH, "Sec-WebSocket-Key": "short" }],
    [400, { ...AUTH, "Sec-WebSocket-Version": "99" }],
  ];
  for (const [status, headers] of refused) {
    const raw = await rawSocket(server.port, headers);
    expect([raw.status, headers]).toEqual([status, headers]);
    await raw.ended();
  }
  expect((await rawSocket(server.port, AUTH, "/v1/streams")).status).toBe(404);
  expect((await rawSocket(server.port, AUTH, "/v1/tasks")).status).toBe(404);
  expect(server.live.connections()).toBe(0);

  const offered = { Origin: ORIGIN, "Sec-WebSocket-Protocol": "slipway.v1, ticket.good" };
  const first = await rawSocket(server.port, offered);
  expect(first.status).toBe(101);
  expect(/sec-websocket-protocol: (.*)/i.exec(first.head)?.[1]).toBe("slipway.v1");
  expect((await rawSocket(server.port, offered)).status, "a used ticket").toBe(401);
  const bare = await rawSocket(server.port, AUTH);
  expect([bare.status, /sec-websocket-protocol/i.test(bare.head)]).toEqual([101, false]);
  await until("ready", () => bare.texts().length === 1);
  expect(bare.texts()).toEqual(['{"type":"ready"}']);
  for (const raw of [first, bare]) raw.socket.destroy();
  expect(await serves(server)).toBe(true);
});

it("[S6] an unauthenticated client authenticates in its first frame and in time, or is closed with 4401", async () => {
  const server = await openServer({ webSocketTiming: { authMs: 10_000 } });
  const { id } = await server.writer.create(ALICE.userId);
  const silent = await stranger(server);
  const hasty = await stranger(server);
  hasty.subscribe(`task:${id}`);
  const wrong = await stranger(server);
  wrong.say({ type: "auth", token: "wrong" });
  const known = await stranger(server);
  known.say({ type: "auth", token: alice });
  const late = await stranger(server);
  // Sent without waiting for `ready`: taken in order.
  known.subscribe(`task:${id}`);
  for (const client of [silent, hasty, wrong]) {
    await closedWith(client, 4401);
    expect(client.frames).toEqual([]);
  }
  await until("events", () => known.seqs(`task:${id}`).length === 1);
  expect(known.frames.map((sent) => sent.type)).toEqual(["ready", "subscribed", "events"]);
  // It came after the known one, whose time has passed as well.
  await closedWith(late, 4401);
  expect(known.closed()).toBe(null);
});

it("[S6] frames that break the protocol end the connection, not the server (items 57, 58)", async () => {
  const server = await openServer();
  const bad: [string, number, Buffer][] = [
    ["1 GiB announced", 1009, frame("x", { claims: 1n << 30n })],
    ["65,537 bytes", 1009, frame(Buffer.alloc(65_537, 120))],
    ["unmasked", 1002, frame('{"type":"ping"}', { masked: false })],
    ["RSV1", 1002, frame('{"type":"ping"}', { rsv1: true })],
    ["bad UTF-8", 1007, frame(Buffer.from([0xc3, 0x28]))],
    ["opcode 3", 1002, frame("x", { opcode: 3 })],
    ["fragmented ping", 1002, frame("x", { opcode: 9, fin: false })],
    ["lone continuation", 1002, frame("x", { opcode: 0 })],
    ["1-byte close", 1002, frame("x", { opcode: 8 })],
    ["close code 999", 1002, frame(Buffer.from([3, 231]), { opcode: 8 })],
    [
      "100 tiny fragments",
      1008,
      Buffer.concat([frame("x", { fin: false }), ...upTo(100).map(() => frame("x", { opcode: 0, fin: false }))]),
    ],
  ];
  for (const [name, code, bytes] of bad) {
    const raw = await rawSocket(server.port, AUTH);
    expect(raw.status, name).toBe(101);
    raw.send(bytes);
    await until(name, () => raw.closeCode() !== null);
    expect([name, raw.closeCode()]).toEqual([name, code]);
    raw.socket.destroy();
  }
  await until("all gone", () => server.live.connections() === 0);
  expect(await serves(server)).toBe(true);
  const client = await connectClient(server.url, alice);
  client.say({ type: "ping" });
  await until("pong", () => client.frames.some((sent) => sent.type === "pong"));
});

it("[S6] an invalid frame is answered with `invalid_frame`, the tenth with 1008 (item 63)", async () => {
  const server = await openServer();
  const { id } = await server.writer.create(ALICE.userId);
  const topic = `task:${id}`;
  const bad = [
    `{"type":"subscribe","topic":"${topic}","after":-1}`,
    `{"type":"subscribe","topic":"${topic}","after":1e99}`,
    `{"type":"subscribe","topic":"${topic}","after":NaN}`,
    `{"type":"subscribe","topic":"${topic}","after":"1"}`,
    `{"type":"subscribe","topic":"${topic}","after":1.5}`,
    `{"type":"subscribe","topic":"${topic}","after":0,"userId":"user_bob"}`,
    "[]",
    "not json",
    `${"[".repeat(30_000)}`,
  ];
  const client = await connectClient(server.url, alice);
  for (const text of bad) client.ws.send(text);
  await until("answers", () => client.errors().length === bad.length);
  expect(client.closed()).toBe(null);
  expect(new Set(client.errors())).toEqual(new Set(["invalid_frame"]));
  expect(client.batches(topic)).toEqual([]);
  client.ws.send(Buffer.from('{"type":"ping"}'), { binary: true });
  await closedWith(client, 1008);
  expect(client.errors()).toHaveLength(10);
  expect(await serves(server)).toBe(true);
});

it("[S6] a client that sends too many frames or pings is closed with 1008 (item 60)", async () => {
  const server = await openServer();
  const { id } = await server.writer.create(ALICE.userId);
  const flood = await connectClient(server.url, alice);
  for (let n = 0; n < 10_000; n++) flood.subscribe(`task:${id}`);
  const burst = await rawSocket(server.port, AUTH);
  burst.send(Buffer.concat(upTo(1_000).map(() => frame("", { opcode: 9 }))));
  const trickle = await rawSocket(server.port, AUTH);
  const other = await connectClient(server.url, `token-${BOB.userId}`);
  other.say({ type: "ping" });
  await until("the other is served", () => other.frames.some((sent) => sent.type === "pong"));
  await closedWith(flood, 1008);
  expect(flood.frames.filter((sent) => sent.type === "subscribed").length).toBeLessThan(400);
  await burst.ended();
  for (let n = 0; n < 100 && trickle.closeCode() === null; n++) {
    trickle.send(Buffer.concat(upTo(20).map(() => frame("", { opcode: 9 }))));
    await pause(10);
  }
  await until("1008", () => trickle.closeCode() === 1008);
  trickle.socket.destroy();
  const eager = await connectClient(server.url, alice);
  for (let n = 0; n < 200; n++) eager.say({ type: "ping" });
  await until(
    "what a reconnect sends at once passes",
    () => eager.frames.filter((sent) => sent.type === "pong").length === 200,
  );
});

it("[S6] connections of an ended session are closed, those with a renewed token stay open (item 62)", async () => {
  const server = await openServer({ webSocketTiming: { sessionMs: 200 } });
  const { id } = await server.writer.create(ALICE.userId);
  const soon = Date.now() + 10_000;
  server.people.set("short", { ...ALICE, sessionId: "s_short", expiresAt: soon });
  server.people.set("other", { ...ALICE, sessionId: "s_other" });
  const [expiring, renewed, revoked, impostor, steady] = await Promise.all(
    ["short", "short", "other", alice, alice].map((token) => connectClient(server.url, token)),
  );
  for (const client of [expiring, renewed, revoked, steady]) client!.subscribe(`task:${id}`);
  renewed!.say({ type: "auth", token: alice });
  impostor!.say({ type: "auth", token: `token-${BOB.userId}` });
  await closedWith(impostor!, 4401);
  server.revoked.add("s_other");
  await closedWith(revoked!, 4401);
  await closedWith(expiring!, 4401);
  expect(Date.now()).toBeGreaterThanOrEqual(soon);
  await server.writer.grow(id, 3);
  for (const client of [renewed, steady]) {
    await until("live", () => client!.seqs(`task:${id}`).length === 4);
    expect(client!.closed()).toBe(null);
  }
  for (const client of [expiring, revoked]) expect(client!.seqs(`task:${id}`)).toEqual([1]);
});

it("[S6] no data follows a close frame, also when the client does not answer it", async () => {
  const server = await openServer({ webSocketTiming: { sessionMs: 100, closeMs: 600 } });
  const { id } = await server.writer.create(ALICE.userId);
  const raw = await rawSocket(server.port, AUTH);
  raw.send(frame(JSON.stringify({ type: "subscribe", topic: `task:${id}`, after: 0 })));
  await until("events", () => raw.texts().length === 3);
  server.revoked.add("s_ann");
  await until("4401", () => raw.closeCode() === 4401);
  const before = raw.texts().length;
  await server.writer.grow(id, 5);
  raw.send(frame('{"type":"ping"}'));
  await raw.ended();
  expect(raw.texts()).toHaveLength(before);
  expect(server.live.connections()).toBe(0);
});

it("[S6] a thousand half-open upgrades time out while other clients are served (item 64)", async () => {
  const server = await openServer({ webSocketTiming: { authMs: 10_000, closeMs: 500 }, headersMs: 10_000 });
  const open = new Set<Socket>();
  let upgraded = 0;
  const started = await Promise.all(
    upTo(1_000).map(async (n) => {
      const socket = connect(server.port, "127.0.0.1");
      open.add(socket);
      socket.on("error", () => undefined);
      socket.on("close", () => open.delete(socket));
      socket.once("data", (text) => (upgraded += Number(String(text).startsWith("HTTP/1.1 101 "))));
      await new Promise((resolve) => socket.once("connect", resolve));
      socket.write(
        "GET /v1/stream HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
      );
      // Half of them stop inside the headers; the others open a socket and send nothing.
      if (n % 2 === 0) socket.write(`Sec-WebSocket-Key: ${Buffer.alloc(16).toString("base64")}\r\n\r\n`);
      return socket;
    }),
  );
  expect(started).toHaveLength(1_000);
  await until("strangers", () => upgraded === 500);
  expect(await serves(server)).toBe(true);
  const client = await connectClient(server.url, alice);
  await until("all ended", () => open.size === 0);
  await until("only the client", () => server.live.connections() === 1);
  expect(client.closed()).toBe(null);
});

it("[S6] the number of sockets per user is limited; other users are not affected", async () => {
  const server = await openServer();
  const clients = await Promise.all(upTo(SOCKETS_PER_USER).map(() => connectClient(server.url, alice)));
  expect((await rawSocket(server.port, AUTH)).status).toBe(429);
  const late = await stranger(server);
  late.say({ type: "auth", token: alice });
  await closedWith(late, 1008);
  await connectClient(server.url, `token-${BOB.userId}`);
  clients[0]!.ws.close();
  await until("one less", () => server.live.connections() === SOCKETS_PER_USER);
  const next = await connectClient(server.url, alice);
  expect(next.closed()).toBe(null);
});

it("[F3] two missed pings end a connection, answered ones keep it", async () => {
  const server = await openServer({ webSocketTiming: { pingMs: 500 } });
  const started = Date.now();
  const dead = await rawSocket(server.port, AUTH);
  const alive = await connectClient(server.url, alice);
  await dead.ended();
  expect(Date.now() - started).toBeGreaterThan(900);
  // Once more as long.
  await (await rawSocket(server.port, AUTH)).ended();
  expect(alive.closed()).toBe(null);
});

it("[F1] a shutdown closes every connection with 1012 and terminates after a second those that do not answer", async () => {
  const server = await openServer();
  const clients = await Promise.all(upTo(5).map(() => connectClient(server.url, alice)));
  const deaf: RawSocket = await rawSocket(server.port, AUTH);
  const unknown = await stranger(server);
  const started = Date.now();
  await server.live.close();
  expect(Date.now() - started).toBeLessThan(3_000);
  for (const client of [...clients, unknown]) await closedWith(client, 1012);
  expect(deaf.closeCode()).toBe(1012);
  await deaf.ended();
  expect(server.live.connections()).toBe(0);
  expect((await rawSocket(server.port, AUTH)).status).not.toBe(101);
});
