/** Answers that are kept for requests that are sent again (rule R5), on a real database. */
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openVault } from "../../src/auth/vault.ts";
import { Replies, type KeyedRequest } from "../../src/http/replies.ts";
import type { RouteReply } from "../../src/http/route.ts";
import Database from "../../src/store/sqlite/driver.ts";
import { openSqliteStore, type SqliteStore } from "../../src/store/sqlite/store.ts";
import { quiet } from "../support/coordinator/harness.ts";
import { createManualClock } from "../support/manual-clock.ts";
import { LOCAL_TOKEN, openApiServer, PASSWORD, REPO, type ApiServer } from "./api-server.ts";

const HOUR = 3_600_000;
const clock = createManualClock();
const vault = openVault(randomBytes(32));
let dir: string;
let opened: SqliteStore;
let calls = 0;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "slipway-replies-"));
  opened = openSqliteStore({ dir, migrations: join(import.meta.dirname, "../../migrations/sqlite") });
  calls = 0;
});
afterEach(async () => {
  await opened.store.close();
  rmSync(dir, { recursive: true, force: true });
});

const open = (): Replies => new Replies({ accounts: opened.accounts, vault, clock, log: quiet });
const request = (more: Partial<KeyedRequest> = {}): KeyedRequest => ({
  userId: "user_a",
  endpoint: "POST /v1/things",
  key: "k",
  body: { name: "thing", password: "hunter2 hunter2" },
  ...more,
});
const handle = async (): Promise<RouteReply> => {
  calls += 1;
  return { status: 201, body: { n: calls, token: "slp_secret" }, headers: { Location: `/v1/things/${calls}` } };
};

describe("a kept answer", () => {
  it("[R5] is given again by another process on the same data, per user, endpoint and key", async () => {
    const first = await open().run(request(), "store", handle);
    const after = open();
    expect(await after.run(request(), "store", handle)).toEqual(first);
    expect(calls).toBe(1);
    for (const other of [{ userId: "user_b" }, { endpoint: "POST /v1/others" }, { key: "k2" }])
      await after.run(request(other), "store", handle);
    expect(calls).toBe(4);
    await expect(after.run(request({ body: {} }), "store", handle)).rejects.toMatchObject({
      code: "idempotency_mismatch",
    });
  });

  it("[S1] is in no table in clear, nor is a digest of the body", async () => {
    await open().run(request(), "store", handle);
    const db = new Database(join(dir, "slipway.db"), { readonly: true });
    const rows = db.prepare<[], Record<string, unknown>>("SELECT * FROM replies").all();
    db.close();
    expect(rows).toHaveLength(1);
    expect(Object.keys(rows[0] ?? {}).toSorted()).toEqual(["at", "endpoint", "key", "sealed", "user_id"]);
    expect(JSON.stringify(rows)).not.toMatch(/slp_secret|hunter2/);
  });

  it("expires after a day, and of one user the newest 500 stay", async () => {
    const replies = open();
    await replies.run(request(), "store", handle);
    await clock.jump(25 * HOUR);
    await replies.run(request(), "store", handle);
    expect(calls).toBe(2);
    for (let n = 0; n < 500; n++) {
      await clock.jump(1);
      await replies.run(request({ key: `more-${n}` }), "store", handle);
    }
    expect(await opened.accounts.reply(request())).toBeNull();
    expect(await opened.accounts.reply(request({ key: "more-0" }))).not.toBeNull();
  });

  it("is not made of an error, which everyone who waits gets; nor of what another key sealed", async () => {
    const replies = open();
    const fail = async (): Promise<RouteReply> => {
      calls += 1;
      throw new Error(`failure ${calls}`);
    };
    const failed = await Promise.allSettled([
      replies.run(request(), "store", fail),
      replies.run(request(), "store", fail),
    ]);
    expect(failed.map((end) => (end.status === "rejected" ? String(end.reason) : ""))).toEqual([
      "Error: failure 1",
      "Error: failure 1",
    ]);
    await replies.run(request(), "store", handle);
    expect(calls).toBe(2);
    const other = new Replies({ accounts: opened.accounts, vault: openVault(randomBytes(32)), clock, log: quiet });
    await other.run(request(), "store", handle);
    expect(calls).toBe(3);
  });

  it("of a short-lived answer is in memory, and bounded", async () => {
    const replies = open();
    const inMemory = { memoryMs: 30_000 };
    await replies.run(request(), inMemory, handle);
    await replies.run(request(), inMemory, handle);
    expect(calls).toBe(1);
    await open().run(request(), inMemory, handle);
    for (let n = 0; n < 1_000; n++) await replies.run(request({ key: `k-${n}` }), inMemory, handle);
    await replies.run(request(), inMemory, handle);
    expect(calls).toBe(1_003);
    await clock.jump(30_000);
    await replies.run(request(), inMemory, handle);
    expect(calls).toBe(1_004);
    expect(await opened.accounts.reply(request())).toBeNull();
  });
});

describe("an answer that was lost with the process, after the effect", () => {
  let api: ApiServer;
  beforeEach(async () => {
    // No answer is kept, as after a kill between the two commits.
    const none = { reply: () => Promise.resolve(null), putReply: () => Promise.reject(new Error("killed")) };
    api = await openApiServer({ wrapAccounts: (accounts) => ({ ...accounts, ...none }) });
  });
  afterEach(() => api.close());
  const post = (path: string, body: object = {}) =>
    api.call("POST", path, { token: LOCAL_TOKEN, body, headers: { "idempotency-key": "again" } });
  const items = async (path: string) => (await api.call("GET", path, { token: LOCAL_TOKEN })).body.items;

  it("[R5] a cancel is repeated after the end, an answer after the question: both are what they were", async () => {
    const { id } = (await post("/v1/tasks", { repo: REPO, prompt: "Do it." })).body;
    await api.harness.untilWorker(id);
    await api.harness.fakeWorkers.send(
      api.harness.coordinator.workerApi,
      id,
      ["ready", {}],
      ["question", { id: "q1", question: "Tabs?", options: null }],
    );
    const answer = { questionId: "q1", text: "yes" };
    expect((await post(`/v1/tasks/${id}/answer`, answer)).status).toBe(200);
    expect((await post(`/v1/tasks/${id}/answer`, answer)).status).toBe(200);
    expect((await post(`/v1/tasks/${id}/cancel`)).status).toBe(202);
    await api.clock.advance(60_000);
    await api.harness.until(id, "cancelled");
    expect((await post(`/v1/tasks/${id}/cancel`)).body).toMatchObject({ id, state: "cancelled" });
    const other = await api.call("POST", `/v1/tasks/${id}/cancel`, { token: LOCAL_TOKEN, body: {} });
    expect(other.body.code).toBe("task_settled");
    const types = (await items(`/v1/tasks/${id}/events`)).map(({ type }: { type: string }) => type);
    expect(types.filter((type: string) => type === "answer")).toHaveLength(1);
  });

  it("[R5] a user and a token exist once, and the token that was answered last works", async () => {
    const body = { email: "new@example.com", password: PASSWORD, role: "user" };
    const made = await post("/v1/users", body);
    expect((await post("/v1/users", body)).body).toEqual(made.body);
    expect((await post("/v1/users", { ...body, role: "operator" })).body.code).toBe("conflict");
    const lost = await post("/v1/tokens", { name: "ci" });
    const token = await post("/v1/tokens", { name: "ci" });
    expect(token.body.id).toBe(lost.body.id);
    expect(await items("/v1/tokens")).toHaveLength(1);
    expect((await api.call("GET", "/v1/me", { token: token.body.token })).status).toBe(200);
    expect((await api.call("GET", "/v1/me", { token: lost.body.token })).status).toBe(401);
    // It is in use: the same key makes another one.
    expect((await post("/v1/tokens", { name: "ci" })).body.id).not.toBe(token.body.id);
  });
});
