/** The agent behind the real gateway: budget, key and rate limit. */
import { NO_QUOTAS } from "../../../../src/core/quotas.ts";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, it } from "vitest";
import { DEFAULT_RULES } from "../../../../src/broker/model/request/policy.ts";
import { createModelGateway } from "../../../../src/broker/model/gateway.ts";
import type { UsageLedger } from "../../../../src/core/ports/records/usage-ledger.ts";
import type { Scenario } from "../../../../src/broker/model/fake/scenario.ts";
import { startFakeModel, type FakeModel } from "../../../../src/broker/model/fake/server.ts";
import { PRICES } from "../../../../src/broker/model/price-table.ts";
import { createProviderRateLimit } from "../../../../src/broker/model/rate-limit.ts";
import { createBudgetService } from "../../../../src/coordinator/services/budget.ts";
import { systemClock } from "../../../../src/core/lib/runtime/system-clock.ts";
import type { Budget } from "../../../../src/core/task.ts";
import { seededIds } from "../../../support/manual-clock.ts";
import { openHarness, quiet } from "../../../support/coordinator/harness.ts";
import { TaskFixture, FINISH, AgentRun, step, type AgentRunOptions } from "./harness.ts";

const KEY = "sk-real-key-of-the-server";
const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

interface GatewayFixture {
  readonly fake: FakeModel;
  readonly ledger: UsageLedger;
  readonly taskId: string;
  readonly fixture: TaskFixture;
  agentRun(options?: Partial<AgentRunOptions>): AgentRun;
}

async function open(scenario: Scenario, budget: Budget): Promise<GatewayFixture> {
  const harness = await openHarness({ settings: { maxConcurrent: 5 } });
  const fake = await startFakeModel({ scenarios: { default: scenario }, apiKey: KEY });
  const fixture = new TaskFixture();
  closers.push(
    () => harness.close(),
    () => fake.close(),
    () => fixture.close(),
  );
  const { id } = await harness.submit({ budget });
  await harness.until(id, "provisioning");
  await harness.untilWorker(id);
  await harness.fakeWorkers.send(harness.coordinator.workerApi, id, ["ready", {}]);
  const task = await harness.until(id, "running.working");
  const { ledger } = harness;
  const { taskLog } = harness.coordinator;
  const limits = { quotas: NO_QUOTAS, userDayUsd: null, dayUsd: null };
  const modelBudget = createBudgetService({
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
    budget: modelBudget,
    rules: DEFAULT_RULES,
    prices: PRICES,
    rate,
    log: quiet,
  });
  const server = createServer((request, response) => {
    const gone = new AbortController();
    response.on("close", () => gone.abort());
    const { attempt } = task.snapshot.context;
    void serve({ taskId: id, attempt, request, response, path: request.url ?? "", signal: gone.signal });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  const baseURL = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const agentRun = (options: Partial<AgentRunOptions> = {}): AgentRun =>
    new AgentRun({ model: { baseURL, token: "att_token" }, ...options, fixture });
  return { fake, ledger, taskId: id, fixture, agentRun };
}

it("[A8] summaries, retries and faults in mid-stream pass the gateway; the ledger matches the provider's usage", async () => {
  const long = { usage: { input_tokens: 160_000 } };
  const { fake, ledger, taskId, agentRun } = await open(
    {
      turns: [
        { tools: [step("a")], faults: [{ kind: "error_event", after: 3 }] },
        { tools: [step("b")], ...long },
        { tools: [step("c")], faults: [{ kind: "drop", after: 4 }, { kind: "no_message_stop" }] },
        { tools: [FINISH] },
      ],
    },
    { usd: 5 },
  );
  const run = agentRun();
  expect(await run.run()).toMatchObject({ title: "Do the work" });
  expect(run.notices().filter((code) => code === "model_retry")).toHaveLength(3);
  expect(run.notices()).toContain("compacted");
  expect(
    fake.requests().filter(({ request, status }) => request.compaction !== undefined && status === 200),
  ).toHaveLength(1);
  expect((await ledger.spentBy(taskId)).requests).toBe(fake.requests().filter(({ status }) => status === 200).length);
});

it("[A8] [G4] a budget that is used up becomes a question; `stop` ends the task with its reason and its work saved", async () => {
  const turns = Array.from({ length: 60 }, (_, i) => ({ tools: [step(`s${i}`)], usage: { output_tokens: 1_000 } }));
  const { fake, ledger, taskId, fixture, agentRun } = await open({ turns }, { usd: 0.1 });
  const decisions: ("continue" | "stop")[] = ["continue", "stop"];
  const failure: unknown = await agentRun({ budget: decisions })
    .run()
    .catch((thrown: unknown) => thrown);
  expect(failure).toMatchObject({ code: "budget_exceeded" });
  expect(decisions).toEqual([]);
  expect(fixture.checkpoint).not.toBeNull();
  const { usd } = await ledger.spentBy(taskId);
  expect(usd).toBeGreaterThan(0.09);
  expect(usd).toBeLessThan(0.1 + 0.05);
  expect(fake.spentUsd()).toBeGreaterThanOrEqual(usd * 0.99);
});

it("[A5] [G4] used-up turns become a question too", async () => {
  const turns = Array.from({ length: 20 }, (_, i) => ({ tools: [step(`s${i}`)] }));
  const { fixture, agentRun } = await open({ turns }, { turns: 5 });
  const run = agentRun({ spec: { budget: { turns: 5 } } });
  await expect(run.run()).rejects.toMatchObject({ code: "budget_exceeded" });
  expect(fixture.ran()).toHaveLength(5);
});
