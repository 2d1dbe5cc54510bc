/**
 * Rows that this version cannot read, planted in every stored kind: they are set aside, and the
 * installation goes on.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runDoctor } from "../../src/app/checker/doctor.ts";
import { readConfig } from "../../src/app/config.ts";
import { serve, type RunningServer } from "../../src/app/serve.ts";
import type { WireEvent } from "../../src/core/protocol/events.ts";
import type { Overview, WireTask } from "../../src/core/protocol/rest.ts";
import Database from "../../src/store/sqlite/driver.ts";
import { startGitServer } from "../support/git-server.ts";
import { injure } from "./checker/healthy-folder.ts";

const LOG = { debug: ignore, info: ignore, warn: ignore, error: ignore };
function ignore(): void {}

/** Planted in a task of its own: statements with ? for its id. */
const ASIDE = {
  "a damaged snapshot": ["UPDATE tasks SET snapshot = '{' WHERE id = ?"],
  "a snapshot that is no object": ["UPDATE tasks SET snapshot = 'null' WHERE id = ?"],
  "an unknown machine version": ["UPDATE tasks SET machine_version = 99 WHERE id = ?"],
  "an unknown state": [`UPDATE tasks SET snapshot = json_set(snapshot, '$.value', 'dreaming') WHERE id = ?`],
  "a context without fields": [`UPDATE tasks SET snapshot = json_set(snapshot, '$.context', json('{}')) WHERE id = ?`],
  "a damaged specification": ["UPDATE task_specs SET spec = '{' WHERE task_id = ?"],
  "a specification without fields": ["UPDATE task_specs SET spec = '{}' WHERE task_id = ?"],
  "no specification": ["DELETE FROM task_specs WHERE task_id = ?"],
  "a slot and a deadline that passed": [
    "UPDATE tasks SET state = 'running', slot = 1, due_at = 1, snapshot = '{' WHERE id = ?",
  ],
} as const;
type Kind = keyof typeof ASIDE;
const KINDS = Object.keys(ASIDE) as Kind[];

/** A queued task with rows in its lists that cannot be read. */
const LISTS = [
  "UPDATE task_events SET data = '{' WHERE task_id = ? AND seq = 2",
  "UPDATE messages SET content = '[' WHERE task_id = ?",
  `INSERT INTO tool_calls (task_id, seq, attempt, id, name, input, started_at, truncated)
   VALUES (?, 2, 1, 'call_1', 'bash', '{', 1, 0)`,
  "UPDATE tasks SET todo = '{', changes = '[', activity = 'no JSON' WHERE id = ?",
];

let root = "";
let upstream: Awaited<ReturnType<typeof startGitServer>>;
let server: RunningServer;
const planted = {} as Record<Kind, string>;
let listed = "";
let healthy = "";

const config = () =>
  readConfig({
    SLIPWAY_DATA_DIR: join(root, "data"),
    SLIPWAY_PORT: "0",
    SLIPWAY_SANDBOX: "simulated",
    SLIPWAY_MAX_CONCURRENT: "1",
    SLIPWAY_USER_LIMIT: "1",
    SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host,
  });

async function call<T>(method: string, path: string, body?: unknown): Promise<{ status: number; body: T }> {
  const token = readFileSync(join(root, "data", "operator.token"), "utf8").trim();
  const response = await fetch(server.url + path, {
    method,
    headers: {
      authorization: `Bearer ${token}`,
      ...(body === undefined ? {} : { "content-type": "application/json" }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: response.status, body: (await response.json()) as T };
}

async function submit(repo: string): Promise<string> {
  const script = [{ bash: "echo one > one.txt" }, { finish: { title: "One", summary: "One." } }];
  const { body } = await call<WireTask>("POST", "/v1/tasks", { repo, prompt: "Do it.", agent: "scripted", script });
  return body.id;
}

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "slipway-aside-"));
  upstream = await startGitServer();
  const { url: repo } = upstream.createRepo("app");
  server = await serve(config(), { log: LOG });
  await call("POST", "/v1/ops/queue/pause");
  for (const kind of KINDS) planted[kind] = await submit(repo);
  listed = await submit(repo);
  await call("POST", `/v1/tasks/${listed}/messages`, { text: "Mind the gap." });
  healthy = await submit(repo);
  await server.close();
  injure(join(root, "data"), (db) => {
    const run = (sql: string, id: string): void => void db.prepare(sql.replaceAll("?", `'${id}'`)).run();
    for (const kind of KINDS) for (const sql of ASIDE[kind]) run(sql, planted[kind]);
    for (const sql of LISTS) run(sql, listed);
    db.exec(`INSERT INTO settings (key, value) VALUES ('egress.hosts', '['), ('slots.max', 'many')
      ON CONFLICT DO UPDATE SET value = excluded.value`);
  });
  server = await serve(config(), { log: LOG });
});

afterAll(async () => {
  await server.close();
  await upstream.close();
  rmSync(root, { recursive: true, force: true, maxRetries: 5 });
});

const rows = () => {
  const db = new Database(join(root, "data", "slipway.db"), { readonly: true });
  try {
    return db.prepare("SELECT id, seq, state, slot, machine_version, snapshot FROM tasks ORDER BY id").all();
  } finally {
    db.close();
  }
};

describe("[M11] a row that this version cannot read", () => {
  it.each(KINDS)("%s: the task is shown as set aside, and nothing changes it", async (kind) => {
    const { status, body } = await call<WireTask>("GET", `/v1/tasks/${planted[kind]}`);
    expect([status, body.state, body.failure?.code]).toEqual([200, "failed", "set_aside"]);
    expect(body.failure?.message).toMatch(/\.$/);
    expect(await call("POST", `/v1/tasks/${planted[kind]}/cancel`, {})).toMatchObject({
      status: 409,
      body: { code: "task_settled" },
    });
  });

  it("lists, the overview and readiness go on, and say which tasks they are", async () => {
    const { body } = await call<{ items: WireTask[] }>("GET", "/v1/tasks");
    expect(body.items.map(({ id }) => id).toSorted()).toEqual([...Object.values(planted), listed, healthy].toSorted());
    const overview = (await call<Overview>("GET", "/v1/ops/overview")).body;
    const stuck = overview.stuck.filter(({ reason }) => reason.startsWith("set aside: "));
    expect(stuck.map(({ id }) => id).toSorted()).toEqual(Object.values(planted).toSorted());
    expect(overview.slots.used).toBe(0);
    await expect
      .poll(async () => (await call<{ incomplete?: string[] }>("GET", "/readyz")).body)
      .toEqual({ status: "ready", incomplete: ["set_aside"] });
  });

  it("an event, a message, a tool call or a progress that cannot be read says so in its place", async () => {
    const events = (await call<{ items: WireEvent[] }>("GET", `/v1/tasks/${listed}/events`)).body.items;
    expect(events.map(({ seq }) => seq)).toEqual(events.map((_event, i) => i + 1));
    expect(events[1]).toMatchObject({ type: "notice", data: { level: "warn", code: "unreadable" } });
    const messages = (await call<{ items: object[] }>("GET", `/v1/tasks/${listed}/messages`)).body.items;
    expect(messages).toMatchObject([{ content: [{ type: "text", text: "This message cannot be read." }] }]);
    const calls = (await call<{ items: object[] }>("GET", `/v1/tasks/${listed}/tool-calls`)).body.items;
    expect(calls).toMatchObject([{ id: "call_1", input: {} }]);
    const { body } = await call<WireTask>("GET", `/v1/tasks/${listed}`);
    expect(body).toMatchObject({ state: "queued", todo: null, changes: null, activity: null });
  });

  it("a damaged list of endpoints permits nothing", async () => {
    expect((await call("GET", "/v1/ops/egress")).body).toMatchObject({ hosts: [], shipped: false });
  });

  it("is passed over by the queue, and a retry begins where its specification is whole", async () => {
    expect((await call("POST", `/v1/tasks/${planted["a damaged specification"]}/retry`, {})).body).toMatchObject({
      code: "expired",
    });
    const retry = (await call<WireTask>("POST", `/v1/tasks/${planted["a damaged snapshot"]}/retry`, {})).body;
    const before = rows().filter((row) => Object.values(planted).includes((row as { id: string }).id));
    await call("POST", "/v1/ops/queue/resume");
    for (const id of [healthy, listed, retry.id])
      await expect.poll(async () => (await call<WireTask>("GET", `/v1/tasks/${id}`)).body.state).toBe("done");
    expect(rows().filter((row) => Object.values(planted).includes((row as { id: string }).id))).toEqual(before);
  });

  it("is named by doctor, and repaired where the log has it", async () => {
    const checks = await runDoctor({ config: config() });
    expect(checks.find(({ rule }) => rule === "server")).toMatchObject({
      ok: false,
      detail: expect.stringContaining("set_aside: 9 tasks cannot be read by this version"),
    });
    const findings = checks.flatMap((check) => check.findings ?? []);
    for (const kind of KINDS)
      expect(
        findings.map(({ taskId }) => taskId),
        kind,
      ).toContain(planted[kind]);
    await server.close();
    await runDoctor({ config: config(), repair: true });
    server = await serve(config(), { log: LOG });
    const state = async (kind: Kind): Promise<string | undefined> =>
      (await call<WireTask>("GET", `/v1/tasks/${planted[kind]}`)).body.failure?.code;
    const left: Kind[] = [];
    for (const kind of KINDS) if ((await state(kind)) === "set_aside") left.push(kind);
    expect(left).toEqual([
      "an unknown machine version",
      "a damaged specification",
      "a specification without fields",
      "no specification",
    ]);
  });
});
