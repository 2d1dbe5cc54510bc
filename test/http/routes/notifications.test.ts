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
