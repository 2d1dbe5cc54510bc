/**
 * Classifies a failed model call by the error of the client library.
 *
 * An error in mid-stream has a type but no status; a broken connection has neither. Both are
 * examined, and an error with neither is retried.
 */
import { errorMessage } from "../../../../src/core/error.ts";
import { parseRetryAfter } from "../../../../src/core/lib/retry-after.ts";

export type Fault =
  /** Retry, after the pause that the provider requests (ms); null = it requests none. */
  | { readonly kind: "again"; readonly why: string; readonly afterMs: number | null }
  /** The answer could not be parsed: retry a few times only. */
  | { readonly kind: "garbled"; readonly why: string }
  | { readonly kind: "too_long" }
  /** The task's budget is used up; `why` is the gateway's message. */
  | { readonly kind: "budget"; readonly why: string }
  | {
      readonly kind: "fatal";
      readonly code: string;
      readonly why: string;
      /** The request itself was refused: another one may be accepted. */
      readonly isInvalid: boolean;
    };

const TRANSIENT_TYPES = new Set(["overloaded_error", "api_error", "timeout_error", "rate_limit_error"]);

interface ModelError {
  readonly status: number | null;
  readonly type: string | null;
  readonly message: string;
  readonly header: (name: string) => string | null;
}

function readError(thrown: unknown): ModelError {
  const { status, type, headers, apiMessage } = (thrown ?? {}) as Partial<
    Record<"status" | "type" | "headers" | "apiMessage", unknown>
  >;
  return {
    status: typeof status === "number" ? status : null,
    type: typeof type === "string" ? type : null,
    message: typeof apiMessage === "string" ? apiMessage : errorMessage(thrown),
    header: (name) => (headers instanceof Headers ? headers.get(name) : null),
  };
}

const isTooLong = ({ status, message }: ModelError): boolean =>
  status === 413 ||
  ((status === 400 || status === null) &&
    /prompt is too long|exceeds? the (?:context|maximum)|context window/i.test(message));

/** The library parses a call's input when it is complete and rethrows the parser's error. */
function isGarbled(thrown: unknown, message: string): boolean {
  const cause = thrown instanceof Error ? thrown.cause : null;
  return cause instanceof SyntaxError || /tool parameter JSON|is not valid JSON|in JSON at position/.test(message);
}

function describeTransient({ status, type }: ModelError): string {
  if (status === 429 || type === "rate_limit_error") return "The model provider's rate limit is reached.";
  if (status === 529 || type === "overloaded_error") return "The model provider is overloaded.";
  if (status !== null) return `The model provider answered with an error (${status}).`;
  return type === null ? "The connection to the model broke." : "The model provider aborted its answer.";
}

/** @param now epoch ms. */
export function classifyFault(thrown: unknown, now: number): Fault {
  const error = readError(thrown);
  const { status, type, message } = error;
  if (type === "budget_exceeded") return { kind: "budget", why: message };
  if (isGarbled(thrown, message)) return { kind: "garbled", why: "A tool call of the model could not be read." };
  if (isTooLong(error)) return { kind: "too_long" };
  if (
    status === 402 ||
    type === "billing_error" ||
    /spend_limit/.test(String((thrown as { errorCode?: unknown } | null)?.errorCode))
  )
    return { kind: "fatal", code: "model_quota", why: message, isInvalid: false };
  const isTransient =
    status === null ? type === null || TRANSIENT_TYPES.has(type) : [408, 409, 429].includes(status) || status >= 500;
  if (isTransient) return { kind: "again", why: describeTransient(error), afterMs: parseRetryAfter(error.header, now) };
  if (status === 401 || status === 403 || type === "authentication_error")
    return { kind: "fatal", code: "model_auth", why: message, isInvalid: false };
  return {
    kind: "fatal",
    code: "agent_error",
    why: `The model provider refused a request (${status ?? type}): ${message}`.slice(0, 1_000),
    isInvalid: status === 400 || (status === null && type === "invalid_request_error"),
  };
}
