/**
 * The worker protocol on the wire: what a worker written from docs/protocol.md alone may rely
 * on.
 */
import { request as httpRequest } from "node:http";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { openBroker } from "../../src/broker/server.ts";
import { workerSpecSchema } from "../../src/core/protocol/worker.ts";
import { MemoryWorkerApi } from "../worker/memory-worker-api.ts";
import { quiet, SECRET } from "../worker/rig.ts";
import type { Broker, BrokerEndpoint } from "../../src/core/ports/broker.ts";

let dir: string;
let workerApi: MemoryWorkerApi;
let broker: Broker;
let endpoint: BrokerEndpoint;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "sw-link-"));
  workerApi = new MemoryWorkerApi();
  const options = { dir, workerApi, repoPath: () => dir, secrets: () => [SECRET], instance: "test", log: quiet };
  broker = openBroker({ ...options, serveGit: async ({ response }) => void response.end() });
  endpoint = await broker.open(workerApi.taskId, 1);
});
afterEach(async () => {
  await broker.close();
  rmSync(dir, { recursive: true, force: true });
});

async function call(
  method: string,
  path: string,
  body?: unknown,
  signal?: AbortSignal,
): Promise<{ status: number; body: Record<string, unknown> }> {
  return await new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${endpoint.token}`, "content-type": "application/json" };
    const options = { socketPath: join(endpoint.socketDir, "b.sock"), method, path, headers, agent: false as const };
    const request = httpRequest(signal === undefined ? options : { ...options, signal }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
      response.on("end", () =>
        resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) as Record<string, unknown> }),
      );
    });
    request.on("error", reject);
    request.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

const notice = (seq: number): object => ({
  seq,
  at: new Date(0).toISOString(),
  type: "notice",
  data: { level: "info", code: "n", text: String(seq) },
});
const post = async (events: object[], attempt = 1) => await call("POST", "/worker/v1/events", { attempt, events });

it("the spec matches its schema", async () => {
  const { status, body } = await call("GET", "/worker/v1/spec");
  expect(status).toBe(200);
  expect(workerSpecSchema.parse(body).taskId).toBe(workerApi.taskId);
});

it("[W1] a batch that is sent again, whole or in part, changes nothing", async () => {
  expect(await post([notice(1), notice(2)])).toEqual({ status: 200, body: { ack: 2, commands: false } });
  expect(await post([notice(1), notice(2)])).toEqual({ status: 200, body: { ack: 2, commands: false } });
  expect(await post([notice(2), notice(3)])).toEqual({ status: 200, body: { ack: 3, commands: false } });
  expect(workerApi.events.map((event) => event.seq)).toEqual([1, 2, 3]);
});

it("a sequence gap is 409 with the last accepted number, and no event is stored", async () => {
  await post([notice(1)]);
  const { status, body } = await post([notice(3), notice(4)]);
  expect([status, body["ack"], body["code"]]).toEqual([409, 1, "sequence_gap"]);
  expect(workerApi.events).toHaveLength(1);
});

it("an empty batch is a sign of life, with deltas or without", async () => {
  expect((await post([])).body).toEqual({ ack: 0, commands: false });
  const { status } = await call("POST", "/worker/v1/events", {
    attempt: 1,
    events: [],
    deltas: [{ messageId: "m", text: "hel" }],
  });
  expect(status).toBe(200);
  expect(workerApi.deltas).toEqual([{ messageId: "m", text: "hel", after: 0 }]);
});

it("[W3] every call of an ended attempt is 410", async () => {
  expect((await post([notice(1)], 2)).status).toBe(410);
  workerApi.next();
  for (const reply of [
    await post([notice(1)]),
    await call("GET", "/worker/v1/spec"),
    await call("GET", "/worker/v1/commands?after=0&wait=0"),
  ]) {
    expect([reply.status, reply.body["code"]]).toEqual([410, "stale_attempt"]);
  }
  // The endpoint of an old attempt does not lead to the new one.
  expect((await post([notice(1)], 2)).status).toBe(410);
  expect(workerApi.events).toEqual([]);
});

it("a poll waits for commands and returns only those after the cursor", async () => {
  expect((await call("GET", "/worker/v1/commands")).body).toEqual({ commands: [] });
  const waiting = call("GET", "/worker/v1/commands?after=0&wait=25");
  setTimeout(() => workerApi.command({ type: "cancel", graceMs: 5 }), 50);
  expect((await waiting).body).toEqual({ commands: [{ id: 1, type: "cancel", graceMs: 5 }] });
  expect((await call("GET", "/worker/v1/commands?after=1&wait=0")).body).toEqual({ commands: [] });
});

it("a poll ends when its caller disconnects", async () => {
  let ended = false;
  const commands = workerApi.commands.bind(workerApi);
  workerApi.commands = async (...args) => {
    try {
      return await commands(...args);
    } finally {
      ended = true;
    }
  };
  await expect(
    call("GET", "/worker/v1/commands?after=0&wait=25", undefined, AbortSignal.timeout(200)),
  ).rejects.toThrow();
  await workerApi.until(() => ended);
});

it("data that does not match its event type is 400, and names the field", async () => {
  const { status, body } = await call("POST", "/worker/v1/events", { attempt: 1, events: [{ ...notice(1), seq: 0 }] });
  expect([status, body["code"]]).toEqual([400, "invalid_request"]);
  expect(body["errors"]).toMatchObject([{ path: "events.0.seq" }]);
});
