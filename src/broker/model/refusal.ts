/** Errors that the gateway sends instead of the provider's answer, in Messages API format. */
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from "node:http";
import { errorMessage, SlipwayError, type ErrorCode } from "../../core/error.ts";
import type { Log } from "../../core/ports/runtime.ts";
import { parseRetryAfter } from "../../core/lib/retry-after.ts";
import { InvalidModelRequest } from "./request/policy.ts";

export class ModelRefusal extends Error {
  readonly status: number;
  /** `error.type` of the Messages API. */
  readonly type: string;
  readonly retryAfterMs: number | null;
  /** The provider's id of the request; null when the gateway itself refuses. */
  readonly requestId: string | null;

  constructor(
    status: number,
    type: string,
    message: string,
    retryAfterMs: number | null = null,
    requestId: string | null = null,
  ) {
    super(message);
    this.requestId = requestId;
    this.status = status;
    this.type = type;
    this.retryAfterMs = retryAfterMs;
  }
}

const BUSY_MS = 1_000;
/** The provider's error body is read up to this many characters. */
const ERROR_BODY_LIMIT = 64 * 1024;
const MESSAGE_LIMIT = 1_000;
/** Headers with the provider's rate limits and their remaining amounts. */
const RATE_HEADER = /^(?:retry-after|anthropic-ratelimit-[\w-]+)$/;

/** Error codes of Slipway as `error.type` values; `permission_error` stands for all others. */
const TYPES: Partial<Record<ErrorCode, string>> = {
  budget_exceeded: "budget_exceeded",
  invalid_request: "invalid_request_error",
  payload_too_large: "request_too_large",
  request_timeout: "timeout_error",
  rate_limited: "rate_limit_error",
};

export function toModelRefusal(error: unknown): ModelRefusal {
  if (error instanceof ModelRefusal) return error;
  if (error instanceof InvalidModelRequest) return new ModelRefusal(400, "invalid_request_error", error.message);
  if (error instanceof SlipwayError) {
    const retryAfterMs = error.code === "rate_limited" ? BUSY_MS : null;
    return new ModelRefusal(error.status, TYPES[error.code] ?? "permission_error", error.message, retryAfterMs);
  }
  return new ModelRefusal(502, "api_error", `The model provider could not be reached: ${errorMessage(error)}`);
}

/** Closes the connection when the answer has begun already. */
export function sendModelRefusal(response: ServerResponse, refusal: ModelRefusal): void {
  if (response.headersSent || response.destroyed) return void response.destroy();
  const text = JSON.stringify(toBody(refusal));
  const retry: OutgoingHttpHeaders =
    refusal.retryAfterMs === null ? {} : { "retry-after": String(Math.ceil(refusal.retryAfterMs / 1_000)) };
  response.writeHead(refusal.status, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(text),
    ...retry,
    ...toRequestIdHeader(refusal.requestId),
  });
  response.end(text);
}

/** The refusal as the last event of a stream. */
export const toErrorEvent = (refusal: ModelRefusal): string =>
  `event: error\ndata: ${JSON.stringify(toBody(refusal))}\n\n`;

const toBody = ({ type, message }: ModelRefusal): object => ({ type: "error", error: { type, message } });

/**
 * Translates the provider's error answer. Its message is passed on only for errors that concern the
 * request: those about the key, the account or the load may name the account (L3).
 */
export async function readProviderRefusal(
  answer: IncomingMessage,
  { log, ...call }: { readonly log: Log; readonly taskId: string; readonly attempt: number; readonly model: string },
): Promise<ModelRefusal> {
  const status = answer.statusCode ?? 502;
  const { type, message } = await readErrorBody(answer);
  const requestId = readRequestId(answer);
  const limits = Object.fromEntries(Object.entries(answer.headers).filter(([name]) => RATE_HEADER.test(name)));
  log.warn({ ...call, status, type, requestId, ...limits }, "the model provider refused a request");
  const retryAfterMs = parseRetryAfter((name) => {
    const value = answer.headers[name];
    return typeof value === "string" ? value : null;
  }, Date.now());
  const refuse = (as: number, kind: string, text: string): ModelRefusal =>
    new ModelRefusal(as, kind, text, retryAfterMs, requestId);
  if (status === 401 || status === 403)
    return refuse(403, "authentication_error", "The model provider refused this server's key.");
  if (status === 402 || /spend|billing|credit/i.test(type))
    return refuse(402, "billing_error", "The model account has no quota left.");
  if (status === 429 || status === 529 || status >= 500)
    return refuse(status, type, "The model provider refused the request temporarily. Retry later.");
  return refuse(status, type, message);
}

/** The provider's id of a request: what its support asks for. */
export function readRequestId({ headers }: IncomingMessage): string | null {
  const id = headers["request-id"];
  return typeof id === "string" && /^[\w-]{1,100}$/.test(id) ? id : null;
}

export const toRequestIdHeader = (id: string | null): OutgoingHttpHeaders => (id === null ? {} : { "request-id": id });

/** The provider's `error.type` and message; defaults when the body is not in the usual form. */
async function readErrorBody(answer: IncomingMessage): Promise<{ type: string; message: string }> {
  let text = "";
  try {
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      text += chunk.toString("utf8");
      if (text.length > ERROR_BODY_LIMIT) break;
    }
    const { error } = JSON.parse(text) as { error?: { type?: unknown; message?: unknown } };
    return {
      type: typeof error?.type === "string" ? error.type : "api_error",
      message:
        typeof error?.message === "string"
          ? error.message.slice(0, MESSAGE_LIMIT)
          : "The model provider refused the request.",
    };
  } catch {
    return { type: "api_error", message: "The model provider refused the request." };
  } finally {
    answer.destroy();
  }
}
