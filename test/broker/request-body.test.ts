/**
 * Limits of the request bodies of one attempt: memory, number, time. Real sockets; the
 * memory is that of this process.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from "node:http";
import { connect, type AddressInfo, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterEach, beforeEach, describe, expect } from "vitest";
import { openBroker, type BrokerOptions } from "../../src/broker/server.ts";
import { DEFAULT_RULES } from "../../src/broker/model/request/policy.ts";
import { createModelGateway } from "../../src/broker/model/gateway.ts";
import { startFakeModel } from "../../src/broker/model/fake/server.ts";
import { PRICES } from "../../src/broker/model/price-table.ts";
import { createProviderRateLimit } from "../../src/broker/model/rate-limit.ts";
import { systemClock } from "../../src/core/lib/runtime/system-clock.ts";
import { MemoryWorkerApi } from "../worker/memory-worker-api.ts";
import { quiet, SECRET } from "../worker/rig.ts";
import { sized } from "../support/random.ts";
import type { Broker, BrokerEndpoint, ModelBudget } from "../../src/core/ports/broker.ts";
import { inTurn } from "../support/vitest/full-run.ts";

const it = inTurn(3);

const MIB = 2 ** 20;
const KEY = "sk-real-key-of-the-server";
const MESSAGES = "/anthropic/v1/messages";
const EVENTS = "/worker/v1/events";
const generous: ModelBudget = {
  admit: async () => ({ update: () => null, settle: async () => undefined, cancel: async () => undefined }),
  admitFree: async () => undefined,
};

let dir: string;
let workerApi: MemoryWorkerApi;
let sockets: Socket[];
let closers: (() => unknown)[];

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "sw-body-"));
  workerApi = new MemoryWorkerApi();
  sockets = [];
  closers = [];
});
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  for (const close of closers.reverse()) await close();
  rmSync(dir, { recursive: true, force: true });
});

function make(baseUrl: string, options: Partial<BrokerOptions> = {}): Broker {
  const rate = createProviderRateLimit({ clock: systemClock, longestMs: 60_000 });
  const serveModel = createModelGateway({
    baseUrl,
    apiKey: KEY,
    budget: generous,
    rules: DEFAULT_RULES,
    prices: PRICES,
    rate,
    log: quiet,
  });
  const broker = openBroker({
    dir,
    workerApi: workerApi,
    repoPath: () => dir,
    secrets: () => [SECRET],
    instance: "test",
    log: quiet,
    serveModel,
    ...options,
  });
  closers.push(() => broker.close());
  return broker;
}

async function withFake(options: Partial<BrokerOptions> = {}): Promise<Broker> {
  const fake = await startFakeModel({
    scenarios: { default: { turns: [{ say: "Hello." }], afterwards: "again" } },
    apiKey: KEY,
  });
  closers.push(() => fake.close());
  return make(fake.url, options);
}

interface Reply {
  readonly status: number;
  readonly text: string;
  readonly headers: IncomingMessage["headers"];
}

/** Sends a whole body. */
function post(door: BrokerEndpoint, path: string, body: string | Buffer): Promise<Reply> {
  const reply = new Promise<Reply>((resolve, reject) => {
    const headers = {
      authorization: `Bearer ${door.token}`,
      "content-type": "application/json",
      "content-length": Buffer.byteLength(body),
    };
    const request = httpRequest(
      { socketPath: join(door.socketDir, "b.sock"), method: "POST", path, headers, agent: false },
      (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (piece: string) => (text += piece));
        response
          .on("error", reject)
          .on("end", () => resolve({ status: response.statusCode ?? 0, text, headers: response.headers }));
      },
    );
    request.on("error", reject).end(body);
  });
  // A test that failed earlier does not await this reply.
  reply.catch(() => undefined);
  return reply;
}

/**
 * Sends the head and the first part of the body; resolves with everything that was received
 * when the connection ends.
 */
function begin(door: BrokerEndpoint, line: string, header: string, body: string): Promise<string> {
  const socket = connect(join(door.socketDir, "b.sock"));
  sockets.push(socket);
  socket.on("error", () => undefined);
  socket.write(`${line} HTTP/1.1\r\nhost: b\r\nauthorization: Bearer ${door.token}\r\n${header}\r\n\r\n${body}`);
  return new Promise((resolve) => {
    let text = "";
    socket.on("data", (piece: Buffer) => (text += piece.toString()));
    socket.on("close", () => resolve(text));
  });
}

const parseStatus = (text: string): number => Number(/^HTTP\/1\.1 (\d+)/.exec(text)?.[1] ?? 0);

/** A messages request of exactly the given number of bytes. */
function ask(bytes: number): Buffer {
  const [before, after] = [
    '{"model":"claude-opus-5-5","max_tokens":100,"messages":[{"role":"user","content":"',
    '"}]}',
  ];
  return Buffer.from(before + "x".repeat(bytes - before.length - after.length) + after);
}

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

/** Heap in use after a full collection, which takes a tenth of a second. */
function used(): number {
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** The same, after the objects of earlier tests are gone. */
async function rest(): Promise<number> {
  for (;;) {
    const before = used();
    await pause(200);
    const now = used();
    if (Math.abs(now - before) < MIB) return now;
  }
}

interface Provider {
  readonly url: string;
  /** Requests that arrived, in order. Their bodies are not read. */
  readonly come: { readonly request: IncomingMessage; readonly response: ServerResponse }[];
}

async function reluctant(): Promise<Provider> {
  const come: Provider["come"] = [];
  // The broker closes idle connections first, also when this process has no turn for seconds.
  const options = { keepAliveTimeout: 60_000 };
  const server = createServer(options, (request, response) => void come.push({ request, response }));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, come };
}

const STREAM = { "content-type": "text/event-stream" };
/** Two tests wait for it; what they look at before takes less on a busy machine too. */
const BODY_MS = 20_000;
/** The machine may be busy. */
const SOON = { interval: 50 };
/** Of what has to be measured. */
const SEEN = { ...SOON, interval: 500 };
const PING = 'event: ping\ndata: {"type":"ping"}\n\n';
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

describe("[S6] bodies for the model", () => {
  it("wait outside until there is room, and are let go once they are written, long before they are answered", async () => {
    const provider = await reluctant();
    const broker = make(provider.url);
    const [door, other] = [await broker.open(workerApi.taskId, 1), await broker.open(workerApi.taskId, 2)];
    const body = ask(8 * MIB);
    const before = await rest();
    const refused: unknown[] = [];
    const note = (reply: unknown): void => void ((reply as Partial<Reply>).status !== 200 && refused.push(reply));
    const replies = Array.from({ length: 28 }, () => post(door, MESSAGES, body));
    for (const reply of replies) reply.then(note, note);
    await expect.poll(() => provider.come.length, SOON).toBe(4);
    const small = post(other, MESSAGES, ask(200));
    await expect.poll(() => provider.come.length, SOON).toBe(5);
    provider.come.pop()!.response.writeHead(200, STREAM).end(PING);
    expect(await small).toMatchObject({ status: 200, text: PING });
    await pause(300);
    expect(provider.come).toHaveLength(4);
    await expect.poll(() => used() - before, SEEN).toBeLessThan(60 * MIB);

    const read = async ({ request }: Provider["come"][number]): Promise<void> => {
      await new Promise((resolve) => request.on("end", resolve).resume());
    };
    for (const arrival of provider.come) await read(arrival);
    await expect.poll(() => used() - before, SEEN).toBeLessThan(20 * MIB);
    for (const { response } of provider.come) response.writeHead(200, STREAM).write(PING);
    await pause(300);
    await expect.poll(() => used() - before, SEEN).toBeLessThan(20 * MIB);
    for (const { response } of provider.come) response.end();
    for (let n = 4; n < replies.length; n += 1) {
      await expect.poll(() => refused.length > 0 || provider.come.length > n, SOON).toBe(true);
      expect(refused).toEqual([]);
      const arrival = provider.come[n]!;
      await read(arrival);
      arrival.response.writeHead(200, STREAM).end(PING);
    }
    expect(await Promise.all(replies)).toEqual(Array(28).fill(expect.objectContaining({ status: 200, text: PING })));
  });

  it("of four messages at once do not wait for each other, even if the provider is slow; the next ones wait unread", async () => {
    const provider = await reluctant();
    const door = await make(provider.url).open(workerApi.taskId, 1);
    const replies = Array.from({ length: 36 }, () => post(door, MESSAGES, ask(200_000)));
    for (let n = 0; n < replies.length; n += 1) {
      await expect.poll(() => provider.come.length, SOON).toBe(Math.min(n + 4, replies.length));
      const { request, response } = provider.come[n]!;
      await new Promise((resolve) => request.on("end", resolve).resume());
      response.writeHead(200, STREAM).end(PING);
    }
    expect(new Set((await Promise.all(replies)).map(({ status }) => status))).toEqual(new Set([200]));
  });

  it("that do not arrive release their memory in time; requests beyond the waiting limit get Retry-After", async () => {
    const door = await (await withFake({ bodyMs: BODY_MS })).open(workerApi.taskId, 1);
    const slow = begin(door, `POST ${MESSAGES}`, `content-length: ${32 * MIB}`, '{"mo');
    await pause(100);
    // Three wait for memory, the others for one of those, and the last that comes is refused.
    const posted = Array.from({ length: 36 }, () => post(door, MESSAGES, ask(300)));
    const refused = await Promise.race(posted);
    expect([refused.status, refused.headers["retry-after"], refused.text]).toEqual([
      429,
      "1",
      expect.stringContaining("rate_limit_error"),
    ]);
    const never = begin(door, `POST ${MESSAGES}`, `content-length: ${32 * MIB + 1}\r\nconnection: close`, "");
    expect(parseStatus(await never)).toBe(413);
    // Both were refused immediately: no memory is free.
    expect(sockets[0]?.bytesRead).toBe(0);
    expect(parseStatus(await slow)).toBe(408);
    expect(await slow).toContain("timeout_error");
    const statuses = (await Promise.all(posted)).map(({ status }) => status);
    expect(statuses.toSorted((a, b) => a - b)).toEqual([...Array<number>(35).fill(200), 429]);
    expect((await post(door, MESSAGES, ask(1_000_000))).status).toBe(200);
  });

  it("that are cut short or can never fit hold no memory", async () => {
    const door = await (await withFake()).open(workerApi.taskId, 1);
    for (let n = 0; n < 3; n += 1) {
      const cut = begin(door, `POST ${MESSAGES}`, `content-length: ${32 * MIB}`, '{"mo');
      await pause(50);
      sockets.at(-1)!.destroy();
      expect(await cut).toBe("");
      const large = begin(door, `POST ${MESSAGES}`, `content-length: ${32 * MIB + 1}\r\nconnection: close`, "{");
      expect(parseStatus(await large)).toBe(413);
      expect(await large).toContain("request_too_large");
      const pieces = begin(
        door,
        `POST ${MESSAGES}`,
        "transfer-encoding: chunked\r\nconnection: close",
        "1\r\n{\r\n0\r\n\r\n",
      );
      expect(parseStatus(await pieces)).toBe(400);
    }
    expect((await post(door, MESSAGES, ask(31 * MIB))).status).toBe(200);
  });

  it("take as much as their bytes, also in pieces of one byte", async () => {
    const door = await (await withFake()).open(workerApi.taskId, 1);
    const before = await rest();
    const answer = begin(door, `POST ${MESSAGES}`, "transfer-encoding: chunked", "1\r\n \r\n".repeat(400_000));
    await expect.poll(() => sockets[0]?.writableLength, SOON).toBe(0);
    await pause(500);
    await expect.poll(() => used() - before, SEEN).toBeLessThan(20 * MIB);
    sockets[0]?.write("0\r\n\r\n");
    sockets[0]?.end();
    expect(parseStatus(await answer)).toBe(400);
  });

  it("are measured before they are parsed: neither depth nor number of values is free", async () => {
    const door = await (await withFake()).open(workerApi.taskId, 1);
    const bodies: [string, RegExp][] = [
      [
        `{"model":"claude-opus-5-5","messages":[${"[".repeat(100_000)}${"]".repeat(100_000)}]}`,
        /deeper than 200 levels/,
      ],
      [
        `{"model":"claude-opus-5-5","messages":[${'{"content":'.repeat(100_000)}1${"}".repeat(100_000)}]}`,
        /deeper than 200 levels/,
      ],
      [`{"model":"claude-opus-5-5","messages":[${"{},".repeat(400_000)}{}]}`, /more than 500000 values/],
      ["[".repeat(1_000_000), /deeper than 200 levels/],
    ];
    for (const [body, words] of bodies) {
      const { status, text } = await post(door, MESSAGES, body);
      expect([status, text]).toEqual([400, expect.stringMatching(words)]);
      expect(text).toContain("invalid_request_error");
    }
    const words = String.raw`\"[{,,,\\\"`.repeat(100_000);
    const level = `${"[".repeat(190)}${"]".repeat(190)}`;
    const blocks = `[{"type":"text","text":"${words}"}]`;
    const good = `{"model":"claude-opus-5-5","max_tokens":9,"messages":[{"role":"user","content":${blocks}}],"metadata":{"x":${level}}}`;
    expect((await post(door, MESSAGES, good)).status).toBe(200);
  });
});

describe("[S6] bodies of the worker's calls", () => {
  const heartbeat = JSON.stringify({ attempt: 1, events: [] });

  it("share their memory, release it in time, and do not delay another attempt", async () => {
    const broker = await withFake({ bodyMs: BODY_MS });
    const [door, other] = [await broker.open(workerApi.taskId, 1), await broker.open(workerApi.taskId, 2)];
    const slow = ["content-length: 2000000", "transfer-encoding: chunked"].map((header) =>
      begin(door, `POST ${EVENTS}`, header, ""),
    );
    await pause(100);
    let answered = false;
    const large = post(door, EVENTS, JSON.stringify({ attempt: 1, events: [], padding: "x".repeat(1_000_000) }));
    void large.then(() => (answered = true));
    // The service knows attempt 1 only; its refusal is an answer too.
    expect((await post(other, EVENTS, heartbeat)).status).toBe(410);
    await pause(500);
    expect(answered).toBe(false);
    expect((await large).status).toBe(400);
    for (const text of slow) expect(await text).toMatch(/^HTTP\/1\.1 408 [^]*request_timeout/);
    expect((await post(door, EVENTS, heartbeat)).status).toBe(200);
    expect(
      (
        await post(
          door,
          "/worker/v1/transcript",
          JSON.stringify({ attempt: 1, n: 1, record: { x: "x".repeat(900_000) } }),
        )
      ).status,
    ).toBe(200);
  });

  it("keep it until the answer is complete", async () => {
    const accept = workerApi.accept.bind(workerApi);
    let [open, held] = [(): void => undefined, 0];
    const opened = new Promise<void>((resolve) => (open = resolve));
    workerApi.accept = async (...call) => {
      held += 1;
      await opened;
      return accept(...call);
    };
    const door = await (await withFake()).open(workerApi.taskId, 1);
    const padded = `${heartbeat}${" ".repeat(1_500_000)}`;
    const replies = Array.from({ length: 6 }, () => post(door, EVENTS, padded));
    await expect.poll(() => held, SOON).toBe(2);
    await pause(200);
    expect(held).toBe(2);
    open();
    expect((await Promise.all(replies)).map(({ status }) => status)).toEqual(Array(6).fill(200));
  });
});

describe("[S6] bodies that are not read yet", () => {
  it.each([
    ["for the model", `POST ${MESSAGES}`],
    ["of the worker", `POST ${EVENTS}`],
    ["of git", "POST /git/repo.git/git-receive-pack"],
    ["of long polls", "GET /worker/v1/commands?wait=25"],
  ])("cost little, also in pieces of one byte: %s", async (_name, line) => {
    const serveGit: BrokerOptions["serveGit"] = ({ signal }) =>
      new Promise((resolve) => signal.addEventListener("abort", () => resolve()));
    // Neither a poll nor a body ends by itself, however slow the machine is.
    workerApi.commands = (_taskId, _attempt, _after, _waitMs, signal) =>
      new Promise((resolve) => signal?.addEventListener("abort", () => resolve([])));
    const broker = await withFake({ serveGit, bodyMs: 600_000 });
    const [door, other] = [await broker.open(workerApi.taskId, 1), await broker.open(workerApi.taskId, 2)];
    const before = await rest();
    const pieces = "1\r\n \r\n".repeat(sized(3_000, 10_000));
    const ends = Array.from({ length: 200 }, () => begin(door, line, "transfer-encoding: chunked", pieces));
    // The others are held, or wait.
    await expect.poll(() => sockets.filter(({ bytesRead }) => bytesRead > 0).length, SOON).toBeGreaterThan(160);
    await expect.poll(() => used() - before, SEEN).toBeLessThan(120 * MIB);
    expect((await post(other, MESSAGES, ask(200))).status).toBe(200);
    await broker.revoke(workerApi.taskId, 1);
    expect(new Set((await Promise.all(ends)).map(parseStatus))).toEqual(new Set([0, 429]));
  });

  it("answers that the client does not read are bounded: the next is made when one has been sent", async () => {
    workerApi.overrides = { prompt: "x".repeat(3 * MIB) };
    const broker = await withFake();
    const [door, other] = [await broker.open(workerApi.taskId, 1), await broker.open(workerApi.taskId, 2)];
    const before = await rest();
    const ask = (): Socket => {
      const socket = connect(join(door.socketDir, "b.sock"));
      socket.on("error", () => undefined);
      socket.write(`GET /worker/v1/spec HTTP/1.1\r\nhost: b\r\nauthorization: Bearer ${door.token}\r\n\r\n`);
      sockets.push(socket);
      return socket;
    };
    const unread = Array.from({ length: 100 }, ask);
    await expect.poll(() => workerApi.requestTimes.length, SOON).toBe(8);
    await pause(500);
    expect(workerApi.requestTimes).toHaveLength(8);
    await expect.poll(() => used() - before, SEEN).toBeLessThan(60 * MIB);
    expect(parseStatus(await begin(door, "GET /worker/v1/spec", "connection: close", ""))).toBe(429);
    expect(parseStatus(await begin(other, "GET /worker/v1/spec", "connection: close", ""))).toBe(410);
    for (const socket of unread) socket.resume();
    // 8, and the 16 that waited; the rest was refused.
    await expect.poll(() => workerApi.requestTimes.length, SOON).toBe(25);
    for (const socket of unread) socket.destroy();
    expect(parseStatus(await begin(door, "GET /worker/v1/spec", "connection: close", ""))).toBe(200);
  });

  it("end when the broker shuts", async () => {
    const broker = await withFake();
    const door = await broker.open(workerApi.taskId, 1);
    const body = ask(20 * MIB);
    const slow = begin(door, `POST ${MESSAGES}`, `content-length: ${20 * MIB}`, "{");
    await pause(100);
    const waiting = Array.from({ length: 20 }, () => post(door, MESSAGES, body).catch((error: Error) => error.message));
    await pause(200);
    const begun = performance.now();
    await broker.revoke(workerApi.taskId, 1);
    expect(await slow).toBe("");
    for (const end of await Promise.all(waiting)) expect(end).toMatch(/hang up|ECONNRESET|EPIPE/);
    expect(performance.now() - begun).toBeLessThan(10_000);
  });
});
