/** The log-in of a program by a code that a person approves in a browser. */
import * as oauth from "openid-client";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { LOCAL_TOKEN, openApiServer, PASSWORD, type ApiServer } from "../../api-server.ts";

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

// ---------------------------------------------------------------- the wire of OAuth

const GRANT = "urn:ietf:params:oauth:grant-type:device_code";

/** The client of another make, at this server; the clock moves on before each poll. */
async function discover(waitMs = 5_000): Promise<oauth.Configuration> {
  await api.close();
  api = await openApiServer();
  ann = await api.person("oauth@example.com");
  const execute = [oauth.allowInsecureRequests];
  const url = new URL(`http://127.0.0.1:${api.port}`);
  const config = await oauth.discovery(url, "tv.example", undefined, oauth.None(), { algorithm: "oauth2", execute });
  config[oauth.customFetch] = async (to, options) => {
    await api.clock.advance(waitMs);
    return fetch(to, options as RequestInit);
  };
  return config;
}
const quick = (started: oauth.DeviceAuthorizationResponse) => ({ ...started, interval: 0.02 });
const exchange = (config: oauth.Configuration, deviceCode: string) =>
  oauth.genericGrantRequest(config, GRANT, { device_code: deviceCode });

it("[H10] openid-client logs in by RFC 8628: it waits, is approved, gets tokens once, and renews them", async () => {
  const config = await discover();
  const started = await oauth.initiateDeviceAuthorization(config, {});
  expect(started).toMatchObject({ user_code: expect.stringMatching(/^\w{4}-\w{4}$/), expires_in: 600, interval: 5 });
  expect(started.verification_uri_complete).toBe(`${started.verification_uri}#${started.user_code}`);
  const polling = oauth.pollDeviceAuthorizationGrant(config, quick(started));
  const look = await post("look", { userCode: started.user_code }, ann.accessToken);
  expect(look.body).toMatchObject({ device: "tv.example", address: "127.0.0.1" });
  await post("decide", { userCode: started.user_code, allow: true }, ann.accessToken);
  const tokens = await polling;
  expect(tokens).toMatchObject({ token_type: "bearer", expires_in: 600 });
  expect((await api.call("GET", "/v1/me", { token: tokens.access_token })).body.id).toBe(ann.userId);
  const renewed = await oauth.refreshTokenGrant(config, tokens.refresh_token!);
  expect((await api.call("GET", "/v1/me", { token: renewed.access_token })).body.id).toBe(ann.userId);
  await expect(exchange(config, started.device_code)).rejects.toMatchObject({ error: "expired_token" });
  await expect(oauth.refreshTokenGrant(config, "forged")).rejects.toMatchObject({ error: "invalid_grant" });
  const acts = await api.audit.rows({ action: "exchangeToken", limit: 9 });
  expect(acts.map(({ actor, outcome }) => [actor, outcome])).toEqual([
    [null, "invalid_grant"],
    [null, "expired_token"],
    [ann.userId, "ok"],
  ]);
});

it("[H10] openid-client is told by RFC 8628 to wait, to slow down, that a person refused, and that it took too long", async () => {
  const config = await discover(0);
  const started = await oauth.initiateDeviceAuthorization(config, {});
  const code = started.device_code;
  await expect(exchange(config, code)).rejects.toMatchObject({ error: "authorization_pending", status: 400 });
  await expect(exchange(config, code)).rejects.toMatchObject({ error: "slow_down" });
  await api.clock.advance(10_000);
  await expect(exchange(config, code)).rejects.toMatchObject({ error: "authorization_pending" });
  await post("decide", { userCode: started.user_code, allow: false }, ann.accessToken);
  await expect(oauth.pollDeviceAuthorizationGrant(config, quick(started))).rejects.toMatchObject({
    error: "access_denied",
  });
  const late = await oauth.initiateDeviceAuthorization(config, {});
  await api.clock.advance(600_000);
  await expect(oauth.pollDeviceAuthorizationGrant(config, quick(late))).rejects.toMatchObject({
    error: "expired_token",
  });
  // A code belongs to the program that asked for it.
  const theirs = await oauth.initiateDeviceAuthorization(config, {});
  await post(
    "decide",
    { userCode: theirs.user_code, allow: true },
    (await api.person("later@example.com")).accessToken,
  );
  const form = (fields: Record<string, string>) => ({
    raw: new URLSearchParams(fields).toString(),
    headers: { "content-type": "application/x-www-form-urlencoded" },
  });
  const token = (fields: Record<string, string>) => api.call("POST", "/v1/oauth/token", form(fields));
  const stolen = { grant_type: GRANT, device_code: theirs.device_code, client_id: "other" };
  const errors = [
    (await token(stolen)).body.error,
    (await api.call("POST", "/v1/device/poll", { body: { deviceCode: theirs.device_code } })).body.code,
    (await token({ grant_type: GRANT, device_code: theirs.device_code })).body.error,
    (await token({ grant_type: "password", client_id: "a" })).body.error,
    (await token({ grant_type: GRANT, client_id: "a" })).body.error,
    (await api.call("POST", "/v1/oauth/device_authorization", form({ client_id: "a", scope: "admin" }))).body.error,
    (await api.call("POST", "/v1/oauth/device_authorization", form({ client_id: "<b>" }))).body.error,
  ];
  expect(errors).toEqual([
    "expired_token",
    "expired",
    "invalid_client",
    "unsupported_grant_type",
    "invalid_request",
    "invalid_scope",
    "invalid_client",
  ]);
  expect((await token({ ...stolen, client_id: "tv.example" })).status).toBe(200);
});

// ---------------------------------------------------------------- a link for a phone

const offer = async (token = ann.accessToken) => (await api.call("POST", "/v1/device/offer", { token })).body;
const offered = (token = ann.accessToken) => api.call("GET", "/v1/device/offer", { token });
const claim = (token: string) => post("claim", { token }, undefined, { "user-agent": "Mozilla/5.0 (iPhone) Safari/1" });
const pollPhone = (deviceCode: string) => api.call("POST", "/v1/session/device", { body: { deviceCode } });

it("[H18] a phone that confirms a link is logged in once, after the session that showed it approved", async () => {
  const { token, url, expiresIn } = await offer();
  expect([url.endsWith(`/pair#${token}`), expiresIn]).toEqual([true, 300]);
  expect((await offered()).body).toEqual({ state: "waiting" });
  const { deviceCode, userCode } = (await claim(token)).body;
  expect((await pollPhone(deviceCode)).body).toEqual({ state: "pending", interval: 5 });
  expect((await offered()).body).toMatchObject({ state: "asked", userCode, device: "Safari on iPhone" });
  // Who photographed it comes second here, and gets nothing.
  expect((await claim(token)).body.code).toBe("expired");
  expect((await post("decide", { userCode, allow: true }, ann.accessToken)).status).toBe(204);
  await api.clock.advance(5_000);
  const both = await Promise.all([pollPhone(deviceCode), pollPhone(deviceCode)]);
  expect(both.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 410]);
  const done = both.find(({ status }) => status === 200)!;
  expect(done.body.session.user.id).toBe(ann.userId);
  expect(done.body.session).not.toHaveProperty("refreshToken");
  expect(done.headers.get("set-cookie")).toMatch(/HttpOnly; SameSite=Strict/);
  expect((await offered()).body.code).toBe("expired");
  const acts = await api.audit.rows({ limit: 5 });
  expect(acts.map(({ action, actor, outcome }) => [action, actor, outcome])).toEqual([
    ["pollDeviceLoginInBrowser", null, "expired"],
    ["pollDeviceLoginInBrowser", ann.userId, "ok"],
    ["decideDeviceLogin", ann.userId, "ok"],
    ["claimDeviceOffer", null, "expired"],
    ["claimDeviceOffer", null, "ok"],
  ]);
  const stored = JSON.stringify([acts, api.lines]);
  expect([token, deviceCode, userCode].filter((secret) => stored.includes(secret))).toEqual([]);
});

it("[H18] nobody but the session that showed a link decides, and a refused, late, withdrawn or replaced one ends", async () => {
  const first = await offer();
  const { deviceCode, userCode } = (await claim(first.token)).body;
  const eve = await api.person(`eve${people}@example.com`);
  const elsewhere = (await api.sessions.login(`ann${people}@example.com`, PASSWORD)).accessToken;
  for (const token of [eve.accessToken, elsewhere]) {
    expect((await offered(token)).body.code).toBe("expired");
    expect((await post("look", { userCode }, token)).body.code).toBe("expired");
    expect((await post("decide", { userCode, allow: true }, token)).body.code).toBe("expired");
  }
  expect((await pollPhone(deviceCode)).body.state).toBe("pending");
  await post("decide", { userCode, allow: false }, ann.accessToken);
  expect((await pollPhone(deviceCode)).body.code).toBe("forbidden");
  const withdrawn = await offer();
  const asked = (await claim(withdrawn.token)).body;
  await api.call("DELETE", "/v1/device/offer", { token: ann.accessToken });
  expect((await pollPhone(asked.deviceCode)).body.code).toBe("expired");
  const [old, next] = [await offer(), await offer()];
  expect([(await claim(old.token)).status, (await claim(first.token)).status]).toEqual([410, 410]);
  await api.clock.advance(300_000);
  expect([(await claim(next.token)).status, (await offered()).status]).toEqual([410, 410]);
  const caller = { userId: ann.userId, role: "user", sessionId: null, expiresAt: null, via: "session", scopes: null };
  const { token } = await api.sessions.createToken(caller as never, "ci", null);
  expect((await api.call("POST", "/v1/device/offer", { token })).status).toBe(403);
  expect((await api.call("POST", "/v1/device/offer", { token: LOCAL_TOKEN })).status).toBe(403);
  const foreign = { "sec-fetch-site": "cross-site" };
  expect((await post("claim", { token: "x" }, undefined, foreign)).body.code).toBe("forbidden");
});
