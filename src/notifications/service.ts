/** Devices, their records and receipts, as the API offers them. */
import { SlipwayError } from "../core/error.ts";
import {
  NOTIFICATION_KINDS,
  type Notification,
  type NotificationKind,
  type Notifications,
  type PushDevice,
  type Rung,
} from "../core/ports/notifications.ts";
import type { Clock, Ids } from "../core/ports/runtime.ts";
import { checkEndpoint, invalidField, parseTopic } from "./endpoint.ts";
import { makeWebhookSecret, type Reach } from "./messages.ts";
import { createNotification } from "./new-notification.ts";
import { isReceipt } from "./payload.ts";
import type { Presence } from "./presence.ts";

export interface Subscription {
  /** The device whose endpoint changed; null = a new one. */
  readonly id: string | null;
  readonly endpoint: string;
  readonly p256dh: string;
  readonly auth: string;
  readonly label: string;
  readonly kinds: readonly NotificationKind[];
}

/** The ntfy topics and webhooks, which are used when no browser shows a notification. */
export interface OtherDevice {
  readonly via: "ntfy" | "webhook";
  readonly url: string;
  /** The access token of an ntfy server; null = it needs none. */
  readonly token: string | null;
  /** Null = its host. */
  readonly label: string | null;
  readonly kinds: readonly NotificationKind[];
}

export interface Subscriber {
  readonly userId: string;
  readonly sessionId: string | null;
}

/** A device and how its last notifications fared. */
export interface DeviceReport {
  readonly device: PushDevice;
  /** Newest first, at most `LAST`. */
  readonly last: readonly Notification[];
}

export interface NotificationService {
  /** The key that browsers subscribe with. */
  readonly publicKey: string;
  subscribe(who: Subscriber, subscription: Subscription): Promise<PushDevice>;
  /** @returns the device, and what signs its messages: a webhook's secret, shown once. */
  add(userId: string, other: OtherDevice): Promise<{ readonly device: PushDevice; readonly secret: string | null }>;
  unsubscribe(userId: string, deviceId: string): Promise<boolean>;
  devices(userId: string): Promise<DeviceReport[]>;
  /** @throws `not_found`. */
  test(userId: string, deviceId: string): Promise<Notification>;
  /** @throws `not_found` for an unknown notification, and for a wrong receipt. */
  receive(id: string, receipt: string, rung: Rung): Promise<void>;
  look(userId: string, page: string, taskId: string | null): void;
}

export interface ServiceDeps {
  readonly notifications: Notifications;
  readonly presence: Presence;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly secrets: () => readonly Uint8Array[];
  readonly publicKey: string;
  readonly trustedHosts: readonly string[];
  readonly seal: (device: Pick<PushDevice, "id" | "userId">, reach: Reach) => string;
  readonly wake: () => void;
}

export const LAST = 20;
const DEVICES = 20;
const OTHERS = 10;
const P256_POINT = 65;
const AUTH = 16;

const bytes = (text: string): number => (/^[\w-]+$/.test(text) ? Buffer.from(text, "base64url").length : 0);

const withTest = (kinds: readonly NotificationKind[]): NotificationKind[] =>
  NOTIFICATION_KINDS.filter((kind) => kind === "test" || kinds.includes(kind));

export function openNotificationService(deps: ServiceDeps): NotificationService {
  const { notifications, presence, clock, ids, secrets, publicKey, trustedHosts, seal, wake } = deps;

  async function own(userId: string, id: string): Promise<PushDevice> {
    const device = await notifications.device(id);
    if (device === null || device.userId !== userId) throw new SlipwayError("not_found");
    return device;
  }

  return {
    publicKey,
    async subscribe({ userId, sessionId }, { id, endpoint, p256dh, auth, label, kinds }) {
      checkEndpoint(endpoint, trustedHosts);
      if (bytes(p256dh) !== P256_POINT || bytes(auth) !== AUTH)
        throw invalidField("keys", "must be the p256dh and auth keys of the browser's subscription");
      const all = (await notifications.devices(userId)).filter(({ via }) => via === "web_push");
      const known = all.find((device) => device.endpoint === endpoint || device.id === id);
      const oldest = all.at(-1);
      if (known === undefined && all.length >= DEVICES && oldest !== undefined)
        await notifications.deleteDevice(userId, oldest.id);
      const now = clock.now();
      const device: PushDevice = {
        id: known?.id ?? ids.next("dev"),
        userId,
        via: "web_push",
        sessionId,
        endpoint,
        sealed: null,
        p256dh,
        auth,
        label,
        kinds: withTest(kinds),
        createdAt: known?.createdAt ?? now,
        seenAt: now,
      };
      await notifications.putDevice(device);
      return device;
    },
    async add(userId, { via, url, token, label, kinds }) {
      checkEndpoint(url, trustedHosts, "url");
      if (via === "ntfy") parseTopic(url);
      const others = (await notifications.devices(userId)).filter((device) => device.via !== "web_push");
      if (others.length >= OTHERS)
        throw new SlipwayError("invalid_request", `A person has at most ${OTHERS} of them. Remove one first.`);
      const id = ids.next("dev");
      const secret = via === "webhook" ? makeWebhookSecret() : null;
      const { origin, host } = new URL(url);
      const now = clock.now();
      const device: PushDevice = {
        id,
        userId,
        via,
        sessionId: null,
        endpoint: `${origin}/${id}`,
        sealed: seal({ id, userId }, { url, secret: secret ?? token }),
        p256dh: "",
        auth: "",
        label: label ?? host,
        kinds: withTest(kinds),
        createdAt: now,
        seenAt: now,
      };
      await notifications.putDevice(device);
      return { device, secret };
    },
    unsubscribe: (userId, deviceId) => notifications.deleteDevice(userId, deviceId),
    async devices(userId) {
      const all = await notifications.devices(userId);
      return Promise.all(
        all.map(async (device) => ({ device, last: await notifications.notificationsOf(device.id, LAST) })),
      );
    },
    async test(userId, deviceId) {
      const device = await own(userId, deviceId);
      const id = ids.next("ntf");
      const about = { taskId: "", subject: id, seq: 0, kind: "test" as const, title: "Test" };
      const row = createNotification({ id, deviceId: device.id, userId, ...about }, clock.now());
      await notifications.addNotification(row);
      wake();
      return row;
    },
    async receive(id, receipt, rung) {
      const isKnown = isReceipt(secrets(), id, receipt) && (await notifications.reachRung(id, rung, clock.now()));
      if (!isKnown) throw new SlipwayError("not_found");
    },
    look: (userId, page, taskId) => presence.report(userId, page, taskId),
  };
}
