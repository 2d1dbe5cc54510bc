/**
 * What a call of the client fails with: the server's problem document, or `unreachable` when there
 * was no answer at all.
 */
import type { FieldError } from "../core/error.ts";

export class SlipwayProblem extends Error {
  /** Stable; branch on it. `unreachable` = the server gave no answer (status 0). */
  readonly code: string;
  readonly status: number;
  readonly detail: string;
  readonly errors: readonly FieldError[];
  /** Wait asked for by the server, in ms; null when it did not say. */
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

/** Seconds or an HTTP date -> ms from now; null when it says nothing usable. */
export function readRetryAfter(header: string | null, now: number): number | null {
  if (header === null || header.trim() === "") return null;
  const seconds = Number(header);
  if (Number.isFinite(seconds)) return Math.max(0, seconds * 1_000);
  const date = Date.parse(header);
  return Number.isNaN(date) ? null : Math.max(0, date - now);
}

/** Any answer that is no success, also one of a proxy that knows nothing of problem documents. */
export function readProblem(status: number, text: string, retryAfterHeader: string | null): SlipwayProblem {
  let body: Record<string, unknown> = {};
  try {
    body = record(JSON.parse(text));
  } catch {
    // Not ours: the status has to do.
  }
  const title = textOr(body["title"], `The server answered ${status}.`);
  return new SlipwayProblem(textOr(body["code"], `http_${status}`), status, textOr(body["detail"], title), {
    errors: fieldErrors(body["errors"]),
    retryAfterMs: readRetryAfter(retryAfterHeader, Date.now()),
  });
}
