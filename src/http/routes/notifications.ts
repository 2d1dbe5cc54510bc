/**
 * Routes of notifications: the caller's devices, receipts, and the task that a page shows.
 *
 * R1 A receipt needs no session: the service worker has none, and its proof is in the message that
 *    only the device can decrypt.
 */
import type { z } from "zod";
import { SlipwayError } from "../../core/error.ts";
import { isoOrNull, toIsoTime } from "../../core/protocol/mapping.ts";
import { NOTIFICATION_KINDS, type Notification } from "../../core/ports/notifications.ts";
import {
  newNtfySchema,
  newPushDeviceSchema,
  newWebhookSchema,
  notificationSchema,
  presenceSchema,
  pushDeviceSchema,
  pushSchema,
  receiptSchema,
  webhookDeviceSchema,
} from "../../core/protocol/push.ts";
import type { DeviceReport } from "../../notifications/service.ts";
import { EMPTY, json, route, MEMORY_REPLAY } from "../route.ts";

function wireNotification(row: Notification): z.infer<typeof notificationSchema> {
  const { id, taskId, kind, title, ended, problem } = row;
  return {
    id,
    taskId: taskId === "" ? null : taskId,
    kind,
    title,
    dueAt: toIsoTime(row.dueAt),
    acceptedAt: isoOrNull(row.acceptedAt),
    shownAt: isoOrNull(row.shownAt),
    openedAt: isoOrNull(row.openedAt),
    actedAt: isoOrNull(row.actedAt),
    passedAt: isoOrNull(row.passedAt),
    ended,
    problem,
  };
}

function wireDevice({ device, last }: DeviceReport): z.infer<typeof pushDeviceSchema> {
  const { id, label, via, kinds, endpoint, createdAt, seenAt } = device;
  return {
    id,
    label,
    via,
    kinds: [...kinds],
    service: new URL(endpoint).host,
    createdAt: toIsoTime(createdAt),
    seenAt: toIsoTime(seenAt),
    last: last.map(wireNotification),
  };
}

export const notificationRoutes = [
  route({
    method: "get",
    path: "/v1/push",
    access: "user",
    operation: "getPush",
    summary: "My devices, how their last notifications fared, and the key that browsers subscribe with",
    answers: { 200: json(pushSchema) },
    async handle({ deps, identity }) {
      const devices = await deps.notifications.devices(identity.userId);
      return { status: 200, body: { publicKey: deps.notifications.publicKey, devices: devices.map(wireDevice) } };
    },
  }),
  route({
    method: "post",
    path: "/v1/push/devices",
    access: "user",
    operation: "putPushDevice",
    summary: "Tell this browser about my tasks, or change what it is told; it ends with the session",
    body: newPushDeviceSchema,
    answers: { 201: json(pushDeviceSchema) },
    async handle({ deps, caller, body }) {
      const { id = null, endpoint, keys, label, kinds } = body;
      const device = await deps.notifications.subscribe(caller, { id, endpoint, ...keys, label, kinds });
      return { status: 201, body: wireDevice({ device, last: [] }) };
    },
  }),
  route({
    method: "post",
    path: "/v1/push/ntfy",
    access: "user",
    scope: null,
    operation: "addNtfy",
    summary: "Tell a topic of an ntfy server what no browser of mine shows within 30 s",
    body: newNtfySchema,
    answers: { 201: json(pushDeviceSchema) },
    async handle({ deps, caller, body }) {
      const { url, token = null, label = null, kinds = NOTIFICATION_KINDS } = body;
      const { device } = await deps.notifications.add(caller.userId, { via: "ntfy", url, token, label, kinds });
      return { status: 201, body: wireDevice({ device, last: [] }) };
    },
  }),
  route({
    method: "post",
    path: "/v1/push/webhooks",
    access: "user",
    scope: null,
    operation: "addWebhook",
    summary: "Call a webhook with what no browser of mine shows within 30 s, signed as Standard Webhooks has it",
    body: newWebhookSchema,
    answers: { 201: json(webhookDeviceSchema) },
    async handle({ deps, caller, body }) {
      const { url, label = null, kinds = NOTIFICATION_KINDS } = body;
      const other = { via: "webhook", url, token: null, label, kinds } as const;
      const { device, secret } = await deps.notifications.add(caller.userId, other);
      return { status: 201, body: { ...wireDevice({ device, last: [] }), secret: secret ?? "" } };
    },
  }),
  route({
    method: "delete",
    path: "/v1/push/devices/:id",
    access: "user",
    operation: "deletePushDevice",
    summary: "Tell this browser, ntfy topic or webhook nothing more",
    answers: { 204: EMPTY },
    problems: ["not_found"],
    async handle({ deps, identity, params }) {
      const isRemoved = await deps.notifications.unsubscribe(identity.userId, params["id"] ?? "");
      if (!isRemoved) throw new SlipwayError("not_found");
      return { status: 204 };
    },
  }),
  route({
    method: "post",
    path: "/v1/push/devices/:id/test",
    access: "user",
    operation: "testPushDevice",
    summary: "Send a test notification to this browser, ntfy topic or webhook",
    answers: { 202: json(notificationSchema) },
    problems: ["not_found"],
    async handle({ deps, identity, params }) {
      const row = await deps.notifications.test(identity.userId, params["id"] ?? "");
      return { status: 202, body: wireNotification(row) };
    },
  }),
  route({
    method: "post",
    path: "/v1/push/receipts",
    access: "none",
    replay: MEMORY_REPLAY,
    operation: "sendReceipt",
    summary: "A device says that it showed a notification, or that its person opened it or acted on it",
    body: receiptSchema,
    answers: { 204: EMPTY },
    problems: ["not_found"],
    async handle({ deps, body }) {
      await deps.notifications.receive(body.id, body.receipt, body.rung);
      return { status: 204 };
    },
  }),
  route({
    method: "post",
    path: "/v1/push/presence",
    access: "user",
    replay: MEMORY_REPLAY,
    operation: "reportPresence",
    summary: "A page says which task its person looks at, every 20 s; no notification about it is sent meanwhile",
    body: presenceSchema,
    answers: { 204: EMPTY },
    async handle({ deps, identity, body }) {
      deps.notifications.look(identity.userId, body.page, body.taskId);
      return { status: 204 };
    },
  }),
];
