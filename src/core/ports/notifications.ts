/**
 * Devices that get notifications, and what became of each notification. Contract in
 * test/contract/notifications.ts.
 */

export const NOTIFICATION_KINDS = ["needs_you", "budget", "done", "failed", "test"] as const;
export type NotificationKind = (typeof NOTIFICATION_KINDS)[number];

/** How a device is reached. Only browsers, by Web Push, report what they showed. */
export const DEVICE_VIAS = ["web_push", "ntfy", "webhook"] as const;
export type DeviceVia = (typeof DEVICE_VIAS)[number];

/** A browser that subscribed to Web Push, a topic of an ntfy server, or a webhook. */
export interface PushDevice {
  readonly id: string;
  readonly userId: string;
  readonly via: DeviceVia;
  /** Its end is the end of the device; null = a caller that cannot be revoked, or no browser. */
  readonly sessionId: string | null;
  /**
   * Where the push service takes messages. Unique: a browser that changes hands takes it along. Of
   * ntfy and webhooks the origin and the id; the address itself is a secret, in `sealed`.
   */
  readonly endpoint: string;
  /** Address and secret of ntfy and webhooks, encrypted by src/auth/vault.ts; null for browsers. */
  readonly sealed: string | null;
  /** Keys of the browser, base64url; empty for others. */
  readonly p256dh: string;
  readonly auth: string;
  /** As people call it, for example "Chrome on Android". */
  readonly label: string;
  /** The kinds of notifications that it gets. */
  readonly kinds: readonly NotificationKind[];
  readonly createdAt: number;
  /** When its owner used it last. */
  readonly seenAt: number;
}

/** Why nothing is sent any more. */
export type NotificationEnd =
  /** The person looked at the task. */
  | "quiet"
  /** The task went on before it was sent. */
  | "obsolete"
  /** The other end refused it, or did not take it in time. */
  | "refused";

/** One notification to one device: a row that climbs from due to acted. Times are epoch ms. */
export interface Notification {
  readonly id: string;
  readonly deviceId: string;
  readonly userId: string;
  /** Empty for a test. */
  readonly taskId: string;
  /** What it is about: a question and when it was asked, or the end of the task. */
  readonly subject: string;
  /** The task's seq when it became due. */
  readonly seq: number;
  readonly kind: NotificationKind;
  readonly title: string;
  readonly dueAt: number;
  readonly acceptedAt: number | null;
  readonly shownAt: number | null;
  readonly openedAt: number | null;
  readonly actedAt: number | null;
  readonly ended: NotificationEnd | null;
  /** What the push service answered last, in words. */
  readonly problem: string | null;
  readonly tries: number;
  /** When it is sent, sent again, or given to the next device; null = nothing is left to do. */
  readonly nextAt: number | null;
  /** When it was given to the next device, because this one did not show it. */
  readonly passedAt: number | null;
}

export const RUNGS = ["shown", "opened", "acted"] as const;
export type Rung = (typeof RUNGS)[number];

export type NotificationProgress = Partial<
  Pick<Notification, "acceptedAt" | "shownAt" | "ended" | "problem" | "tries" | "nextAt" | "passedAt">
>;

/** Rows that one device keeps; older ones that are finished go. */
export const KEPT_PER_DEVICE = 200;

/**
 * - Writes are durable when they resolve, like the store's.
 * - The same device, task and subject exist once, so deriving a notification again is harmless.
 * - A rung that was reached stays as it was first reached, and the rungs below it count as reached.
 */
export interface Notifications {
  /** Inserts or replaces by id. Another device with the same endpoint is removed. */
  putDevice(device: PushDevice): Promise<void>;
  /** @returns false when the person has no such device. Its notifications go with it. */
  deleteDevice(userId: string, id: string): Promise<boolean>;
  /** Of one person: browsers, the one that was used last first; then the others, newest first. */
  devices(userId: string): Promise<PushDevice[]>;
  device(id: string): Promise<PushDevice | null>;

  /** @returns false, with nothing written, when it exists or its device does not. */
  addNotification(row: Notification): Promise<boolean>;
  notification(id: string): Promise<Notification | null>;
  /** Rows whose `nextAt` has come, most overdue first. */
  dueNotifications(now: number, limit: number): Promise<Notification[]>;
  /** The earliest `nextAt`; null when nothing is left to do. */
  nextNotificationAt(): Promise<number | null>;
  /** Of one device, newest first. */
  notificationsOf(deviceId: string, limit: number): Promise<Notification[]>;
  /** Ids of the devices that have this notification. */
  devicesWith(taskId: string, subject: string): Promise<string[]>;
  progressNotification(id: string, change: NotificationProgress): Promise<void>;
  /** Ends the wait for the device. @returns false for an unknown id. */
  reachRung(id: string, rung: Rung, at: number): Promise<boolean>;
}
