/** Where push messages may go, and with which keys they are signed. */
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { checkEndpoint, openPushSender } from "../../src/notifications/push-sender.ts";
import { loadVapidKeys } from "../../src/notifications/vapid.ts";
import { startPushService, type PushService } from "../support/browser/push-service.ts";

let dir: string;
let push: PushService;
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "slipway-push-"));
  push = await startPushService();
});
afterEach(async () => {
  await push.close();
  rmSync(dir, { recursive: true });
});

const PAYLOAD = {
  id: "ntf_1",
  receipt: "r",
  kind: "done",
  title: "t",
  body: "b",
  url: "/",
  tag: "t",
  at: 0,
  taskId: null,
  question: null,
  canStop: false,
} as const;

async function send(endpoint: string, trustedHosts: string[] = [], ...statuses: number[]): Promise<unknown> {
  const { keys } = push.subscribe("phone");
  push.answer("phone", ...statuses);
  const sender = openPushSender({ keys: await loadVapidKeys(dir), contact: "mailto:a@example.com", trustedHosts });
  const device = { id: "dev_1", userId: "u", sessionId: null, label: "x", kinds: [], createdAt: 0, seenAt: 0 };
  try {
    return await sender.send({ ...device, endpoint, ...keys }, PAYLOAD);
  } finally {
    await sender.close();
  }
}

it.each([
  "http://push.example.com/x",
  "https://push.example.com:8443/x",
  "https://user:secret@push.example.com/x",
  "https://127.0.0.1/x",
  "https://[::1]/x",
  "https://169.254.169.254/latest",
  "https://2130706433/x",
  "https://0x7f.1/x",
  "https://localhost/x",
  "https://metadata.google.internal/x",
  "https://engine/x",
  "ftp://push.example.com/x",
  "file:///etc/passwd",
  "javascript:alert(1)",
  `https://push.example.com/${"x".repeat(2_000)}`,
])("[N5] a subscription to %s is refused, and nothing is sent there", async (endpoint) => {
  expect(() => checkEndpoint(endpoint, [])).toThrow(expect.objectContaining({ code: "invalid_request" }));
  expect(await send(endpoint)).toMatchObject({ kind: "refused" });
});

it("[N5] the usual push services and hosts that an operator trusts are allowed", () => {
  for (const host of ["fcm.googleapis.com", "updates.push.services.mozilla.com", "web.push.apple.com"])
    expect(() => checkEndpoint(`https://${host}/fcm/send/abc:def`, [])).not.toThrow();
  expect(() => checkEndpoint("http://10.0.0.7:8080/x", ["10.0.0.7:8080"])).not.toThrow();
});

it("[N5] a redirect is not followed", async () => {
  const { endpoint } = push.subscribe("phone");
  expect(await send(endpoint, [push.host], 302)).toMatchObject({ kind: "refused" });
  expect(await send(endpoint, [push.host])).toEqual({ kind: "accepted" });
  expect(push.messages).toHaveLength(1);
});

it("[N5] the keys are made once, only their owner can read them, and broken ones end the start in words", async () => {
  const keys = await loadVapidKeys(dir);
  expect(await loadVapidKeys(dir)).toEqual(keys);
  const file = join(dir, "vapid.json");
  expect(statSync(file).mode & 0o777).toBe(0o600);
  writeFileSync(file, readFileSync(file, "utf8").slice(0, 50));
  await expect(loadVapidKeys(dir)).rejects.toThrow(expect.objectContaining({ code: "config_invalid" }));
});
