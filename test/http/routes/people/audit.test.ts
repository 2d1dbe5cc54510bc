/** The audit log over the API: which calls leave a row, and what no row contains. */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { AuditRow } from "../../../../src/core/ports/records/audit.ts";
import { isUnsafe } from "../../../../src/http/route.ts";
import { ROUTES } from "../../../../src/http/routes/index.ts";
import { AUDITED } from "../../../../src/http/server/audit-trail.ts";
import Database from "../../../../src/store/sqlite/driver.ts";
import { openApiServer, PASSWORD, REPO, type ApiServer } from "../../api-server.ts";

let api: ApiServer;
let admin: { userId: string; accessToken: string };
beforeAll(async () => {
  api = await openApiServer();
  admin = await api.person("root@example.com", "admin");
});
afterAll(() => api.close());

const rows = (query: Partial<Parameters<ApiServer["audit"]["rows"]>[0]> = {}): Promise<AuditRow[]> =>
  api.audit.rows({ limit: 100, ...query });
const post = (path: string, token: string | undefined, body?: object) =>
  api.call("POST", path, { ...(token === undefined ? {} : { token }), ...(body === undefined ? {} : { body }) });

/** What people do to their own tasks and devices, and what clients do by themselves. */
const UNLISTED = new Set([
  "submitTask",
  "uploadAttachment",
  "refreshSession",
  "refreshBrowserSession",
  "createTicket",
  "lookAtLink",
  "startPasskey",
  "startPasskeyLogin",
  "lookAtDeviceLogin",
  "startDeviceLogin",
  "startDeviceAuthorization",
  "checkRepository",
  "putPushDevice",
  "deletePushDevice",
  "testPushDevice",
  "sendReceipt",
  "reportPresence",
  "markTaskRead",
]);

it("[H9] each call that changes something leaves a row, or is named as one that leaves none", () => {
  const unsafe = ROUTES.filter(isUnsafe).map(({ operation }) => operation);
  expect(unsafe.filter((name) => name in AUDITED === UNLISTED.has(name))).toEqual([]);
  const all = new Set(ROUTES.map(({ operation }) => operation));
  expect(Object.keys(AUDITED).filter((name) => !all.has(name))).toEqual([]);
});

it("[H9] a log-in and its failure, a change of a role and a refused one are rows", async () => {
  const ann = await api.person("ann@example.com");
  const login = (password: string) => post("/v1/auth/login", undefined, { email: "ann@example.com", password });
  await login("not the password");
  const { accessToken } = (await login(PASSWORD)).body;
  expect(await rows({ action: "login", limit: 2 })).toMatchObject([
    { actor: ann.userId, via: "none", address: "127.0.0.1", outcome: "ok", target: expect.stringMatching(/^sess_/) },
    { actor: null, outcome: "invalid_credentials", target: ann.userId },
  ]);
  await post(`/v1/users/${ann.userId}/role`, admin.accessToken, { role: "operator" });
  const refused = await post(`/v1/users/${admin.userId}/role`, admin.accessToken, { role: "user" });
  expect(refused.status).toBe(409);
  expect(await rows({ action: "changeRole" })).toMatchObject([
    { actor: admin.userId, target: admin.userId, outcome: "conflict", detail: { role: "user" } },
    { actor: admin.userId, via: "session", target: ann.userId, outcome: "ok", detail: { role: "operator" } },
  ]);
  const key = { "idempotency-key": "once" };
  for (let i = 0; i < 3; i++)
    await api.call("POST", "/v1/tokens", { token: accessToken, body: { name: "ci", scopes: ["read"] }, headers: key });
  expect(await rows({ action: "createToken" })).toMatchObject([{ target: expect.stringMatching(/^tok_/) }]);
});

it("[H9] what an admin does to another's task is a row; what people do to their own is none", async () => {
  const bob = await api.person("bob@example.com");
  const submit = async () => (await post("/v1/tasks", bob.accessToken, { repo: REPO, prompt: "Do it." })).body.id;
  const [mine, theirs, killed] = [await submit(), await submit(), await submit()];
  await post(`/v1/tasks/${mine}/cancel`, bob.accessToken);
  await post(`/v1/tasks/${theirs}/cancel`, admin.accessToken);
  await post(`/v1/ops/tasks/${killed}/kill`, admin.accessToken);
  expect(await rows({ actor: bob.userId })).toEqual([]);
  expect(await rows({ action: "cancelTask" })).toMatchObject([{ actor: admin.userId, target: theirs }]);
  expect(await rows({ action: "killTask" })).toMatchObject([{ actor: admin.userId, target: killed }]);
});

it("[H9] an admin reads and checks the log; nobody else does", async () => {
  const { accessToken } = await api.person("eve@example.com", "operator");
  for (const path of ["/v1/audit", "/v1/audit/check"])
    expect((await api.call("GET", path, { token: accessToken })).status).toBe(403);
  const asked = { token: admin.accessToken };
  const first = await api.call("GET", "/v1/audit?limit=1", asked);
  const second = await api.call("GET", `/v1/audit?limit=1&cursor=${first.body.next}`, asked);
  expect(second.body.items[0].n).toBe(first.body.items[0].n - 1);
  const check = await api.call("GET", "/v1/audit/check", asked);
  expect(check.body).toMatchObject({ ok: true, fault: null, hash: first.body.items[0].hash });
});

it("[H9] refusals of strangers are bounded, and what has no row is counted", async () => {
  const { userId } = await api.person("target@example.com");
  const before = (await rows({ action: "acceptLink" })).length;
  for (let i = 0; i < 70; i++)
    await post("/v1/links/accept", undefined, { token: `lnk_${i}`, email: "x@example.com", password: PASSWORD });
  const made = (await rows({ action: "acceptLink" })).length - before;
  expect(made).toBeGreaterThan(50);
  expect(made).toBeLessThanOrEqual(60);
  await api.clock.advance(61_000);
  await post("/v1/auth/login", undefined, { email: "target@example.com", password: "wrong wrong" });
  expect(await rows({ action: "login", limit: 1 })).toMatchObject([{ target: userId, detail: { uncounted: 11 } }]);
});

it("[H9] no row contains a secret, whatever a call is sent", async () => {
  const secrets: string[] = [];
  const secret = (): string => {
    const text = `S3cret-${randomBytes(9).toString("hex")}`;
    secrets.push(text);
    return text;
  };
  const carol = await api.person("carol@example.com", "admin");
  const names = ["password", "token", "currentPassword", "newPassword", "email", "host", "name", "username", "role"];
  const others = ["scopes", "allow", "remove", "questionId", "text", "tasks", "days", "refreshToken", "kind", "mode"];
  const calls = ROUTES.filter((row) => row.operation in AUDITED && row.method === "post");
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...calls), fc.subarray([...names, ...others]), async (row, fields) => {
      const body = Object.fromEntries(fields.map((name) => [name, name === "role" ? "user" : secret()]));
      const path = row.path.replaceAll(":id", `user_${"z".repeat(26)}`).replaceAll(":mid", secret());
      await post(path, carol.accessToken, body);
    }),
    { seed: 54, numRuns: 120 },
  );
  // And calls that succeed.
  const { accessToken } = carol;
  await post("/v1/credentials", accessToken, { host: "git.example.com", kind: "token", token: secret() });
  const password = secret();
  await post("/v1/users", accessToken, { email: "dan@example.com", password, role: "user" });
  await post("/v1/auth/login", undefined, { email: "dan@example.com", password: secret() });
  const session = (await post("/v1/auth/login", undefined, { email: "dan@example.com", password })).body;
  const link = (await post("/v1/links", accessToken, { role: "user" })).body;
  const token = (await post("/v1/tokens", accessToken, { name: secret() })).body;
  secrets.push(session.accessToken, session.refreshToken, link.token, token.token, link.url);
  const file = new Database(join(api.dir, "slipway.db"), { readonly: true });
  const text = JSON.stringify(file.prepare("SELECT * FROM audit").all());
  file.close();
  expect(text).toContain("createToken");
  expect(secrets.filter((one) => text.includes(one))).toEqual([]);
  // Nor does any other table have them in clear, and a stolen file gives no session.
  const stored = ["slipway.db", "slipway.db-wal"].map((name) => readFileSync(join(api.dir, name), "latin1")).join("");
  const kept = [session.accessToken, session.refreshToken, link.token, token.token, password];
  expect(kept.filter((one) => stored.includes(one))).toEqual([]);
});
