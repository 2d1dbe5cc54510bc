/**
 * Pages of other origins and native shells that may call the API: an exact list, empty by default.
 *
 * C1 Without an entry no answer has a cross-origin header; a preflight is rejected with the name
 *    of the setting.
 */
import type { NextFunction, Request, Response } from "express";
import { SlipwayError } from "../../core/error.ts";

const EXPOSED = "Date, ETag, Location, Retry-After, X-Request-Id";
const ACCEPTED = "Authorization, Content-Type, Idempotency-Key, If-None-Match";

export function allowOrigins(origins: readonly string[]) {
  const allowed = new Set(origins);
  return (request: Request, response: Response, next: NextFunction): void => {
    const { origin } = request.headers;
    const isPreflight = request.method === "OPTIONS" && request.headers["access-control-request-method"] !== undefined;
    if (allowed.size > 0) response.vary("Origin");
    if (origin === undefined || !allowed.has(origin)) return next(isPreflight ? rejection() : undefined);
    response.set("Access-Control-Allow-Origin", origin);
    response.set("Access-Control-Expose-Headers", EXPOSED);
    response.set("Cross-Origin-Resource-Policy", "cross-origin");
    if (!isPreflight) return next();
    response.set("Access-Control-Allow-Methods", "GET, POST, DELETE");
    response.set("Access-Control-Allow-Headers", ACCEPTED);
    response.set("Access-Control-Max-Age", "600");
    response.status(204).end();
  };
}

function rejection(): SlipwayError {
  return new SlipwayError(
    "forbidden",
    "This origin may not call the API. An operator can add it to SLIPWAY_ALLOWED_ORIGINS.",
  );
}
