/** A small real server, HTTP and WebSocket, that misbehaves in the ways that a test asks for. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text as readAll } from "node:stream/consumers";
import { WebSocketServer, type WebSocket } from "ws";
import type { WireEvent } from "../../src/core/protocol/events.ts";

export interface Seen {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly key: string | undefined;
  readonly token: string | undefined;
  readonly body: unknown;
}

export interface Reply {
  readonly status: number;
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
}
/** "drop" = the connection is cut without an answer. */
export type Handler = (seen: Seen, index: number) => Reply | "drop";
/** One connection: receives each client frame, may send and close. */
export type Live = (socket: WebSocket, frame: Record<string, unknown>, connection: number) => void;

export interface MisbehavingServer {
  readonly url: string;
  readonly seen: Seen[];
  /** `after` of each subscription, in order. */
  readonly subscriptions: unknown[];
  connections: number;
  close(): Promise<void>;
}

export function makeLog(states: readonly WireEvent["to"][], taskId = "task_1"): WireEvent[] {
  return states.map((to, i) => ({
    taskId,
    seq: i + 1,
    at: "2026-01-01T00:00:00.000Z",
    attempt: 1,
    type: "notice",
    from: i === 0 ? null : (states[i - 1] ?? null),
    to,
    data: { level: "info", code: "n", text: `event ${i + 1}` },
  }));
}

export async function openMisbehavingServer(handle: Handler, live: Live | null = null): Promise<MisbehavingServer> {
  const seen: Seen[] = [];
  const subscriptions: unknown[] = [];
  const stage = { url: "", seen, subscriptions, connections: 0 };
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const url = new URL(request.url ?? "/", "http://stage");
    const body = await readAll(request);
    const one: Seen = {
      method: request.method ?? "",
      path: url.pathname,
      query: url.searchParams,
      key: request.headers["idempotency-key"] as string | undefined,
      token: request.headers.authorization?.replace("Bearer ", ""),
      body: body === "" ? undefined : JSON.parse(body),
    };
    const index = seen.filter((other) => other.path === one.path && other.method === one.method).length;
    seen.push(one);
    const reply = handle(one, index);
    if (reply === "drop") {
      request.socket.destroy();
      return;
    }
    response.writeHead(reply.status, { "content-type": "application/json", ...reply.headers });
    response.end(reply.body === undefined ? undefined : JSON.stringify(reply.body));
  };
  const server = createServer((request, response) => void answer(request, response));
  const sockets = new WebSocketServer({ noServer: true });
  server.on("upgrade", (request, socket, head) => {
    const connection = stage.connections++;
    if (live === null) {
      socket.end("HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n");
      return;
    }
    sockets.handleUpgrade(request, socket, head, (opened) => {
      opened.on("message", (data) => {
        const frame = JSON.parse(String(data)) as Record<string, unknown>;
        if (frame["type"] === "subscribe") subscriptions.push(frame["after"]);
        live(opened, frame, connection);
      });
    });
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  stage.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return Object.assign(stage, {
    async close() {
      for (const socket of sockets.clients) socket.terminate();
      server.closeAllConnections();
      await new Promise<void>((done) => server.close(() => done()));
    },
  });
}

export function sendFrame(socket: WebSocket, frame: object): void {
  socket.send(JSON.stringify(frame));
}
