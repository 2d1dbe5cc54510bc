/** Samples of the unsafe calls about people and what is theirs, for idempotency.test.ts. */
import { onTestFinished } from "vitest";
import { SoftwareAuthenticator } from "../../../auth/software-authenticator.ts";
import { openApiServer, PASSWORD, SETUP_TOKEN, type ApiServer } from "../../api-server.ts";
import { localCalls, type Samples } from "../../idempotency-samples.ts";

const FORM = { "content-type": "application/x-www-form-urlencoded" };

export function peopleSamples(api: ApiServer): Samples {
  const { call, list } = localCalls(api);
  const startDevice = async (): Promise<{ deviceCode: string; userCode: string }> =>
    (await api.call("POST", "/v1/device/start", {})).body;
  const session = async (email: string): Promise<string> => (await api.person(email)).accessToken;

  /** A person who shows a link for a phone. */
  async function offerOf(email: string): Promise<{ token: string; link: string }> {
    const token = await session(email);
    return { token, link: (await api.call("POST", "/v1/device/offer", { token })).body.token };
  }

  /** A person with a passkey. */
  async function passkeyOf(email: string) {
    const token = await session(email);
    const device = new SoftwareAuthenticator(passkeyOrigin());
    const { ticket, options } = (await api.call("POST", "/v1/me/passkeys/start", { token, body: {} })).body;
    const body = { ticket, response: device.create(options) };
    return { token, device, id: (await api.call("POST", "/v1/me/passkeys", { token, body })).body.id as string };
  }
  const passkeyOrigin = (): string => `http://localhost:${api.port}`;

  return {
    "post /v1/auth/login": async () => {
      await api.person("login@example.com");
      const body = { email: "login@example.com", password: PASSWORD };
      return { token: null, body, other: { ...body, email: "olga@example.com" } };
    },
    "post /v1/auth/refresh": async () => {
      const { refreshToken } = await api.person("refresh@example.com");
      return { token: null, body: { refreshToken }, other: { refreshToken: "other" } };
    },
    "post /v1/auth/logout": async () => ({ token: (await api.person("logout@example.com")).accessToken }),
    "post /v1/setup": async () => {
      const body = { token: SETUP_TOKEN, email: "first@example.com", password: PASSWORD };
      const effects = async (): Promise<number> =>
        (await list("/v1/users")).filter(({ email }) => email === body.email).length;
      return { token: null, body, other: { ...body, email: "second@example.com" }, effects };
    },
    "post /v1/session": async () => {
      await api.person("browser@example.com");
      const body = { email: "browser@example.com", password: PASSWORD };
      return { token: null, body, other: { ...body, email: "olga@example.com" } };
    },
    "post /v1/session/refresh": async () => {
      const { refreshToken } = await api.person("cookie@example.com");
      return { token: null, headers: { cookie: `slipway=${refreshToken}` } };
    },
    "post /v1/session/setup": async () => {
      const fresh = await openApiServer();
      onTestFinished(() => fresh.close());
      const body = { token: SETUP_TOKEN, email: "first@example.com", password: PASSWORD };
      const effects = async (): Promise<number> =>
        (await fresh.sessions.listUsers()).filter(({ email }) => email === body.email).length;
      return { token: null, body, other: { ...body, email: "second@example.com" }, effects, on: fresh };
    },
    "delete /v1/session": async () => ({ token: (await api.person("leave@example.com")).accessToken }),
    "post /v1/tickets": async () => ({}),
    "post /v1/tokens": async () => ({
      body: { name: "one" },
      other: { name: "two" },
      effects: async () => (await list("/v1/tokens")).filter(({ name }) => name === "one").length,
    }),
    "delete /v1/tokens/{id}": async () => ({
      path: `/v1/tokens/${(await call("POST", "/v1/tokens", { name: "old" })).body.id}`,
    }),
    "delete /v1/me/identities/{id}": async () => {
      const { userId, accessToken } = await api.person("linked@example.com");
      const id = `idn_${"0".repeat(26)}`;
      const row = { id, userId, issuer: "https://id.example", subject: "1", name: "a", createdAt: 0, lastUsedAt: null };
      await api.accounts.createIdentity(row);
      const effects = async (): Promise<number> => 1 - (await api.accounts.identities(userId)).length;
      return { path: `/v1/me/identities/${id}`, token: accessToken, effects };
    },
    "post /v1/session/passkey/start": async () => ({ token: null }),
    "post /v1/session/passkey": async () => {
      const { device } = await passkeyOf("enters@example.com");
      const answer = async () => {
        const { ticket, options } = (await api.call("POST", "/v1/session/passkey/start", { body: {} })).body;
        return { ticket, response: device.get(options) };
      };
      return { token: null, body: await answer(), other: await answer() };
    },
    "post /v1/me/passkeys/start": async () => ({ token: await session("begins@example.com") }),
    "post /v1/me/passkeys": async () => {
      const token = await session("makes@example.com");
      const { ticket, options } = (await api.call("POST", "/v1/me/passkeys/start", { token, body: {} })).body;
      const body = { ticket, response: new SoftwareAuthenticator(passkeyOrigin()).create(options) };
      const effects = async (): Promise<number> =>
        (await api.call("GET", "/v1/me/passkeys", { token })).body.items.length;
      return { token, body, other: { ...body, name: "Other" }, effects };
    },
    "post /v1/me/passkeys/{id}": async () => {
      const { token, id } = await passkeyOf("renames@example.com");
      return { path: `/v1/me/passkeys/${id}`, token, body: { name: "One" }, other: { name: "Two" } };
    },
    "delete /v1/me/passkeys/{id}": async () => {
      const { token, id } = await passkeyOf("removes@example.com");
      const effects = async (): Promise<number> =>
        1 - (await api.call("GET", "/v1/me/passkeys", { token })).body.items.length;
      return { path: `/v1/me/passkeys/${id}`, token, effects };
    },
    "delete /v1/sessions/{id}": async () => {
      const { userId, accessToken } = await api.person("elsewhere@example.com");
      await api.sessions.login("elsewhere@example.com", PASSWORD);
      const mine = await api.sessions.authenticate(accessToken);
      const other = (await api.people.sessions(userId)).find(({ id }) => id !== mine.sessionId);
      return { path: `/v1/sessions/${other!.id}`, token: accessToken };
    },
    "delete /v1/me": async () => ({ token: (await api.person("goes@example.com")).accessToken }),
    "delete /v1/users/{id}": async () => {
      const { userId } = await api.person("sent-away@example.com");
      const effects = async (): Promise<number> => Number((await api.accounts.user(userId)) === null);
      return { path: `/v1/users/${userId}`, effects };
    },
    "delete /v1/sessions": async () => ({
      path: "/v1/sessions?keep=current",
      token: (await api.person("everywhere@example.com")).accessToken,
    }),
    "post /v1/me/password": async () => {
      const { accessToken } = await api.person("change@example.com");
      const body = { currentPassword: PASSWORD, newPassword: "seven green lanterns" };
      return { token: accessToken, body, other: { ...body, newPassword: "eight green lanterns" } };
    },
    "post /v1/me/commit-identity": async () => {
      const { accessToken } = await api.person("named@example.com");
      const body = { name: "Ann Lee", email: "ann@example.org", as: "author" };
      return { token: accessToken, body, other: { ...body, name: "Ann" } };
    },
    "delete /v1/me/commit-identity": async () => ({
      token: (await api.person("unnamed@example.com")).accessToken,
    }),
    "post /v1/users/{id}/role": async () => ({
      path: `/v1/users/${(await api.person("rise@example.com")).userId}/role`,
      body: { role: "operator" },
      other: { role: "admin" },
    }),
    "post /v1/users/{id}/disable": async () => ({
      path: `/v1/users/${(await api.person("off@example.com")).userId}/disable`,
      body: { tasks: "keep" },
      other: { tasks: "cancel" },
    }),
    "post /v1/users/{id}/enable": async () => ({
      path: `/v1/users/${(await api.person("on@example.com")).userId}/enable`,
    }),
    "post /v1/users/{id}/quotas": async () => ({
      path: `/v1/users/${(await api.person("much@example.com")).userId}/quotas`,
      body: { tasksPerDay: 5 },
      other: { tasksPerDay: 6 },
    }),
    "post /v1/device/start": async () => ({ token: null }),
    "post /v1/device/poll": async () => {
      const [{ deviceCode }, next] = [await startDevice(), await startDevice()];
      return { token: null, body: { deviceCode }, other: { deviceCode: next.deviceCode } };
    },
    "post /v1/device/offer": async () => ({ token: await session("offers@example.com") }),
    "delete /v1/device/offer": async () => ({ token: (await offerOf("withdraws@example.com")).token }),
    "post /v1/device/claim": async () => {
      const [mine, other] = [await offerOf("shows@example.com"), await offerOf("shows-too@example.com")];
      return { token: null, body: { token: mine.link }, other: { token: other.link } };
    },
    "post /v1/session/device": async () => {
      const [{ deviceCode }, next] = [await startDevice(), await startDevice()];
      return { token: null, body: { deviceCode }, other: { deviceCode: next.deviceCode } };
    },
    "post /v1/oauth/device_authorization": async () => ({
      token: null,
      headers: FORM,
      body: "client_id=a",
      other: "client_id=b",
    }),
    "post /v1/oauth/token": async () => {
      const [mine, other] = [await api.person("renews@example.com"), await api.person("also@example.com")];
      const form = (token: string): string => `grant_type=refresh_token&client_id=a&refresh_token=${token}`;
      return { token: null, headers: FORM, body: form(mine.refreshToken), other: form(other.refreshToken) };
    },
    "post /v1/device/look": async () => {
      const [{ userCode }, next] = [await startDevice(), await startDevice()];
      return { token: await session("looks@example.com"), body: { userCode }, other: { userCode: next.userCode } };
    },
    "post /v1/device/decide": async () => {
      const { userCode } = await startDevice();
      const token = await session("decides@example.com");
      return { token, body: { userCode, allow: false }, other: { userCode, allow: true } };
    },
    "delete /v1/users/{id}/sessions": async () => ({
      path: `/v1/users/${(await api.person("out@example.com")).userId}/sessions`,
    }),
    "post /v1/users/{id}/password-link": async () => {
      const { userId } = await api.person("forgot@example.com");
      const effects = async (): Promise<number> =>
        (await api.people.openLinks()).filter((link) => link.userId === userId).length;
      return { path: `/v1/users/${userId}/password-link`, effects };
    },
    "post /v1/links": async () => {
      const body = { role: "user", email: "guest@example.com" };
      const effects = async (): Promise<number> =>
        (await api.people.openLinks()).filter(({ email }) => email === body.email).length;
      return { body, other: { ...body, role: "operator" }, effects };
    },
    "delete /v1/links/{id}": async () => ({
      path: `/v1/links/${(await api.people.invite("user_x", null, "user", 60_000)).link.id}`,
    }),
    "post /v1/links/look": async () => {
      const { token } = await api.people.invite("user_x", null, "user", 60_000);
      return { token: null, body: { token }, other: { token: "other" } };
    },
    "post /v1/links/accept": async () => {
      const { token } = await api.people.invite("user_x", "joined@example.com", "user", 60_000);
      const effects = async (): Promise<number> =>
        (await list("/v1/users")).filter(({ email }) => email === "joined@example.com").length;
      return { token: null, body: { token, password: PASSWORD }, other: { token, password: `${PASSWORD}!` }, effects };
    },
    "post /v1/session/link": async () => {
      const { token } = await api.people.invite("user_x", "joined-b@example.com", "user", 60_000);
      return { token: null, body: { token, password: PASSWORD }, other: { token, password: `${PASSWORD}!` } };
    },
    "post /v1/users": async () => {
      const body = { email: "new@example.com", password: PASSWORD, role: "user" };
      const effects = async (): Promise<number> =>
        (await list("/v1/users")).filter(({ email }) => email === body.email).length;
      return { body, other: { ...body, email: "newer@example.com" }, effects };
    },
    "post /v1/keys/rotate": async () => ({ effects: async () => api.ring.list().length / 4 - 1 }),
  };
}
