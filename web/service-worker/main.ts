/** The service worker: the app's files without a network. The API always goes to the server. */
import { answerFromShell, installShell, removeOldShells } from "./shell.ts";

declare const self: ServiceWorkerGlobalScope;

self.addEventListener("install", (event) => event.waitUntil(installShell()));

self.addEventListener("activate", (event) => event.waitUntil(removeOldShells().then(() => self.clients.claim())));

self.addEventListener("fetch", (event) => {
  const answer = answerFromShell(event.request);
  if (answer !== null) event.respondWith(answer);
});

/** A page asks for the new version that waits; without that it begins when no page is open. */
self.addEventListener("message", (event) => {
  if (event.data === "take-over") event.waitUntil(self.skipWaiting());
});
