/** The schemas of devices and notifications. */
import { z } from "zod";
import { NOTIFICATION_KINDS, RUNGS } from "../ports/notifications.ts";

const time = z.iso.datetime();
const kind = z.enum(NOTIFICATION_KINDS);
const hasControl = (text: string): boolean => [...text].some((char) => char < " " || char === "\u007f");

export const newPushDeviceSchema = z.strictObject({
  id: z.string().max(64).optional().describe("The device whose subscription changed; absent = a new one."),
  endpoint: z.string().min(1).max(2_000).describe("Of the browser's subscription: a public https address."),
  keys: z.strictObject({ p256dh: z.string().max(200), auth: z.string().max(100) }),
  label: z
    .string()
    .trim()
    .min(1)
    .max(80)
    .refine((text) => !hasControl(text), "must not contain control characters"),
  kinds: z.array(kind).max(NOTIFICATION_KINDS.length),
});

export const notificationSchema = z.object({
  id: z.string(),
  taskId: z.string().nullable().describe("Null for a test."),
  kind,
  title: z.string(),
  dueAt: time,
  acceptedAt: time.nullable().describe("When the push service took it."),
  shownAt: time.nullable().describe("When the device said that it showed it."),
  openedAt: time.nullable(),
  actedAt: time.nullable(),
  passedAt: time.nullable().describe("When the next device was told, because this one did not show it."),
  ended: z
    .enum(["quiet", "obsolete", "refused"])
    .nullable()
    .describe("Why it was not sent: the person looked at the task, the task went on, the push service refused it."),
  problem: z.string().nullable().describe("What the push service answered last."),
});

export const pushDeviceSchema = z.object({
  id: z.string(),
  label: z.string(),
  kinds: z.array(kind),
  service: z.string().describe("The host of the push service."),
  createdAt: time,
  seenAt: time,
  last: z.array(notificationSchema).describe("Newest first, at most 20."),
});

export const pushSchema = z.object({
  publicKey: z.string().describe("The application server key for PushManager.subscribe, base64url."),
  devices: z.array(pushDeviceSchema).describe("The caller's devices, the one that was used last first."),
});

export const receiptSchema = z.strictObject({
  id: z.string().max(64),
  receipt: z.string().max(64).describe("As the push message gave it."),
  rung: z.enum(RUNGS),
});

export const presenceSchema = z.strictObject({
  page: z.string().min(1).max(64).describe("Made up by the page."),
  taskId: z.string().max(64).nullable().describe("Null = the page shows no task, or nobody sees it."),
});

export type NewPushDevice = z.infer<typeof newPushDeviceSchema>;
export type WireNotification = z.infer<typeof notificationSchema>;
export type WirePushDevice = z.infer<typeof pushDeviceSchema>;
export type WirePush = z.infer<typeof pushSchema>;
