/**
 * The path from an agent in the worker to the model: loopback, the broker's socket, the gateway,
 * the provider, with real HTTP at each hop.
 */
import Anthropic from "@anthropic-ai/sdk";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { openBroker } from "../../../src/broker/server.ts";
import { DEFAULT_RULES } from "../../../src/broker/model/request/policy.ts";
import { createModelGateway } from "../../../src/broker/model/gateway.ts";
import type { Scenario } from "../../../src/broker/model/fake/scenario.ts";
import { startFakeModel, type FakeModel } from "../../../src/broker/model/fake/server.ts";
import { PRICES } from "../../../src/broker/model/price-table.ts";
import { createProviderRateLimit } from "../../../src/broker/model/rate-limit.ts";
import { systemClock } from "../../../src/core/lib/runtime/system-clock.ts";
import { openForwarder, type Forwarder } from "../../../worker/connection/forwarding/forward.ts";
import { MemoryWorkerApi } from "../memory-worker-api.ts";
import { quiet, SECRET } from "../rig.ts";
import type { Broker, ModelBudget } from "../../../src/core/ports/broker.ts";

const KEY = "sk-real-key-of-the-server";
/** Between two events of an answer. */
const DELAY_MS = 5;
const generous: ModelBudget = {
  admit: async () => ({ update: () => null, settle: async () => undefined, cancel: async () => undefined }),
  admitFree: async () => undefined,
};
let dir: string;
let fake: FakeModel;
let broker: Broker;
let forwarder: Forwarder;
let token: string;
let client: Anthropic;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "sw-model-"));
  const words: Scenario = { turns: [{ say: "x".repeat(2_400), delayMs: DELAY_MS }], afterwards: "again" };
  fake = await startFakeModel({ scenarios: { default: words }, apiKey: KEY });
  const rate = createProviderRateLimit({ clock: systemClock, longestMs: 60_000 });
  const gateway = {
    baseUrl: fake.url,
    apiKey: KEY,
    budget: generous,
    rules: DEFAULT_RULES,
    prices: PRICES,
    rate,
    log: quiet,
  };
  const workerApi = new MemoryWorkerApi();
  const serveModel = createModelGateway(gateway);
  broker = openBroker({
    dir,
    workerApi,
    repoPath: () => dir,
    secrets: () => [SECRET],
    instance: "test",
    log: quiet,
    serveModel,
  });
  const door = await broker.open(workerApi.taskId, 1);
  forwarder = await openForwarder(join(door.socketDir, "b.sock"));
  token = door.token;
  client = new Anthropic({ apiKey: token, baseURL: `http://127.0.0.1:${forwarder.port}/anthropic`, maxRetries: 0 });
});
afterEach(async () => {
  await forwarder.close();
  await broker.close();
  await fake.close();
  rmSync(dir, { recursive: true, force: true });
});

const ASK = { model: "claude-sonnet-5-5", max_tokens: 1_000, messages: [{ role: "user" as const, content: "Hi." }] };

it("[L2] [S1] the answer is streamed; the request carries the attempt's token in, the server's key out", async () => {
  const times: number[] = [];
  const stream = client.messages.stream(ASK);
  stream.on("streamEvent", () => times.push(performance.now()));
  const message = await stream.finalMessage();
  // As far apart as they are sent, at least half of it.
  expect((times.at(-1) ?? 0) - (times[0] ?? 0)).toBeGreaterThan((times.length * DELAY_MS) / 2);
  expect(message.content.some((block) => block.type === "text")).toBe(true);
  const headers = fake.requests()[0]?.headers ?? {};
  expect(headers["authorization"]).toBe(`Bearer ${KEY}`);
  expect(JSON.stringify(headers)).not.toContain(token);
});

it("[S3] another token is refused", async () => {
  const stranger = new Anthropic({ apiKey: "att_other", baseURL: client.baseURL, maxRetries: 0 });
  await expect(stranger.messages.stream(ASK).finalMessage()).rejects.toMatchObject({ status: 401 });
  expect(fake.requests()).toEqual([]);
});

it("an agent that disconnects ends the request at the provider", async () => {
  const stop = new AbortController();
  const stream = client.messages.stream(ASK, { signal: stop.signal });
  stream.on("streamEvent", () => stop.abort());
  await expect(stream.finalMessage()).rejects.toThrow();
  expect(fake.requests()).toHaveLength(1);
});
