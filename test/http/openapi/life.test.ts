/**
 * What a real server records and sends, against the document that it serves: a generated life with
 * a real worker and the scripted agent.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { WebSocket } from "ws";
import { EVENT_TYPES } from "../../../src/core/event.ts";
import type { WireEvent } from "../../../src/core/protocol/events.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { compileComponents, type OpenapiDocument } from "./validators.ts";
import { startGitServer } from "../../support/git-server.ts";
import { eventually, startServer, type RealServer } from "../../support/process/server.ts";

const SCRIPT = [
  { say: "I begin." },
  { todo: [{ text: "Write", status: "in_progress" }] },
  { bash: "echo one; echo two >&2; exit 3" },
  { write: { path: "a.txt", content: "one\n" } },
  { read: "a.txt" },
  { edit: { path: "a.txt", old: "one", new: "two" } },
  { commit: "Half of it" },
  { usage: { inputTokens: 10, usd: 0.01, turns: 1 } },
  { ask: { question: "Which colour?", options: ["red", "blue"] } },
  { todo: [{ text: "Write", status: "completed" }] },
  { finish: { title: "It is done", summary: "**All** of it." } },
];

const dir = mkdtempSync(join(tmpdir(), "slipway-wire-"));
const frames: unknown[] = [];
let upstream: Awaited<ReturnType<typeof startGitServer>>;
let server: RealServer;
let validate: ReturnType<typeof compileComponents>;
let repo = "";

beforeAll(async () => {
  upstream = await startGitServer();
  repo = upstream.createRepo("app", { "README.md": "# App\n" }).url;
  server = await startServer({ dataDir: join(dir, "data"), env: { SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host } });
  validate = compileComponents((await server.call("GET", "/openapi.json")).body as OpenapiDocument);
});

afterAll(async () => {
  await server.kill("SIGTERM");
  await upstream.close();
  rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
});

async function submit(order: object): Promise<string> {
  const { status, body } = await server.call("POST", "/v1/tasks", { repo, prompt: "Work.", ...order });
  expect(status, JSON.stringify(body)).toBe(201);
  return (body as WireTask).id;
}

const until = (id: string, is: (task: WireTask) => boolean, what: string): Promise<WireTask> =>
  eventually(async () => {
    const task = await server.task(id);
    return is(task) ? task : null;
  }, what);

function openStream(topics: readonly string[]): WebSocket {
  const socket = new WebSocket(`${server.url.replace("http", "ws")}/v1/stream`, "slipway.v1", {
    headers: { authorization: `Bearer ${server.token}` },
  });
  socket.on("message", (data: Buffer) => {
    const frame = JSON.parse(data.toString()) as { type: string };
    frames.push(frame);
    if (frame.type === "ready")
      for (const topic of topics) socket.send(JSON.stringify({ type: "subscribe", topic, after: null }));
  });
  return socket;
}

/** A task that asks, is sent messages, is answered and pushes. */
async function live(): Promise<string> {
  const id = await submit({ script: SCRIPT, verify: ["test -f a.txt", "exit 4"] });
  const socket = openStream([`task:${id}`, "tasks:all", "task:unknown"]);
  const asking = await until(id, ({ question }) => question !== null, "the question");
  const send = (text: string) => server.call("POST", `/v1/tasks/${id}/messages`, { text, mode: "follow_up" });
  const taken = (await send("Never mind.")).body as { id: string };
  await server.call("DELETE", `/v1/tasks/${id}/messages/${taken.id}`);
  await send("Be quick.");
  await server.call("POST", `/v1/tasks/${id}/answer`, { questionId: asking.question?.id, text: "blue" });
  await until(id, ({ settledAt }) => settledAt !== null, "the end");
  await expect.poll(() => JSON.stringify(frames)).toContain('"to":"done"');
  socket.close();
  return id;
}

it("[V1] every event of a real life has the form that the document describes for its type", async () => {
  const done = await live();
  const failed = await submit({ script: [{ fail: { code: "agent_stuck", message: "It goes in circles." } }] });
  await until(failed, ({ settledAt }) => settledAt !== null, "the failure");
  const stopped = await submit({ script: [{ hang: true }] });
  await until(stopped, ({ state }) => state === "running", "the start");
  await server.call("POST", `/v1/tasks/${stopped}/cancel`);
  await until(stopped, ({ settledAt }) => settledAt !== null, "the stop");

  const tasks = await Promise.all([done, failed, stopped].map((id) => server.task(id)));
  expect(tasks.map(({ state }) => state)).toEqual(["done", "failed", "cancelled"]);
  const events: WireEvent[] = [];
  for (const { id } of tasks) events.push(...(await server.events(id)));
  for (const event of events) expect(validate("Event", event), JSON.stringify(event)).toEqual([]);
  const seen = new Set(events.map(({ type }) => type));
  expect(EVENT_TYPES.filter((type) => !seen.has(type))).toEqual(["pull_request"]);
  for (const task of tasks) expect(validate("Task", task), JSON.stringify(task)).toEqual([]);
});

it("[V1] so has every frame of its stream, and every entry of its lists", async () => {
  expect(frames.length).toBeGreaterThan(5);
  for (const frame of frames) expect(validate("StreamServerFrame", frame), JSON.stringify(frame)).toEqual([]);
  // Deltas may be dropped.
  expect(frames.map((frame) => (frame as { type: string }).type)).toEqual(
    expect.arrayContaining(["ready", "subscribed", "events", "error"]),
  );
  const { items: tasks } = (await server.call("GET", "/v1/tasks")).body as { items: WireTask[] };
  const { id = "" } = tasks.find(({ state }) => state === "done") ?? {};
  const lists = { Message: "messages", ToolCall: "tool-calls", Attempt: "attempts" };
  for (const [name, path] of Object.entries(lists)) {
    const { items } = (await server.call("GET", `/v1/tasks/${id}/${path}`)).body as { items: unknown[] };
    expect(items.length, name).toBeGreaterThan(0);
    for (const item of items) expect(validate(name, item), JSON.stringify(item)).toEqual([]);
  }
  expect(validate("Diff", (await server.call("GET", `/v1/tasks/${id}/diff`)).body)).toEqual([]);
  expect(validate("Machine", (await server.call("GET", `/v1/tasks/${id}/machine`)).body)).toEqual([]);
});

it("[V1] a value of another form is not accepted", () => {
  const event = { taskId: "t", seq: 1, at: "2026-01-01T00:00:00Z", attempt: 1, from: "running", to: "running" };
  expect(validate("Event", { ...event, type: "push", data: { branch: "b" } })).not.toEqual([]);
  expect(validate("Event", { ...event, type: "push", data: { branch: "b", sha: "c", more: 1 } })).toEqual([]);
  expect(validate("Event", { ...event, type: "unheard", data: {} })).not.toEqual([]);
});
