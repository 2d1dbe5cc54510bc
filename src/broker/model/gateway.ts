/**
 * The model gateway: the worker's attempt token comes in, the server's key goes out, and what
 * passes is metered.
 *
 * L1 The key is added here and is nowhere else; nothing that the worker sent as authorisation,
 *    cookie or address goes on.
 * L2 The answer is passed on piece by piece as it comes. Its usage is read on the way; when a
 *    budget is used up it is cut in mid-stream.
 * L3 The provider's refusals are told in our words: its own may name the account.
 * L4 A request's body is held only until it is written to the provider, not while the answer is
 *    waited for or passes.
 */
import {
  request as httpRequest,
  type Agent as HttpAgent,
  type ClientRequest,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  type ServerResponse,
} from "node:http";
import { request as httpsRequest } from "node:https";
import { matchesPattern } from "../../core/values/name-pattern.ts";
import { isAbort, errorMessage, SlipwayError, type ErrorCode } from "../../core/error.ts";
import { waitForDrain } from "./drained.ts";
import { computePrice, type PriceTable } from "./prices.ts";
import type { ProviderRateLimit } from "./rate-limit.ts";
import { NO_TOKENS, UsageReader } from "./usage.ts";
import type { Release } from "../semaphore.ts";
import { BODY_MS, discardRest, BodyReader, parseJsonBody } from "../request-body.ts";
import { checkRequest, RefusedRequest, type ModelRequest, type RequestRules } from "./request-policy.ts";
import { DEPTH } from "../transcript.ts";
import type { Log } from "../../core/ports/runtime.ts";
import type { Admission, ModelBudget } from "../../core/ports/broker.ts";

export interface ModelGatewayOptions {
  /** The provider's address, without a slash at the end. */
  readonly baseUrl: string;
  readonly apiKey: string;
  readonly budget: ModelBudget;
  readonly rules: RequestRules;
  readonly prices: PriceTable;
  readonly rate: ProviderRateLimit;
  readonly log: Log;
  /** Keeps connections to the provider open. */
  readonly agent?: HttpAgent;
}

export interface ModelCall {
  readonly taskId: string;
  readonly attempt: number;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** The path after `/anthropic`, with its query. */
  readonly path: string;
  /** Of the bodies of all requests of this attempt; absent = this one is alone. */
  readonly bodyReader?: BodyReader;
  /** Aborted when the caller is gone or the broker shuts. */
  readonly signal: AbortSignal;
}

/** Serves one request of a worker; resolves when the answer is sent. Never rejects. */
export type ServeModel = (call: ModelCall) => Promise<void>;

const BODY_BYTES = 32 * 1024 * 1024;
/** Of one attempt: one of the largest requests at a time, or many of the usual size. */
export const MODEL_BODY_LIMITS = { bytes: BODY_BYTES, maxWaiting: 32, ms: BODY_MS };
/** More than the window of any model holds: each takes two tokens at least. */
const VALUES = 500_000;
const REFUSAL_LIMIT = 64 * 1024;
/**
 * How long a request waits here for the rate limit before the worker is told to wait itself, ms.
 */
const PATIENCE_MS = 20_000;
/**
 * Longest silence of the provider before and in an answer, ms. The worker's own watchdog is
 * shorter.
 */
const SILENCE_MS = 600_000;
/** What is longer without an end is passed on as it is. */
const FRAME_LIMIT = 1024 * 1024;
const CHARACTERS_PER_TOKEN = 5;
const VERSION = "2026-10-21";
const BUSY_MS = 1_000;
/** What a refusal of ours is called in the Messages API. */
const TYPES: Partial<Record<ErrorCode, string>> = {
  budget_exceeded: "budget_exceeded",
  invalid_request: "invalid_request_error",
  payload_too_large: "request_too_large",
  request_timeout: "timeout_error",
  rate_limited: "rate_limit_error",
};

/** An answer that the worker gets instead of the provider's. */
class Refusal extends Error {
  readonly status: number;
  readonly type: string;
  readonly retryAfterMs: number | null;

  constructor(status: number, type: string, message: string, retryAfterMs: number | null = null) {
    super(message);
    this.status = status;
    this.type = type;
    this.retryAfterMs = retryAfterMs;
  }
}

function refusalOf(error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  if (error instanceof RefusedRequest) return new Refusal(400, "invalid_request_error", error.message);
  if (error instanceof SlipwayError) {
    const retryAfterMs = error.code === "rate_limited" ? BUSY_MS : null;
    return new Refusal(error.status, TYPES[error.code] ?? "permission_error", error.message, retryAfterMs);
  }
  return new Refusal(502, "api_error", `The model provider could not be reached: ${errorMessage(error)}`);
}

function reply(response: ServerResponse, { status, type, message, retryAfterMs }: Refusal): void {
  if (response.headersSent || response.destroyed) return void response.destroy();
  const text = JSON.stringify({ type: "error", error: { type, message } });
  const retry: OutgoingHttpHeaders =
    retryAfterMs === null ? {} : { "retry-after": String(Math.ceil(retryAfterMs / 1_000)) };
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(text),
    ...retry,
  });
  response.end(text);
}

/**
 * A request that was checked, on its way to the provider. It keeps its room in the intake until it
 * is written.
 */
class Cargo {
  readonly model: string;
  readonly promptLength: number;
  readonly #release: Release;
  #body: Buffer | null;

  constructor({ model, promptLength, body }: ModelRequest, release: Release) {
    this.model = model;
    this.promptLength = promptLength;
    this.#body = Buffer.from(body);
    this.#release = release;
  }

  get bytes(): number {
    return this.#body?.length ?? 0;
  }

  /** Hands the body over; nothing of it stays here. */
  load(outgoing: ClientRequest): void {
    outgoing.once("finish", this.#release).once("close", this.#release);
    outgoing.end(this.#body);
    this.#body = null;
  }

  /** It will not go on, or has. */
  drop(): void {
    this.#body = null;
    this.#release();
  }
}

/**
 * A function of its own, so that what was read and parsed is held by nobody once it was checked.
 */
async function cargoOf({ request, signal, bodyReader }: ModelCall, rules: RequestRules): Promise<Cargo> {
  const { bytes, release } = await (bodyReader ?? new BodyReader(MODEL_BODY_LIMITS)).receive(
    request,
    BODY_BYTES,
    signal,
  );
  try {
    return new Cargo(checkRequest(parseJsonBody(bytes, { depth: DEPTH, values: VALUES }), rules), release);
  } catch (error) {
    release();
    throw error;
  }
}

/**
 * `retry-after-ms`, or `retry-after` in seconds or as a date; null when the provider did not say.
 */
export function parseRetryAfterHeaders(headers: IncomingMessage["headers"], now: number): number | null {
  const ms = Number(headers["retry-after-ms"]);
  if (Number.isFinite(ms) && ms >= 0) return ms;
  const text = headers["retry-after"];
  if (text === undefined || text === "") return null;
  const seconds = Number(text);
  if (Number.isFinite(seconds)) return Math.max(0, seconds * 1_000);
  const date = Date.parse(text);
  return Number.isNaN(date) ? null : Math.max(0, date - now);
}

export function createModelGateway(options: ModelGatewayOptions): ServeModel {
  const { budget, rules, prices, rate, log } = options;
  const base = new URL(options.baseUrl);
  const send = base.protocol === "https:" ? httpsRequest : httpRequest;

  /** Opens the request to the provider; resolves with its answer's head. */
  function forward(
    method: string,
    path: string,
    incoming: IncomingMessage,
    cargo: Cargo | null,
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    const betas = String(incoming.headers["anthropic-beta"] ?? "")
      .split(",")
      .map((one) => one.trim())
      .filter((one) => matchesPattern(rules.betas, one));
    const headers: OutgoingHttpHeaders = {
      accept: "application/json",
      // Compressed answers could not be metered as they pass.
      "accept-encoding": "identity",
      "anthropic-version": String(incoming.headers["anthropic-version"] ?? VERSION),
      authorization: `Bearer ${options.apiKey}`,
      ...(betas.length === 0 ? {} : { "anthropic-beta": betas.join(",") }),
      ...(cargo === null ? {} : { "content-type": "application/json", "content-length": cargo.bytes }),
    };
    const url = new URL(base.pathname.replace(/\/$/, "") + path, base);
    return new Promise((resolve, reject) => {
      const outgoing = send(
        url,
        { method, headers, signal, timeout: SILENCE_MS, ...(options.agent && { agent: options.agent }) },
        resolve,
      );
      outgoing.on("timeout", () => outgoing.destroy(new Error(`no answer within ${SILENCE_MS / 1_000} s`)));
      outgoing.on("error", reject);
      if (cargo === null) outgoing.end();
      else cargo.load(outgoing);
    });
  }

  /** What a refusal of the provider means for the worker. */
  async function refused(answer: IncomingMessage): Promise<Refusal> {
    const status = answer.statusCode ?? 502;
    const { type, message } = await wordsOf(answer);
    const retryAfterMs = parseRetryAfterHeaders(answer.headers, Date.now());
    log.warn({ status, type }, "the model provider refused a request");
    if (status === 401 || status === 403)
      return new Refusal(403, "authentication_error", "The model provider refused this server's key.");
    if (status === 402 || /spend|billing|credit/i.test(type))
      return new Refusal(402, "billing_error", "The model account has no quota left.");
    if (status === 429) rate.noteRefusal(retryAfterMs);
    if (status === 429 || status === 529 || status >= 500)
      return new Refusal(status, type, "The model provider asks to wait.", retryAfterMs);
    return new Refusal(status, type, message);
  }

  /**
   * The provider's answer to the worker, metered. @returns when everything has passed or was cut.
   */
  async function pass(
    answer: IncomingMessage,
    response: ServerResponse,
    model: string,
    admission: Admission,
    signal: AbortSignal,
  ): Promise<void> {
    const reader = new UsageReader();
    const streams = String(answer.headers["content-type"] ?? "").startsWith("text/event-stream");
    const frames = new Frames();
    const whole: Buffer[] = [];
    response.writeHead(200, {
      "content-type": answer.headers["content-type"] ?? "application/json",
      "cache-control": "no-cache",
    });
    try {
      for await (const piece of answer as AsyncIterable<Buffer>) {
        if (streams) reader.feed(piece);
        else whole.push(piece);
        if (!response.write(streams ? frames.take(piece) : piece)) await waitForDrain(response, signal);
        const over = admission.update(computePrice(model, reader.read().usage, prices).usd);
        if (over !== null) throw new Refusal(402, "budget_exceeded", over);
      }
      response.write(frames.rest());
      if (!streams) reader.finish(Buffer.concat(whole).toString("utf8"));
      response.end();
    } catch (error) {
      if (error instanceof Refusal && streams && !response.destroyed) response.end(eventOf(error));
      else response.destroy();
      if (!(error instanceof Refusal) && !signal.aborted)
        log.warn({ error: errorMessage(error) }, "an answer of the model broke off");
    } finally {
      answer.destroy();
      await book(reader, model, admission);
    }
  }

  async function book(reader: UsageReader, model: string, admission: Admission): Promise<void> {
    const { usage, estimated } = reader.read();
    const { usd, known } = computePrice(model, usage, prices);
    if (!known) log.warn({ model }, "the price of this model is not known: the dearest one was taken");
    const { inputTokens, outputTokens, cacheReadTokens } = usage;
    const cacheWriteTokens = usage.cacheWrite5mTokens + usage.cacheWrite1hTokens;
    await admission.settle({ model, inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens, usd, estimated });
  }

  async function messages(
    { taskId, attempt, request, response, path, signal }: ModelCall,
    cargo: Cargo,
  ): Promise<void> {
    const { model } = cargo;
    const least = Math.ceil(cargo.promptLength / CHARACTERS_PER_TOKEN);
    // Read from the cache it may cost a tenth; what is certain is only that.
    const admission = await budget.admit(
      taskId,
      attempt,
      model,
      computePrice(model, { ...NO_TOKENS, cacheReadTokens: least }, prices).usd,
    );
    try {
      const still = await rate.remainingMs(PATIENCE_MS, signal);
      if (still > 0) throw new Refusal(429, "rate_limit_error", "The model provider's rate limit is reached.", still);
      const answer = await forward("POST", path, request, cargo, signal);
      if (answer.statusCode !== 200) throw await refused(answer);
      rate.noteSuccess();
      await pass(answer, response, model, admission, signal);
    } finally {
      await admission.cancel();
    }
  }

  /** What costs nothing: counting tokens, and asking what models there are. */
  async function free({ request, response, path, signal }: ModelCall, cargo: Cargo | null): Promise<void> {
    const answer = await forward(cargo === null ? "GET" : "POST", path, request, cargo, signal);
    if (answer.statusCode !== 200) throw await refused(answer);
    response.writeHead(200, { "content-type": "application/json" });
    for await (const piece of answer as AsyncIterable<Buffer>) response.write(piece);
    response.end();
  }

  async function withCargo(call: ModelCall, deliver: (call: ModelCall, cargo: Cargo) => Promise<void>): Promise<void> {
    const cargo = await cargoOf(call, rules);
    try {
      await deliver(call, cargo);
    } finally {
      cargo.drop();
    }
  }

  return async (call) => {
    const { method } = call.request;
    const [pathname = ""] = call.path.split("?", 1);
    try {
      if (method === "POST" && pathname === "/v1/messages") return await withCargo(call, messages);
      if (method === "POST" && pathname === "/v1/messages/count_tokens") return await withCargo(call, free);
      if (method === "GET" && /^\/v1\/models(?:\/[\w.-]{1,200})?$/.test(pathname)) return await free(call, null);
      throw new Refusal(
        404,
        "not_found_error",
        "Only /v1/messages, /v1/messages/count_tokens and /v1/models pass this gateway.",
      );
    } catch (error) {
      if (isAbort(error) || call.signal.aborted) return void call.response.destroy();
      reply(call.response, refusalOf(error));
      discardRest(call.request);
    }
  };
}

/**
 * Passes a stream on in whole frames, so that it can be ended with an event of our own at any time.
 */
class Frames {
  #rest: Buffer = Buffer.alloc(0);

  take(piece: Buffer): Buffer {
    const all = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece]);
    const ends = ["\n\n", "\r\n\r\n"].map((mark) => all.lastIndexOf(mark) + mark.length * Number(all.includes(mark)));
    const found = Math.max(...ends);
    const at = found > 0 || all.length <= FRAME_LIMIT ? Math.max(0, found) : all.length;
    this.#rest = all.subarray(at);
    return all.subarray(0, at);
  }

  rest(): Buffer {
    return this.#rest;
  }
}

const eventOf = ({ type, message }: Refusal): string =>
  `event: error\ndata: ${JSON.stringify({ type: "error", error: { type, message } })}\n\n`;

/** The type and the words of a refusal, as far as they are in the usual form. */
async function wordsOf(answer: IncomingMessage): Promise<{ type: string; message: string }> {
  let text = "";
  try {
    for await (const piece of answer as AsyncIterable<Buffer>) {
      text += piece.toString("utf8");
      if (text.length > REFUSAL_LIMIT) break;
    }
    const { error } = JSON.parse(text) as { error?: { type?: unknown; message?: unknown } };
    const type = typeof error?.type === "string" ? error.type : "api_error";
    return {
      type,
      message:
        typeof error?.message === "string" ? error.message.slice(0, 1_000) : "The model provider refused the request.",
    };
  } catch {
    return { type: "api_error", message: "The model provider refused the request." };
  } finally {
    answer.destroy();
  }
}
