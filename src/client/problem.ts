/**
 * The error of every failed call: the server's problem document, or `unreachable` without a
 * response.
 */
import type { FieldError } from "../core/error.ts";
import { parseRetryAfter, type ReadHeader } from "../core/lib/retry-after.ts";

export class SlipwayProblem extends Error {
  /** Stable; branch on it. `unreachable` = no response (status 0). */
  readonly code: string;
  readonly status: number;
  readonly detail: string;
  readonly errors: readonly FieldError[];
  /** The wait that the server asks for, in ms; null when it asks for none. */
  readonly retryAfterMs: number | null;

  constructor(
    code: string,
    status: number,
    detail: string,
    options: { errors?: readonly FieldError[]; retryAfterMs?: number | null; cause?: unknown } = {},
  ) {
    super(detail, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "SlipwayProblem";
    this.code = code;
    this.status = status;
    this.detail = detail;
    this.errors = options.errors ?? [];
    this.retryAfterMs = options.retryAfterMs ?? null;
  }
}

/**
 * True when the same call may succeed later: nobody answered, or a server that is busy or restarts.
 * A quota is the person's to free.
 */
export function isTransient({ status, code }: SlipwayProblem): boolean {
  return status === 0 || status >= 500 || (status === 429 && code !== "quota_exceeded");
}

const record = (value: unknown): Record<string, unknown> =>
  typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
const textOr = (value: unknown, other: string): string => (typeof value === "string" && value !== "" ? value : other);

function fieldErrors(value: unknown): FieldError[] {
  if (!Array.isArray(value)) return [];
  return value.map((entry: unknown) => ({
    path: textOr(record(entry)["path"], ""),
    message: textOr(record(entry)["message"], ""),
  }));
}

/** Converts any error response, including one of a proxy without a problem document. */
export function readProblem(status: number, text: string, readHeader: ReadHeader): SlipwayProblem {
  let body: Record<string, unknown> = {};
  try {
    body = record(JSON.parse(text));
  } catch {
    // Not a problem document: only the status is known.
  }
  const title = textOr(body["title"], `The server answered ${status}.`);
  return new SlipwayProblem(textOr(body["code"], `http_${status}`), status, textOr(body["detail"], title), {
    errors: fieldErrors(body["errors"]),
    retryAfterMs: parseRetryAfter(readHeader, Date.now()),
  });
}
