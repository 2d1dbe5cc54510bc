/**
 * The HTTP server with its limits. They are set at creation: set later, some of them are checked
 * too rarely to hold.
 */
import { createServer as createHttpServer, type RequestListener, type Server } from "node:http";
import type { Duplex } from "node:stream";
import type { ErrorCode } from "../core/error.ts";
import { rawProblem } from "./problem.ts";

/** Headers of one request. */
export const HEADER_COUNT = 100;

export interface ServerLimits {
  /** Longest time in ms for all headers, and for the whole request. */
  readonly headersMs: number;
  readonly requestMs: number;
  /** How often in ms the two are checked. */
  readonly checkMs: number;
  readonly connections: number;
}

const LIMITS: ServerLimits = { headersMs: 10_000, requestMs: 30_000, checkMs: 2_000, connections: 2_000 };

export function createServer(listener: RequestListener, limits: Partial<ServerLimits> = {}): Server {
  const { headersMs, requestMs, checkMs, connections } = { ...LIMITS, ...limits };
  const server = createHttpServer(
    {
      headersTimeout: headersMs,
      requestTimeout: requestMs,
      connectionsCheckingInterval: checkMs,
      maxHeaderSize: 16 * 1024,
    },
    listener,
  );
  // One more than allowed is read, so that the application sees the excess and refuses instead of
  // missing a header.
  server.maxHeadersCount = HEADER_COUNT + 1;
  server.maxConnections = connections;
  server.on("clientError", (error: NodeJS.ErrnoException, socket: Duplex) => refuse(error, socket));
  return server;
}

function refuse(error: NodeJS.ErrnoException, socket: Duplex): void {
  const busy = "_httpMessage" in socket && socket._httpMessage !== null && socket._httpMessage !== undefined;
  if (error.code === "ECONNRESET" || !socket.writable || (busy && headersSent(socket._httpMessage))) {
    socket.destroy();
    return;
  }
  socket.end(rawProblem(codeOf(error)), () => socket.destroy());
}

/** True when an answer is on its way on this socket: a second one would be read as part of it. */
function headersSent(message: unknown): boolean {
  return typeof message === "object" && message !== null && "headersSent" in message && message.headersSent === true;
}

function codeOf(error: NodeJS.ErrnoException): ErrorCode {
  if (error.code === "HPE_HEADER_OVERFLOW") return "headers_too_large";
  return error.code === "ERR_HTTP_REQUEST_TIMEOUT" ? "request_timeout" : "invalid_request";
}
