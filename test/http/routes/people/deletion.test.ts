/** The deletion of a person over the API: what is gone, and where the person is still named. */
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import Database from "../../../../src/store/sqlite/driver.ts";
import { WORK_REF } from "../../../../src/core/ports/repositories.ts";
import { LOCAL_TOKEN, openApiServer, PASSWORD, REPO, type ApiServer } from "../../api-server.ts";

const PUSH_KEYS = { p256dh: Buffer.alloc(65, 4).toString("base64url"), auth: Buffer.alloc(16).toString("base64url") };
let api: ApiServer;
let admin: { userId: string; accessToken: string };
beforeAll(async () => {
  api = await openApiServer();
  admin = await api.person("root@example.com", "admin");
});
afterAll(() => api.close());

const post = async (token: string, path: string, body?: object) => {
  const answer = await api.call("POST", path, { token, ...(body === undefined ? {} : { body }) });
  expect(answer.status, answer.text).toBeLessThan(300);
  return answer.body;
};
const removed = () =>
  expect
    .poll(async () => {
      await api.clock.advance(1_000);
      return await api.store.personDeletions();
    })
    .toEqual([]);

/** Where a person who was deleted is still named, and why. Everything else must not name them. */
const KEPT: Readonly<Record<string, string>> = {
  "audit.actor": "rows of the audit log are a chain and cannot be changed; they name people by id",
  "audit.target": "the same",
  "task_events.data": "logs of tasks of others say who said what (S15), by id",
  "task_specs.spec": "tasks of others that the person began as an admin say so (H12), by id",
};

/** `table.column` of each value in the database that contains one of the words. */
function findRows(words: readonly string[]): Set<string> {
  const db = new Database(join(api.dir, "slipway.db"), { readonly: true });
  const found = new Set<string>();
  const tables = db.prepare<[], string>("SELECT name FROM sqlite_schema WHERE type = 'table'").pluck().all();
  expect(tables.length).toBeGreaterThan(20);
  for (const table of tables)
    for (const { name } of db.prepare<[], { name: string }>(`SELECT name FROM pragma_table_info('${table}')`).all())
      for (const word of words)
        if (db.prepare(`SELECT 1 FROM "${table}" WHERE instr(CAST("${name}" AS TEXT), ?) > 0`).get(word) !== undefined)
          found.add(`${table}.${name}`);
  db.close();
  return found;
}

/** Files that contain one of the words, in their path or their content; without the database. */
function findFiles(words: readonly string[]): string[] {
  return [api.dir, api.harness.dir].flatMap((root) =>
    readdirSync(root, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && !entry.name.startsWith("slipway.db"))
      .map((entry) => join(entry.parentPath, entry.name))
      .filter((path) => words.some((word) => path.includes(word) || readFileSync(path).includes(word)))
      .map((path) => relative(root, path)),
  );
}

async function done(token: string, prompt: string): Promise<string> {
  const { id } = await post(token, "/v1/tasks", { repo: REPO, prompt });
  await api.harness.untilWorker(id);
  const work = (
    ...events: Parameters<typeof api.harness.fakeWorkers.send> extends [unknown, unknown, ...infer R] ? R : never
  ) => api.harness.fakeWorkers.send(api.harness.coordinator.workerApi, id, ...events);
  await work(["ready", {}]);
  const sha = await api.harness.repos.commit(id, WORK_REF, `work of ${id}`);
  await work(["finished", { sha, title: "", summary: "" }]);
  await api.harness.until(id, "done");
  return id;
}

/** A person, an admin once, who used everything that there is. */
async function everything(email: string) {
  // Before there is the account: nobody used it.
  await post(admin.accessToken, "/v1/links", { role: "user", email });
  const person = await api.person(email, "admin");
  const { userId, accessToken: token } = person;
  const theirs = await post(admin.accessToken, "/v1/tasks", { repo: REPO, prompt: "Of somebody else." });
  await post(token, "/v1/tokens", { name: "ci" });
  await post(token, "/v1/credentials", { host: "git.example.com", kind: "token", token: "secret" });
  await post(token, "/v1/variables", { repo: REPO, name: "FLAVOUR", value: "sweet and sour" });
  await post(token, "/v1/me/commit-identity", { name: "Ann", email, as: "author" });
  await post(token, `/v1/users/${userId}/quotas`, { tasksPerDay: 900 });
  await post(token, "/v1/links", { role: "user" });
  const key = { "idempotency-key": "once" };
  await api.call("POST", "/v1/tokens", { token, body: { name: "kept" }, headers: key });
  const identity = { userId, issuer: "https://id.example", subject: email, name: email, createdAt: 0 };
  await api.accounts.createIdentity({ id: `idn_${"0".repeat(26)}`, ...identity, lastUsedAt: null });
  const passkey = {
    userId,
    credentialId: userId,
    publicKey: "key",
    counter: 0,
    transports: [],
    rpId: "a",
    name: email,
  };
  await api.accounts.createPasskey({ id: `pky_${"0".repeat(26)}`, ...passkey, createdAt: 0, lastUsedAt: null });
  const push = { endpoint: `https://push.example.com/${userId}`, keys: PUSH_KEYS, label: "Phone", kinds: [] };
  await post(token, "/v1/push/devices", push);
  const [unused, given, own] = await Promise.all(
    ["unused", "given", "own"].map(async (name) => {
      const path = `/v1/attachments?name=${name}.txt`;
      return (await api.call("POST", path, { token, raw: `${name} ${name}` })).body.id as string;
    }),
  );
  await post(token, `/v1/tasks/${theirs.id}/messages`, { text: "Look.", attachments: [given] });
  await post(token, `/v1/tasks/${theirs.id}/cancel`);
  await api.harness.until(theirs.id, "cancelled");
  const retried = await post(token, `/v1/tasks/${theirs.id}/retry`, {});
  const finished = await done(token, "Mine.");
  const deleted = await done(token, "Gone.");
  for (const id of [finished, deleted])
    expect((await post(token, `/v1/tasks/${id}/read`, { seq: 9_000 })).readSeq).toBeGreaterThan(1);
  await api.call("DELETE", `/v1/tasks/${deleted}`, { token });
  const { id: open } = await post(token, "/v1/tasks", { repo: REPO, prompt: `For ${email}.`, attachments: [own] });
  const usage = { id: "req_1", taskId: finished, userId, attempt: 1, at: api.clock.now(), model: "m", usd: 3 };
  const tokens = { inputTokens: 1, outputTokens: 1, cacheReadTokens: 0, cacheWriteTokens: 0 };
  return {
    ...person,
    usage: { ...usage, ...tokens, estimated: false },
    theirs,
    retried,
    open,
    finished,
    unused,
    given,
  };
}

it("[R9] after a deletion, no table and no file names the person but those of a list that says why", async () => {
  const email = "ann@example.com";
  const ann = await everything(email);
  await api.ledger.record(ann.usage);
  const before = await api.ledger.spentSince(0, null);
  expect(await api.harness.repos.hasMirror(ann.userId, REPO)).toBe(true);
  expect(before.usd).toBe(3);
  const asked = { token: ann.accessToken };
  const refused = await api.call("DELETE", "/v1/me", asked);
  expect([refused.status, refused.body.code, refused.body.detail]).toEqual([
    409,
    "task_open",
    "One task is open. Send tasks=cancel to cancel them, or wait for their end.",
  ]);
  expect((await api.call("DELETE", "/v1/me?tasks=cancel", asked)).status).toBe(204);
  expect((await api.call("GET", "/v1/tasks", asked)).status).toBe(401);
  expect((await api.call("POST", "/v1/auth/refresh", { body: { refreshToken: ann.refreshToken } })).status).toBe(401);
  await removed();

  expect([...findRows([ann.userId, email])].filter((place) => !(place in KEPT))).toEqual([]);
  expect([...findRows([email])]).toEqual([]);
  expect(findFiles([ann.userId, email])).toEqual([]);
  expect(await api.harness.repos.hasMirror(ann.userId, REPO)).toBe(false);
  const look = { token: admin.accessToken };
  for (const id of [ann.open, ann.finished]) expect((await api.call("GET", `/v1/tasks/${id}`, look)).status).toBe(404);
  // The books are whole, and what was given to others stays with them.
  expect(await api.ledger.spentSince(0, null)).toEqual(before);
  expect((await api.ledger.spentBy(ann.finished)).usd).toBe(3);
  expect(await api.harness.attachments.find(ann.unused!)).toBeNull();
  expect(await api.harness.attachments.isGiven(ann.given!, ann.theirs.id)).toBe(true);
  expect((await api.call("GET", `/v1/tasks/${ann.retried.id}`, look)).body.submittedBy).toMatchObject({ email: null });
  expect((await api.audit.rows({ action: "deleteMe", limit: 9 }))[0]).toMatchObject({
    actor: ann.userId,
    target: ann.userId,
    outcome: "ok",
    detail: { tasks: "cancel" },
  });
  expect((await api.call("GET", "/v1/audit/check", look)).body).toMatchObject({ ok: true });
  // The address is free, and what its new owner has is their own.
  expect((await api.call("GET", "/v1/tasks", { token: (await api.person(email)).accessToken })).body.items).toEqual([]);
});

it("[R9] each place where people may still be named is one that does name them", async () => {
  const named = findRows((await api.audit.rows({ action: "deleteMe", limit: 1 })).map(({ actor }) => actor ?? ""));
  expect(new Set(Object.keys(KEPT))).toEqual(named);
});

it("[R9] an admin deletes a person; never the last admin, and not themselves without a fresh log-in", async () => {
  const ben = await api.person("ben@example.com");
  const by = { token: admin.accessToken };
  expect((await api.call("DELETE", `/v1/users/${ben.userId}`, by)).status).toBe(204);
  expect((await api.call("DELETE", `/v1/users/${ben.userId}`, by)).status).toBe(404);
  expect(await api.audit.rows({ action: "deleteUser", target: ben.userId, limit: 9 })).toMatchObject([
    { outcome: "not_found" },
    { actor: admin.userId, outcome: "ok" },
  ]);
  const admins = (await api.accounts.users()).filter(({ role, id }) => role === "admin" && id !== admin.userId);
  for (const { id } of admins) await api.accounts.changeUser(id, { role: "user" });
  const last = await api.call("DELETE", `/v1/users/${admin.userId}`, { token: LOCAL_TOKEN });
  expect([last.status, last.body.code]).toEqual([409, "conflict"]);
  await api.person("next@example.com", "admin");
  await api.clock.advance(11 * 60_000);
  const { accessToken } = await api.sessions.refresh(
    (await api.sessions.login("root@example.com", PASSWORD)).refreshToken,
  );
  await api.clock.advance(9 * 60_000 + 120_000);
  for (const path of ["/v1/me", `/v1/users/${admin.userId}`]) {
    const stale = await api.call("DELETE", path, { token: accessToken });
    expect([401, 403]).toContain(stale.status);
  }
  expect(await api.accounts.user(admin.userId)).not.toBeNull();
});

it("[R9] what a call that was under way writes after the end goes too", async () => {
  const eve = await api.person("eve@example.com");
  await api.call("DELETE", "/v1/me", { token: eve.accessToken });
  await removed();
  const late = await api.harness.submit({}, { userId: eve.userId, role: "user" });
  await api.store.setSetting(`git_identity.${eve.userId}`, "{}");
  await expect
    .poll(async () => {
      await api.clock.advance(30_000);
      return [await api.store.task(late.id), await api.store.setting(`git_identity.${eve.userId}`)];
    })
    .toEqual([null, null]);
});
