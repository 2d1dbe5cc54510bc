/** Assembles the notifications of a server. */
import type { Notifications } from "../core/ports/notifications.ts";
import type { Bus, Clock, Ids, Log } from "../core/ports/runtime.ts";
import type { Store } from "../core/ports/store.ts";
import { openNotifier } from "./notifier.ts";
import { Presence } from "./presence.ts";
import { openPushSender } from "./push-sender.ts";
import { openNotificationService, type NotificationService } from "./service.ts";
import { loadVapidKeys } from "./vapid.ts";

export interface NotificationParts {
  readonly store: Store;
  readonly notifications: Notifications;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  readonly isSessionValid: (sessionId: string | null) => Promise<boolean>;
  /** The data folder. */
  readonly dir: string;
  /** Sign receipts, the newest first. */
  readonly secrets: () => readonly Uint8Array[];
  readonly publicUrl: string | null;
  readonly trustedHosts: readonly string[];
}

/** Without a public https address there is nothing better that a push service could ask. */
const CONTACT = "mailto:operator@slipway.example";

export interface OpenNotifications {
  readonly service: NotificationService;
  close(): Promise<void>;
}

/** @throws SlipwayError config_invalid. */
export async function openNotifications(parts: NotificationParts): Promise<OpenNotifications> {
  const { dir, publicUrl, trustedHosts, clock, ids, notifications, secrets } = parts;
  const keys = await loadVapidKeys(dir);
  const contact = publicUrl?.startsWith("https:") === true ? publicUrl : CONTACT;
  const sender = openPushSender({ keys, contact, trustedHosts });
  const presence = new Presence(() => clock.now());
  const notifier = openNotifier({ ...parts, presence, sender });
  const { wake } = notifier;
  const { publicKey } = keys;
  return {
    service: openNotificationService({
      notifications,
      presence,
      clock,
      ids,
      secrets,
      publicKey,
      trustedHosts,
      wake,
    }),
    async close() {
      await sender.close();
      await notifier.close();
    },
  };
}
