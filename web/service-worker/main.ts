/**
 * The service worker: the app's files without a network, notifications, and what waits to be sent.
 * The API always goes to the server.
 */
import { OUTBOX } from "../src/lib/device/delivery.ts";
import { sendWaiting } from "./outbox.ts";
import { onNotificationClick, showPush } from "./push.ts";
import { answerFromShell, installShell, removeOldShells } from "./shell.ts";

declare const self: ServiceWorkerGlobalScope;

self.addEventListener("install", (event) => event.waitUntil(installShell()));

self.addEventListener("activate", (event) => event.waitUntil(removeOldShells().then(() => self.clients.claim())));

self.addEventListener("fetch", (event) => {
  const answer = answerFromShell(event.request);
  if (answer !== null) event.respondWith(answer);
});

self.addEventListener("push", (event) => event.waitUntil(showPush(event.data)));

self.addEventListener("notificationclick", (event) => event.waitUntil(onNotificationClick(event)));

interface SyncEvent extends ExtendableEvent {
  readonly tag: string;
}

/** TypeScript does not know Background Sync, which not every browser has. */
self.addEventListener("sync" as "activate", (event) => {
  if ((event as SyncEvent).tag === OUTBOX) event.waitUntil(sendWaiting());
});

/** A page asks for the new version that waits; without that it begins when no page is open. */
self.addEventListener("message", (event) => {
  if (event.data === "take-over") event.waitUntil(self.skipWaiting());
});
