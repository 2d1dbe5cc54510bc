/**
 * Each failure of a model call, in the first turn, after tools, and in the last turn: the run ends
 * well or with its code, and no tool runs twice.
 */
import { afterEach, describe, expect, it } from "vitest";
import { faultSchema, type Fault, type Turn } from "../../../../src/broker/model/fake/scenario.ts";
import { startFakeModel, type FakeModel } from "../../../../src/broker/model/fake/server.ts";
import type { LoopSettings } from "../../../../worker/agents/anthropic/settings.ts";
import { classifyFault } from "../../../../worker/agents/anthropic/model/faults.ts";
import { TaskFixture, FINISH, KEY, AgentRun, readRecords, step } from "./harness.ts";
import { sampled } from "../../../support/random.ts";

interface Row {
  readonly name: string;
  readonly fault: Fault;
  /** `well`, or the code of the failure. */
  readonly end: string;
  /** The code of a notice that is expected. */
  readonly notice?: string;
  readonly settings?: Partial<LoopSettings>;
  readonly budget?: ("continue" | "stop")[];
}

const status = (code: number, more: object = {}): Fault => faultSchema.parse({ kind: "status", status: code, ...more });
const ALWAYS = { times: 10_000 };

const ROWS: readonly Row[] = [
  {
    name: "429 with retry-after",
    fault: status(429, { retryAfter: 0.05, times: 2 }),
    end: "well",
    notice: "model_retry",
  },
  {
    name: "429, always",
    fault: status(429, ALWAYS),
    end: "model_overloaded",
    notice: "model_retry",
    settings: { patienceMs: 100 },
  },
  { name: "529", fault: status(529, { times: 3 }), end: "well", notice: "model_retry" },
  {
    name: "529, always",
    fault: status(529, ALWAYS),
    end: "model_overloaded",
    notice: "model_retry",
    settings: { patienceMs: 100 },
  },
  { name: "500", fault: status(500), end: "well", notice: "model_retry" },
  { name: "drop in mid-stream", fault: { kind: "drop", after: 4, times: 2 }, end: "well", notice: "model_retry" },
  { name: "drop before the first event", fault: { kind: "drop", after: 0 }, end: "well", notice: "model_retry" },
  { name: "stall", fault: { kind: "stall", after: 3 }, end: "well", notice: "model_retry", settings: { idleMs: 250 } },
  {
    name: "stall before the first event",
    fault: { kind: "stall", after: 0 },
    end: "well",
    notice: "model_retry",
    settings: { idleMs: 250 },
  },
  { name: "error event", fault: { kind: "error_event", after: 3, times: 2 }, end: "well", notice: "model_retry" },
  {
    name: "an error event that does not pass",
    fault: { kind: "error_event", after: 3, type: "authentication_error" },
    end: "model_auth",
  },
  { name: "no message_stop", fault: { kind: "no_message_stop" }, end: "well", notice: "model_retry" },
  { name: "refusal", fault: { kind: "refusal" }, end: "refused" },
  { name: "cut tool JSON", fault: { kind: "cut_tool_json" }, end: "well" },
  { name: "invalid tool JSON", fault: { kind: "invalid_tool_json" }, end: "well", notice: "model_retry" },
  { name: "invalid tool JSON, always", fault: { kind: "invalid_tool_json", ...ALWAYS }, end: "agent_error" },
  {
    name: "context limit as an error",
    fault: { kind: "context_limit", form: "error" },
    end: "well",
    notice: "compacted",
  },
  {
    name: "context limit as a stop reason",
    fault: { kind: "context_limit", form: "stop" },
    end: "well",
    notice: "compacted",
  },
  { name: "context limit, always", fault: { kind: "context_limit", form: "error", ...ALWAYS }, end: "agent_error" },
  { name: "a request that is too large", fault: status(413), end: "well", notice: "compacted" },
  { name: "a refused key", fault: status(401), end: "model_auth" },
  { name: "no quota", fault: status(402), end: "model_quota" },
  {
    name: "the task's budget, and a person who stops",
    fault: status(402, { type: "budget_exceeded" }),
    end: "budget_exceeded",
  },
  {
    name: "the task's budget in mid-stream, and a person who adds to it",
    fault: { kind: "error_event", after: 3, type: "budget_exceeded" },
    end: "well",
    budget: ["continue"],
  },
  { name: "a request that is not understood", fault: status(400), end: "agent_error" },
  { name: "an unknown model", fault: status(404), end: "agent_error" },
];

const PLACES = ["first turn", "after tools", "last turn"] as const;

const open: FakeModel[] = [];
const fixtures: TaskFixture[] = [];
afterEach(async () => {
  for (const fixture of fixtures.splice(0)) fixture.close();
  await Promise.all(open.splice(0).map((fake) => fake.close()));
});

function turnsWith(fault: Fault, place: number): Turn[] {
  const turns: Turn[] = [{ tools: [step("a")] }, { tools: [step("b")] }, { tools: [FINISH] }];
  const faulty: Turn = { ...turns[place], faults: [fault] };
  // A cut-off answer stays in the conversation; the model repeats its call in the next turn.
  const again = fault.kind === "cut_tool_json" ? [turns[place] ?? {}] : [];
  return [...turns.slice(0, place), faulty, ...again, ...turns.slice(place + 1)];
}

const AT = sampled(
  PLACES.map((name, place) => ({ name, place })),
  1,
);
describe.each(AT)("[A8] faults: $name", ({ place }) => {
  it.each(ROWS)("$name", async ({ fault, end, notice, settings, budget }) => {
    const fixture = new TaskFixture();
    fixtures.push(fixture);
    const fake = await startFakeModel({ scenarios: { default: { turns: turnsWith(fault, place) } }, apiKey: KEY });
    open.push(fake);
    const agentRun = new AgentRun({
      fixture,
      model: { baseURL: fake.url, token: KEY },
      settings: settings ?? {},
      budget: [...(budget ?? [])],
    });
    const code = await agentRun.run().then(
      () => "well",
      (thrown: { code?: string }) => thrown.code ?? String(thrown),
    );
    expect(code).toBe(end);
    expect(fixture.ran()).toEqual(end === "well" ? ["a", "b"] : ["a", "b"].slice(0, place));
    if (notice !== undefined) expect(agentRun.notices()).toContain(notice);
    for (const { text, code: kind } of agentRun.of("notice"))
      if (kind === "model_retry") expect(text).toMatch(/Next try at \d\d:\d\d:\d\d UTC/);
    const lines = readRecords(fixture.file).map(({ data }) => data);
    const calls = lines.flatMap(({ kind, id }) => (kind === "call" ? [id] : []));
    expect(new Set(calls).size).toBe(calls.length);
    if (notice === "compacted") expect(lines.find(({ kind }) => kind === "compacted")?.["block"]).not.toBeNull();
  });
});

it("[A8] a model that thinks for long and only pings is not asked again", async () => {
  const fixture = new TaskFixture();
  fixtures.push(fixture);
  // A busy machine is silent for seconds too.
  const thinking: Turn = { tools: [FINISH], pings: 14, delayMs: 500 };
  const fake = await startFakeModel({ scenarios: { default: { turns: [thinking] } }, apiKey: KEY });
  open.push(fake);
  const agentRun = new AgentRun({ fixture, model: { baseURL: fake.url, token: KEY }, settings: { idleMs: 5_000 } });
  await agentRun.run();
  expect(agentRun.notices()).not.toContain("model_retry");
  expect(fake.requests()).toHaveLength(1);
});

describe("[A8] classification of failures", () => {
  const classify = (status: number, headers: Record<string, string>): unknown =>
    classifyFault({ status, headers: new Headers(headers) }, 1_000);

  it("the pause is read from each form of the header", () => {
    expect(classify(429, { "retry-after": "2" })).toMatchObject({ kind: "again", afterMs: 2_000 });
    expect(classify(429, { "retry-after-ms": "30" })).toMatchObject({ afterMs: 30 });
    expect(classify(529, { "retry-after": new Date(61_000).toUTCString() })).toMatchObject({ afterMs: 60_000 });
    expect(classify(503, {})).toMatchObject({ afterMs: null });
  });

  it("a spend limit is not classified as a rate limit", () => {
    expect(
      classifyFault({ status: 429, type: "rate_limit_error", errorCode: "contract_spend_limit_reached" }, 0),
    ).toMatchObject({
      kind: "fatal",
      code: "model_quota",
    });
  });
});
