/** RFC 9457 problem documents: the only form of an error response. */
import type { ServerResponse } from "node:http";
import { STATUS_CODES } from "node:http";
import type { z } from "zod";
import {
  coerceError,
  ERROR_TABLE,
  QuotaExceeded,
  RateLimited,
  SlipwayError,
  type ErrorCode,
  type FieldError,
} from "../core/error.ts";
import type { Problem } from "../core/protocol/rest.ts";
import type { Log } from "../core/ports/runtime.ts";

const MEDIA = "application/problem+json; charset=utf-8";
const MAX_FIELD_ERRORS = 50;

function toProblem(error: SlipwayError): Problem {
  return {
    type: `urn:slipway:problem:${error.code}`,
    title: error.title,
    status: error.status,
    code: error.code,
    detail: error.message,
    ...(error.errors === undefined ? {} : { errors: [...error.errors] }),
  };
}

/** Converts the issues of zod to field errors with wire paths, for example `budget.minutes`. */
export function invalidRequest(error: z.ZodError, where: string): SlipwayError {
  const errors = error.issues.flatMap((issue): FieldError[] => {
    if (issue.code === "unrecognized_keys") {
      return issue.keys.map((key) => ({
        path: [...issue.path, key].map(toPathPart).join("."),
        message: "is not a known field",
      }));
    }
    return [{ path: issue.path.map(toPathPart).join("."), message: issue.message }];
  });
  return new SlipwayError("invalid_request", `The ${where} is not valid: see errors.`, {
    errors: errors.slice(0, MAX_FIELD_ERRORS),
  });
}

function toPathPart(part: PropertyKey): string {
  return String(part).slice(0, 100);
}

/**
 * Sends a thrown value as a problem document. An internal error is logged with its cause and sent
 * without it. @returns the code.
 */
export function sendProblem(response: ServerResponse, thrown: unknown, log: Log, fields: object): ErrorCode {
  const error = coerceError(fromParser(thrown));
  if (error.status >= 500 && error.code !== "unavailable")
    log.error({ ...fields, err: error.cause ?? error }, "a request failed");
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return error.code;
  }
  const shownError = error.status === 500 ? new SlipwayError("internal") : error;
  if ((error instanceof RateLimited || error instanceof QuotaExceeded) && error.retryAfterSeconds !== null)
    response.setHeader("Retry-After", error.retryAfterSeconds);
  if (error.code === "unauthenticated") response.setHeader("WWW-Authenticate", "Bearer");
  response.statusCode = shownError.status;
  response.setHeader("Content-Type", MEDIA);
  response.setHeader("Cache-Control", "no-store");
  response.end(JSON.stringify(toProblem(shownError)));
  return shownError.code;
}

/** Maps the errors of express for an undecodable path to `invalid_request`. */
function fromParser(thrown: unknown): unknown {
  if (thrown instanceof SlipwayError) return thrown;
  const status = thrown instanceof Error && "status" in thrown ? thrown.status : undefined;
  return thrown instanceof URIError || status === 400
    ? new SlipwayError("invalid_request", "The address is not valid.")
    : thrown;
}

/** A whole HTTP response for a request that could not be parsed, to be written to its socket. */
export function rawProblem(code: ErrorCode): string {
  const body = JSON.stringify(toProblem(new SlipwayError(code)));
  const [status] = ERROR_TABLE[code];
  return [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}`,
    `Content-Type: ${MEDIA}`,
    `Content-Length: ${Buffer.byteLength(body)}`,
    "Cache-Control: no-store",
    "Connection: close",
    "",
    body,
  ].join("\r\n");
}
