/**
 * Each unsafe call of the OpenAPI document, sent twice at once with one Idempotency-Key: one effect
 * and equal answers; with another body it is a conflict (rule R5). Over HTTP, on a real database.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { WORK_REF } from "../../../src/core/ports/repositories.ts";
import { openapiDocument } from "../../../src/http/openapi/document.ts";
import { makeReceipt } from "../../../src/notifications/payload.ts";
import { SoftwareAuthenticator } from "../../auth/software-authenticator.ts";
import { ROUTES } from "../../../src/http/routes/index.ts";
import {
  LOCAL_TOKEN,
  openApiServer,
  PASSWORD,
  REPO,
  SETUP_TOKEN,
  type Answered,
  type ApiServer,
} from "../api-server.ts";

let api: ApiServer;
let operator: string;
beforeAll(async () => {
  api = await openApiServer();
  operator = (await api.person("olga@example.com", "operator")).accessToken;
});
let fresh: ApiServer | null = null;
afterAll(async () => {
  await fresh?.close();
  await api.close();
});

interface Sample {
  /** The path with its ids; `{id}` is replaced. */
  readonly path?: string;
  readonly token?: string | null;
  readonly headers?: Record<string, string>;
  readonly on?: ApiServer;
  /** A string is sent as it is. */
  readonly body?: object | string;
  /** A valid body that is not the same; absent when the call has no body. */
  readonly other?: object | string;
  /** What the call leaves behind; it must be 1 after both calls. */
  readonly effects?: () => Promise<number>;
}

const call = (method: string, path: string, body?: object) =>
  api.call(method, path, { token: LOCAL_TOKEN, ...(body === undefined ? {} : { body }) });
const list = async (path: string): Promise<Record<string, unknown>[]> => (await call("GET", path)).body.items;
const events = async (id: string, type: string): Promise<Record<string, unknown>[]> =>
  (await list(`/v1/tasks/${id}/events?limit=1000`)).filter((event) => event["type"] === type);

const PUSH_KEYS = { p256dh: Buffer.alloc(65, 4).toString("base64url"), auth: Buffer.alloc(16).toString("base64url") };
const FORM = { "content-type": "application/x-www-form-urlencoded" };
let made = 0;

async function device(): Promise<string> {
  const endpoint = `https://push.example.com/made-${++made}`;
  return (await call("POST", "/v1/push/devices", { endpoint, keys: PUSH_KEYS, label: "Phone", kinds: [] })).body.id;
}

/** A topic, or a webhook, whose secret the repeated call gives again. */
function added(via: string): Sample {
  const body = { url: `https://${via}.example.com/topic`, label: `Once, ${via}`, kinds: ["done"] };
  const effects = async (): Promise<number> => {
    const { devices } = (await call("GET", "/v1/push")).body;
    return devices.filter(({ label }: { label: string }) => label === body.label).length;
  };
  return { body, other: { ...body, kinds: [] }, effects };
}

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

async function running(): Promise<string> {
  const { id } = (await call("POST", "/v1/tasks", { repo: REPO, prompt: "Do it." })).body;
  await expect.poll(() => api.harness.fakeWorkers.has(id)).toBe(true);
  await api.harness.fakeWorkers.send(api.harness.coordinator.workerApi, id, ["ready", {}]);
  await api.harness.until(id, "running.working");
  return id;
}
const work = (
  id: string,
  ...given: Parameters<typeof api.harness.fakeWorkers.send> extends [unknown, unknown, ...infer R] ? R : never
) => api.harness.fakeWorkers.send(api.harness.coordinator.workerApi, id, ...given);

async function done(): Promise<string> {
  const id = await running();
  const sha = await api.harness.repos.commit(id, WORK_REF, `work of ${id}`);
  await work(id, ["finished", { sha, title: "", summary: "" }]);
  await api.harness.until(id, "done");
  return id;
}

async function children(id: string): Promise<number> {
  const { threadId } = (await call("GET", `/v1/tasks/${id}`)).body;
  return (await list(`/v1/tasks?thread=${threadId}`)).filter((task) => task["parentId"] === id).length;
}

/** By `method path` of the document. */
const SAMPLES: Record<string, () => Promise<Sample>> = {
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
    fresh = await openApiServer();
    const body = { token: SETUP_TOKEN, email: "first@example.com", password: PASSWORD };
    const effects = async (): Promise<number> =>
      (await fresh?.sessions.listUsers())?.filter(({ email }) => email === body.email).length ?? 0;
    return { token: null, body, other: { ...body, email: "second@example.com" }, effects, on: fresh };
  },
  "delete /v1/session": async () => ({ token: (await api.person("leave@example.com")).accessToken }),
  "post /v1/attachments": async () => ({
    path: "/v1/attachments?name=a.txt",
    body: "one",
    other: "two",
    effects: async () => (await api.harness.attachments.usage()).length,
  }),
  "post /v1/repositories/check": async () => ({ body: { repo: REPO } }),
  "post /v1/tickets": async () => ({}),
  "post /v1/tokens": async () => ({
    body: { name: "one" },
    other: { name: "two" },
    effects: async () => (await list("/v1/tokens")).filter(({ name }) => name === "one").length,
  }),
  "delete /v1/tokens/{id}": async () => ({
    path: `/v1/tokens/${(await call("POST", "/v1/tokens", { name: "old" })).body.id}`,
  }),
  "post /v1/credentials": async () => {
    const body = { host: "git.example.com", kind: "token", token: "secret-a" };
    return { body, other: { ...body, token: "secret-b" }, effects: async () => (await list("/v1/credentials")).length };
  },
  "delete /v1/credentials/{id}": async () => ({
    path: `/v1/credentials/${(await call("POST", "/v1/credentials", { host: "x.example.com", kind: "token", token: "s" })).body.id}`,
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
  "delete /v1/tasks/{id}": async () => {
    const id = await done();
    const effects = async (): Promise<number> => Number((await call("GET", `/v1/tasks/${id}`)).status === 404);
    return { path: `/v1/tasks/${id}`, effects };
  },
  "post /v1/tasks/{id}/keep": async () => {
    const id = await done();
    const effects = async (): Promise<number> => Number((await call("GET", `/v1/tasks/${id}/keep`)).body.keep);
    return { path: `/v1/tasks/${id}/keep`, body: { keep: true }, other: { keep: false }, effects };
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
  "post /v1/variables": async () => {
    const body = { repo: REPO, name: "FLAVOUR", value: "sweet and sour" };
    return { body, other: { ...body, value: "bitter and salty" } };
  },
  "delete /v1/variables": async () => {
    await call("POST", "/v1/variables", { repo: REPO, name: "GONE", value: "soon to be gone" });
    return { path: `/v1/variables?repo=${encodeURIComponent(REPO)}&name=GONE` };
  },
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
  "post /v1/tasks": async () => {
    const body = { repo: REPO, prompt: "Only once, please." };
    const effects = async (): Promise<number> => (await list("/v1/tasks?q=only%20once")).length;
    return { body, other: { ...body, prompt: "Else." }, effects };
  },
  "post /v1/tasks/{id}/cancel": async () => {
    const id = await running();
    const effects = async (): Promise<number> =>
      (await events(id, "task.state")).filter(({ data }) => (data as { reason: string }).reason === "cancel").length;
    return { path: `/v1/tasks/${id}/cancel`, effects };
  },
  "post /v1/tasks/{id}/retry": async () => {
    const id = await done();
    const path = `/v1/tasks/${id}/retry`;
    return { path, body: { from: "start" }, other: { from: "checkpoint" }, effects: () => children(id) };
  },
  "post /v1/tasks/{id}/messages": async () => {
    const id = await running();
    const effects = async (): Promise<number> => (await events(id, "message")).length;
    return { path: `/v1/tasks/${id}/messages`, body: { text: "a" }, other: { text: "b" }, effects };
  },
  "delete /v1/tasks/{id}/messages/{mid}": async () => {
    const id = await running();
    const mid = (await call("POST", `/v1/tasks/${id}/messages`, { text: "No." })).body.id;
    const effects = async (): Promise<number> => (await events(id, "message.status")).length;
    return { path: `/v1/tasks/${id}/messages/${mid}`, effects };
  },
  "post /v1/tasks/{id}/answer": async () => {
    const id = await running();
    await work(id, ["question", { id: "q1", question: "Tabs?", options: null }]);
    const body = { questionId: "q1", text: "yes" };
    const effects = async (): Promise<number> => (await events(id, "answer")).length;
    return { path: `/v1/tasks/${id}/answer`, body, other: { ...body, text: "no" }, effects };
  },
  "post /v1/push/devices": async () => {
    const body = { keys: PUSH_KEYS, label: "Once", kinds: ["done"], endpoint: "https://push.example.com/one" };
    const effects = async (): Promise<number> => {
      const { devices } = (await call("GET", "/v1/push")).body;
      return devices.filter(({ label }: { label: string }) => label === "Once").length;
    };
    return { body, other: { ...body, endpoint: "https://push.example.com/two" }, effects };
  },
  "post /v1/push/ntfy": async () => added("ntfy"),
  "post /v1/push/webhooks": async () => added("webhook"),
  "delete /v1/push/devices/{id}": async () => ({ path: `/v1/push/devices/${await device()}` }),
  "post /v1/push/devices/{id}/test": async () => {
    const id = await device();
    const effects = async (): Promise<number> => {
      const { devices } = (await call("GET", "/v1/push")).body;
      return devices.find((each: { id: string }) => each.id === id).last.length;
    };
    return { path: `/v1/push/devices/${id}/test`, effects };
  },
  "post /v1/push/receipts": async () => {
    const { id } = (await call("POST", `/v1/push/devices/${await device()}/test`)).body;
    const body = { id, receipt: makeReceipt(api.receiptSecrets(), id), rung: "shown" };
    return { token: null, body, other: { ...body, rung: "opened" } };
  },
  "post /v1/push/presence": async () => ({ body: { page: "p", taskId: null }, other: { page: "q", taskId: null } }),
  "post /v1/keys/rotate": async () => ({ effects: async () => api.ring.list().length / 4 - 1 }),
  "post /v1/ops/queue/pause": async () => ({ token: operator }),
  "post /v1/ops/queue/resume": async () => ({ token: operator }),
  "post /v1/ops/egress": async () => ({
    body: { allow: ["one.example.com:443"] },
    other: { allow: ["two.example.com:443"] },
    effects: async () => {
      const { hosts } = (await call("GET", "/v1/ops/egress")).body as { hosts: string[] };
      return hosts.filter((host) => host === "one.example.com:443").length;
    },
  }),
  "post /v1/ops/gc": async () => ({ body: { dryRun: true }, other: { dryRun: false } }),
  "post /v1/ops/tasks/{id}/kill": async () => ({ path: `/v1/ops/tasks/${await running()}/kill` }),
};

const SAFE = new Set(["get", "head", "options"]);
const document = openapiDocument(ROUTES, "0.0.0") as {
  paths: Record<string, Record<string, { parameters?: { name: string; in: string }[]; responses: object }>>;
};
const unsafe = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).flatMap(([method, operation]) => (SAFE.has(method) ? [] : [{ method, path, operation }])),
);

const seen = ({ status, body, headers }: Answered): unknown => ({
  status,
  body,
  location: headers.get("location"),
  cookie: headers.get("set-cookie"),
});

describe("each unsafe call of the document", () => {
  it("has a sample here, names the header and the conflict", () => {
    expect(unsafe.map(({ method, path }) => `${method} ${path}`).toSorted()).toEqual(Object.keys(SAMPLES).toSorted());
    for (const { operation } of unsafe) {
      expect(operation.parameters).toContainEqual(expect.objectContaining({ name: "Idempotency-Key", in: "header" }));
      expect(JSON.stringify(operation.responses)).toContain("idempotency_mismatch");
    }
  });

  it.each(unsafe.map(({ method, path }) => `${method} ${path}`))("[R5] %s", async (name) => {
    const [method = "", path = ""] = name.split(" ");
    const sample = (await SAMPLES[name]?.()) ?? {};
    const token = sample.token === undefined ? LOCAL_TOKEN : sample.token;
    const send = (body = sample.body) =>
      (sample.on ?? api).call(method.toUpperCase(), sample.path ?? path, {
        ...(token === null ? {} : { token }),
        ...(body === undefined ? {} : typeof body === "string" ? { raw: body } : { body }),
        headers: { ...sample.headers, "idempotency-key": `key-of-${name.replaceAll(" ", "-")}` },
      });
    const [first, second] = await Promise.all([send(), send()]);
    expect(first.status, first.text).toBeLessThan(300);
    if (name === "post /v1/tasks") {
      // The second is the task as it is now, with 200.
      expect(new Set([first.status, second.status])).toEqual(new Set([200, 201]));
      expect(second.body.id).toBe(first.body.id);
    } else if (name === "post /v1/session/refresh") {
      // The same next refresh token, as long as the cookie may be sent again.
      expect(second.headers.get("set-cookie")).toBe(first.headers.get("set-cookie"));
      const { refreshToken } = await api.person("somebody@example.com");
      const headers = { cookie: `slipway=${refreshToken}`, "idempotency-key": `key-of-${name.replaceAll(" ", "-")}` };
      const other = await api.call("POST", path, { headers });
      expect(other.body.user.email).toBe("somebody@example.com");
    } else expect(seen(second)).toEqual(seen(first));
    if (sample.effects !== undefined) expect(await sample.effects()).toBe(1);
    if (["post /v1/auth/logout", "delete /v1/session", "delete /v1/me"].includes(name))
      return expect((await send()).status).toBe(401);
    const later = await send();
    expect([later.status < 300, later.body?.id]).toEqual([true, first.body?.id]);
    if (sample.effects !== undefined) expect(await sample.effects()).toBe(1);
    if (sample.other === undefined) return;
    const conflict = await send(sample.other);
    expect([conflict.status, conflict.body.code]).toEqual([422, "idempotency_mismatch"]);
    if (sample.effects !== undefined) expect(await sample.effects()).toBe(1);
  });
});
