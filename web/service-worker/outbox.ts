/**
 * Background Sync: what waits in the outbox is sent when the browser has a network again, also when
 * no page is open. Under the lock of the pages, so that one sends at a time (rules O1 to O3 of
 * web/src/lib/device/outbox.ts); the browser tries again, later each time, while something waits.
 */
import { SlipwayClient } from "../../src/client/client.ts";
import { deliverItem, OUTBOX } from "../src/lib/device/delivery.ts";
import { closeKept, dropOutboxItem, keepOutboxItem, openKept, readOutbox } from "../src/lib/device/kept.ts";
import { openSession } from "./session.ts";

export async function sendWaiting(): Promise<void> {
  const isDone = await navigator.locks.request(OUTBOX, sendAll);
  if (!isDone) throw new Error("Something waits that the server did not take.");
}

/** @returns false when the server could not be asked. */
async function sendAll(): Promise<boolean> {
  const session = await openSession();
  // The person must log in first: the next page sends.
  if (session === null) return true;
  openKept(session.userId);
  const pages = new BroadcastChannel(OUTBOX);
  try {
    const client = new SlipwayClient({ baseUrl: location.origin, token: session.token, retries: 0 });
    for (const item of (await readOutbox()) ?? []) {
      if (item.state !== "waiting") continue;
      const delivered = await deliverItem(client, item);
      if (delivered === null) return false;
      const isStored = await keepOutboxItem(delivered.item);
      // On a full device the end of what was sent has no room: then it must not be sent again.
      if (!isStored && delivered.item.state === "sent") await dropOutboxItem(item.id);
      pages.postMessage("changed");
    }
    return true;
  } finally {
    pages.close();
    closeKept();
  }
}
