/**
 * Serves the web app: static files, and its page for the addresses of its screens.
 *
 * P1 Assets have a hash of their content in their name and are immutable; the page and the service
 *    worker are revalidated by ETag. Compressed copies are made by the build.
 * P2 The page runs only scripts and styles of this origin, and no string becomes HTML or a script.
 */
import type { Express, NextFunction, Request, Response } from "express";
import sirv from "sirv";

/** The page is served at these addresses; the app's router shows the screen. */
const SCREENS = [
  "/",
  "/login",
  "/setup",
  "/join",
  "/device",
  "/pair",
  "/new",
  "/tasks/:id",
  "/tasks/:id/:view",
  "/console",
  "/console/:view",
  "/you",
  "/you/:view",
];

const POLICY = [
  "default-src 'self'",
  "connect-src 'self' ws: wss:",
  "img-src 'self' blob: data:",
  "worker-src 'self'",
  "object-src 'none'",
  "base-uri 'none'",
  "form-action 'self'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  // The service worker, and the worker that colours code.
  "trusted-types slipway slipway-syntax",
].join("; ");

const IMMUTABLE = `public, max-age=${365 * 24 * 60 * 60}, immutable`;

type Handler = (request: Request, response: Response, next: NextFunction) => void;

/** @param dir the built app; null = this server has none, and its addresses are 404. */
export function serveWebApp(app: Express, dir: string | null): void {
  if (dir === null) return;
  const files = sirv(dir, { etag: true, gzip: true, brotli: true }) as Handler;
  // Set here, not by sirv: a 304 needs them too, because a browser takes over its headers.
  const serve = (request: Request, response: Response, next: NextFunction): void => {
    response.setHeader("Content-Security-Policy", POLICY);
    response.setHeader("Cache-Control", request.url.startsWith("/assets/") ? IMMUTABLE : "no-cache");
    files(request, response, () => {
      response.removeHeader("Cache-Control");
      next();
    });
  };
  const page = (request: Request, response: Response, next: NextFunction): void => {
    request.url = "/index.html";
    serve(request, response, next);
  };
  for (const path of SCREENS) app.get(path, page);
  app.get(["/assets/*file", "/icons/*file", "/manifest.webmanifest", "/sw.js"], serve);
}
