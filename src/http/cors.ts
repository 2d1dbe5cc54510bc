/** Other browser origins, by exact name. Without a list no cross-origin header is ever sent. */
import type { NextFunction, Request, Response } from "express";

export function allowOrigins(origins: readonly string[]) {
  const allowed = new Set(origins);
  return (request: Request, response: Response, next: NextFunction): void => {
    const { origin } = request.headers;
    if (allowed.size > 0) response.vary("Origin");
    if (origin === undefined || !allowed.has(origin)) return next();
    response.set("Access-Control-Allow-Origin", origin);
    response.set("Access-Control-Expose-Headers", "Location, Retry-After, X-Request-Id");
    response.set("Cross-Origin-Resource-Policy", "cross-origin");
    if (request.method !== "OPTIONS" || request.headers["access-control-request-method"] === undefined) return next();
    response.set("Access-Control-Allow-Methods", "GET, POST, DELETE");
    response.set("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key");
    response.set("Access-Control-Max-Age", "600");
    response.status(204).end();
  };
}
