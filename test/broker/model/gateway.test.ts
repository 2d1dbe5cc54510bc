/**
 * The model gateway between a worker and the fake model: a real coordinator and real HTTP.
 */
import { NO_QUOTAS } from "../../../src/core/quotas.ts";
import Anthropic from "@anthropic-ai/sdk";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { DEFAULT_RULES } from "../../../src/broker/model/request/policy.ts";
import { Redactor } from "../../../src/core/lib/json/redaction.ts";
import type { SecretRemoval } from "../../../src/core/ports/broker.ts";
import { createModelGateway } from "../../../src/broker/model/gateway.ts";
import type { UsageLedger } from "../../../src/core/ports/records/usage-ledger.ts";
import { startFakeModel, type FakeModel } from "../../../src/broker/model/fake/server.ts";
import type { Scenario } from "../../../src/broker/model/fake/scenario.ts";
import { PRICES } from "../../../src/broker/model/price-table.ts";
import { createProviderRateLimit } from "../../../src/broker/model/rate-limit.ts";
import { createBudgetService } from "../../../src/coordinator/services/budget.ts";
import { systemClock } from "../../../src/core/lib/runtime/system-clock.ts";
import type { Log } from "../../../src/core/ports/runtime.ts";
import type { Task } from "../../../src/core/task.ts";
import { seededIds } from "../../support/manual-clock.ts";
import { openHarness, quiet, type Harness } from "../../support/coordinator/harness.ts";

const KEY = "sk-real-key-of-the-server";
const HELLO: Scenario = { turns: [{ say: "Hello." }], afterwards: "again" };
const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

interface House {
  readonly harness: Harness;
  readonly fake: FakeModel;
  readonly ledger: UsageLedger;
  /** The gateway as the worker of this task sees it. */
  client(task: Task, token?: string): Anthropic;
  url(task: Task): string;
}

async function open(
  options: {
    scenarios?: Record<string, Scenario>;
    userDayUsd?: number;
    dayUsd?: number;
    log?: Log;
    secrets?: SecretRemoval;
  } = {},
): Promise<House> {
  const harness = await openHarness({ settings: { maxConcurrent: 50 } });
  closers.push(() => harness.close());
  const fake = await startFakeModel({ scenarios: { default: HELLO, ...options.scenarios }, apiKey: KEY });
  closers.push(() => fake.close());
  const { ledger } = harness;
  const { taskLog } = harness.coordinator;
  const limits = { quotas: NO_QUOTAS, userDayUsd: options.userDayUsd ?? null, dayUsd: options.dayUsd ?? null };
  const workerApi = createBudgetService({
    taskLog,
    store: harness.store,
    ledger,
    clock: systemClock,
    ids: seededIds(),
    log: quiet,
    ...limits,
  });
  const rate = createProviderRateLimit({ clock: systemClock, longestMs: 60_000 });
  const serve = createModelGateway({
    baseUrl: fake.url,
    apiKey: KEY,
    budget: workerApi,
    rules: DEFAULT_RULES,
    prices: PRICES,
    rate,
    log: options.log ?? quiet,
    ...(options.secrets === undefined ? {} : { secrets: options.secrets }),
  });
  const server: Server = createServer((request, response) => {
    const [, taskId = "", attempt = "", path = ""] = /^\/([^/]+)\/(\d+)(\/.*)$/.exec(request.url ?? "") ?? [];
    const gone = new AbortController();
    response.on("close", () => gone.abort());
    void serve({ taskId, attempt: Number(attempt), request, response, path, signal: gone.signal });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  const { port } = server.address() as AddressInfo;
  const url = (task: Task): string => `http://127.0.0.1:${port}/${task.id}/${task.snapshot.context.attempt}`;
  return {
    harness,
    fake,
    ledger,
    url,
    client: (task) => new Anthropic({ apiKey: "att_token", baseURL: url(task), maxRetries: 0 }),
  };
}

async function working(harness: Harness, request: Parameters<Harness["submit"]>[0] = {}): Promise<Task> {
  const { id } = await harness.submit(request);
  await harness.until(id, "provisioning");
  await harness.untilWorker(id);
  await harness.fakeWorkers.send(harness.coordinator.workerApi, id, ["ready", {}]);
  return await harness.until(id, "running.working");
}

const ASK: Anthropic.MessageStreamParams = {
  model: "claude-opus-5-5",
  max_tokens: 1_000,
  messages: [{ role: "user", content: "Hi." }],
};
const ask = (client: Anthropic, part: object = {}): Promise<Anthropic.Message> =>
  client.messages.stream({ ...ASK, ...part } as Anthropic.MessageStreamParams).finalMessage();
const rejection = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => null,
    (error: unknown) => error,
  );
const usages = async ({ store }: Harness, task: Task): Promise<unknown[]> =>
  (await store.events(task.id, 0, 1_000)).items.filter(({ type }) => type === "usage").map(({ data }) => data);

describe("[S1] [L1] the key is added by the gateway and is nowhere else", () => {
  it("what the worker sent as authorisation does not go on", async () => {
    const { harness, fake, client } = await open();
    const task = await working(harness);
    await client(task)
      .messages.stream(ASK, {
        headers: { cookie: "a=b", "x-api-key": "mine", "anthropic-beta": "compact-2026-09-04" },
      })
      .finalMessage();
    const headers = fake.requests()[0]?.headers ?? {};
    expect(headers["authorization"]).toBe(`Bearer ${KEY}`);
    expect([headers["cookie"], headers["x-api-key"], headers["anthropic-beta"]]).toEqual([
      undefined,
      undefined,
      "compact-2026-09-04",
    ]);
  });

  it("a refused key is reported without the provider's message", async () => {
    const fault = { kind: "status", status: 401, message: "invalid x-api-key sk-real…" } as const;
    const { harness, client } = await open({ scenarios: { default: { turns: [{ faults: [fault] }] } } });
    const failure = await rejection(ask(client(await working(harness))));
    expect(failure).toMatchObject({ status: 403, type: "authentication_error" });
    expect(String(failure)).not.toContain("sk-real");
  });
});

describe("[L2] an answer is relayed as it arrives and metered on the way", () => {
  it("the first bytes arrive long before the last", async () => {
    const delayMs = 5;
    const { harness, client } = await open({
      scenarios: { default: { turns: [{ say: "x".repeat(2_400), delayMs }] } },
    });
    const times: number[] = [];
    const stream = client(await working(harness)).messages.stream(ASK);
    stream.on("streamEvent", () => times.push(performance.now()));
    await stream.finalMessage();
    // As far apart as they are sent, at least half of it.
    expect((times.at(-1) ?? 0) - (times[0] ?? 0)).toBeGreaterThan((times.length * delayMs) / 2);
  });

  it("the task, the usage ledger and the provider agree about tokens and money", async () => {
    const { harness, fake, ledger, client } = await open();
    const task = await working(harness);
    const cached = { system: [{ type: "text", text: "s".repeat(4_000), cache_control: { type: "ephemeral" } }] };
    const answer = await ask(client(task), cached);
    await ask(client(task), { ...cached, stream: undefined });
    const { usage } = (await harness.task(task.id)).snapshot.context;
    expect(usage.turns).toBe(2);
    expect(usage.usd).toBeCloseTo(fake.spentUsd(), 10);
    expect((await ledger.spentBy(task.id)).usd).toBeCloseTo(fake.spentUsd(), 10);
    expect(usage.cacheReadTokens).toBeGreaterThan(900);
    expect((await usages(harness, task))[0]).toMatchObject({
      model: "claude-opus-5-5",
      outputTokens: answer.usage.output_tokens,
      turns: 1,
    });
  });

  it("an answer without a stream is counted too, and asking about models costs nothing", async () => {
    const { harness, fake, ledger, client } = await open();
    const task = await working(harness);
    await client(task).messages.create(ASK as Anthropic.MessageCreateParamsNonStreaming);
    await client(task).models.retrieve("claude-opus-5-5");
    await client(task).messages.countTokens({ model: ASK.model, messages: ASK.messages });
    expect(await ledger.spentBy(task.id)).toEqual({ usd: fake.spentUsd(), requests: 1 });
  });

  it("[G1] a fast answer is booked at its own price", async () => {
    const { harness, ledger, client } = await open();
    const task = await working(harness);
    const answer = await ask(client(task), { speed: "fast" });
    const { usd } = await ledger.spentBy(task.id);
    expect(usd).toBeCloseTo((answer.usage.input_tokens * 8 + answer.usage.output_tokens * 40) / 1_000_000, 10);
  });

  it("[G2] a refusal before any output is free", async () => {
    const fault = { kind: "refusal" } as const;
    const { harness, ledger, client } = await open({ scenarios: { default: { turns: [{ faults: [fault] }] } } });
    const task = await working(harness);
    expect((await ask(client(task))).stop_reason).toBe("refusal");
    expect((await ledger.spentBy(task.id)).usd).toBe(0);
  });

  it("an answer that breaks off is paid for by an estimate", async () => {
    const { harness, ledger, client } = await open({
      scenarios: { default: { turns: [{ say: "x".repeat(900), faults: [{ kind: "drop", after: 30 }] }] } },
    });
    const task = await working(harness);
    expect(await rejection(ask(client(task)))).not.toBeNull();
    await expect.poll(async () => (await ledger.spentBy(task.id)).usd).toBeGreaterThan(0);
    expect((await usages(harness, task)).length).toBe(1);
  });
});

describe("[G4] no budget is exceeded by more than the request under way", () => {
  it("an answer is cut in mid-stream when the task's budget is used up, and nothing more is asked", async () => {
    const { harness, fake, ledger, client } = await open({
      scenarios: { default: { turns: [{ say: "x".repeat(200_000) }], afterwards: "again" } },
    });
    const task = await working(harness, { budget: { usd: 0.05 } });
    expect(await rejection(ask(client(task)))).toMatchObject({ type: "budget_exceeded" });
    expect(await rejection(ask(client(task)))).toMatchObject({ status: 402, type: "budget_exceeded" });
    expect(fake.requests()).toHaveLength(1);
    const { usd } = await ledger.spentBy(task.id);
    expect(usd).toBeGreaterThanOrEqual(0.05);
    // The whole answer would have cost more than a dollar.
    expect(usd).toBeLessThan(0.2);
  });

  it("a budget of turns counts requests, also those that run at the same time", async () => {
    const { harness, fake, client } = await open({
      scenarios: { default: { turns: [{ say: "slow", delayMs: 20 }], afterwards: "again" } },
    });
    const task = await working(harness, { budget: { turns: 3 } });
    const ends = await Promise.all(Array.from({ length: 8 }, () => rejection(ask(client(task)))));
    expect(ends.filter((end) => end === null)).toHaveLength(3);
    expect(fake.requests()).toHaveLength(3);
  });

  it("forty tasks at once: the sum that Slipway reports is what was spent, and each stays within its budget and one request", async () => {
    const { harness, fake, ledger, client } = await open({
      scenarios: { default: { turns: [{ say: "w".repeat(2_000) }], afterwards: "again" } },
    });
    const tasks = await Promise.all(Array.from({ length: 40 }, () => working(harness, { budget: { usd: 0.04 } })));
    await Promise.all(
      tasks.map(async (task) => {
        for (let failure: unknown = null; failure === null;)
          failure = await rejection(ask(client(task), { metadata: { user_id: task.id } }));
      }),
    );
    const spent = await Promise.all(tasks.map(async ({ id }) => (await ledger.spentBy(id)).usd));
    const reported = await Promise.all(
      tasks.map(async ({ id }) => (await harness.task(id)).snapshot.context.usage.usd),
    );
    const dearest = Math.max(...fake.requests().map(({ usd }) => usd));
    expect(Math.max(...spent)).toBeLessThanOrEqual(0.04 + dearest);
    const all = spent.reduce((sum, usd) => sum + usd, 0);
    expect(reported.reduce((sum, usd) => sum + usd, 0)).toBeCloseTo(all, 8);
    expect(Math.abs(all - fake.spentUsd()) / fake.spentUsd()).toBeLessThan(0.01);
  });

  it("the budgets of a day hold for one user, and for all", async () => {
    const { harness, client } = await open({
      scenarios: { default: { turns: [{ say: "w".repeat(4_000) }], afterwards: "again" } },
      userDayUsd: 0.02,
    });
    const task = await working(harness);
    let failure: unknown = null;
    for (let i = 0; i < 50 && failure === null; i += 1) failure = await rejection(ask(client(task)));
    expect(failure).toMatchObject({ type: "budget_exceeded" });
    expect(String(failure)).toMatch(/Your budget for today/);
  });
});

describe("[L3] what the provider refuses", () => {
  it("a rate limit makes the others wait for its end, and one goes first", async () => {
    const { harness, fake, client } = await open({
      scenarios: {
        default: { turns: [{ say: "ok", faults: [{ kind: "status", status: 429, retryAfter: 1 }] }] },
        other: HELLO,
      },
    });
    const task = await working(harness);
    // Before the refusal: the wait is counted from the moment at which the gateway reads it.
    const begun = performance.now();
    expect(await rejection(ask(client(task)))).toMatchObject({ status: 429, type: "rate_limit_error" });
    const other = { messages: [{ role: "user", content: "[scenario:other] Hi." }] };
    await Promise.all([ask(client(task), other), ask(client(task), other)]);
    expect(performance.now() - begun).toBeGreaterThan(990);
    expect(fake.requests()).toHaveLength(3);
  });

  it.each([
    [402, 402, "billing_error"],
    [529, 529, "overloaded_error"],
    [500, 500, "api_error"],
    [400, 400, "invalid_request_error"],
  ])("%i becomes %i %s, and costs nothing", async (status, ours, type) => {
    const { harness, ledger, client } = await open({
      scenarios: { default: { turns: [{ faults: [{ kind: "status", status }] }] } },
    });
    const task = await working(harness);
    expect(await rejection(ask(client(task)))).toMatchObject({ status: ours, type });
    expect(await ledger.spentBy(task.id)).toEqual({ usd: 0, requests: 0 });
  });
});

describe("[L6] the provider's id of a request", () => {
  it("goes on with answers and with refusals, and is in the log with the task", async () => {
    const fault = { kind: "status", status: 529 } as const;
    const lines: object[] = [];
    const log: Log = { ...quiet, warn: (fields) => void lines.push(fields) };
    const { harness, client } = await open({
      log,
      scenarios: { default: { turns: [{ say: "Hi.", faults: [fault] }] } },
    });
    const task = await working(harness);
    const failure = (await rejection(ask(client(task)))) as { requestID: string | null };
    expect(failure.requestID).toMatch(/^req_/);
    expect(lines).toEqual([
      expect.objectContaining({ taskId: task.id, attempt: 1, status: 529, requestId: failure.requestID }),
    ]);
    const { response } = await client(task)
      .messages.create(ASK as Anthropic.MessageCreateParamsNonStreaming)
      .withResponse();
    expect(response.headers.get("request-id")).toMatch(/^req_/);
  });
});

it("[S11] what a program has read of a secret does not reach the provider, in any block or encoding", async () => {
  const secret = "agent-X4vB8nRt6Y";
  const { harness, fake, client } = await open({
    secrets: { redactorOf: async (id) => (id === known ? new Redactor([secret]) : null) },
  });
  const task = await working(harness);
  const known = task.id;
  const use: Anthropic.ToolUseBlockParam = {
    type: "tool_use",
    id: "t1",
    name: "bash",
    input: { command: `echo ${secret}` },
  };
  const content = [{ type: "text" as const, text: `KEY=${secret} ${Buffer.from(`u:${secret}`).toString("base64")}` }];
  const messages: Anthropic.MessageParam[] = [
    { role: "user", content: `Use ${secret}.` },
    { role: "assistant", content: [use] },
    { role: "user", content: [{ type: "tool_result", tool_use_id: "t1", content }] },
  ];
  const system = `The key is ${secret}.`;
  const tools = [{ name: "bash", input_schema: { type: "object" as const } }];
  await ask(client(task), { messages, system, tools });
  await client(task).messages.countTokens({ model: ASK.model, messages, system, tools });
  const sent = JSON.stringify(fake.requests());
  expect(sent.split("[secret]").length).toBeGreaterThanOrEqual(6);
  expect(sent).not.toMatch(/X4vB8nRt/);
  expect(sent).not.toContain(Buffer.from(secret).toString("base64").slice(4, -4));
});

describe("[L4] nothing passes but messages", () => {
  const refused: readonly [string, object, RegExp][] = [
    ["another model", { model: "gpt-5" }, /not offered/],
    ["a server tool", { tools: [{ type: "web_fetch_20260318", name: "web_fetch" }] }, /would run at the provider/],
    ["an unknown field", { mcp_servers: [] }, /mcp_servers/],
    ["a container", { container: "c" }, /container/],
    [
      "an image by address",
      {
        messages: [
          { role: "user", content: [{ type: "image", source: { type: "url", url: "https://evil.example/x" } }] },
        ],
      },
      /source of type .*url/,
    ],
    [
      "a document inside a tool's result",
      {
        messages: [
          {
            role: "user",
            content: [
              {
                type: "tool_result",
                tool_use_id: "t",
                content: [{ type: "document", source: { type: "file", file_id: "f" } }],
              },
            ],
          },
        ],
      },
      /source of type .*file/,
    ],
  ];
  it.each(refused)("%s", async (_name, part, words) => {
    const { harness, fake, client } = await open();
    const failure = await rejection(ask(client(await working(harness)), part));
    expect(failure).toMatchObject({ status: 400 });
    expect(String(failure)).toMatch(words);
    expect(fake.requests()).toHaveLength(0);
  });

  it("other paths and methods, bodies that are not JSON, bodies that are too large", async () => {
    const { harness, url } = await open();
    const base = url(await working(harness));
    const status = async (path: string, init: RequestInit = {}): Promise<number> =>
      (await fetch(base + path, init)).status;
    expect(await status("/v1/files")).toBe(404);
    expect(await status("/v1/messages/batches", { method: "POST", body: "{}" })).toBe(404);
    expect(await status("/v1/models/../files")).toBe(404);
    expect(await status("/v1/messages")).toBe(404);
    expect(await status("/v1/messages", { method: "POST", body: "{" })).toBe(400);
    expect(await status("/v1/messages", { method: "POST", body: Buffer.alloc(33 * 1024 * 1024, 0x20) })).toBe(413);
  });

  it("[S3] an ended attempt sends no more requests", async () => {
    const { harness, fake, client } = await open();
    const task = await working(harness);
    await harness.coordinator.tasks.cancel({ userId: task.userId, role: "user" }, task.id, true);
    await harness.until(task.id, "cancelled");
    expect(await rejection(ask(client(task)))).toMatchObject({ status: 410 });
    expect(fake.requests()).toHaveLength(0);
  });
});
