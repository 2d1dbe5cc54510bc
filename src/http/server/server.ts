/**
 * The HTTP server with its limits, set at creation: some take no effect when they are set later.
 */
import { createServer as createHttpServer, type IncomingMessage, type RequestListener, type Server } from "node:http";
import type { Duplex } from "node:stream";
import type { ErrorCode } from "../../core/error.ts";
import { limitConnections } from "./client-limits.ts";
import { rawProblem } from "../problem.ts";

/** Maximum headers of one request. */
export const HEADER_COUNT = 100;

export interface ServerLimits {
  /** Time limits in ms for all headers, and for the whole request. */
  readonly headersMs: number;
  readonly requestMs: number;
  /** The same for a request whose handler called `allowLongBody`, ms. */
  readonly uploadMs: number;
  /** Longer than the idle time of common proxies (60 s), so that none reuses what just closes. */
  readonly keepAliveMs: number;
  /** Interval in ms at which both are checked. */
  readonly checkMs: number;
  readonly connections: number;
  /** Null = no limit. */
  readonly perAddress: number | null;
  /** Longest time that an answer may wait without progress, ms. */
  readonly stallMs: number;
}

const LIMITS: ServerLimits = {
  headersMs: 10_000,
  requestMs: 30_000,
  uploadMs: 10 * 60_000,
  keepAliveMs: 75_000,
  checkMs: 2_000,
  connections: 2_500,
  perAddress: 256,
  stallMs: 30_000,
};

export function createServer(listener: RequestListener, limits: Partial<ServerLimits> = {}): Server {
  const all = { ...LIMITS, ...limits };
  const { headersMs, requestMs, uploadMs, keepAliveMs, checkMs, connections, perAddress, stallMs } = all;
  const server = createHttpServer(
    {
      headersTimeout: headersMs,
      requestTimeout: Math.max(requestMs, uploadMs),
      keepAliveTimeout: keepAliveMs,
      connectionsCheckingInterval: checkMs,
      maxHeaderSize: 16 * 1024,
    },
    listener,
  );
  // One more than the maximum is read, so that the application rejects the request: Node drops
  // further headers silently.
  server.maxHeadersCount = HEADER_COUNT + 1;
  server.maxConnections = connections;
  limitConnections(server, { perAddress, stallMs, checkMs });
  server.on("request", (request) => limitBody(server, request, requestMs));
  server.on("clientError", (error: NodeJS.ErrnoException, socket: Duplex) => rejectRequest(error, socket));
  return server;
}

const longBodies = new WeakSet<IncomingMessage>();

/** The body of this request may take `uploadMs`. Call it once the caller is authenticated. */
export function allowLongBody(request: IncomingMessage): void {
  longBodies.add(request);
}

/** Node's own limit is the same for all requests. */
function limitBody(server: Server, request: IncomingMessage, ms: number): void {
  const timer = setTimeout(() => {
    if (request.complete || request.destroyed || longBodies.has(request)) return;
    const late = Object.assign(new Error("The body did not arrive in time."), { code: "ERR_HTTP_REQUEST_TIMEOUT" });
    server.emit("clientError", late, request.socket);
  }, ms).unref();
  request.once("close", () => clearTimeout(timer));
}

function rejectRequest(error: NodeJS.ErrnoException, socket: Duplex): void {
  const busy = "_httpMessage" in socket && socket._httpMessage !== null && socket._httpMessage !== undefined;
  if (error.code === "ECONNRESET" || !socket.writable || (busy && headersSent(socket._httpMessage))) {
    socket.destroy();
    return;
  }
  socket.end(rawProblem(getErrorCode(error)), () => socket.destroy());
}

/** True when a response was started: a second one would be read as part of its body. */
function headersSent(message: unknown): boolean {
  return typeof message === "object" && message !== null && "headersSent" in message && message.headersSent === true;
}

function getErrorCode(error: NodeJS.ErrnoException): ErrorCode {
  if (error.code === "HPE_HEADER_OVERFLOW") return "headers_too_large";
  return error.code === "ERR_HTTP_REQUEST_TIMEOUT" ? "request_timeout" : "invalid_request";
}
