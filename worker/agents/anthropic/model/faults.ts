/**
 * What a failed model call means, told from what the client library threw.
 *
 * An error in mid-stream has no status but a type; a broken connection has neither. So both are
 * looked at, and what has neither is tried again.
 */
import { errorMessage } from "../../../../src/core/error.ts";

export type Fault =
  /** Try again: after what the provider asks for (ms), or after our own pause. */
  | { readonly kind: "again"; readonly why: string; readonly afterMs: number | null }
  /** The answer could not be read: tried again a few times only. */
  | { readonly kind: "garbled"; readonly why: string }
  | { readonly kind: "too_long" }
  /** The task's budget is used up, in the words of the gateway. */
  | { readonly kind: "budget"; readonly why: string }
  | { readonly kind: "fatal"; readonly code: string; readonly why: string };

const PASSING_TYPES = new Set(["overloaded_error", "api_error", "timeout_error", "rate_limit_error"]);

interface Thrown {
  readonly status: number | null;
  readonly type: string | null;
  readonly message: string;
  readonly header: (name: string) => string | null;
}

function read(thrown: unknown): Thrown {
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

/** `retry-after-ms`, or `retry-after` in seconds or as a date; null when it was not said. */
function retryAfter({ header }: Thrown, now: number): number | null {
  const ms = Number(header("retry-after-ms") ?? Number.NaN);
  if (Number.isFinite(ms) && ms >= 0) return ms;
  const text = header("retry-after");
  if (text === null || text === "") return null;
  const seconds = Number(text);
  if (Number.isFinite(seconds)) return Math.max(0, seconds * 1_000);
  const date = Date.parse(text);
  return Number.isNaN(date) ? null : Math.max(0, date - now);
}

const isTooLong = ({ status, message }: Thrown): boolean =>
  status === 413 ||
  ((status === 400 || status === null) &&
    /prompt is too long|exceeds? the (?:context|maximum)|context window/i.test(message));

/** The library reads a call's input when it is complete, and passes on what its parser throws. */
function isGarbled(thrown: unknown, message: string): boolean {
  const cause = thrown instanceof Error ? thrown.cause : null;
  return cause instanceof SyntaxError || /tool parameter JSON|is not valid JSON|in JSON at position/.test(message);
}

function words({ status, type }: Thrown): string {
  if (status === 429 || type === "rate_limit_error") return "The model provider's rate limit is reached.";
  if (status === 529 || type === "overloaded_error") return "The model provider is overloaded.";
  if (status !== null) return `The model provider answered with an error (${status}).`;
  return type === null ? "The connection to the model broke off." : "The model provider broke off its answer.";
}

/** @param now epoch ms. */
export function classifyFault(thrown: unknown, now: number): Fault {
  const error = read(thrown);
  const { status, type, message } = error;
  if (type === "budget_exceeded") return { kind: "budget", why: message };
  if (isGarbled(thrown, message)) return { kind: "garbled", why: "The model's call of a tool could not be read." };
  if (isTooLong(error)) return { kind: "too_long" };
  if (
    status === 402 ||
    type === "billing_error" ||
    /spend_limit/.test(String((thrown as { errorCode?: unknown } | null)?.errorCode))
  )
    return { kind: "fatal", code: "model_quota", why: message };
  const passes =
    status === null ? type === null || PASSING_TYPES.has(type) : [408, 409, 429].includes(status) || status >= 500;
  if (passes) return { kind: "again", why: words(error), afterMs: retryAfter(error, now) };
  if (status === 401 || status === 403 || type === "authentication_error")
    return { kind: "fatal", code: "model_auth", why: message };
  return {
    kind: "fatal",
    code: "agent_error",
    why: `The model provider refused a request (${status ?? type}): ${message}`.slice(0, 1_000),
  };
}
