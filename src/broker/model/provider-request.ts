/**
 * The request that the gateway sends to the model provider: the worker's body after the policy's
 * check, with headers that are written here (L1).
 */
import {
  Agent as HttpAgent,
  request as httpRequest,
  type ClientRequest,
  type IncomingMessage,
  type OutgoingHttpHeaders,
} from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { BODY_MS, parseJsonBody, BodyReader } from "../request-body.ts";
import type { SecretRemoval } from "../../core/ports/broker.ts";
import type { Release } from "../semaphore.ts";
import { TRANSCRIPT_DEPTH } from "../worker-routes.ts";
import type { RequestCeiling } from "./request/ceiling.ts";
import { checkRequest, type ModelRequest, type RequestRules } from "./request/policy.ts";

const BODY_BYTES = 32 * 1024 * 1024;
/** Per attempt: one request of the largest size at a time, or many of the usual size. */
export const MODEL_BODY_LIMITS = { bytes: BODY_BYTES, maxWaiting: 32, ms: BODY_MS };
/** No model's context window holds this many values: each takes at least two tokens. */
const MAX_VALUES = 500_000;
/**
 * Longest silence of the provider, before and within an answer, ms. The worker's own watchdog is
 * shorter.
 */
const SILENCE_MS = 600_000;
/**
 * How long a connection to the provider stays open without a request, ms: less than the 5 s of
 * Node.js, the shortest of common servers. A request on a connection that the provider is closing
 * fails without an answer, and has to be booked as if it had been answered.
 */
const IDLE_MS = 4_000;

/** A request that passed the policy. It holds its share of the body budget until it is written. */
export class CheckedRequest {
  readonly model: string;
  readonly ceiling: RequestCeiling;
  readonly #release: Release;
  #body: Buffer | null;
  #isSent = false;

  constructor({ model, ceiling, body }: ModelRequest, release: Release) {
    this.model = model;
    this.ceiling = ceiling;
    this.#body = Buffer.from(body);
    this.#release = release;
  }

  get bytes(): number {
    return this.#body?.length ?? 0;
  }

  /** True once the whole body was handed to the network: from then on the provider may bill it. */
  get isSent(): boolean {
    return this.#isSent;
  }

  /** Writes the body and drops the reference to it; the budget is returned once it is written. */
  send(outgoing: ClientRequest): void {
    outgoing.once("finish", () => (this.#isSent = true));
    outgoing.once("finish", this.#release).once("close", this.#release);
    outgoing.end(this.#body);
    this.#body = null;
  }

  /** Returns the budget. Idempotent; call it whether or not the request was sent. */
  discard(): void {
    this.#body = null;
    this.#release();
  }
}

/**
 * Reads and checks the worker's body. A separate function, so that the received bytes and the
 * parsed value are unreachable, and collected, while the provider answers.
 * @throws SlipwayError or InvalidModelRequest
 */
export async function readCheckedRequest(
  call: { readonly request: IncomingMessage; readonly bodyReader?: BodyReader; readonly signal: AbortSignal },
  rules: RequestRules,
  redactor: Awaited<ReturnType<SecretRemoval["redactorOf"]>>,
): Promise<CheckedRequest> {
  const bodyReader = call.bodyReader ?? new BodyReader(MODEL_BODY_LIMITS);
  const { bytes, release } = await bodyReader.receive(call.request, BODY_BYTES, call.signal);
  try {
    const value = parseJsonBody(bytes, { depth: TRANSCRIPT_DEPTH, values: MAX_VALUES });
    return new CheckedRequest(checkRequest(redactor === null ? value : redactor.redactValue(value), rules), release);
  } catch (error) {
    release();
    throw error;
  }
}

export interface ProviderOptions {
  /** The provider's address, without a slash at the end. */
  readonly baseUrl: string;
  readonly apiKey: string;
  readonly rules: RequestRules;
  /** Keeps connections to the provider open. */
  readonly agent?: HttpAgent;
}

/** Keeps connections open between the requests of a turn and the next one. */
export function createProviderAgent(baseUrl: string): HttpAgent {
  return new (baseUrl.startsWith("https:") ? HttpsAgent : HttpAgent)({ keepAlive: true, timeout: IDLE_MS });
}

export class ProviderClient {
  readonly #options: ProviderOptions;
  readonly #base: URL;

  constructor(options: ProviderOptions) {
    this.#options = options;
    this.#base = new URL(options.baseUrl);
  }

  /**
   * Resolves with the head of the answer, error statuses included; rejects when no answer arrives.
   * @param body null sends a GET, a checked request a POST.
   * @param headers of the worker's request, as far as they go on.
   */
  request(
    path: string,
    headers: Readonly<Record<string, string>>,
    body: CheckedRequest | null,
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    const { agent, apiKey } = this.#options;
    const send = this.#base.protocol === "https:" ? httpsRequest : httpRequest;
    const url = new URL(this.#base.pathname.replace(/\/$/, "") + path, this.#base);
    const method = body === null ? "GET" : "POST";
    const own: OutgoingHttpHeaders = {
      ...headers,
      accept: "application/json",
      // The usage of a compressed answer could not be read as it passes.
      "accept-encoding": "identity",
      authorization: `Bearer ${apiKey}`,
      ...(body === null ? {} : { "content-type": "application/json", "content-length": body.bytes }),
    };
    return new Promise((resolve, reject) => {
      const outgoing = send(
        url,
        { method, headers: own, signal, timeout: SILENCE_MS, ...(agent && { agent }) },
        resolve,
      );
      outgoing.on("timeout", () => outgoing.destroy(new Error(`no answer within ${SILENCE_MS / 1_000} s`)));
      outgoing.on("error", reject);
      if (body === null) outgoing.end();
      else body.send(outgoing);
    });
  }
}
