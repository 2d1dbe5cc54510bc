/** Clients that hold what they do not use: connections, answers that nobody reads. */
import { createServer as createPlain, request as httpRequest } from "node:http";
import { connect, type AddressInfo, type Socket } from "node:net";
import { Readable } from "node:stream";
import { afterEach, describe, expect, it } from "vitest";
import { LargeAnswers } from "../../../src/http/server/client-limits.ts";
import { createServer } from "../../../src/http/server/server.ts";
import { openApiServer, type ApiServer } from "../api-server.ts";

let api: ApiServer | null = null;
const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
  await api?.close();
  api = null;
});

interface Client {
  readonly socket: Socket;
  /** What arrived, if the client reads. */
  readonly text: () => string;
  readonly isClosed: () => boolean;
}
function open(port: number, text: string, isReading: boolean): Promise<Client> {
  const socket = connect({ port, host: "127.0.0.1" });
  let [received, closed] = ["", false];
  socket.on("error", () => undefined).on("close", () => (closed = true));
  if (isReading) socket.on("data", (bytes: Buffer) => (received += bytes.toString()));
  closers.push(() => socket.destroy());
  return new Promise((resolve) =>
    socket.once("connect", () => {
      socket.write(text);
      resolve({ socket, text: () => received, isClosed: () => closed });
    }),
  );
}
const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`;

describe("[S6] connections of one address", () => {
  it("are limited with an answer, and others go on when they end", async () => {
    api = await openApiServer({ limits: { perAddress: 5 } });
    const { port } = api;
    const held = await Promise.all(Array.from({ length: 5 }, () => open(port, "GET /healthz HTTP/1.1\r\n", true)));
    const late = await open(port, get("/healthz"), true);
    await expect.poll(late.isClosed).toBe(true);
    expect(late.text()).toMatch(/^HTTP\/1.1 429 [\s\S]*"code":"rate_limited"/);
    held[0]?.socket.destroy();
    await expect
      .poll(async () => (await fetch(`http://127.0.0.1:${port}/healthz`).catch(() => null))?.status)
      .toBe(200);
    expect(held.slice(1).map(({ isClosed }) => isClosed())).toEqual([false, false, false, false]);
  });
});

describe("[F3] an answer that nobody reads", () => {
  /** Serves an answer that never ends. */
  async function endless(): Promise<number> {
    const server = createServer(
      (_request, response) => {
        const block = Buffer.alloc(64 * 1_024, "x");
        Readable.from(
          (function* () {
            for (;;) yield block;
          })(),
        ).pipe(response);
      },
      { stallMs: 2_000, checkMs: 50 },
    );
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    closers.push(() => {
      server.closeAllConnections();
      server.close();
    });
    return (server.address() as AddressInfo).port;
  }

  it("is cut with its connection, and one that is read slowly is not", async () => {
    const port = await endless();
    const slow = await open(port, get("/"), false);
    let read = 0;
    const timer = setInterval(() => (read += (slow.socket.read() as Buffer | null)?.length ?? 0), 20);
    closers.push(() => clearInterval(timer));
    const silent = await Promise.all(Array.from({ length: 20 }, () => open(port, get("/"), false)));
    // A client that does not read does not see the end: writing tells it.
    await expect
      .poll(() => {
        for (const { socket } of silent) socket.write("x");
        return silent.every(({ isClosed }) => isClosed());
      })
      .toBe(true);
    const before = read;
    await expect.poll(() => read > before + 2 ** 20).toBe(true);
    expect(slow.isClosed()).toBe(false);
  });

  it("may wait in small number: more requests before their answers end the connection", async () => {
    api = await openApiServer();
    const flood = await open(api.port, get("/openapi.json").repeat(40), true);
    await expect.poll(flood.isClosed).toBe(true);
    const few = await open(api.port, get("/healthz").repeat(10), true);
    await expect.poll(() => few.text().match(/HTTP\/1.1 200/g)?.length).toBe(10);
  });

  it("keeps nobody out: pipelined requests of many connections end, and memory stays", async () => {
    api = await openApiServer({ limits: { connections: 60, stallMs: 300, checkMs: 50 } });
    const { port } = api;
    const silent = await Promise.all(
      Array.from({ length: 60 }, () => open(port, get("/openapi.json").repeat(15), false)),
    );
    await expect
      .poll(() => {
        for (const { socket } of silent) socket.write("x");
        return silent.every(({ isClosed }) => isClosed());
      })
      .toBe(true);
    expect((await fetch(`http://127.0.0.1:${port}/healthz`)).status).toBe(200);
  });
});

describe("[S6] large answers of one person", () => {
  it("arrive as they are, whatever characters are at the borders of their pieces", async () => {
    api = await openApiServer();
    const { accessToken: token, userId } = await api.person("anna@example.com");
    const prompt = `a${"😀".repeat(7_000)}`;
    for (let i = 0; i < 12; i += 1)
      await api.harness.submit({ prompt: `${"x".repeat(i)}${prompt}` }, { userId, role: "user" });
    const { body } = await api.call("GET", "/v1/tasks?limit=50", { token });
    const items = (body as { items: { prompt: string }[] }).items;
    expect(items.map((task) => task.prompt.replace(/^x*/, ""))).toEqual(items.map(() => prompt));
  });

  it("are made and sent four at a time; more wait, and still more are refused", async () => {
    const large = new LargeAnswers();
    let [running, most, refused] = [0, 0, 0];
    const release: (() => void)[] = [];
    const server = createPlain((request, response) => {
      const make = async (): Promise<void> => {
        most = Math.max(most, (running += 1));
        response.once("close", () => (running -= 1));
        await new Promise<void>((resolve) => release.push(resolve));
        response.end("done");
      };
      large.run(request.url ?? "", response, make).catch(() => {
        refused += 1;
        response.writeHead(429).end();
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    closers.push(() => {
      server.closeAllConnections();
      server.close();
    });
    const { port } = server.address() as AddressInfo;
    const ask = (path: string): Promise<number> =>
      new Promise((resolve) =>
        httpRequest({ port, path, agent: false }, (response) => {
          response.resume();
          resolve(response.statusCode ?? 0);
        }).end(),
      );
    const asked = Array.from({ length: 30 }, () => ask("/anna"));
    await expect.poll(() => [running, refused]).toEqual([4, 10]);
    const other = ask("/bob");
    await expect.poll(() => running).toBe(5);
    const timer = setInterval(() => release.splice(0).forEach((end) => end()), 5);
    closers.push(() => clearInterval(timer));
    const statuses = await Promise.all(asked);
    expect(statuses.filter((status) => status === 200)).toHaveLength(20);
    expect([await other, most]).toEqual([200, 5]);
  });

  it("a client that leaves gives its place back", async () => {
    api = await openApiServer();
    const { accessToken } = await api.person("anna@example.com");
    const { port } = api;
    const head = `GET /v1/tasks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${accessToken}\r\n\r\n`;
    for (let i = 0; i < 10; i += 1) (await open(port, head, false)).socket.destroy();
    expect((await api.call("GET", "/v1/tasks", { token: accessToken })).status).toBe(200);
  });
});
