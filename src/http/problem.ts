/** RFC 9457 problem documents: the only form in which a refusal leaves the server. */
import type { ServerResponse } from "node:http";
import { STATUS_CODES } from "node:http";
import type { z } from "zod";
import { coerceError, ERROR_TABLE, SlipwayError, type ErrorCode, type FieldError } from "../core/error.ts";
import type { Problem } from "../core/protocol/rest.ts";
import { RateLimited } from "./login-throttle.ts";
import type { Log } from "../core/ports/runtime.ts";

const MEDIA = "application/problem+json; charset=utf-8";
const COMPLAINTS = 50;

function problemOf(error: SlipwayError): Problem {
  return {
    type: `urn:slipway:problem:${error.code}`,
    title: error.title,
    status: error.status,
    code: error.code,
    detail: error.message,
    ...(error.errors === undefined ? {} : { errors: [...error.errors] }),
  };
}

/**
 * What zod complains about, in the words of the wire: `budget.minutes`, or the name of a field that
 * is not known.
 */
export function invalidRequest(error: z.ZodError, where: string): SlipwayError {
  const errors = error.issues.flatMap((issue): FieldError[] => {
    if (issue.code === "unrecognized_keys") {
      return issue.keys.map((key) => ({
        path: [...issue.path, key].map(shown).join("."),
        message: "is not a known field",
      }));
    }
    return [{ path: issue.path.map(shown).join("."), message: issue.message }];
  });
  return new SlipwayError("invalid_request", `The ${where} is not valid: see errors.`, {
    errors: errors.slice(0, COMPLAINTS),
  });
}

function shown(part: PropertyKey): string {
  return String(part).slice(0, 100);
}

/**
 * Any thrown value as an answer. What is not ours, or is our own fault, is logged with its cause
 * and shown without.
 */
export function sendProblem(response: ServerResponse, thrown: unknown, log: Log, fields: object): void {
  const error = coerceError(fromParser(thrown));
  if (error.status >= 500 && error.code !== "unavailable")
    log.error({ ...fields, err: error.cause ?? error }, "a request failed");
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  const shownError = error.status === 500 ? new SlipwayError("internal") : error;
  if (error instanceof RateLimited) response.setHeader("Retry-After", error.retryAfterSeconds);
  if (error.code === "unauthenticated") response.setHeader("WWW-Authenticate", "Bearer");
  response.statusCode = shownError.status;
  response.setHeader("Content-Type", MEDIA);
  response.setHeader("Cache-Control", "no-store");
  response.end(JSON.stringify(problemOf(shownError)));
}

/** Express refuses an undecodable path with an error of its own. */
function fromParser(thrown: unknown): unknown {
  if (thrown instanceof SlipwayError) return thrown;
  const status = thrown instanceof Error && "status" in thrown ? thrown.status : undefined;
  return thrown instanceof URIError || status === 400
    ? new SlipwayError("invalid_request", "The address is not valid.")
    : thrown;
}

/** The same for a request that never became one: written to the bare socket. */
export function rawProblem(code: ErrorCode): string {
  const body = JSON.stringify(problemOf(new SlipwayError(code)));
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
