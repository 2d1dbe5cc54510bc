/**
 * The broker: one listener per attempt, on a unix socket of its own, behind the attempt's token.
 *
 * B1 The token is a function of the secret and the attempt: nothing is stored, and a restarted
 *    coordinator knows the tokens of running workers.
 * B2 A listener serves one attempt. A token of another attempt does not open it (rule S3).
 * B3 `shut` ends every request that is under way, also long polls.
 */
import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { setMaxListeners } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import PQueue from "p-queue";
import { coerceError, ERROR_TABLE, isAbort, errorMessage, SlipwayError, type ErrorCode } from "../core/error.ts";
import { removeGarbage, type Garbage } from "../core/lib/garbage.ts";
import { BODY_MS, discardRest, BodyReader } from "./request-body.ts";
import type { ServeConnect } from "./connect-proxy.ts";
import { serveGit as serveGitOn, type GitRequest } from "./git-http.ts";
import { replyError, serveBudget, serveCommands, serveEvents, serveSpec, type WorkerCall } from "./worker-routes.ts";
import { MODEL_BODY_LIMITS, type ServeModel } from "./model/gateway.ts";
import { Semaphore } from "./semaphore.ts";
import { sandboxName } from "../core/task.ts";
import { SocketDirs } from "./socket-dirs.ts";
import { serveAppend, serveTranscript } from "./transcript.ts";
import type { Log } from "../core/ports/runtime.ts";
import type { Broker, BrokerEndpoint, WorkerApi } from "../core/ports/broker.ts";

const HEADERS_MS = 10_000;
const KEEP_ALIVE_MS = 65_000;
const HEADER_BYTES = 16 * 1024;
const HEADERS = 100;
/** More than tunnels may be open, so that they never keep the worker from talking. */
const CONNECTIONS = 256;
const CHECK_MS = 2_000;
/**
 * Git processes of one attempt that run at once; further requests wait, but no more than so many.
 */
const GITS = 2;
const GITS_WAITING = 16;
/**
 * The worker sends one batch and one record at a time. JSON takes up to twenty times its bytes once
 * it is parsed.
 */
const WORKER_BODY_LIMITS = { bytes: 4 * 1024 * 1024, maxWaiting: 16, ms: BODY_MS };

/**
 * Answers to a worker's questions that are made or read at once, and that wait for their turn: each
 * may be some MB, and whoever asked may not read.
 */
const ANSWERS = { open: 8, waiting: 16 };

/** Where a worker finds the model: `ANTHROPIC_BASE_URL` of its broker. */
const MODEL_PREFIX = "/anthropic/";

/** Serves git smart HTTP on one bare repository; resolves when the answer is sent. */
export type ServeGit = (call: GitRequest) => Promise<void>;

export interface BrokerOptions {
  /** Holds one folder per attempt. */
  readonly dir: string;
  readonly workerApi: WorkerApi;
  repoPath(taskId: string): string;
  /** At least 32 random bytes that stay the same over restarts. */
  readonly secret: Buffer;
  /** Tells installations on one machine apart. */
  readonly instance: string;
  readonly log: Log;
  /** The user that workers run as, when this process is root. */
  readonly uid?: number;
  readonly serveGit?: ServeGit;
  /** The model gateway; null or absent = no model here. */
  readonly serveModel?: ServeModel | null;
  /** The way out; absent = there is none. */
  readonly serveTunnel?: ServeConnect;
  /**
   * How long the body of a worker's call or of a request to the model may take to come, ms; absent
   * = 30 s.
   */
  readonly bodyMs?: number;
}

export function openBroker(options: BrokerOptions): Broker {
  const folders = new SocketDirs(options.dir, options.instance, options.uid ?? null);
  const listeners = new Map<string, Promise<Listener>>();
  const key = (taskId: string, attempt: number): string => `${taskId}.${attempt}`;

  async function end(name: string): Promise<void> {
    const opening = listeners.get(name);
    listeners.delete(name);
    await opening?.then(
      async (listener) => await listener.close(),
      () => {},
    );
  }

  return {
    async open(taskId, attempt): Promise<BrokerEndpoint> {
      const name = key(taskId, attempt);
      const place = folders.locate(taskId, attempt);
      const token = `att_${createHmac("sha256", options.secret).update(name).digest("base64url")}`;
      let opening = listeners.get(name);
      if (opening === undefined) {
        opening = listen(options, folders, taskId, attempt, token);
        listeners.set(name, opening);
        opening.catch(() => listeners.get(name) === opening && listeners.delete(name));
      }
      await opening;
      return { socketDir: place.dir, token };
    },
    async revoke(taskId, attempt) {
      await end(key(taskId, attempt));
      folders.remove(folders.locate(taskId, attempt));
    },
    async reclaim(wanted, mode) {
      const left: Garbage[] = [];
      for (const { taskId, attempt } of folders.list()) {
        const name = sandboxName(taskId, attempt);
        if (listeners.has(key(taskId, attempt)) || (await wanted(name)) || listeners.has(key(taskId, attempt)))
          continue;
        const remove = (): Promise<void> => Promise.resolve(folders.remove(folders.locate(taskId, attempt)));
        left.push(await removeGarbage(mode, { kind: "sockets", name, bytes: null }, remove));
      }
      return left;
    },
    async close() {
      await Promise.all([...listeners.keys()].map(end));
    },
  };
}

interface Listener {
  close(): Promise<void>;
}

async function listen(
  options: BrokerOptions,
  folders: SocketDirs,
  taskId: string,
  attempt: number,
  token: string,
): Promise<Listener> {
  const place = folders.locate(taskId, attempt);
  const shut = new AbortController();
  // Each connection under way listens to it.
  setMaxListeners(0, shut.signal);
  const gits = new PQueue({ concurrency: GITS });
  const answers = new Semaphore(ANSWERS.open);
  const { bodyMs: ms = BODY_MS } = options;
  const bodyReaders = {
    link: new BodyReader({ ...WORKER_BODY_LIMITS, ms }),
    model: new BodyReader({ ...MODEL_BODY_LIMITS, ms }),
  };
  const server = createServer(
    {
      connectionsCheckingInterval: CHECK_MS,
      headersTimeout: HEADERS_MS,
      // Bodies have bounds of their own: a push may take its time.
      requestTimeout: 0,
      keepAliveTimeout: KEEP_ALIVE_MS,
      maxHeaderSize: HEADER_BYTES,
    },
    (request, response) =>
      void answer({
        options,
        taskId,
        attempt,
        token,
        gits,
        answers,
        bodyReaders,
        request,
        response,
        shut: shut.signal,
      }),
  );
  server.maxHeadersCount = HEADERS;
  server.maxConnections = CONNECTIONS;
  server.on("clientError", refuseBadRequest);
  server.on("connect", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    if (options.serveTunnel === undefined || !opens(request, token))
      return void socket.end("HTTP/1.1 407 Proxy Authentication Required\r\nconnection: close\r\n\r\n");
    void options.serveTunnel({ taskId, attempt, request, socket, head, signal: shut.signal });
  });
  folders.make(place);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(place.path, resolve);
  });
  server.on("error", (error) => options.log.error({ taskId, attempt, error: errorMessage(error) }, "broker"));
  folders.open(place);
  return { close: async () => await closeServer(server, shut) };
}

async function closeServer(server: Server, shut: AbortController): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  shut.abort();
  server.closeAllConnections();
  await closed;
}

interface Call {
  readonly options: BrokerOptions;
  readonly taskId: string;
  readonly attempt: number;
  readonly token: string;
  readonly gits: PQueue;
  readonly answers: Semaphore;
  readonly bodyReaders: { readonly link: BodyReader; readonly model: BodyReader };
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly shut: AbortSignal;
}

async function answer(call: Call): Promise<void> {
  const { options, taskId, attempt, request, response, bodyReaders } = call;
  // No body is wanted; one that comes all the same is not kept while the answer is waited for.
  if (request.method === "GET") request.resume();
  const gone = new AbortController();
  response.on("close", () => gone.abort());
  const signal = AbortSignal.any([call.shut, gone.signal]);
  try {
    if (!opens(request, call.token))
      throw new SlipwayError("unauthenticated", "The attempt's token is missing or wrong.");
    const url = parseUrl(request);
    if (url.pathname.startsWith(MODEL_PREFIX) && options.serveModel) {
      const path = (request.url ?? "").slice(MODEL_PREFIX.length - 1);
      return await options.serveModel({
        taskId,
        attempt,
        request,
        response,
        path,
        bodyReader: bodyReaders.model,
        signal,
      });
    }
    if (url.pathname.startsWith("/git/repo.git/")) {
      const { workerApi, repoPath, serveGit = serveGitOn } = options;
      if (call.gits.size >= GITS_WAITING) throw new SlipwayError("rate_limited", "Too many git requests at once.");
      const serve = async (): Promise<void> => {
        await allowGit(workerApi, taskId, attempt, signal);
        await serveGit({ repoPath: repoPath(taskId), attempt, request, response, signal });
      };
      return await call.gits.add(serve, { signal });
    }
    if (request.method === "GET") await takeTurn(call.answers, response, signal);
    const { workerApi } = options;
    await route(
      request,
      url,
    )({ workerApi, taskId, attempt, token: call.token, request, response, url, bodyReader: bodyReaders.link, signal });
  } catch (thrown) {
    if (signal.aborted || isAbort(thrown)) {
      response.destroy();
      return;
    }
    const error = coerceError(thrown);
    if (error.code === "internal")
      options.log.error({ taskId, attempt, error: errorMessage(error.cause ?? error) }, "a worker's request failed");
    const headers: Record<string, string> = {};
    if (error.code === "unauthenticated") headers["www-authenticate"] = 'Basic realm="slipway"';
    if (response.headersSent) response.destroy();
    else replyError(response, error, headers);
    discardRest(request);
  }
}

/**
 * Holds a place among the answers until this one has left, or its caller is gone. @throws
 * SlipwayError rate_limited
 */
async function takeTurn(answers: Semaphore, response: ServerResponse, signal: AbortSignal): Promise<void> {
  if (answers.waiting >= ANSWERS.waiting)
    throw new SlipwayError("rate_limited", "Too many requests at once. Read the answers first.");
  const release = await answers.acquire(1, signal);
  if (response.destroyed) release();
  else response.once("close", release);
}

/**
 * An attempt that is over may not reach its repository either. The desk knows; a poll that does not
 * wait is its cheapest question.
 */
async function allowGit(workerApi: WorkerApi, taskId: string, attempt: number, signal: AbortSignal): Promise<void> {
  await workerApi.commands(taskId, attempt, Number.MAX_SAFE_INTEGER, 0, signal);
}

type Serve = (call: WorkerCall) => Promise<void>;

const ROUTES: Readonly<Record<string, Readonly<Record<string, Serve>>>> = {
  "/worker/v1/spec": { GET: serveSpec },
  "/worker/v1/events": { POST: serveEvents },
  "/worker/v1/commands": { GET: serveCommands },
  "/worker/v1/budget": { GET: serveBudget },
  "/worker/v1/transcript": { GET: serveTranscript, POST: serveAppend },
};

function route({ method = "" }: IncomingMessage, url: URL): Serve {
  const found = Object.hasOwn(ROUTES, url.pathname) ? ROUTES[url.pathname] : undefined;
  if (found === undefined) throw new SlipwayError("not_found", "There is nothing at this path.");
  const serve = Object.hasOwn(found, method) ? found[method] : undefined;
  if (serve === undefined) throw new SlipwayError("method_not_allowed", `Use ${Object.keys(found).join(" or ")}.`);
  return serve;
}

function parseUrl(request: IncomingMessage): URL {
  const url = URL.canParse(request.url ?? "", "http://broker") ? new URL(request.url ?? "", "http://broker") : null;
  if (url === null) throw new SlipwayError("invalid_request", "The address is not valid.");
  return url;
}

const hash = (text: string): Buffer => createHash("sha256").update(text).digest();

/**
 * Bearer token, API key or basic password: whatever the program in the sandbox can be told to send.
 */
function opens(request: IncomingMessage, token: string): boolean {
  const [scheme = "", value = ""] = (
    request.headers["proxy-authorization"] ??
    request.headers.authorization ??
    ""
  ).split(" ", 2);
  const given = [String(request.headers["x-api-key"] ?? "")];
  if (scheme.toLowerCase() === "bearer") given.push(value);
  if (scheme.toLowerCase() === "basic")
    given.push(
      Buffer.from(value, "base64")
        .toString("utf8")
        .replace(/^[^:]*:/, ""),
    );
  const wanted = hash(token);
  return given.filter((text) => timingSafeEqual(hash(text), wanted)).length > 0;
}

const PARSER_ERRORS: Readonly<Record<string, ErrorCode>> = {
  HPE_HEADER_OVERFLOW: "headers_too_large",
  ERR_HTTP_REQUEST_TIMEOUT: "request_timeout",
};

function refuseBadRequest(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (!socket.writable || error.code === "ECONNRESET") return void socket.destroy();
  const code = PARSER_ERRORS[error.code ?? ""] ?? "invalid_request";
  const [status, title] = ERROR_TABLE[code];
  const body = JSON.stringify({ code, title });
  socket.end(
    `HTTP/1.1 ${status} ${title}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  );
}
