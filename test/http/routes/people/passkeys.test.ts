/** Passkeys over the raw routes: what a browser would do, and what only an attacker does. */
import { generateKeyPairSync } from "node:crypto";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { relyingPartyOf } from "../../../../src/auth/passkeys/relying-party.ts";
import { SoftwareAuthenticator, type Twist } from "../../../auth/software-authenticator.ts";
import { LOCAL_TOKEN, openApiServer, PASSWORD, type Answered, type ApiServer } from "../../api-server.ts";

const ORIGIN = "https://slipway.example";
let api: ApiServer;
let ann: { userId: string; accessToken: string };
let people = 0;
const email = () => `ann${people}@example.com`;
beforeAll(async () => {
  api = await openApiServer({ publicUrl: ORIGIN });
});
afterAll(() => api.close());
// An access token and a fresh log-in last ten minutes: each test has a person of its own.
beforeEach(async () => {
  people++;
  ann = await api.person(email());
});

const call = (method: string, path: string, body?: unknown, token?: string): Promise<Answered> =>
  api.call(method, path, {
    ...(body === undefined ? {} : { body }),
    ...(token === undefined ? {} : { token }),
  });
const startNew = async (token = ann.accessToken) => (await call("POST", "/v1/me/passkeys/start", {}, token)).body;

async function makePasskey(token = ann.accessToken, name?: string) {
  const device = new SoftwareAuthenticator(ORIGIN);
  const { ticket, options } = await startNew(token);
  const response = device.create(options);
  const made = await call("POST", "/v1/me/passkeys", { ticket, response, ...(name && { name }) }, token);
  expect(made.status, made.text).toBe(201);
  return { device, id: made.body.id as string, body: made.body };
}

const startLogin = async () => (await call("POST", "/v1/session/passkey/start", {})).body;
async function logIn(device: SoftwareAuthenticator, twist: Twist = {}): Promise<Answered> {
  const { ticket, options } = await startLogin();
  return call("POST", "/v1/session/passkey", { ticket, response: device.get(options, twist) });
}
const list = async () => (await call("GET", "/v1/me/passkeys", undefined, ann.accessToken)).body.items;
const lastAct = async (action: string) => (await api.audit.rows({ action, limit: 1 }))[0];

it("[H17] a passkey that a person made logs them in without an e-mail, is listed, renamed and removed", async () => {
  const { options } = await startNew();
  expect(options).toMatchObject({
    rp: { id: "slipway.example" },
    attestation: "none",
    authenticatorSelection: { residentKey: "required", userVerification: "required" },
  });
  const { device, id, body } = await makePasskey(ann.accessToken, "Phone");
  expect(body).toMatchObject({ name: "Phone", usable: true, lastUsedAt: null });
  expect((await startNew()).options.excludeCredentials).toMatchObject([{ id: device.credentialId }]);
  const start = await startLogin();
  expect(start.options).toMatchObject({ rpId: "slipway.example", userVerification: "required" });
  expect(start.options.allowCredentials ?? []).toEqual([]);
  const entered = await logIn(device);
  expect(entered.body.user).toMatchObject({ id: ann.userId, email: email() });
  expect(entered.headers.get("set-cookie")).toMatch(/^slipway=.*HttpOnly; SameSite=Strict/);
  expect(await lastAct("logInWithPasskey")).toMatchObject({ actor: ann.userId, outcome: "ok" });
  expect((await call("POST", `/v1/me/passkeys/${id}`, { name: " Old phone " }, ann.accessToken)).status).toBe(204);
  expect(await list()).toMatchObject([{ id, name: "Old phone", lastUsedAt: expect.any(String) }]);
  expect((await call("DELETE", `/v1/me/passkeys/${id}`, undefined, ann.accessToken)).status).toBe(204);
  expect([await list(), (await logIn(device)).body.code]).toEqual([[], "passkey_refused"]);
  const acts = await api.audit.rows({ actor: ann.userId, limit: 10 });
  expect(acts.map(({ action, target }) => [action, target])).toEqual([
    ["deletePasskey", id],
    ["changePasskey", id],
    ["logInWithPasskey", expect.stringMatching(/^sess_/)],
    ["createPasskey", id],
  ]);
});

it("[H17] the server says where passkeys work, and refuses them with a code where they cannot", async () => {
  expect((await call("GET", "/v1/auth/providers")).body.passkeys).toEqual({ origin: ORIGIN });
  const of = (url: string) => relyingPartyOf(url);
  expect(of("https://box.example.com:8443")).toEqual({
    rpId: "box.example.com",
    origin: "https://box.example.com:8443",
  });
  for (const url of ["http://localhost:4711", "http://127.0.0.1:4711", "http://[::1]:4711"])
    expect(of(url)).toEqual({ rpId: "localhost", origin: "http://localhost:4711" });
  for (const url of ["http://box.example.com", "https://192.0.2.7", "https://[2001:db8::1]", "http://10.0.0.3:80"])
    expect(of(url), url).toBeNull();
  const plain = await openApiServer({ publicUrl: "http://192.0.2.7:4711" });
  try {
    expect((await plain.call("GET", "/v1/auth/providers")).body.passkeys).toBeNull();
    const { accessToken: token } = await plain.person("bob@example.com");
    const refused = [
      await plain.call("POST", "/v1/me/passkeys/start", { token, body: {} }),
      await plain.call("POST", "/v1/session/passkey/start", { body: {} }),
    ];
    for (const { status, body } of refused) {
      expect([status, body.code]).toEqual([400, "passkeys_unavailable"]);
      expect(body.detail).toContain("Set SLIPWAY_PUBLIC_URL");
    }
  } finally {
    await plain.close();
  }
});

it("[H17] a new passkey needs a fresh log-in, and its ticket is good once, in that session, for five minutes", async () => {
  const device = new SoftwareAuthenticator(ORIGIN);
  const keep = (body: object, token = ann.accessToken) => call("POST", "/v1/me/passkeys", body, token);
  const { ticket, options } = await startNew();
  const response = device.create(options);
  const other = await api.person(`other${people}@example.com`);
  const again = (await api.sessions.login(email(), PASSWORD)).accessToken;
  const codes = [
    (await keep({ ticket, response }, other.accessToken)).body.code,
    (await keep({ ticket, response }, again)).body.code,
    (await keep({ ticket: (await startLogin()).ticket, response })).body.code,
    (await keep({ ticket: "forged", response })).body.code,
  ];
  expect(codes).toEqual(["expired", "expired", "expired", "expired"]);
  const both = await Promise.all([keep({ ticket, response }), keep({ ticket, response })]);
  expect(both.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([201, 410]);
  // The credential of one person is not taken over by another.
  const theirs = await startNew(other.accessToken);
  const copy = device.create(theirs.options);
  expect((await keep({ ticket: theirs.ticket, response: copy }, other.accessToken)).body.code).toBe("conflict");
  const late = await startNew();
  await api.clock.advance(5 * 60_000);
  const tooLate = { ticket: late.ticket, response: new SoftwareAuthenticator(ORIGIN).create(late.options) };
  expect((await keep(tooLate)).body.code).toBe("expired");
  await api.clock.advance(5 * 60_000);
  const renewed = await api.person(`renewed${people}@example.com`);
  await api.clock.advance(9.9 * 60_000);
  expect((await call("POST", "/v1/me/passkeys/start", {}, renewed.accessToken)).status).toBe(200);
  const caller = { userId: ann.userId, role: "user", sessionId: null, expiresAt: null, via: "session", scopes: null };
  const { token } = await api.sessions.createToken(caller as never, "ci", null);
  expect((await call("POST", "/v1/me/passkeys/start", {}, token)).body.code).toBe("forbidden");
  expect((await call("POST", "/v1/me/passkeys/start", {}, LOCAL_TOKEN)).body.code).toBe("forbidden");
});

it("[H17] an older session makes no passkey and removes none", async () => {
  const { id } = await makePasskey();
  await api.clock.advance(9 * 60_000);
  const { refreshToken } = await api.sessions.login(email(), PASSWORD);
  await api.clock.advance(10 * 60_000);
  const { accessToken } = await api.sessions.refresh(refreshToken);
  const refused = [
    await call("POST", "/v1/me/passkeys/start", {}, accessToken),
    await call("DELETE", `/v1/me/passkeys/${id}`, undefined, accessToken),
  ];
  expect(refused.map(({ body }) => body.code)).toEqual(["fresh_login_required", "fresh_login_required"]);
});

const stranger = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
it.each<[string, Twist]>([
  ["another origin", { origin: "https://slipway.example.evil.example" }],
  ["the origin without its scheme's safety", { origin: "http://slipway.example" }],
  ["another port", { origin: "https://slipway.example:8443" }],
  ["another domain", { rpId: "evil.example" }],
  ["a person whom the device did not verify", { isVerified: false }],
  ["a challenge of somebody's own", { challenge: Buffer.alloc(32, 1).toString("base64url") }],
  ["a registration in place of a log-in", { type: "webauthn.create" }],
  ["another key", { key: stranger }],
  ["another person's handle", { userHandle: Buffer.from("user_0").toString("base64url") }],
  ["a credential that nobody has", { credentialId: Buffer.alloc(16, 7).toString("base64url") }],
])("[H17] a signature with %s logs nobody in", async (_name, twist) => {
  const { device } = await makePasskey();
  const refused = await logIn(device, twist);
  expect([refused.status, refused.body.code, refused.headers.get("set-cookie")]).toEqual([
    403,
    "passkey_refused",
    null,
  ]);
  expect(refused.body.detail).toBe("This passkey was not accepted. Log in another way, and look at You.");
  expect((await logIn(device)).status).toBe(200);
});

it.each<[string, Twist]>([
  ["another origin", { origin: "https://evil.example" }],
  ["another domain", { rpId: "evil.example" }],
  ["a person whom the device did not verify", { isVerified: false }],
  ["another challenge", { challenge: Buffer.alloc(32, 1).toString("base64url") }],
  ["a log-in in place of a registration", { type: "webauthn.get" }],
])("[H17] a new passkey of %s is not kept", async (_name, twist) => {
  const { ticket, options } = await startNew();
  const response = new SoftwareAuthenticator(ORIGIN).create(options, twist);
  const refused = await call("POST", "/v1/me/passkeys", { ticket, response }, ann.accessToken);
  expect([refused.body.code, await list()]).toEqual(["passkey_refused", []]);
});

it("[H17] a challenge is good for one log-in: the same answer, a new one, and a late one are refused", async () => {
  const { device } = await makePasskey();
  const { ticket, options } = await startLogin();
  const send = (response: unknown, of = ticket) => call("POST", "/v1/session/passkey", { ticket: of, response });
  const response = device.get(options);
  const both = await Promise.all([send(response), send(response)]);
  expect(both.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 410]);
  expect([(await send(response)).body.code, (await send(device.get(options))).body.code]).toEqual([
    "expired",
    "expired",
  ]);
  const registration = await startNew();
  expect((await send(device.get(registration.options), registration.ticket)).body.code).toBe("expired");
  const late = await startLogin();
  await api.clock.advance(5 * 60_000);
  expect((await send(device.get(late.options), late.ticket)).body.code).toBe("expired");
});

it("[H17] a counter that does not grow is refused, and the audit log says so", async () => {
  const { device } = await makePasskey();
  expect((await logIn(device)).status).toBe(200);
  expect((await logIn(device)).status).toBe(200);
  for (const counter of [2, 1, 0]) expect((await logIn(device, { counter })).body.code).toBe("passkey_refused");
  expect(await lastAct("logInWithPasskey")).toMatchObject({
    actor: null,
    target: ann.userId,
    outcome: "passkey_refused",
    detail: { reason: "counter" },
  });
  expect((await logIn(device)).status).toBe(200);
  // Authenticators that do not count always say 0.
  const { device: uncounted } = await makePasskey();
  for (let i = 0; i < 2; i++) expect((await logIn(uncounted, { counter: 0 })).status).toBe(200);
});

it("[H17] a disabled or deleted person has no passkey, and gets none back", async () => {
  const admin = await api.person(`admin${people}@example.com`, "admin");
  const { device } = await makePasskey();
  await call("POST", `/v1/users/${ann.userId}/disable`, { tasks: "keep" }, admin.accessToken);
  expect((await logIn(device)).body.code).toBe("passkey_refused");
  await call("POST", `/v1/users/${ann.userId}/enable`, {}, admin.accessToken);
  expect([(await logIn(device)).body.code, await api.accounts.passkeys(ann.userId)]).toEqual(["passkey_refused", []]);
  const bob = await api.person(`bob${people}@example.com`);
  const { device: theirs } = await makePasskey(bob.accessToken);
  await call("DELETE", "/v1/me", undefined, bob.accessToken);
  expect((await logIn(theirs)).body.code).toBe("passkey_refused");
});

it("[H17] nobody touches the passkey of somebody else, and the last way to log in stays", async () => {
  const { device, id } = await makePasskey();
  const eve = await api.person(`eve${people}@example.com`);
  const path = `/v1/me/passkeys/${id}`;
  expect((await call("POST", path, { name: "Mine" }, eve.accessToken)).status).toBe(404);
  expect((await call("DELETE", path, undefined, eve.accessToken)).status).toBe(404);
  // A person who came with a provider has no password.
  const userId = `user_${"7".repeat(25)}${people % 10}`;
  const user = { id: userId, email: `p${people}@example.com`, role: "user", createdAt: 0, disabledAt: null } as const;
  const identity = { id: `idn_${"7".repeat(26)}`, userId, issuer: "https://id.example", subject: "1", name: "p" };
  await api.accounts.createUser({ ...user, passwordHash: null }, { ...identity, createdAt: 0, lastUsedAt: null });
  const token = (await api.sessions.begin(user, { device: "", address: "" })).accessToken;
  const [one, two] = [await makePasskey(token), await makePasskey(token)];
  const remove = (way: string) => call("DELETE", `/v1/me/${way}`, undefined, token);
  expect((await remove(`identities/${identity.id}`)).status).toBe(204);
  const both = await Promise.all([remove(`passkeys/${one.id}`), remove(`passkeys/${two.id}`)]);
  expect(both.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([204, 409]);
  expect((await logIn(device)).status).toBe(200);
});

it("[H17] another site cannot log a browser in, a person has room for twenty, and no secret is kept", async () => {
  const { device } = await makePasskey();
  const headers = { "sec-fetch-site": "cross-site" };
  expect((await api.call("POST", "/v1/session/passkey/start", { body: {}, headers })).body.code).toBe("forbidden");
  const { ticket, options } = await startLogin();
  const response = device.get(options);
  const foreign = await api.call("POST", "/v1/session/passkey", { body: { ticket, response }, headers });
  expect(foreign.body.code).toBe("forbidden");
  const own = (await api.accounts.passkeys(ann.userId))[0]!;
  for (let i = 1; i < 20; i++)
    await api.accounts.createPasskey({
      ...own,
      id: `pky_${String(people * 100 + i).padStart(26, "0")}`,
      credentialId: `c${people}-${i}`,
    });
  expect((await call("POST", "/v1/me/passkeys/start", {}, ann.accessToken)).body.code).toBe("conflict");
  const told = JSON.stringify([api.lines, await api.audit.rows({ limit: 100 })]);
  for (const secret of [ticket, options.challenge, response.response.signature, own.publicKey])
    expect(told.includes(secret)).toBe(false);
});
