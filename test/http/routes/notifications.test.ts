/** Devices of people over HTTP: whose they are, and what a receipt proves. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { makeReceipt } from "../../../src/notifications/payload.ts";
import { openApiServer, type ApiServer } from "../api-server.ts";

let api: ApiServer;
let ada: string;
let bob: string;
beforeAll(async () => {
  api = await openApiServer();
  ada = (await api.person("ada@example.com")).accessToken;
  bob = (await api.person("bob@example.com")).accessToken;
});
afterAll(() => api.close());

const KEYS = { p256dh: Buffer.alloc(65, 4).toString("base64url"), auth: Buffer.alloc(16).toString("base64url") };
const subscribe = (token: string, change: object = {}) =>
  api.call("POST", "/v1/push/devices", {
    token,
    body: { endpoint: "https://push.example.com/a", keys: KEYS, label: "Phone", kinds: ["done"], ...change },
  });
const devicesOf = async (token: string): Promise<{ id: string; label: string }[]> =>
  (await api.call("GET", "/v1/push", { token })).body.devices;

it("[S2] a device belongs to its person: others neither see, test nor remove it", async () => {
  const { body } = await subscribe(ada);
  expect(await devicesOf(bob)).toEqual([]);
  expect((await api.call("POST", `/v1/push/devices/${body.id}/test`, { token: bob })).status).toBe(404);
  expect((await api.call("DELETE", `/v1/push/devices/${body.id}`, { token: bob })).status).toBe(404);
  expect((await devicesOf(ada)).map(({ id }) => id)).toEqual([body.id]);
  expect((await api.call("DELETE", `/v1/push/devices/${body.id}`, { token: ada })).status).toBe(204);
});

it("[N5] a browser whose person changes tells only the new one", async () => {
  await subscribe(ada);
  await subscribe(bob);
  expect(await devicesOf(ada)).toEqual([]);
  expect(await devicesOf(bob)).toHaveLength(1);
});

it("[N5] a subscription with a private address or without usable keys is refused in words", async () => {
  const inside = await subscribe(ada, { endpoint: "https://10.0.0.1/x" });
  expect([inside.status, inside.body.errors[0].path]).toEqual([400, "endpoint"]);
  const broken = await subscribe(ada, { keys: { ...KEYS, auth: "x" } });
  expect([broken.status, broken.body.errors[0].path]).toEqual([400, "keys"]);
});

it("[N3] a receipt without a session counts, with its proof alone", async () => {
  const { body: device } = await subscribe(ada, { endpoint: "https://push.example.com/r" });
  const { body: row } = await api.call("POST", `/v1/push/devices/${device.id}/test`, { token: ada });
  const receipt = makeReceipt(api.receiptSecrets(), row.id);
  const say = (given: string, rung: string) =>
    api.call("POST", "/v1/push/receipts", { body: { id: row.id, receipt: given, rung } });
  expect((await say("wrong", "shown")).status).toBe(404);
  expect((await say(receipt, "opened")).status).toBe(204);
  const { devices } = (await api.call("GET", "/v1/push", { token: ada })).body;
  const [last] = devices.find(({ id }: { id: string }) => id === device.id).last;
  expect(last).toMatchObject({ id: row.id, kind: "test", taskId: null, actedAt: null });
  expect([last.shownAt, last.openedAt]).not.toContain(null);
});

it("a person keeps at most 20 devices; the one that was unused longest goes", async () => {
  for (let i = 0; i < 21; i++) {
    await api.harness.clock.advance(1_000);
    await subscribe(bob, { endpoint: `https://push.example.com/many-${i}`, label: `Phone ${i}` });
  }
  const labels = (await devicesOf(bob)).map(({ label }) => label);
  expect([labels.length, labels[0], labels.at(-1)]).toEqual([20, "Phone 20", "Phone 1"]);
});

const add = (path: string, token: string, body: object) => api.call("POST", `/v1/push/${path}`, { token, body });

it("[N6] a topic and a webhook come after browsers; their secret is shown once, their address never", async () => {
  const cleo = (await api.person("cleo@example.com")).accessToken;
  const ntfy = await add("ntfy", cleo, { url: "https://ntfy.example.com/my-topic", token: "tk_hidden" });
  const hook = await add("webhooks", cleo, {
    url: "https://hook.example.com/in?key=hidden",
    label: "Desk",
    kinds: ["done"],
  });
  await subscribe(cleo, { endpoint: "https://push.example.com/cleo" });
  expect([ntfy.status, ntfy.body.secret, hook.status]).toEqual([201, undefined, 201]);
  expect(hook.body.secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
  const all = await devicesOf(cleo);
  expect(all).toMatchObject([
    { via: "web_push", label: "Phone" },
    { via: "webhook", label: "Desk", service: "hook.example.com", kinds: ["done", "test"] },
    { via: "ntfy", label: "ntfy.example.com", kinds: ["needs_you", "budget", "done", "failed", "test"] },
  ]);
  expect(JSON.stringify(all)).not.toMatch(/hidden|my-topic|whsec_/);
  const rows = await api.audit.rows({ limit: 1, action: "addWebhook" });
  expect(rows).toMatchObject([{ target: hook.body.id, detail: { kinds: "done" } }]);
});

it.each([
  ["ntfy", "https://10.0.0.1/topic", "must name a public host"],
  ["webhooks", "http://hook.example.com/x", "must use https"],
  ["webhooks", "https://localhost/x", "must name a public host"],
  ["ntfy", "https://ntfy.sh/", "must be the address of a topic"],
  ["ntfy", "https://ntfy.sh/topic?auth=x", "must be the address of a topic"],
])("[N5] [N6] %s at %s is refused in words", async (path, url, words) => {
  const { status, body } = await add(path, ada, { url });
  expect([status, body.errors[0].path]).toEqual([400, "url"]);
  expect(body.errors[0].message).toContain(words);
});

it("[N6] a person has at most ten of them, and browsers do not push them out", async () => {
  const dan = (await api.person("dan@example.com")).accessToken;
  for (let i = 0; i < 10; i++) await add("webhooks", dan, { url: `https://hook.example.com/${i}` });
  const { status, body } = await add("ntfy", dan, { url: "https://ntfy.sh/one-more" });
  expect([status, body.detail]).toEqual([400, "A person has at most 10 of them. Remove one first."]);
  for (let i = 0; i < 21; i++) await subscribe(dan, { endpoint: `https://push.example.com/dan-${i}` });
  expect(await devicesOf(dan)).toHaveLength(30);
});

it("[N6] [H16] a rotation of the keys seals the addresses again, and the next one opens them", async () => {
  const sealed = Object.values(await api.ring.sealedCounts()).reduce((sum, count) => sum + count, 0);
  expect(sealed).toBeGreaterThan(10);
  for (const request of ["first", "second"]) {
    await api.harness.clock.advance(1_000);
    expect(await api.ring.rotate(request)).toEqual({ resealed: sealed, unreadable: 0 });
  }
  expect(Object.values(await api.ring.sealedCounts())).toEqual([sealed]);
});
