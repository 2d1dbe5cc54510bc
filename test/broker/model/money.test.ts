/**
 * Money under attack: hostile workers and a hostile provider against the gateway and the real
 * budget service. The provider keeps its own bill.
 */
import fc from "fast-check";
import { createServer, request as httpRequest, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { createModelGateway } from "../../../src/broker/model/gateway.ts";
import { PRICES } from "../../../src/broker/model/price-table.ts";
import { computePrice } from "../../../src/broker/model/prices.ts";
import { createProviderRateLimit } from "../../../src/broker/model/rate-limit.ts";
import { DEFAULT_RULES } from "../../../src/broker/model/request/policy.ts";
import { NO_TOKENS } from "../../../src/broker/model/usage.ts";
import { systemClock } from "../../../src/core/lib/runtime/system-clock.ts";
import type { Budget, Task } from "../../../src/core/task.ts";
import { SEED } from "../../support/random.ts";
import { ALICE, openHarness, quiet, type Harness } from "../../support/coordinator/harness.ts";

const MODEL = "claude-opus-5-5";
const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** What the provider does with a request. All of them are billed, but `refuses`. */
const DEEDS = [
  "answers",
  "hides", // all output is thinking that is not shown
  "silent", // never answers
  "drops", // breaks off after its head
  "breaks", // breaks off in the middle
  "uncounted", // no usage at all
  "garbage", // usage that is none
  "late", // counts nothing at the start
  "refuses", // a refusal before any output
  "overloaded", // status 529
] as const;
type Deed = (typeof DEEDS)[number];

interface Plan {
  readonly deed: Deed;
  readonly stream: boolean;
  /** Characters of the prompt, one token each. */
  readonly prompt: number;
  readonly maxTokens: number;
  /** Share of `maxTokens` that the provider writes. */
  readonly share: number;
  readonly ttl: "5m" | "1h" | null;
  /** Parts before the messages: the characters of each, and the life of its cache mark. */
  readonly tools?: Part;
  readonly system?: Part;
  /** The mark of the messages stands for the whole request instead of in a block. */
  readonly isTop?: boolean;
  /** The provider says how long what was written lives. */
  readonly isSplit?: boolean;
  /** The worker leaves after this many ms. */
  readonly leavesMs: number | null;
}

type Ttl = "5m" | "1h" | null;
interface Part {
  readonly size: number;
  readonly ttl: Ttl;
}

interface Provider {
  readonly url: string;
  /** US dollars of each request that arrived whole, by the task that its prompt names. */
  readonly bills: { readonly task: string; readonly usd: number }[];
  readonly paths: string[];
  busiest: number;
}

/** Each part is written at the next mark, or is input when there is none after it. */
function countParts({ tools, system, prompt, ttl }: Plan): { none: number; "5m": number; "1h": number } {
  const parts = [tools, system, { size: prompt, ttl }].filter((part) => part !== undefined);
  const counts = { none: 0, "5m": 0, "1h": 0 };
  for (const [i, { size }] of parts.entries())
    counts[parts.slice(i).find((part) => part.ttl !== null)?.ttl ?? "none"] += size;
  return counts;
}

function bill(plan: Plan): number {
  if (plan.deed === "refuses" || plan.deed === "overloaded") return 0;
  const { none: inputTokens, "5m": cacheWrite5mTokens, "1h": cacheWrite1hTokens } = countParts(plan);
  const outputTokens = Math.floor(plan.maxTokens * plan.share);
  return computePrice(MODEL, { ...NO_TOKENS, inputTokens, cacheWrite5mTokens, cacheWrite1hTokens, outputTokens });
}

function usageOf(plan: Plan): Record<string, unknown> {
  const counts = countParts(plan);
  const split = { ephemeral_5m_input_tokens: counts["5m"], ephemeral_1h_input_tokens: counts["1h"] };
  return {
    input_tokens: counts.none,
    cache_creation_input_tokens: counts["5m"] + counts["1h"],
    cache_read_input_tokens: 0,
    ...(plan.isSplit === false ? {} : { cache_creation: split }),
  };
}

function answer(plan: Plan, response: ServerResponse): void {
  const { deed } = plan;
  if (deed === "silent") return;
  if (deed === "overloaded")
    return void response.writeHead(529, { "content-type": "application/json" }).end('{"error":{"type":"overloaded"}}');
  const output = Math.floor(plan.maxTokens * plan.share);
  const stop = deed === "refuses" ? "refusal" : "end_turn";
  const counts = deed === "garbage" ? { input_tokens: -1, output_tokens: "many" } : { ...usageOf(plan) };
  const final =
    deed === "uncounted" ? {} : { usage: { ...counts, ...(deed === "garbage" ? {} : { output_tokens: output }) } };
  const content = deed === "refuses" ? [] : [{ type: "text", text: deed === "hides" ? "" : "x".repeat(output) }];
  if (!plan.stream) {
    const text = JSON.stringify({ type: "message", model: MODEL, content, stop_reason: stop, ...final });
    response.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(text) });
    if (deed !== "drops" && deed !== "breaks") return void response.end(text);
    response.write(deed === "drops" ? "" : text.slice(0, text.length / 2), () => response.destroy());
    return;
  }
  const frame = (type: string, data: object): string =>
    `event: ${type}\ndata: ${JSON.stringify({ type, ...data })}\n\n`;
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.flushHeaders();
  if (deed === "drops") return void setTimeout(() => response.destroy(), 5);
  const early = deed === "late" ? { input_tokens: 0, output_tokens: 0 } : counts;
  const start = deed === "uncounted" ? {} : { usage: early };
  response.write(frame("message_start", { message: { type: "message", model: MODEL, content: [], ...start } }));
  if (deed !== "refuses") {
    response.write(frame("content_block_start", { index: 0, content_block: { type: "thinking", thinking: "" } }));
    if (deed !== "hides")
      response.write(frame("content_block_delta", { index: 0, delta: { type: "text_delta", text: content[0]?.text } }));
  }
  if (deed === "breaks") return void setTimeout(() => response.destroy(), 5);
  response.write(frame("message_delta", { delta: { stop_reason: stop }, ...final }));
  response.end(frame("message_stop", {}));
}

/** The plan travels in the prompt; a character is a token. */
async function openProvider(): Promise<Provider> {
  let underWay = 0;
  const provider: Provider = { url: "", bills: [], paths: [], busiest: 0 };
  const server = createServer((request, response) => {
    provider.paths.push(request.url ?? "");
    const chunks: Buffer[] = [];
    request.on("error", () => undefined).on("data", (chunk: Buffer) => chunks.push(chunk));
    response.on("error", () => undefined);
    request.on("end", () => {
      if (request.url !== "/v1/messages") return void response.end('{"input_tokens":1}');
      const body = JSON.parse(Buffer.concat(chunks).toString()) as { metadata: { user_id: string } };
      const { task, plan } = JSON.parse(body.metadata.user_id) as { task: string; plan: Plan };
      provider.bills.push({ task, usd: bill(plan) });
      underWay += 1;
      provider.busiest = Math.max(provider.busiest, underWay);
      response.on("close", () => (underWay -= 1));
      answer(plan, response);
    });
  });
  await listen(server);
  return Object.assign(provider, { url: urlOf(server) });
}

async function listen(server: Server): Promise<void> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
}
const urlOf = (server: Server): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

interface House {
  readonly harness: Harness;
  readonly provider: Provider;
  readonly url: string;
  /** Requests that the gateway has not finished with. */
  underWay(): number;
}

async function open(limits: { userDayUsd?: number; dayUsd?: number } = {}): Promise<House> {
  const harness = await openHarness({ settings: { maxConcurrent: 50, userDayUsd: null, dayUsd: null, ...limits } });
  closers.push(() => harness.close());
  const provider = await openProvider();
  const rate = createProviderRateLimit({ clock: systemClock, longestMs: 60_000 });
  const serve = createModelGateway({
    baseUrl: provider.url,
    apiKey: "sk-real",
    budget: {
      admit: (...args) => harness.coordinator.budget.admit(...args),
      admitFree: (...args) => harness.coordinator.budget.admitFree(...args),
    },
    rules: DEFAULT_RULES,
    prices: PRICES,
    rate,
    log: quiet,
  });
  let underWay = 0;
  const server = createServer((request, response) => {
    const [, taskId = "", attempt = "", path = ""] = /^\/([^/]+)\/(\d+)(\/.*)$/.exec(request.url ?? "") ?? [];
    const gone = new AbortController();
    response.on("close", () => gone.abort());
    underWay += 1;
    void serve({ taskId, attempt: Number(attempt), request, response, path, signal: gone.signal }).then(
      () => (underWay -= 1),
    );
  });
  await listen(server);
  return { harness, provider, url: urlOf(server), underWay: () => underWay };
}

async function working(harness: Harness, budget: Budget): Promise<Task> {
  return await begun(harness, await harness.submit({ budget }));
}

async function begun(harness: Harness, { id }: Task): Promise<Task> {
  await harness.until(id, "provisioning");
  await harness.untilWorker(id);
  await harness.fakeWorkers.send(harness.coordinator.workerApi, id, ["ready", {}]);
  return await harness.until(id, "running.working");
}

/** @returns the status; 0 when the connection ended first, which the worker may have caused. */
function send(
  { url }: House,
  task: Task,
  plan: Plan,
  path = "/v1/messages",
  gone = new AbortController().signal,
): Promise<number> {
  const markOf = (ttl: Ttl): object => (ttl === null ? {} : { cache_control: { type: "ephemeral", ttl } });
  const { tools, system } = plan;
  const tool = (size: number): object => ({ name: "t", description: "0".repeat(size), input_schema: {} });
  const body = JSON.stringify({
    model: MODEL,
    max_tokens: plan.maxTokens,
    stream: plan.stream,
    metadata: { user_id: JSON.stringify({ task: task.id, plan }) },
    ...(tools && { tools: [{ ...tool(tools.size), ...markOf(tools.ttl) }] }),
    ...(system && { system: [{ type: "text", text: "0".repeat(system.size), ...markOf(system.ttl) }] }),
    ...(plan.isTop === true ? markOf(plan.ttl) : {}),
    messages: [
      {
        role: "user",
        content: [{ type: "text", text: "0".repeat(plan.prompt), ...(plan.isTop === true ? {} : markOf(plan.ttl)) }],
      },
    ],
  });
  return new Promise((resolve) => {
    const leaves = plan.leavesMs === null ? null : setTimeout(() => request.destroy(), plan.leavesMs);
    const end = (status: number): void => {
      if (leaves !== null) clearTimeout(leaves);
      resolve(status);
    };
    const options = { method: "POST", signal: gone };
    const request = httpRequest(`${url}/${task.id}/1${path}`, options, (response) => {
      response.on("error", () => end(0)).on("close", () => end(response.complete ? (response.statusCode ?? 0) : 0));
      response.resume();
    });
    request.on("error", () => end(0)).end(body);
  });
}

/** Sends a request, which the worker leaves when `leave` is called. */
function hold(house: House, task: Task, plan: Plan): { ended: Promise<number>; leave: () => void } {
  const gone = new AbortController();
  return { ended: send(house, task, plan, undefined, gone.signal), leave: () => gone.abort() };
}

const PLAIN: Plan = {
  deed: "answers",
  stream: true,
  prompt: 10_000,
  maxTokens: 1_000,
  share: 0.5,
  ttl: null,
  leavesMs: null,
};
const total = (bills: Provider["bills"]): number => bills.reduce((sum, { usd }) => sum + usd, 0);
const quietly = async (house: House): Promise<void> => {
  await expect.poll(() => house.underWay()).toBe(0);
};

describe("[G4] what was booked is at least what was billed, and a budget is exceeded by less than one request", () => {
  it("[G2] requests that the worker breaks off before the answer are paid for", async () => {
    const house = await open();
    const task = await working(house.harness, { usd: 1 });
    for (let n = 0; n < 12; n += 1) {
      const sent = hold(house, task, { ...PLAIN, deed: "silent", prompt: 200_000, maxTokens: 1 });
      let isRefused = false;
      void sent.ended.then(() => (isRefused = true));
      const before = house.provider.bills.length;
      await expect.poll(() => isRefused || house.provider.bills.length > before).toBe(true);
      sent.leave();
      await sent.ended;
    }
    await quietly(house);
    const { usd } = await house.harness.ledger.spentBy(task.id);
    expect(house.provider.bills.length).toBe(2);
    expect(usd).toBeGreaterThanOrEqual(total(house.provider.bills));
  });

  it("ten dear requests at once: one after the other, until the budget is used up", async () => {
    const house = await open();
    const task = await working(house.harness, { usd: 1 });
    const dear: Plan = { ...PLAIN, prompt: 150_000, ttl: "1h", maxTokens: 10 };
    const statuses = await Promise.all(Array.from({ length: 10 }, () => send(house, task, dear)));
    expect(statuses.filter((status) => status === 200)).toHaveLength(1);
    expect(total(house.provider.bills)).toBeLessThan(1 + bill(dear));
  });

  it("at most four messages of an attempt are under way at once, and requests that cost nothing are counted", async () => {
    const house = await open();
    const task = await working(house.harness, {});
    const slow = Array.from({ length: 8 }, () => hold(house, task, { ...PLAIN, deed: "silent" }));
    await expect.poll(() => house.provider.busiest).toBeGreaterThanOrEqual(4);
    await delay(500);
    for (const { leave } of slow) leave();
    await Promise.all(slow.map(({ ended }) => ended));
    expect(house.provider.busiest).toBe(4);
    const begun = performance.now();
    const free = Array.from({ length: 100 }, () => send(house, task, PLAIN, "/v1/messages/count_tokens"));
    const statuses = await Promise.all(free);
    // One a second is allowed again.
    const more = Math.ceil((performance.now() - begun) / 1_000);
    expect(statuses.filter((status) => status === 200).length).toBeLessThanOrEqual(60 + more);
    expect(new Set(statuses)).toEqual(new Set([200, 429]));
  });

  it("[D7] nothing is sent once a person has cancelled, free or not", async () => {
    const house = await open();
    const task = await working(house.harness, {});
    house.harness.latches.stop.closed = true;
    await house.harness.coordinator.tasks.cancel(ALICE, task.id, false);
    expect((await house.harness.task(task.id)).state).toBe("cancelling");
    expect(await send(house, task, PLAIN)).toBe(410);
    expect(await send(house, task, PLAIN, "/v1/messages/count_tokens")).toBe(410);
    expect(house.provider.paths).toEqual([]);
    house.harness.latches.stop.let();
    house.harness.latches.stop.closed = false;
  });

  it("a request that waits for the others is not sent once its task is cancelled", async () => {
    const house = await open();
    const task = await working(house.harness, { usd: 0.1 });
    const held = hold(house, task, { ...PLAIN, deed: "silent" });
    await expect.poll(() => house.provider.bills.length).toBe(1);
    const waiting = send(house, task, PLAIN);
    await delay(100);
    house.harness.latches.stop.closed = true;
    await house.harness.coordinator.tasks.cancel(ALICE, task.id, false);
    held.leave();
    expect(await waiting).toBe(410);
    await held.ended;
    expect(house.provider.bills).toHaveLength(1);
    house.harness.latches.stop.let();
    house.harness.latches.stop.closed = false;
  });

  const ttl = fc.constantFrom<Ttl>(null, "5m", "1h");
  const part = fc.record({ size: fc.integer({ min: 1, max: 20_000 }), ttl });
  const plan: fc.Arbitrary<Plan> = fc.record({
    deed: fc.constantFrom(...DEEDS),
    stream: fc.boolean(),
    prompt: fc.integer({ min: 1, max: 30_000 }),
    maxTokens: fc.integer({ min: 1, max: 8_000 }),
    share: fc.constantFrom(0, 0.5, 1),
    ttl,
    tools: part,
    system: part,
    isTop: fc.boolean(),
    isSplit: fc.boolean(),
    leavesMs: fc.option(fc.integer({ min: 1, max: 60 }), { freq: 3, nil: null }),
  });
  // A silent provider is left by the worker, or the test would wait for the gateway's own limit.
  const leaving = plan.map((one) => (one.deed === "silent" ? { ...one, leavesMs: one.leavesMs ?? 40 } : one));

  it("with any worker and any provider, for a thread: a task, a killed coordinator and two retries in a row", async () => {
    const rounds = fc.record({
      plans: fc.array(leaving, { minLength: 6, maxLength: 12 }),
      threadUsd: fc.double({ min: 0.02, max: 0.5, noNaN: true }),
    });
    await fc.assert(
      fc.asyncProperty(rounds, async ({ plans, threadUsd }) => {
        const house = await open();
        const { harness } = house;
        const ids: string[] = [];
        for (let n = 0; n < 3; n += 1) {
          const last = ids.at(-1);
          if (n === 1) await harness.restart();
          const task =
            last === undefined
              ? await working(harness, { threadUsd })
              : await begun(harness, await harness.coordinator.tasks.retry(ALICE, last, {}));
          ids.push(task.id);
          await Promise.all(plans.filter((_, i) => i % 3 === n).map((one) => send(house, task, one)));
          await harness.coordinator.tasks.cancel(ALICE, task.id, true);
          await harness.until(task.id, "cancelled");
        }
        await quietly(house);
        const booked = await Promise.all(ids.map((id) => harness.ledger.spentBy(id)));
        const billed = total(house.provider.bills);
        expect(booked.reduce((sum, { usd }) => sum + usd, 0)).toBeGreaterThanOrEqual(billed - 1e-9);
        expect(billed).toBeLessThan(threadUsd + Math.max(0, ...plans.map(bill)) + 1e-9);
      }),
      { numRuns: 6, seed: SEED },
    );
  });

  it("with any worker and any provider, for a task, a person's day and the installation's day", async () => {
    const rounds = fc.record({
      plans: fc.array(leaving, { minLength: 4, maxLength: 16 }),
      taskUsd: fc.double({ min: 0.02, max: 0.5, noNaN: true }),
      userDayUsd: fc.option(fc.double({ min: 0.02, max: 0.5, noNaN: true }), { nil: null }),
      dayUsd: fc.option(fc.double({ min: 0.02, max: 0.5, noNaN: true }), { nil: null }),
    });
    await fc.assert(
      fc.asyncProperty(rounds, async ({ plans, taskUsd, userDayUsd, dayUsd }) => {
        const house = await open({ ...(userDayUsd !== null && { userDayUsd }), ...(dayUsd !== null && { dayUsd }) });
        const tasks = [
          await working(house.harness, { usd: taskUsd }),
          await working(house.harness, { usd: taskUsd / 2 }),
        ];
        await Promise.all(plans.map((one, n) => send(house, tasks[n % 2] ?? tasks[0]!, one)));
        await quietly(house);
        const dearest = Math.max(0, ...plans.map(bill));
        for (const [n, { id }] of tasks.entries()) {
          const billed = total(house.provider.bills.filter(({ task }) => task === id));
          expect((await house.harness.ledger.spentBy(id)).usd).toBeGreaterThanOrEqual(billed - 1e-9);
          expect(billed).toBeLessThan(taskUsd / (n + 1) + dearest + 1e-9);
        }
        const billed = total(house.provider.bills);
        for (const limit of [userDayUsd, dayUsd])
          if (limit !== null) expect(billed).toBeLessThan(limit + dearest + 1e-9);
        for (const close of closers.splice(0).reverse()) await close();
      }),
      { seed: 20_261_128, numRuns: 25 },
    );
  });
});
