/**
 * Budgets that are used up: a real coordinator, the gateway over real HTTP, the fake model, fake
 * workers.
 */
import Anthropic from "@anthropic-ai/sdk";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { DEFAULT_RULES } from "../../../src/broker/model/request/policy.ts";
import { createModelGateway } from "../../../src/broker/model/gateway.ts";
import { remainingBudget, timeQuestion } from "../../../src/core/budget.ts";
import { startFakeModel, type FakeModel } from "../../../src/broker/model/fake/server.ts";
import type { Turn } from "../../../src/broker/model/fake/scenario.ts";
import { PRICES } from "../../../src/broker/model/price-table.ts";
import { createProviderRateLimit } from "../../../src/broker/model/rate-limit.ts";
import type { CoordinatorSettings } from "../../../src/coordinator/coordinator.ts";
import { systemClock } from "../../../src/core/lib/runtime/system-clock.ts";
import { DEFAULT_POLICY, type Budget, type Task } from "../../../src/core/task.ts";
import { toWireEvent, toWireTask } from "../../../src/core/protocol/mapping.ts";
import { ALICE, BOB, openHarness, quiet, type Harness } from "../../support/coordinator/harness.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const KEY = "sk-real-key-of-the-server";
const NO_MORE = { code: "budget_exceeded", message: "No more.", evidence: null };
const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

interface House {
  readonly harness: Harness;
  readonly fake: FakeModel;
  ask(task: Task): Promise<unknown>;
}

async function open(settings: Partial<CoordinatorSettings> = {}, turn: Turn = { say: "Hello." }): Promise<House> {
  const harness = await openHarness({ settings: { maxConcurrent: 4, ...settings } });
  closers.push(() => harness.close());
  const fake = await startFakeModel({ scenarios: { default: { turns: [turn], afterwards: "again" } }, apiKey: KEY });
  closers.push(() => fake.close());
  const rate = createProviderRateLimit({ clock: systemClock, longestMs: 60_000 });
  const server = createServer((request, response) => {
    const [, taskId = "", attempt = "", path = ""] = /^\/([^/]+)\/(\d+)(\/.*)$/.exec(request.url ?? "") ?? [];
    const workerApi = harness.coordinator.budget;
    const serve = createModelGateway({
      baseUrl: fake.url,
      apiKey: KEY,
      budget: workerApi,
      rules: DEFAULT_RULES,
      prices: PRICES,
      rate,
      log: quiet,
    });
    void serve({ taskId, attempt: Number(attempt), request, response, path, signal: new AbortController().signal });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  const { port } = server.address() as AddressInfo;
  async function ask(task: Task): Promise<unknown> {
    const { attempt } = (await harness.task(task.id)).snapshot.context;
    const client = new Anthropic({
      apiKey: "att",
      baseURL: `http://127.0.0.1:${port}/${task.id}/${attempt}`,
      maxRetries: 0,
    });
    const messages = [{ role: "user" as const, content: "Hi." }];
    return await client.messages
      .stream({ model: "claude-opus-5-5", max_tokens: 1_000, messages })
      .finalMessage()
      .then(
        () => "answered",
        (error: { status?: number; type?: string }) => error,
      );
  }
  return { harness, fake, ask };
}

async function working(harness: Harness, budget: Budget): Promise<Task> {
  const { id } = await harness.submit({ budget });
  await ready(harness, id);
  return await harness.until(id, "running.working");
}

async function ready(harness: Harness, id: string): Promise<void> {
  await harness.until(id, "provisioning");
  await harness.untilWorker(id);
  await harness.fakeWorkers.send(harness.coordinator.workerApi, id, ["ready", {}]);
}

const readEvents = async (harness: Harness, id: string, type: string) =>
  (await harness.store.events(id, 0, 1_000)).items.filter((event) => event.type === type);
const answer = (harness: Harness, task: Task, text: string, questionId = task.snapshot.context.question?.id ?? "") =>
  harness.coordinator.tasks.answer(ALICE, task.id, { questionId, text });
const standing = async (harness: Harness, id: string) =>
  harness.coordinator.workerApi.budget(id, (await harness.task(id)).snapshot.context.attempt);
const REFUSED = { status: 402, type: "budget_exceeded" };

describe("[G5] a budget that is used up is a question", () => {
  it("the question is open before the refusal; `continue` grants the same amount again, and the task goes on", async () => {
    const { harness, ask } = await open();
    const task = await working(harness, { turns: 2 });
    expect([await ask(task), await ask(task)]).toEqual(["answered", "answered"]);
    expect(await ask(task)).toMatchObject(REFUSED);
    const asked = await harness.task(task.id);
    expect(asked.snapshot.value).toEqual({ running: "awaiting_input" });
    expect(asked.snapshot.context.question).toMatchObject({ id: "budget_turns_2", options: ["continue", "stop"] });
    expect(await standing(harness, task.id)).toEqual({ state: "asked", questionId: "budget_turns_2" });

    const after = await answer(harness, asked, "yes");
    expect(remainingBudget(after)).toEqual({ turns: 4 });
    expect(toWireTask(after, null, null).budget).toEqual({ turns: 4 });
    const { attempt, workerSeq } = after.snapshot.context;
    const commands = await harness.coordinator.workerApi.commands(task.id, attempt, 0, 0, new AbortController().signal);
    expect(commands).toMatchObject([{ type: "answer", questionId: "budget_turns_2", text: "continue" }]);
    expect(workerSeq).toBe(1);
    expect(await standing(harness, task.id)).toEqual({ state: "continue" });
    expect([await ask(task), await ask(task)]).toEqual(["answered", "answered"]);
    expect(await ask(task)).toMatchObject(REFUSED);
    expect((await harness.task(task.id)).snapshot.context.question?.id).toBe("budget_turns_4");
  });

  it("a budget in dollars as well, also when an answer is cut mid-stream; an amount grants that amount", async () => {
    const { harness, fake, ask } = await open({}, { say: "x".repeat(4_000) });
    const task = await working(harness, { usd: 0.01 });
    expect(await ask(task)).toMatchObject({ type: "budget_exceeded" });
    const asked = await harness.until(task.id, "running.awaiting_input");
    expect(asked.snapshot.context.question?.id).toBe("budget_usd_10000");
    expect(asked.snapshot.context.usage.usd).toBeGreaterThan(0.009);
    expect(remainingBudget(await answer(harness, asked, "$5"))).toEqual({ usd: 5.01 });
    expect(await ask(task)).toBe("answered");
    expect(fake.requests()).toHaveLength(2);
  });

  it("an answer that is neither continue, stop nor an amount is refused, and the question stays open", async () => {
    const { harness, ask } = await open();
    const task = await working(harness, { turns: 1 });
    await ask(task);
    await ask(task);
    const asked = await harness.task(task.id);
    for (const text of ["maybe", "-5", "0", "$", "1e9", "yes and no"])
      await expect(answer(harness, asked, text), text).rejects.toMatchObject({ code: "invalid_request" });
    await expect(answer(harness, asked, "yes", "budget_turns_7")).rejects.toMatchObject({ code: "not_found" });
    expect((await harness.task(task.id)).snapshot.context.question?.id).toBe("budget_turns_1");
    await answer(harness, asked, "stop");
    await expect(answer(harness, asked, "yes")).rejects.toMatchObject({ code: "already_answered" });
  });

  it("`stop` reaches the worker, and further refusals open no question", async () => {
    const { harness, ask } = await open();
    const task = await working(harness, { turns: 1 });
    await ask(task);
    await ask(task);
    const stopped = await answer(harness, await harness.task(task.id), "no");
    expect(stopped.snapshot.value).toEqual({ running: "working" });
    expect(await ask(task)).toMatchObject(REFUSED);
    expect(await standing(harness, task.id)).toMatchObject({ state: "stop" });
    expect(await readEvents(harness, task.id, "question")).toHaveLength(1);
    await harness.fakeWorkers.send(harness.coordinator.workerApi, task.id, ["failed", NO_MORE]);
    expect((await harness.until(task.id, "failed")).snapshot.context.failure?.code).toBe("budget_exceeded");
  });

  it("parked: `continue` resumes the task with the larger budget, also after a restart", async () => {
    const { harness, ask } = await open();
    const task = await working(harness, { turns: 1 });
    await ask(task);
    await ask(task);
    await harness.clock.jump(DEFAULT_POLICY.parkMs + 1_000);
    const parked = await harness.until(task.id, "running.parked");
    await harness.restart();
    await answer(harness, parked, "continue");
    await ready(harness, task.id);
    const again = await harness.until(task.id, "running.working");
    expect([again.snapshot.context.attempt, remainingBudget(again)]).toEqual([2, { turns: 2 }]);
    expect(await ask(again)).toBe("answered");
    expect(await ask(again)).toMatchObject(REFUSED);
  });

  it("parked: `stop` ends the task at once, without a further attempt", async () => {
    const { harness, ask } = await open();
    const task = await working(harness, { turns: 1 });
    await ask(task);
    await ask(task);
    await harness.clock.jump(DEFAULT_POLICY.parkMs + 1_000);
    const parked = await harness.until(task.id, "running.parked");
    const failed = await answer(harness, parked, "stop");
    expect([failed.state, failed.snapshot.context.failure?.code, failed.snapshot.context.attempt]).toEqual([
      "failed",
      "budget_exceeded",
      1,
    ]);
  });

  it("a worker may not ask a question with a reserved id", async () => {
    const { harness } = await open();
    const task = await working(harness, { turns: 1 });
    const question = { id: "budget_turns_1", question: "More?", options: null };
    await expect(
      harness.fakeWorkers.send(harness.coordinator.workerApi, task.id, ["question", question]),
    ).rejects.toMatchObject({
      code: "invalid_request",
    });
    expect((await harness.task(task.id)).snapshot.value).toEqual({ running: "working" });
  });

  it("a daily budget opens no question: the worker gets the reason", async () => {
    const { harness, ask } = await open({ userDayUsd: 0.0001 });
    const task = await working(harness, { usd: 5 });
    await ask(task);
    expect(await ask(task)).toMatchObject({
      ...REFUSED,
      message: expect.stringContaining("Your budget for today") as string,
    });
    expect(await standing(harness, task.id)).toMatchObject({
      state: "stop",
      reason: expect.stringContaining("today") as string,
    });
    expect(await readEvents(harness, task.id, "question")).toEqual([]);
  });

  it("a task whose daily budget is used up waits in the queue without blocking others; the next day it is claimed", async () => {
    const models = { agents: ["anthropic", "scripted"], model: "claude-opus-5-5", models: ["claude-*"] };
    const { harness, ask } = await open({ userDayUsd: 0.0001, ...models });
    await harness.clock.jump(HOUR_MS);
    const first = await working(harness, {});
    await ask(first);
    const { id } = await harness.submit({ agent: "anthropic" });
    const others = [await harness.submit({ agent: "anthropic" }, BOB), await harness.submit({ agent: "scripted" })];
    for (const other of others) await harness.until(other.id, "provisioning");
    const waiting = await harness.task(id);
    expect([waiting.state, (await harness.coordinator.operations.wait(waiting))?.reason]).toEqual(["queued", "budget"]);
    await harness.clock.jump(DAY_MS - (harness.clock.now() % DAY_MS) + 2_000);
    await harness.until(id, "provisioning");
  });

  it("[G5] during a rate limit of the provider, tasks with a model wait in the queue without blocking others", async () => {
    const { harness } = await open({
      agents: ["anthropic", "scripted"],
      model: "claude-opus-5-5",
      models: ["claude-*"],
    });
    harness.rate.noteRefusal("claude-opus-5-5", 10 * 60_000);
    const { id } = await harness.submit({ agent: "anthropic" });
    const other = await harness.submit({ agent: "scripted" });
    await harness.until(other.id, "provisioning");
    // The limit of one family of models is none of another's.
    const haiku = await harness.submit({ agent: "anthropic", model: "claude-haiku-5-5" });
    await harness.until(haiku.id, "provisioning");
    const waiting = await harness.task(id);
    expect([waiting.state, (await harness.coordinator.operations.wait(waiting))?.reason]).toEqual([
      "queued",
      "model_rate_limited",
    ]);
    await harness.clock.jump(10 * 60_000 + 2_000);
    await harness.until(id, "provisioning");
  });

  it("without a refusal the standing is `continue`", async () => {
    const { harness } = await open();
    const task = await working(harness, {});
    expect(await standing(harness, task.id)).toEqual({ state: "continue" });
  });
});

describe("[G5] the budget of a thread that is used up", () => {
  it("is asked for in the task that needs it, counts follow-ups, retries and a killed coordinator, and is raised for all", async () => {
    const { harness, ask } = await open();
    const end = async (id: string): Promise<void> => {
      const failed = { code: "agent_stuck", message: "No.", evidence: null };
      await harness.fakeWorkers.send(harness.coordinator.workerApi, id, ["failed", failed]);
      await harness.until(id, "failed");
    };
    const spent = async (...tasks: readonly Task[]): Promise<number> => {
      const all = await Promise.all(tasks.map(({ id }) => harness.ledger.spentBy(id)));
      return all.reduce((sum, { usd }) => sum + usd, 0);
    };
    const goOn = async (task: Task): Promise<Task> => {
      await ready(harness, task.id);
      return await harness.until(task.id, "running.working");
    };
    const first = await working(harness, {});
    expect(await ask(first)).toBe("answered");
    const one = await spent(first);
    await end(first.id);

    const limit = Number((one * 2.5).toFixed(6));
    const second = await goOn(await harness.coordinator.tasks.retry(ALICE, first.id, { budget: { threadUsd: limit } }));
    expect(await ask(second)).toBe("answered");
    await harness.restart();
    await end(second.id);
    const third = await goOn(await harness.coordinator.tasks.retry(ALICE, second.id, {}));
    await ask(third);
    expect(await ask(third)).toMatchObject(REFUSED);
    const asked = await harness.task(third.id);
    const id = `budget_thread_${Math.round(limit * 1e6)}`;
    expect(asked.snapshot.context.question).toMatchObject({ id });
    expect(await standing(harness, third.id)).toEqual({ state: "asked", questionId: id });
    expect(await spent(first, second, third)).toBeLessThan(limit + one * 1.5);
    const shown = async (): Promise<unknown> => [...(await harness.coordinator.budget.threads([first])).values()];
    const cost = expect.closeTo(await spent(first, second, third), 9) as number;
    expect(await shown()).toEqual([{ spentUsd: cost, limitUsd: limit }]);
    await harness.restart();
    expect(await shown()).toEqual([{ spentUsd: cost, limitUsd: limit }]);
    expect(await ask(third)).toMatchObject(REFUSED);

    expect(remainingBudget(await answer(harness, asked, "$5")).threadUsd).toBeGreaterThan(5);
    expect(await standing(harness, third.id)).toEqual({ state: "continue" });
    expect(await ask(third)).toBe("answered");
    await end(third.id);
    // An earlier task that is retried has the raised budget as well.
    const fourth = await goOn(await harness.coordinator.tasks.retry(ALICE, second.id, {}));
    expect(await ask(fourth)).toBe("answered");
  });

  it("is that of the installation where the submission names none, for follow-ups too", async () => {
    const { harness, ask } = await open({ threadUsd: 0.0001 });
    expect((await harness.submit({ budget: { threadUsd: 3 } })).spec.budget).toEqual({ threadUsd: 3 });
    const first = await working(harness, { turns: 9 });
    expect(first.spec.budget).toEqual({ turns: 9, threadUsd: 0.0001 });
    await ask(first);
    expect(await ask(first)).toMatchObject(REFUSED);
    await answer(harness, await harness.task(first.id), "stop");
    await harness.fakeWorkers.send(harness.coordinator.workerApi, first.id, ["failed", NO_MORE]);
    await harness.until(first.id, "failed");
    const sent = await harness.coordinator.tasks.message(ALICE, first.id, { text: "Go on." }, null);
    expect(sent).toMatchObject({ task: { spec: { budget: first.spec.budget } } });
  });
});

describe("[G5] minutes that are used up are a question", () => {
  const MINUTE = 60_000;
  const END = { code: "deadline_exceeded", message: "", evidence: null };
  const atWork = async (harness: Harness, minutes = 60, ms = minutes * MINUTE): Promise<Task> => {
    const task = await working(harness, { minutes });
    await workFor(harness, task.id, ms);
    return await harness.task(task.id);
  };
  const workFor = async (harness: Harness, id: string, ms: number): Promise<void> => {
    const says = { id: "m1", role: "assistant", content: [{ type: "text", text: "At work." }] };
    for (let passed = 0; passed < ms; passed += 5 * MINUTE) {
      await harness.clock.advance(Math.min(5 * MINUTE, ms - passed));
      await harness.fakeWorkers.send(harness.coordinator.workerApi, id, ["message", says]).catch(() => undefined);
    }
  };

  it("the worker's report parks the task, and the answer gives the next attempt what was left and what was granted", async () => {
    const { harness } = await open();
    const task = await atWork(harness, 60, 59 * MINUTE);
    await harness.fakeWorkers.send(harness.coordinator.workerApi, task.id, ["failed", END]);
    const parked = await harness.until(task.id, "running.parked");
    const { question } = parked.snapshot.context;
    expect(question).toMatchObject({ id: "budget_minutes_3600000", options: ["continue", "stop"] });
    const [asked] = await readEvents(harness, task.id, "question");
    expect(toWireEvent(asked!)).toMatchObject({ by: { kind: "server" }, data: { parks: true } });
    for (const text of ["maybe", "0", "-5", "$5", "1e3"])
      await expect(answer(harness, parked, text), text).rejects.toMatchObject({ code: "invalid_request" });

    await harness.restart();
    await harness.clock.jump(3 * DAY_MS);
    expect(toWireTask(await answer(harness, parked, "30 min"), null, null).budget).toEqual({ minutes: 90 });
    await ready(harness, task.id);
    const again = await harness.until(task.id, "running.working");
    expect(again.snapshot.context).toMatchObject({ attempt: 2, excused: 1 });
    const spec = await harness.coordinator.workerApi.spec(task.id, 2, new AbortController().signal);
    expect(spec.wallMs).toBe(31 * MINUTE - 15_000);
    expect(spec.notes?.[0]).toContain("A person granted more");
    await workFor(harness, task.id, 31 * MINUTE);
    const second = (await harness.until(task.id, "running.parked")).snapshot.context.question;
    expect(second).toMatchObject({ id: `budget_minutes_${90 * MINUTE}` });
    expect(second?.question).toContain("90 minutes. Continue with another 60 minutes?");
  });

  it("a worker that does not report is stopped by the task's clock, and `stop` ends the task", async () => {
    const { harness } = await open();
    const task = await atWork(harness, 10);
    const parked = await harness.until(task.id, "running.parked");
    await expect.poll(async () => (await harness.sandbox.list()).length).toBe(0);
    const failed = await answer(harness, parked, "stop");
    expect([failed.state, failed.snapshot.context.failure?.code]).toEqual(["failed", "deadline_exceeded"]);
  });

  it("a worker that reports the end of its time early asks nobody, nor does a task that has the most minutes", async () => {
    const { harness } = await open();
    const early = await atWork(harness, 60, 5 * MINUTE);
    await harness.fakeWorkers.send(harness.coordinator.workerApi, early.id, ["failed", END]);
    expect((await harness.until(early.id, "failed")).snapshot.context.failure?.code).toBe("deadline_exceeded");
    expect(timeQuestion(await working(harness, { minutes: 24 * 60 }))).toBeNull();
  });

  it("a parked task whose owner does not answer in time fails with its work kept", async () => {
    const { harness } = await open();
    const task = await atWork(harness, 10);
    await harness.until(task.id, "running.parked");
    await harness.clock.jump(DEFAULT_POLICY.answerMs + 1_000);
    expect((await harness.until(task.id, "failed")).snapshot.context.failure?.code).toBe("deadline_exceeded");
  });
});

describe("[G6] a budget that is nearly used up", () => {
  it("is reported once per kind, also over a restart, and again for a granted budget", async () => {
    const { harness, ask } = await open();
    const task = await working(harness, { turns: 5, usd: 100 });
    const near = async () =>
      (await readEvents(harness, task.id, "notice")).filter(({ data }) => data["code"] === "budget_near");
    for (let turn = 0; turn < 3; turn += 1) await ask(task);
    expect(await near()).toEqual([]);
    await ask(task);
    expect((await near()).map(({ data }) => [data["kind"], data["limit"], data["text"]])).toEqual([
      ["turns", 5, "4 turns of the budget of 5 turns are used."],
    ]);
    await ask(task);
    await harness.restart();
    expect(await ask(task)).toMatchObject(REFUSED);
    await answer(harness, await harness.task(task.id), "1");
    await ask(task);
    expect((await near()).map(({ data }) => data["limit"])).toEqual([5, 6]);
  });

  it("is reported for the thread too, once in each of its tasks that spends from there on", async () => {
    const { harness, ask } = await open();
    const near = async (id: string) =>
      (await readEvents(harness, id, "notice")).filter(({ data }) => data["code"] === "budget_near");
    const first = await working(harness, {});
    await ask(first);
    const { usd } = await harness.ledger.spentBy(first.id);
    const failed = { code: "agent_stuck", message: "No.", evidence: null };
    await harness.fakeWorkers.send(harness.coordinator.workerApi, first.id, ["failed", failed]);
    await harness.until(first.id, "failed");
    const limit = Number((usd * 3.7).toFixed(6));
    const retried = await harness.coordinator.tasks.retry(ALICE, first.id, { budget: { threadUsd: limit } });
    await ready(harness, retried.id);
    const second = await harness.until(retried.id, "running.working");
    await ask(second);
    expect(await near(second.id)).toEqual([]);
    await ask(second);
    await harness.restart();
    await ask(second);
    expect(await near(first.id)).toEqual([]);
    expect((await near(second.id)).map(({ data }) => [data["kind"], data["limit"], data["text"]])).toEqual([
      ["threadUsd", limit, expect.stringMatching(/^\$[\d.]+ of the thread's budget of \$[\d.]+ are used\.$/)],
    ]);
  });
});
