/** Assembles the notifications of a server. */
import type { Notifications, PushDevice } from "../core/ports/notifications.ts";
import type { Bus, Clock, Ids, Log } from "../core/ports/runtime.ts";
import type { Store } from "../core/ports/store.ts";
import type { Reach } from "./messages.ts";
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
  readonly isActive: (userId: string) => Promise<boolean>;
  readonly sealer: DeviceSealer;
  /** The data folder. */
  readonly dir: string;
  /** Sign receipts, the newest first. */
  readonly secrets: () => readonly Uint8Array[];
  readonly publicUrl: string | null;
  readonly trustedHosts: readonly string[];
}

/** Seals what a device is reached with, bound to its row. */
export interface DeviceSealer {
  seal(device: Pick<PushDevice, "id" | "userId">, plain: string): string;
  open(device: Pick<PushDevice, "id" | "userId">, sealed: string): string;
}

/** The contact for push services where no public https address is configured. */
const CONTACT = "mailto:operator@slipway.example";

export interface OpenNotifications {
  readonly service: NotificationService;
  close(): Promise<void>;
}

/** @throws SlipwayError config_invalid. */
export async function openNotifications(parts: NotificationParts): Promise<OpenNotifications> {
  const { dir, publicUrl, trustedHosts, clock, ids, notifications, secrets, sealer } = parts;
  const now = (): number => clock.now();
  const keys = await loadVapidKeys(dir);
  const contact = publicUrl?.startsWith("https:") === true ? publicUrl : CONTACT;
  const sender = openPushSender({
    keys,
    contact,
    trustedHosts,
    publicUrl,
    now,
    open: (device) => JSON.parse(sealer.open(device, device.sealed ?? "")) as Reach,
  });
  const presence = new Presence(now);
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
      seal: (device, reach) => sealer.seal(device, JSON.stringify(reach)),
      wake,
    }),
    async close() {
      await sender.close();
      await notifier.close();
    },
  };
}
