/** The log-in of a program by a code that a person approves in a browser. */
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { openApiServer, type ApiServer } from "../../api-server.ts";

let api: ApiServer;
let ann: { userId: string; accessToken: string };
let people = 0;
// An access token is good for as long as a code: each test has a person of its own.
beforeEach(async () => {
  ann = await api.person(`ann${++people}@example.com`);
});
beforeAll(async () => {
  api = await openApiServer({ publicUrl: "https://slipway.example" });
});
afterAll(() => api.close());

const post = (path: string, body: object, token?: string, headers: Record<string, string> = {}) =>
  api.call("POST", `/v1/device/${path}`, { body, headers, ...(token === undefined ? {} : { token }) });
const start = async () => (await post("start", {}, undefined, { "user-agent": "slipway-cli" })).body;

it("[H10] a code that the person approves logs the program in, once, as that person", async () => {
  const { deviceCode, userCode, verificationUrl, verificationUrlComplete, expiresIn, interval } = await start();
  expect([verificationUrl, verificationUrlComplete]).toEqual([
    "https://slipway.example/device",
    `https://slipway.example/device#${userCode}`,
  ]);
  expect([userCode, expiresIn, interval]).toEqual([expect.stringMatching(/^[BCDFGHJKLMNPQRSTVWXZ]{4}-\w{4}$/), 600, 5]);
  expect((await post("poll", { deviceCode })).body).toEqual({ state: "pending", interval: 5 });
  const typed = ` ${userCode.toLowerCase().replace("-", " ")}`;
  const look = await post("look", { userCode: typed }, ann.accessToken);
  expect(look.body).toMatchObject({ device: "slipway", address: "127.0.0.1" });
  expect((await post("decide", { userCode, allow: true }, ann.accessToken)).status).toBe(204);
  await api.clock.advance(5_000);
  const both = await Promise.all([post("poll", { deviceCode }), post("poll", { deviceCode })]);
  expect(both.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 410]);
  const { session } = both.find(({ status }) => status === 200)?.body ?? {};
  expect(session.user).toMatchObject({ id: ann.userId, email: "ann1@example.com" });
  expect((await api.call("GET", "/v1/me", { token: session.accessToken })).body.id).toBe(ann.userId);
  expect((await post("look", { userCode }, ann.accessToken)).status).toBe(410);
  const acts = await api.audit.rows({ limit: 5 });
  expect(acts.map(({ action, actor, outcome }) => [action, actor, outcome])).toEqual([
    ["pollDeviceLogin", null, "expired"],
    ["pollDeviceLogin", ann.userId, "ok"],
    ["decideDeviceLogin", ann.userId, "ok"],
  ]);
  const stored = JSON.stringify(acts);
  expect([stored.includes(userCode), stored.includes(deviceCode)]).toEqual([false, false]);
});

it("[H10] a code that is refused, too old, unknown, or only the short one logs nobody in", async () => {
  const refused = await start();
  await post("decide", { userCode: refused.userCode, allow: false }, ann.accessToken);
  expect((await post("poll", { deviceCode: refused.deviceCode })).status).toBe(403);
  expect((await post("poll", { deviceCode: refused.deviceCode })).status).toBe(410);
  const old = await start();
  await api.clock.advance(600_000);
  ann = await api.person("ann-later@example.com");
  expect((await post("decide", { userCode: old.userCode, allow: true }, ann.accessToken)).status).toBe(410);
  expect((await post("poll", { deviceCode: old.deviceCode })).status).toBe(410);
  const open = await start();
  expect((await post("poll", { deviceCode: open.userCode })).status).toBe(410);
  expect((await post("look", { userCode: open.userCode })).status).toBe(401);
  const caller = { userId: ann.userId, role: "user", sessionId: null, expiresAt: null, via: "session", scopes: null };
  const { token } = await api.sessions.createToken(caller as never, "ci", null);
  expect((await post("decide", { userCode: open.userCode, allow: true }, token)).status).toBe(403);
  await post("decide", { userCode: open.userCode, allow: true }, ann.accessToken);
  await api.accounts.changeUser(ann.userId, { disabledAt: 1 });
  expect((await post("poll", { deviceCode: open.deviceCode })).status).toBe(410);
  await api.accounts.changeUser(ann.userId, { disabledAt: null });
});

it("[H10] a program that asks too often is slowed down, guesses and open codes are limited", async () => {
  const { deviceCode } = await start();
  const intervals: number[] = [];
  for (let i = 0; i < 3; i++) intervals.push((await post("poll", { deviceCode })).body.interval);
  expect(intervals).toEqual([5, 10, 15]);
  await api.clock.advance(15_000);
  expect((await post("poll", { deviceCode })).body.interval).toBe(15);
  const statuses: number[] = [];
  for (let i = 0; i < 25; i++) statuses.push((await post("start", {})).status);
  expect([statuses[0], statuses.at(-1)]).toEqual([200, 429]);
  const guess = () => post("look", { userCode: "BBBB-BBBB" }, ann.accessToken);
  const guesses: number[] = [];
  for (let i = 0; i < 7; i++) guesses.push((await guess()).status);
  expect([guesses[0], guesses.at(-1)]).toEqual([410, 429]);
});
