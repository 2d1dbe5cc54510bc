/**
 * The HTTP listener of one attempt: authenticates each request with the attempt's token (rule S3),
 * limits what the attempt may hold at once (rule S6), and routes to git, the model gateway, the
 * worker protocol and the CONNECT proxy.
 */
import { setImmediate } from "node:timers/promises";
import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { setMaxListeners } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import PQueue from "p-queue";
import { coerceError, ERROR_TABLE, errorMessage, isAbort, SlipwayError, type ErrorCode } from "../core/error.ts";
import type { WorkerApi } from "../core/ports/broker.ts";
import type { Log } from "../core/ports/runtime.ts";
import type { ServeConnect } from "./connect-proxy.ts";
import { serveGit, type GitRequest } from "./git-http.ts";
import type { ServeModel } from "./model/gateway.ts";
import { MODEL_BODY_LIMITS } from "./model/provider-request.ts";
import { BODY_MS, BodyReader, discardRest } from "./request-body.ts";
import { Semaphore } from "./semaphore.ts";
import { getWorkerRoute, replyError } from "./worker-routes.ts";

const HEADERS_MS = 10_000;
const KEEP_ALIVE_MS = 65_000;
const CHECK_MS = 2_000;
const HEADER_BYTES = 16 * 1024;
const MAX_HEADERS = 100;
/** Above the limit of tunnels, so that tunnels cannot keep the worker from the worker protocol. */
const MAX_CONNECTIONS = 256;
const MAX_GIT_PROCESSES = 2;
const MAX_WAITING_GIT_REQUESTS = 16;
/**
 * GET answers of the worker protocol that are produced or read at once. Each may take some MB, and
 * the caller may never read it.
 */
const MAX_ANSWERS = 8;
const MAX_WAITING_ANSWERS = 16;
/**
 * A worker sends one batch and one record at a time. Parsed JSON takes up to twenty times its
 * bytes.
 */
const WORKER_BODY_LIMITS = { bytes: 4 * 1024 * 1024, maxWaiting: 16, ms: BODY_MS };
const GIT_PREFIX = "/git/repo.git/";
/** The path of `ANTHROPIC_BASE_URL` in the worker. */
const MODEL_PREFIX = "/anthropic/";

/** Serves git smart HTTP on one bare repository; resolves when the answer is sent. */
export type ServeGit = (call: GitRequest) => Promise<void>;

export interface ListenerOptions {
  readonly workerApi: WorkerApi;
  repoPath(taskId: string): string;
  /** Asked when a pack of the task repository cannot be made. Absent = never. */
  isBaseUnreadable?(taskId: string, signal: AbortSignal): Promise<boolean>;
  readonly log: Log;
  readonly serveGit?: ServeGit;
  /** Null or absent = the installation has no model. */
  readonly serveModel?: ServeModel | null;
  /** Absent = CONNECT is refused. */
  readonly serveTunnel?: ServeConnect;
  /** Open connections of the attempt, at most; absent = 256. */
  readonly maxConnections?: number;
  /** Longest time for the body of a worker call or a model request to arrive, ms; absent = 30 s. */
  readonly bodyMs?: number;
}

export interface AttemptIdentity {
  readonly taskId: string;
  readonly attempt: number;
  /** The tokens that are accepted now. */
  readonly tokens: () => readonly string[];
}

interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** Aborted when the caller disconnects or the listener closes. */
  readonly signal: AbortSignal;
}

export class AttemptListener {
  readonly #options: ListenerOptions;
  readonly #identity: AttemptIdentity;
  readonly #server: Server;
  readonly #closing = new AbortController();
  readonly #gitQueue = new PQueue({ concurrency: MAX_GIT_PROCESSES });
  readonly #answers = new Semaphore(MAX_ANSWERS);
  readonly #workerBodies: BodyReader;
  readonly #modelBodies: BodyReader;

  constructor(options: ListenerOptions, identity: AttemptIdentity) {
    this.#options = options;
    this.#identity = identity;
    const { bodyMs: ms = BODY_MS } = options;
    this.#workerBodies = new BodyReader({ ...WORKER_BODY_LIMITS, ms });
    this.#modelBodies = new BodyReader({ ...MODEL_BODY_LIMITS, ms });
    // Every open request adds a listener.
    setMaxListeners(0, this.#closing.signal);
    this.#server = this.#createServer();
  }

  async listen(socketPath: string): Promise<void> {
    const { log } = this.#options;
    const { taskId, attempt } = this.#identity;
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(socketPath, () => {
        this.#server.off("error", reject);
        this.#server.on("error", (error) => log.error({ taskId, attempt, error: errorMessage(error) }, "broker"));
        resolve();
      });
    });
  }

  /** Ends every open request, long polls and tunnels included. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    // The request that ended the attempt gets its answer in this turn of the event loop.
    await setImmediate();
    this.#closing.abort();
    this.#server.closeAllConnections();
    await closed;
  }

  #createServer(): Server {
    const server = createServer(
      {
        connectionsCheckingInterval: CHECK_MS,
        headersTimeout: HEADERS_MS,
        // Each route limits its body's time itself: a push may take long.
        requestTimeout: 0,
        keepAliveTimeout: KEEP_ALIVE_MS,
        maxHeaderSize: HEADER_BYTES,
      },
      (request, response) => void this.#serve(request, response),
    );
    server.maxHeadersCount = MAX_HEADERS;
    server.maxConnections = this.#options.maxConnections ?? MAX_CONNECTIONS;
    server.on("clientError", rejectMalformedRequest);
    server.on("connect", (request: IncomingMessage, socket: Duplex, head: Buffer) =>
      this.#connect(request, socket, head),
    );
    return server;
  }

  #connect(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const { serveTunnel } = this.#options;
    const { taskId, attempt, tokens } = this.#identity;
    if (serveTunnel === undefined || !isAuthorized(request, tokens()))
      return void socket.end("HTTP/1.1 407 Proxy Authentication Required\r\nconnection: close\r\n\r\n");
    void serveTunnel({ taskId, attempt, request, socket, head, signal: this.#closing.signal });
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // A GET has no use for a body; reading it keeps it out of memory while the answer is awaited.
    if (request.method === "GET") request.resume();
    const over = new AbortController();
    const closing = this.#closing.signal;
    const end = (): void => over.abort();
    closing.addEventListener("abort", end);
    if (closing.aborted) end();
    response.on("close", () => {
      closing.removeEventListener("abort", end);
      end();
    });
    const exchange = { request, response, signal: over.signal };
    try {
      if (!isAuthorized(request, this.#identity.tokens()))
        throw new SlipwayError("unauthenticated", "The attempt's token is missing or wrong.");
      await this.#route(exchange);
    } catch (error) {
      this.#fail(exchange, error);
    }
  }

  async #route(exchange: Exchange): Promise<void> {
    const { request, response, signal } = exchange;
    const { taskId, attempt, tokens } = this.#identity;
    const { workerApi, serveModel } = this.#options;
    const url = parseUrl(request);
    if (url.pathname.startsWith(MODEL_PREFIX) && serveModel) {
      const path = (request.url ?? "").slice(MODEL_PREFIX.length - 1);
      const bodyReader = this.#modelBodies;
      return await serveModel({ taskId, attempt, request, response, path, bodyReader, signal });
    }
    if (url.pathname.startsWith(GIT_PREFIX)) return await this.#serveGit(exchange);
    if (request.method === "GET") await this.#acquireAnswer(exchange);
    const handle = getWorkerRoute(request.method ?? "", url.pathname);
    const bodyReader = this.#workerBodies;
    await handle({ workerApi, taskId, attempt, tokens: tokens(), request, response, url, bodyReader, signal });
  }

  async #serveGit({ request, response, signal }: Exchange): Promise<void> {
    const { workerApi, repoPath, serveGit: serve = serveGit } = this.#options;
    const { taskId, attempt } = this.#identity;
    if (this.#gitQueue.size >= MAX_WAITING_GIT_REQUESTS)
      throw new SlipwayError("rate_limited", "Too many git requests at once.");
    await this.#gitQueue.add(
      async () => {
        // Rejects with stale_attempt once the attempt is over: a poll that does not wait is the
        // cheapest call of WorkerApi that checks.
        await workerApi.commands(taskId, attempt, Number.MAX_SAFE_INTEGER, 0, signal);
        const isBaseUnreadable = (): Promise<boolean> => this.#isBaseUnreadable(signal);
        await serve({ repoPath: repoPath(taskId), attempt, request, response, signal, isBaseUnreadable });
      },
      { signal },
    );
  }

  async #isBaseUnreadable(signal: AbortSignal): Promise<boolean> {
    const { log, isBaseUnreadable } = this.#options;
    const { taskId, attempt } = this.#identity;
    try {
      return (await isBaseUnreadable?.(taskId, signal)) ?? false;
    } catch (error) {
      log.warn({ taskId, attempt, error: errorMessage(error) }, "a task repository could not be checked");
      return false;
    }
  }

  /**
   * Waits for one of the attempt's answer permits and holds it until the response closes.
   * @throws SlipwayError rate_limited
   */
  async #acquireAnswer({ response, signal }: Exchange): Promise<void> {
    if (this.#answers.waiting >= MAX_WAITING_ANSWERS)
      throw new SlipwayError("rate_limited", "Too many requests at once. Read the pending answers first.");
    const release = await this.#answers.acquire(1, signal);
    if (response.destroyed) release();
    else response.once("close", release);
  }

  #fail({ request, response, signal }: Exchange, thrown: unknown): void {
    if (signal.aborted || isAbort(thrown)) return void response.destroy();
    const { taskId, attempt } = this.#identity;
    const error = coerceError(thrown);
    if (error.code === "internal")
      this.#options.log.error(
        { taskId, attempt, error: errorMessage(error.cause ?? error) },
        "a worker request failed",
      );
    if (response.headersSent) response.destroy();
    else
      replyError(
        response,
        error,
        error.code === "unauthenticated" ? { "www-authenticate": 'Basic realm="slipway"' } : {},
      );
    discardRest(request);
  }
}

/** Deterministic: a restarted coordinator derives the tokens of running workers again. */
export function createAttemptToken(secret: Uint8Array, taskId: string, attempt: number): string {
  return `att_${createHmac("sha256", secret).update(`${taskId}.${attempt}`).digest("base64url")}`;
}

/**
 * Accepts the token as bearer token, as basic password (git, proxies) or as `x-api-key` (model
 * clients). Digests are compared, in constant time.
 */
function isAuthorized({ headers }: IncomingMessage, tokens: readonly string[]): boolean {
  const authorization = headers["proxy-authorization"] ?? headers.authorization ?? "";
  const [scheme = "", value = ""] = authorization.split(" ", 2);
  const candidates = [String(headers["x-api-key"] ?? "")];
  if (scheme.toLowerCase() === "bearer") candidates.push(value);
  if (scheme.toLowerCase() === "basic") candidates.push(decodeBasicPassword(value));
  const expected = tokens.map(sha256);
  // Not `some`: it would stop at the first match.
  const matches = candidates.flatMap((candidate) =>
    expected.filter((digest) => timingSafeEqual(sha256(candidate), digest)),
  );
  return matches.length > 0;
}

const decodeBasicPassword = (credentials: string): string =>
  Buffer.from(credentials, "base64")
    .toString("utf8")
    .replace(/^[^:]*:/, "");

const sha256 = (text: string): Buffer => createHash("sha256").update(text).digest();

function parseUrl(request: IncomingMessage): URL {
  const url = URL.canParse(request.url ?? "", "http://broker") ? new URL(request.url ?? "", "http://broker") : null;
  if (url === null) throw new SlipwayError("invalid_request", "The request target is not a valid URL.");
  return url;
}

const PARSER_ERRORS: Readonly<Record<string, ErrorCode>> = {
  HPE_HEADER_OVERFLOW: "headers_too_large",
  ERR_HTTP_REQUEST_TIMEOUT: "request_timeout",
};

function rejectMalformedRequest(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (!socket.writable || error.code === "ECONNRESET") return void socket.destroy();
  const code = PARSER_ERRORS[error.code ?? ""] ?? "invalid_request";
  const [status, title] = ERROR_TABLE[code];
  const body = JSON.stringify({ code, title });
  socket.end(
    `HTTP/1.1 ${status} ${title}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  );
}
