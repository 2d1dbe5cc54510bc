/**
 * The tools' way out: an HTTP proxy on loopback that asks the broker for each connection. The token
 * is added here, so that commands need none, and the broker decides; nothing else leads out of a
 * sandbox without network.
 */
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from "node:http";
import { connect, type AddressInfo } from "node:net";
import type { Duplex } from "node:stream";

export interface Proxy {
  readonly port: number;
  /** Ends every connection. */
  close(): Promise<void>;
}

/** Used when it is free. */
const PORT = 8_080;
const CONNECTIONS = 200;
const OPEN_MS = 30_000;
/** Headers that are between the tool and this proxy. */
const HOP = new Set([
  "proxy-authorization",
  "proxy-connection",
  "connection",
  "keep-alive",
  "te",
  "trailer",
  "upgrade",
]);

/** What commands are told, in the forms in which programs look for it. */
export function proxyEnv(port: number): Record<string, string> {
  const proxy = `http://127.0.0.1:${port}`;
  const none = "127.0.0.1,localhost,::1";
  const names = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"].flatMap((name) => [name, name.toLowerCase()]);
  return {
    ...Object.fromEntries(names.map((name) => [name, proxy])),
    NO_PROXY: none,
    no_proxy: none,
    NODE_USE_ENV_PROXY: "1",
  };
}

/** Listening when this resolves. */
export async function openProxy(socketPath: string, token: string): Promise<Proxy> {
  const authorization = `Bearer ${token}`;
  const open = new Set<Duplex>();
  const keep = (socket: Duplex): void => {
    open.add(socket);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => open.delete(socket));
  };

  /** What the broker answers goes to the tool as it is. */
  function tunnel(request: IncomingMessage, near: Duplex, head: Buffer): void {
    const far = connect({ path: socketPath, allowHalfOpen: true });
    keep(near);
    keep(far);
    near.on("close", () => far.destroy());
    far.on("close", () => near.destroy());
    const place = (request.url ?? "").replace(/[^\x21-\x7e]/g, "");
    far.write(`CONNECT ${place} HTTP/1.1\r\nhost: ${place}\r\nproxy-authorization: ${authorization}\r\n\r\n`);
    far.write(head);
    near.pipe(far);
    far.pipe(near);
  }

  /**
   * `GET http://host/path`: the same through a tunnel of its own, for tools that do not ask for one
   * when the address has no TLS.
   */
  function plain(request: IncomingMessage, response: ServerResponse): void {
    const url =
      /^http:\/\//i.test(request.url ?? "") && URL.canParse(request.url ?? "") ? new URL(request.url ?? "") : null;
    if (url === null) return answer(response, 400, "This is a proxy: name a whole address, such as http://host/path.");
    const place = `${url.hostname}:${url.port || 80}`;
    const headers = { host: place, "proxy-authorization": authorization };
    const asked = httpRequest({ socketPath, method: "CONNECT", path: place, headers, agent: false, timeout: OPEN_MS });
    const fail = (): void => answer(response, 502, "The connection broke.");
    asked.on("error", fail);
    asked.on("timeout", () => asked.destroy());
    asked.on("connect", (reply, far, rest) => {
      keep(far);
      if (reply.statusCode !== 200) return relay(response, reply, far, rest);
      if (rest.length > 0) far.unshift(rest);
      const kept = Object.entries(request.headers).filter(([name]) => !HOP.has(name));
      const options = {
        method: request.method,
        path: url.pathname + url.search,
        headers: { ...Object.fromEntries(kept), host: url.host },
      };
      const sent = httpRequest({ ...options, createConnection: () => far }, (came) => {
        response.writeHead(came.statusCode ?? 502, came.headers);
        came.pipe(response);
      });
      sent.on("error", fail);
      request.pipe(sent);
    });
    response.on("close", () => asked.destroy());
    asked.end();
  }

  const server = createServer(plain);
  server.maxConnections = CONNECTIONS;
  server.on("connect", tunnel);
  server.on("connection", keep);
  await listen(server, PORT).catch(() => listen(server, 0));
  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      for (const socket of open) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

function listen(server: ReturnType<typeof createServer>, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", () => {
      server.off("error", reject);
      resolve();
    });
  });
}

function answer(response: ServerResponse, status: number, text: string): void {
  if (response.headersSent) return void response.destroy();
  response.writeHead(status, { "content-type": "text/plain", connection: "close" }).end(`${text}\n`);
}

/** The broker's refusal, with its words. */
function relay(response: ServerResponse, reply: IncomingMessage, far: Duplex, rest: Buffer): void {
  const chunks = [rest];
  far.on("data", (piece: Buffer) => chunks.push(piece));
  far.on("close", () =>
    answer(response, reply.statusCode ?? 502, Buffer.concat(chunks).toString("utf8").slice(0, 2_000)),
  );
}
