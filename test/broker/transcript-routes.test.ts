/** The transcript on the wire: what a worker written from the protocol's page alone may rely on. */
import { request as httpRequest } from "node:http";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { openBroker } from "../../src/broker/server.ts";
import { RECORD_BYTES } from "../../src/core/ports/records/transcripts.ts";
import { MemoryWorkerApi } from "../worker/memory-worker-api.ts";
import { quiet, SECRET } from "../worker/rig.ts";
import type { Broker, BrokerEndpoint } from "../../src/core/ports/broker.ts";

let dir: string;
let workerApi: MemoryWorkerApi;
let broker: Broker;
let endpoint: BrokerEndpoint;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "sw-tr-"));
  workerApi = new MemoryWorkerApi();
  broker = openBroker({
    dir,
    workerApi: workerApi,
    repoPath: () => dir,
    secrets: () => [SECRET],
    instance: "test",
    log: quiet,
  });
  endpoint = await broker.open(workerApi.taskId, 1);
});
afterEach(async () => {
  await broker.close();
  rmSync(dir, { recursive: true, force: true });
});

async function call(
  method: string,
  path: string,
  body?: string,
): Promise<{ status: number; body: Record<string, unknown> }> {
  return await new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${endpoint.token}`, "content-type": "application/json" };
    const request = httpRequest(
      { socketPath: join(endpoint.socketDir, "b.sock"), method, path, headers, agent: false },
      (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
        response.on("end", () =>
          resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) as Record<string, unknown> }),
        );
      },
    );
    request.on("error", reject);
    request.end(body);
  });
}

const append = (n: number, record: unknown, attempt = 1) =>
  call("POST", "/worker/v1/transcript", JSON.stringify({ attempt, n, record }));
const read = (after: number) => call("GET", `/worker/v1/transcript?after=${after}`);

it("[X1] [X3] a record is written once, however often it is sent; another under its number is 409 with where it stands", async () => {
  const one = { type: "message", content: [{ text: "naïve ☃ \u0000" }], __proto__x: { "1": true } };
  expect(await append(1, one)).toEqual({ status: 200, body: { last: 1 } });
  expect(await append(1, one)).toEqual({ status: 200, body: { last: 1 } });
  expect(await append(1, { other: true })).toMatchObject({ status: 409, body: { code: "transcript_moved", last: 1 } });
  expect(await append(3, { hole: true })).toMatchObject({ status: 409, body: { code: "transcript_moved", last: 1 } });
  expect(await append(2, {})).toMatchObject({ status: 200 });
  expect((await read(0)).body).toEqual({
    records: [
      { n: 1, attempt: 1, record: one },
      { n: 2, attempt: 1, record: {} },
    ],
  });
  expect((await read(2)).body).toEqual({ records: [] });
});

it("[X2] a stale attempt's record is 410", async () => {
  expect(await append(1, {}, 2)).toMatchObject({ status: 410, body: { code: "stale_attempt" } });
  workerApi.end();
  expect(await append(1, {})).toMatchObject({ status: 410 });
  expect(await read(0)).toMatchObject({ status: 410 });
});

it("[S6] a record that is invalid, too large or too deep is refused with a code and not stored", async () => {
  const bad: [string, number, string][] = [
    ["not json", 400, "invalid_request"],
    [JSON.stringify({ attempt: 1, n: 1, record: [1] }), 400, "invalid_request"],
    [JSON.stringify({ attempt: 1, n: 1, record: null }), 400, "invalid_request"],
    [JSON.stringify({ attempt: 1, n: 0, record: {} }), 400, "invalid_request"],
    [JSON.stringify({ attempt: 1, n: 1, record: {}, more: 1 }), 400, "invalid_request"],
    [`{"attempt":1,"n":1,"record":${'{"a":'.repeat(300)}1${"}".repeat(300)}}`, 400, "invalid_request"],
    [JSON.stringify({ attempt: 1, n: 1, record: { text: "x".repeat(RECORD_BYTES) } }), 413, "payload_too_large"],
    [JSON.stringify({ attempt: 1, n: 1, record: { text: "x".repeat(4 * RECORD_BYTES) } }), 413, "payload_too_large"],
  ];
  for (const [body, status, code] of bad)
    expect(await call("POST", "/worker/v1/transcript", body)).toMatchObject({ status, body: { code } });
  expect(await call("GET", "/worker/v1/transcript?after=-1")).toMatchObject({ status: 400 });
  expect(await call("DELETE", "/worker/v1/transcript")).toMatchObject({ status: 405 });
  expect(workerApi.transcripts.last(workerApi.taskId)).toBe(0);
});

it("a long transcript is read in pages", async () => {
  const text = "x".repeat(300_000);
  for (let n = 1; n <= 8; n += 1) await append(n, { n, text });
  const pages: number[][] = [];
  for (let after = 0; ;) {
    const { records } = (await read(after)).body as { records: { n: number }[] };
    if (records.length === 0) break;
    pages.push(records.map(({ n }) => n));
    after = records.at(-1)!.n;
  }
  expect(pages.flat()).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  expect(pages.length).toBeGreaterThan(1);
});
