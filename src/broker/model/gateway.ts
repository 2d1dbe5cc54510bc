/**
 * The model gateway: exchanges the worker's attempt token for the server's key, and meters what
 * passes.
 *
 * L1 The key is added by the gateway and exists nowhere else. Credentials, cookies and addresses of
 *    the worker's request are not forwarded.
 * L2 The answer is relayed chunk by chunk. Its usage is read on the way, and the answer is cut as
 *    soon as a budget is exhausted.
 * L3 Provider errors about the key, the account or the load are replaced by the gateway's own
 *    messages: the provider's may name the account. Its id of the request goes on, and is logged.
 * L4 A request body is held only until it is written to the provider, not while the answer is
 *    awaited or relayed.
 * L5 Secrets of the task's variables are removed before a request goes on (rule S11): a program
 *    that has its own tools has read them itself.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { waitForDrain } from "../../core/lib/concurrency/async.ts";
import { isAbort } from "../../core/error.ts";
import type { ModelBudget, SecretRemoval } from "../../core/ports/broker.ts";
import type { Log } from "../../core/ports/runtime.ts";
import { checkQuery, selectHeaders } from "./request/headers.ts";
import { discardRest, getMaxLength, type BodyReader } from "../request-body.ts";
import { relayAnswer } from "./answer-stream.ts";
import { CallLimits } from "./call-limits.ts";
import { Meter } from "./meter.ts";
import type { PriceTable } from "./price-table.ts";
import { isPriced } from "./prices.ts";
import {
  MODEL_BODY_LIMITS,
  ProviderClient,
  readCheckedRequest,
  type CheckedRequest,
  type ProviderOptions,
} from "./provider-request.ts";
import type { ProviderRateLimit } from "./rate-limit.ts";
import {
  ModelRefusal,
  readProviderRefusal,
  readRequestId,
  sendModelRefusal,
  toModelRefusal,
  toRequestIdHeader,
} from "./refusal.ts";
import { WindowReader } from "./window-reader.ts";

export interface ModelGatewayOptions extends ProviderOptions {
  readonly budget: ModelBudget;
  /** Absent = there are no secrets. */
  readonly secrets?: SecretRemoval;
  readonly prices: PriceTable;
  readonly rate: ProviderRateLimit;
  /** The most tokens of a request by model: what the provider says is kept here. */
  readonly windows?: Map<string, number>;
  readonly log: Log;
}

export interface ModelCall {
  readonly taskId: string;
  readonly attempt: number;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** The path after `/anthropic`, with its query. */
  readonly path: string;
  /** Shared by all model requests of the attempt; absent = a reader for this request alone. */
  readonly bodyReader?: BodyReader;
  /** Aborted when the caller disconnects or the broker closes. */
  readonly signal: AbortSignal;
}

/** Serves one request of a worker; resolves when the answer is sent. Never rejects. */
export type ServeModel = (call: ModelCall) => Promise<void>;

/** Longest wait for the provider's rate limit before the worker gets a 429 instead, ms. */
const RATE_LIMIT_WAIT_MS = 20_000;
/** Requests that cost nothing have limits of their own. */
const FREE = "free";
/** A name that begins with a dot would be a step to another path. */
const MODELS_PATH = /^\/v1\/models(?:\/\w[\w.-]{0,199})?$/;
/** A proxy's or the provider's time-out: the answer may have been written, and be billed. */
const TIMEOUT_STATUSES = new Set([408, 504, 524]);

export function createModelGateway(options: ModelGatewayOptions): ServeModel {
  const gateway = new ModelGateway(options);
  return (call) => gateway.serve(call);
}

class ModelGateway {
  readonly #options: ModelGatewayOptions;
  readonly #provider: ProviderClient;
  readonly #calls = new CallLimits();

  constructor(options: ModelGatewayOptions) {
    this.#options = options;
    this.#provider = new ProviderClient(options);
  }

  async serve(call: ModelCall): Promise<void> {
    try {
      await this.#route(call);
    } catch (error) {
      if (isAbort(error) || call.signal.aborted) return void call.response.destroy();
      sendModelRefusal(call.response, toModelRefusal(error));
      discardRest(call.request);
    }
  }

  async #route(call: ModelCall): Promise<void> {
    const { method } = call.request;
    const [pathname = ""] = call.path.split("?", 1);
    checkQuery(call.path);
    if (method === "POST" && pathname === "/v1/messages") return await this.#serveMessages(call);
    if (method === "POST" && pathname === "/v1/messages/count_tokens") return await this.#serveTokenCount(call);
    if (method === "GET" && MODELS_PATH.test(pathname)) return await this.#serveModelList(call);
    throw new ModelRefusal(
      404,
      "not_found_error",
      "This gateway serves only /v1/messages, /v1/messages/count_tokens and /v1/models.",
    );
  }

  async #read(call: ModelCall): Promise<CheckedRequest> {
    const { rules, secrets } = this.#options;
    const redactor = (await secrets?.redactorOf(call.taskId)) ?? null;
    return await readCheckedRequest(call, rules, redactor);
  }

  async #serveMessages(call: ModelCall): Promise<void> {
    // A body that can never be taken waits for nothing.
    getMaxLength(call.request, MODEL_BODY_LIMITS.bytes);
    const release = await this.#calls.acquireMessage(call);
    try {
      const request = await this.#read(call);
      try {
        await this.#serveChecked(call, request);
      } finally {
        request.discard();
      }
    } finally {
      release();
    }
  }

  async #serveChecked(call: ModelCall, request: CheckedRequest): Promise<void> {
    const { taskId, attempt, response, signal } = call;
    const { budget, prices, rules, log } = this.#options;
    const { model, ceiling } = request;
    const headers = selectHeaders(call.request.headers, rules.betas);
    checkPrice(model, ceiling.fast, prices);
    await this.#awaitRate(model, call);
    const meter = new Meter(model, ceiling, prices);
    const admission = await budget.admit(taskId, attempt, model, meter.ceilingUsd, signal);
    let isBilled = true;
    meter.start();
    try {
      const answer = await this.#provider.request(call.path, headers, request, signal);
      if (answer.statusCode !== 200) {
        isBilled = TIMEOUT_STATUSES.has(answer.statusCode ?? 0);
        throw await this.#readRefusal(answer, model, call);
      }
      this.#options.rate.noteSuccess(model);
      const requestId = readRequestId(answer);
      log.debug({ taskId, attempt, model, requestId }, "the model provider answers");
      await relayAnswer({ answer, response, meter, admission, log, signal });
    } catch (error) {
      isBilled &&= request.isSent;
      throw error;
    } finally {
      await (isBilled ? admission.settle(meter.book()) : admission.cancel());
    }
  }

  /** @throws ModelRefusal when the provider's rate limit lasts too long. */
  async #awaitRate(model: string, call: ModelCall): Promise<void> {
    const remainingMs = await this.#options.rate.remainingMs(model, RATE_LIMIT_WAIT_MS, call);
    if (remainingMs > 0)
      throw new ModelRefusal(429, "rate_limit_error", "The model provider's rate limit is reached.", remainingMs);
  }

  async #serveTokenCount(call: ModelCall): Promise<void> {
    const release = await this.#calls.acquireFree(call);
    try {
      const request = await this.#read(call);
      try {
        await this.#relayFree(call, request);
      } finally {
        request.discard();
      }
    } finally {
      release();
    }
  }

  async #serveModelList(call: ModelCall): Promise<void> {
    const release = await this.#calls.acquireFree(call);
    try {
      await this.#relayFree(call, null);
    } finally {
      release();
    }
  }

  /** Requests that cost nothing: counting tokens and listing models. */
  async #relayFree(call: ModelCall, request: CheckedRequest | null): Promise<void> {
    const { taskId, attempt, request: incoming, response, path, signal } = call;
    await this.#awaitRate(FREE, call);
    const headers = selectHeaders(incoming.headers, this.#options.rules.betas);
    await this.#options.budget.admitFree(taskId, attempt);
    const answer = await this.#provider.request(path, headers, request, signal);
    if (answer.statusCode !== 200) throw await this.#readRefusal(answer, FREE, call);
    response.writeHead(200, { "content-type": "application/json", ...toRequestIdHeader(readRequestId(answer)) });
    const window = request === null ? new WindowReader(path, this.#options.windows) : null;
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      window?.add(chunk);
      if (!response.write(chunk)) await waitForDrain(response, signal);
    }
    window?.end();
    response.end();
  }

  async #readRefusal(answer: IncomingMessage, model: string, call: ModelCall): Promise<ModelRefusal> {
    const { log, rate } = this.#options;
    const { taskId, attempt } = call;
    const refusal = await readProviderRefusal(answer, { log, taskId, attempt, model });
    if (refusal.status === 429) rate.noteRefusal(model, refusal.retryAfterMs);
    return refusal;
  }
}

/** @throws ModelRefusal for a request that could not be booked. */
function checkPrice(model: string, fast: boolean, prices: PriceTable): void {
  if (isPriced(model, { fast }, prices)) return;
  const what = fast && isPriced(model, {}, prices) ? `"speed": "fast" of the model "${model}"` : `the model "${model}"`;
  throw new ModelRefusal(
    400,
    "invalid_request_error",
    `This server has no price for ${what}. An operator adds one with SLIPWAY_PRICES.`,
  );
}
