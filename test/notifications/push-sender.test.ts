/** Where push messages may go, and with which keys they are signed. */
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { Webhook } from "standardwebhooks";
import type { PushDevice } from "../../src/core/ports/notifications.ts";
import { checkEndpoint } from "../../src/notifications/endpoint.ts";
import { makeWebhookSecret, type Reach } from "../../src/notifications/messages.ts";
import type { PushPayload } from "../../src/notifications/payload.ts";
import { openPushSender } from "../../src/notifications/push-sender.ts";
import { loadVapidKeys } from "../../src/notifications/vapid.ts";
import { startPostReceiver, type PostReceiver } from "../support/browser/post-receiver.ts";
import { startPushService, type PushService } from "../support/browser/push-service.ts";

let dir: string;
let push: PushService;
let receiver: PostReceiver;
beforeEach(async () => {
  receiver = await startPostReceiver();
  dir = mkdtempSync(join(tmpdir(), "slipway-push-"));
  push = await startPushService();
});
afterEach(async () => {
  await push.close();
  await receiver.close();
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
  needs: 0,
} as const;

const DEVICE = { id: "dev_1", userId: "u", sessionId: null, label: "x", kinds: [], createdAt: 0, seenAt: 0 };

async function deliver(
  device: Omit<PushDevice, keyof typeof DEVICE>,
  trustedHosts: readonly string[],
  payload: PushPayload = PAYLOAD,
): Promise<unknown> {
  const sender = openPushSender({
    keys: await loadVapidKeys(dir),
    contact: "mailto:a@example.com",
    trustedHosts,
    publicUrl: "https://slipway.example",
    open: ({ sealed }) => JSON.parse(sealed ?? "") as Reach,
    now: () => Date.now(),
  });
  try {
    return await sender.send({ ...DEVICE, ...device }, payload);
  } finally {
    await sender.close();
  }
}

async function send(endpoint: string, trustedHosts: string[] = [], ...statuses: number[]): Promise<unknown> {
  const { keys } = push.subscribe("phone");
  push.answer("phone", ...statuses);
  return await deliver({ via: "web_push", endpoint, sealed: null, ...keys }, trustedHosts);
}

/** To a topic or a webhook. */
const post = (via: "ntfy" | "webhook", reach: Reach, payload: PushPayload = PAYLOAD, trusted = [receiver.host]) =>
  deliver({ via, endpoint: "https://x/dev_1", sealed: JSON.stringify(reach), p256dh: "", auth: "" }, trusted, payload);

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

const ASK: PushPayload = {
  ...PAYLOAD,
  kind: "needs_you",
  title: "Asks: Naïve ☃",
  body: "Tabs or spaces?",
  url: "/tasks/task_1",
  at: 1_700_000_000_000,
  taskId: "task_1",
  question: { id: "q1", options: ["Tabs", "Spaces"] },
};

it("[N6] a webhook is signed as Standard Webhooks has it: its own library verifies each message, and no changed one", async () => {
  const secret = makeWebhookSecret();
  expect(await post("webhook", { url: `${receiver.url}/hook?key=1`, secret }, ASK)).toEqual({ kind: "accepted" });
  const [request] = receiver.requests;
  expect(request?.path).toBe("/hook?key=1");
  const judge = new Webhook(secret);
  const headers = request?.headers as Record<string, string>;
  expect(judge.verify(request!.body, headers)).toEqual({
    type: "task.needs_you",
    timestamp: "2023-11-14T22:13:20.000Z",
    data: {
      id: "ntf_1",
      title: "Asks: Naïve ☃",
      text: "Tabs or spaces?",
      taskId: "task_1",
      url: "https://slipway.example/tasks/task_1",
      question: { id: "q1", options: ["Tabs", "Spaces"] },
    },
  });
  expect(headers["webhook-id"]).toBe("ntf_1");
  expect(() => judge.verify(request!.body.replace("Tabs", "Taps"), headers)).toThrow(/signature/);
  expect(() => new Webhook(makeWebhookSecret()).verify(request!.body, headers)).toThrow(/signature/);
});

it("[N6] an ntfy topic gets title, text, link, tag and priority, with the access token where there is one", async () => {
  const url = `${receiver.url}/my-topic`;
  expect(await post("ntfy", { url, secret: "tk_1" }, ASK)).toEqual({ kind: "accepted" });
  expect(await post("ntfy", { url, secret: null })).toEqual({ kind: "accepted" });
  const [first, second] = receiver.requests;
  expect([first?.path, first?.headers.authorization]).toEqual(["/", "Bearer tk_1"]);
  expect(JSON.parse(first?.body ?? "")).toEqual({
    topic: "my-topic",
    title: "Asks: Naïve ☃",
    message: "Tabs or spaces?",
    tags: ["raised_hand"],
    priority: 4,
    click: "https://slipway.example/tasks/task_1",
  });
  expect(second?.headers.authorization).toBeUndefined();
  expect(JSON.parse(second?.body ?? "")).toMatchObject({ priority: 3, tags: ["white_check_mark"] });
});

it.each(["ntfy", "webhook"] as const)("[N6] %s: what the other end answers decides how it goes on", async (via) => {
  const reach = { url: `${receiver.url}/topic`, secret: via === "webhook" ? makeWebhookSecret() : null };
  const outcome = async (status: number, headers = {}): Promise<unknown> => {
    receiver.answer({ status, headers });
    return await post(via, reach);
  };
  expect(await outcome(204)).toEqual({ kind: "accepted" });
  expect(await outcome(410)).toEqual({ kind: "gone" });
  for (const status of [302, 401, 404])
    expect(await outcome(status)).toEqual({ kind: "refused", problem: `The other end answered ${status}.` });
  expect(await outcome(503)).toMatchObject({ kind: "later", afterMs: null });
  expect(await outcome(429, { "retry-after": "7" })).toMatchObject({ kind: "later", afterMs: 7_000 });
  // Without the trust of an operator nothing arrives at a private address.
  const count = receiver.requests.length;
  expect(await post(via, reach, PAYLOAD, [])).toMatchObject({ kind: "refused" });
  expect(receiver.requests).toHaveLength(count);
});

it("[N5] the keys are made once, only their owner can read them, and broken ones end the start in words", async () => {
  const keys = await loadVapidKeys(dir);
  expect(await loadVapidKeys(dir)).toEqual(keys);
  const file = join(dir, "vapid.json");
  expect(statSync(file).mode & 0o777).toBe(0o600);
  writeFileSync(file, readFileSync(file, "utf8").slice(0, 50));
  await expect(loadVapidKeys(dir)).rejects.toThrow(expect.objectContaining({ code: "config_invalid" }));
});
