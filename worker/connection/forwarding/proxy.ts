/**
 * An HTTP proxy on loopback for the tools: the only way out of a sandbox without network.
 *
 * It adds the attempt's token, so that commands do not need it, and passes each connection to the
 * broker, which allows or refuses it.
 */
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from "node:http";
import { connect, type AddressInfo } from "node:net";
import type { Duplex } from "node:stream";

export interface Proxy {
  readonly port: number;
  /** Closes the port and every connection. */
  close(): Promise<void>;
}

/** The port when it is free; any other port when it is not. */
const PREFERRED_PORT = 8_080;
const MAX_CONNECTIONS = 200;
const CONNECT_MS = 30_000;
/** Headers that concern only the connection between the tool and this proxy. */
const HOP_BY_HOP = new Set([
  "proxy-authorization",
  "proxy-connection",
  "connection",
  "keep-alive",
  "te",
  "trailer",
  "upgrade",
]);

/** The environment variables that make programs use the proxy, in each common spelling. */
export function proxyEnv(port: number): Record<string, string> {
  const proxy = `http://127.0.0.1:${port}`;
  const noProxy = "127.0.0.1,localhost,::1";
  const names = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"].flatMap((name) => [name, name.toLowerCase()]);
  return {
    ...Object.fromEntries(names.map((name) => [name, proxy])),
    NO_PROXY: noProxy,
    no_proxy: noProxy,
    NODE_USE_ENV_PROXY: "1",
  };
}

/** The port is open when this resolves. */
export async function openProxy(socketPath: string, token: string): Promise<Proxy> {
  const proxy = new LoopbackProxy(socketPath, token);
  await proxy.listen();
  return proxy;
}

class LoopbackProxy implements Proxy {
  readonly #socketPath: string;
  readonly #authorization: string;
  readonly #sockets = new Set<Duplex>();
  readonly #server = createServer((request, response) => this.#forward(request, response));

  constructor(socketPath: string, token: string) {
    this.#socketPath = socketPath;
    this.#authorization = `Bearer ${token}`;
    this.#server.maxConnections = MAX_CONNECTIONS;
    this.#server.on("connect", (request, socket, head) => this.#tunnel(request, socket, head));
    this.#server.on("connection", (socket) => this.#track(socket));
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async listen(): Promise<void> {
    await listen(this.#server, PREFERRED_PORT).catch(() => listen(this.#server, 0));
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #track(socket: Duplex): void {
    this.#sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.#sockets.delete(socket));
  }

  /** `CONNECT host:port`: the broker's response reaches the tool unchanged. */
  #tunnel(request: IncomingMessage, client: Duplex, head: Buffer): void {
    const broker = connect({ path: this.#socketPath, allowHalfOpen: true });
    this.#track(client);
    this.#track(broker);
    client.on("close", () => broker.destroy());
    broker.on("close", () => client.destroy());
    const target = (request.url ?? "").replace(/[^\x21-\x7e]/g, "");
    const authorization = `proxy-authorization: ${this.#authorization}`;
    broker.write(`CONNECT ${target} HTTP/1.1\r\nhost: ${target}\r\n${authorization}\r\n\r\n`);
    broker.write(head);
    client.pipe(broker);
    broker.pipe(client);
  }

  /**
   * `GET http://host/path`: tools that do not use CONNECT for plain HTTP get a tunnel per request.
   */
  #forward(request: IncomingMessage, response: ServerResponse): void {
    const address = request.url ?? "";
    const url = /^http:\/\//i.test(address) && URL.canParse(address) ? new URL(address) : null;
    if (url === null)
      return respond(response, 400, "This is a proxy: request an absolute URL such as http://host/path.");
    const target = `${url.hostname}:${url.port || 80}`;
    const tunnel = httpRequest({
      socketPath: this.#socketPath,
      method: "CONNECT",
      path: target,
      headers: { host: target, "proxy-authorization": this.#authorization },
      agent: false,
      timeout: CONNECT_MS,
    });
    tunnel.on("error", () => respond(response, 502, "The connection broke."));
    tunnel.on("timeout", () => tunnel.destroy());
    tunnel.on("connect", (reply, socket, rest) => {
      this.#track(socket);
      if (reply.statusCode !== 200) return relayRefusal(response, reply, socket, rest);
      if (rest.length > 0) socket.unshift(rest);
      sendThrough(socket, url, request, response);
    });
    response.on("close", () => tunnel.destroy());
    tunnel.end();
  }
}

/** Sends the tool's request through an open tunnel and pipes the response back. */
function sendThrough(socket: Duplex, url: URL, request: IncomingMessage, response: ServerResponse): void {
  const headers = Object.entries(request.headers).filter(([name]) => !HOP_BY_HOP.has(name));
  const options = {
    method: request.method,
    path: url.pathname + url.search,
    headers: { ...Object.fromEntries(headers), host: url.host },
    createConnection: () => socket,
  };
  const outgoing = httpRequest(options, (incoming) => {
    response.writeHead(incoming.statusCode ?? 502, incoming.headers);
    incoming.pipe(response);
  });
  outgoing.on("error", () => respond(response, 502, "The connection broke."));
  request.pipe(outgoing);
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

/** Responds with text; a response that has begun is cut off instead. */
function respond(response: ServerResponse, status: number, text: string): void {
  if (response.headersSent) return void response.destroy();
  response.writeHead(status, { "content-type": "text/plain", connection: "close" }).end(`${text}\n`);
}

/** Passes the broker's refusal on, with its text. */
function relayRefusal(response: ServerResponse, reply: IncomingMessage, socket: Duplex, rest: Buffer): void {
  const chunks = [rest];
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  socket.on("close", () =>
    respond(response, reply.statusCode ?? 502, Buffer.concat(chunks).toString("utf8").slice(0, 2_000)),
  );
}
