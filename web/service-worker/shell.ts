/**
 * The files of the app in a cache of their own version, so that the app starts without a network.
 *
 * S1 A version is complete or is not installed: every file is fetched before the first is served.
 * S2 A page is served by the version that it began with; the old files go when the next version
 *    takes over (main.ts).
 */

/** Written by the build: the version of the files, and their addresses. */
declare const __SHELL__: { readonly version: string; readonly files: readonly string[] };

const PREFIX = "slipway-shell-";
const NAME = PREFIX + __SHELL__.version;
const PAGE = "/";
const SCREENS = /^\/(?:$|(?:login|setup|join|pair|device|new|tasks|console|you)(?:\/|$))/;
const FILES: ReadonlySet<string> = new Set(__SHELL__.files);

export async function installShell(): Promise<void> {
  const cache = await caches.open(NAME);
  // Past the browser's own cache: the page and the manifest keep their names from version to version.
  await cache.addAll(__SHELL__.files.map((path) => new Request(path, { cache: "no-cache" })));
}

export async function removeOldShells(): Promise<void> {
  const names = await caches.keys();
  await Promise.all(
    names.filter((name) => name.startsWith(PREFIX) && name !== NAME).map((name) => caches.delete(name)),
  );
}

/** @returns the kept file, or null when the request is for the server. */
export function answerFromShell(request: Request): Promise<Response> | null {
  const { origin, pathname } = new URL(request.url);
  if (request.method !== "GET" || origin !== location.origin) return null;
  const path = request.mode === "navigate" && SCREENS.test(pathname) ? PAGE : pathname;
  return FILES.has(path) ? find(path, request) : null;
}

async function find(path: string, request: Request): Promise<Response> {
  // A browser that runs out of space may drop the cache.
  return (await caches.match(path, { cacheName: NAME })) ?? fetch(request);
}
