/** The schemas of devices and notifications. */
import { z } from "zod";
import { DEVICE_VIAS, NOTIFICATION_KINDS, RUNGS } from "../ports/notifications.ts";

const time = z.iso.datetime();
const kind = z.enum(NOTIFICATION_KINDS);
const hasControl = (text: string): boolean => [...text].some((char) => char < " " || char === "\u007f");

const label = z
  .string()
  .trim()
  .min(1)
  .max(80)
  .refine((text) => !hasControl(text), "must not contain control characters");

export const newPushDeviceSchema = z.strictObject({
  id: z.string().max(64).optional().describe("The device whose subscription changed; absent = a new one."),
  endpoint: z.string().min(1).max(2_000).describe("Of the browser's subscription: a public https address."),
  keys: z.strictObject({ p256dh: z.string().max(200), auth: z.string().max(100) }),
  label,
  kinds: z.array(kind).max(NOTIFICATION_KINDS.length),
});

const other = {
  label: label.optional().describe("Absent = the host."),
  kinds: z.array(kind).max(NOTIFICATION_KINDS.length).optional().describe("What it is told about; absent = all."),
};
const url = z.string().min(1).max(2_000);

export const newNtfySchema = z.strictObject({
  url: url.describe("The address of the topic, for example https://ntfy.sh/my-topic. It is kept encrypted."),
  token: z
    .string()
    .min(1)
    .max(500)
    .regex(/^[\x21-\x7e]+$/, "must be the access token alone")
    .optional()
    .describe("An access token of the ntfy server, where the topic needs one."),
  ...other,
});

export const newWebhookSchema = z.strictObject({
  url: url.describe("Where messages are posted: a public https address. It is kept encrypted."),
  ...other,
});

export const notificationSchema = z.object({
  id: z.string(),
  taskId: z.string().nullable().describe("Null for a test."),
  kind,
  title: z.string(),
  dueAt: time,
  acceptedAt: time.nullable().describe("When the push service, the ntfy server or the webhook took it."),
  shownAt: time.nullable().describe("When the device said that it showed it; of ntfy and webhooks, when it was taken."),
  openedAt: time.nullable(),
  actedAt: time.nullable(),
  passedAt: time.nullable().describe("When the next device was told, because this one did not show it."),
  ended: z
    .enum(["quiet", "obsolete", "refused"])
    .nullable()
    .describe("Why it was not sent: the person looked at the task, the task went on, the other end refused it."),
  problem: z.string().nullable().describe("What the other end answered last."),
});

export const pushDeviceSchema = z.object({
  id: z.string(),
  label: z.string(),
  via: z.enum(DEVICE_VIAS).describe("How it is reached. Only browsers (web_push) report what they showed."),
  kinds: z.array(kind),
  service: z.string().describe("The host of the push service, of the ntfy server or of the webhook."),
  createdAt: time,
  seenAt: time,
  last: z.array(notificationSchema).describe("Newest first, at most 20."),
});

export const webhookDeviceSchema = pushDeviceSchema.extend({
  secret: z.string().describe("Signs its messages as Standard Webhooks has it. It is not shown again."),
});

export const pushSchema = z.object({
  publicKey: z.string().describe("The application server key for PushManager.subscribe, base64url."),
  devices: z
    .array(pushDeviceSchema)
    .describe("In the order in which they are told: browsers, the one that was used last first; then the others."),
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
export type NewNtfy = z.infer<typeof newNtfySchema>;
export type NewWebhook = z.infer<typeof newWebhookSchema>;
export type WireWebhook = z.infer<typeof webhookDeviceSchema>;
export type WireNotification = z.infer<typeof notificationSchema>;
export type WirePushDevice = z.infer<typeof pushDeviceSchema>;
export type WirePush = z.infer<typeof pushSchema>;
