/**
 * What a real model does to a long conversation: answers without content, summaries in the middle
 * of what people say, refusals of the history, of settings and of the task.
 */
import { afterEach, describe, expect } from "vitest";
import { startFakeModel, type FakeModel, type FakeModelOptions } from "../../../../src/broker/model/fake/server.ts";
import type { Scenario } from "../../../../src/broker/model/fake/scenario.ts";
import { computePrice } from "../../../../src/broker/model/prices.ts";
import { TaskFixture, FINISH, KEY, AgentRun, readRecords, step, type AgentRunOptions } from "./harness.ts";
import { inTurn } from "../../../support/vitest/full-run.ts";

const it = inTurn(3);

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

interface Ran {
  readonly fixture: TaskFixture;
  readonly fake: FakeModel;
  readonly agentRun: AgentRun;
  /** How the run ended: `well`, or the code of the failure. */
  readonly end: string;
}

interface Options extends Partial<AgentRunOptions> {
  readonly fakeOptions?: Partial<FakeModelOptions>;
  readonly before?: (agentRun: AgentRun) => void;
}

async function run(scenario: Scenario, { fakeOptions, before, ...options }: Options = {}): Promise<Ran> {
  const fake = await startFakeModel({ scenarios: { default: scenario }, apiKey: KEY, ...fakeOptions });
  const fixture = options.fixture ?? new TaskFixture();
  closers.push(
    () => fake.close(),
    () => fixture.close(),
  );
  const agentRun = new AgentRun({ model: { baseURL: fake.url, token: KEY }, ...options, fixture });
  before?.(agentRun);
  const end = await agentRun.run().then(
    () => "well",
    (thrown: { code?: string }) => thrown.code ?? String(thrown),
  );
  return { fixture, fake, agentRun, end };
}

const sent = (fake: FakeModel, index = -1): string => JSON.stringify(fake.requests().at(index)?.request.messages);
const records = (fixture: TaskFixture, kind: string): Record<string, unknown>[] =>
  readRecords(fixture.file).flatMap(({ data }) => (data["kind"] === kind ? [data] : []));

/** The transcript of an earlier task of the thread, for the next one. */
function handOver(fixture: TaskFixture): TaskFixture {
  const next = new TaskFixture();
  closers.push(() => next.close());
  next.adopt(
    readRecords(fixture.file)
      .map(({ data }) => JSON.stringify({ attempt: 0, data }))
      .join("\n"),
  );
  return next;
}

describe("[A11] an answer that cannot be sent back is asked for again", () => {
  const only = (turn: Scenario["turns"][number]): Scenario => ({
    turns: [{ tools: [step("a")] }, { ...turn, faults: [{ kind: "only_thinking", times: 2 }], tools: [FINISH] }],
  });

  it("only thinking, cut off: the room doubles each time, and the third answer is heard", async () => {
    const { fake, fixture, agentRun, end } = await run(only({ stop: "max_tokens" }), {
      settings: { maxTokens: 32_000 },
    });
    expect(end).toBe("well");
    expect(fixture.ran()).toEqual(["a"]);
    expect(fake.requests().map(({ status, request }) => [status, request.max_tokens])).toEqual([
      [200, 32_000],
      [200, 32_000],
      [200, 64_000],
      [200, 128_000],
    ]);
    expect(sent(fake)).toContain("reached its length limit before");
    expect(agentRun.notices()).toEqual([]);
  });

  it("only thinking at the end of a turn, with or without blank text", async () => {
    const { fake, end } = await run(only({ stop: "end_turn" }));
    expect([end, fake.requests().length]).toEqual(["well", 4]);
    const blank = await run({
      turns: [{ tools: [step("a")] }, { say: "\n\n", faults: [{ kind: "only_thinking" }], tools: [FINISH] }],
    });
    expect(blank.end).toBe("well");
  });

  it("three answers in a row without content end the task with the reason", async () => {
    const { fake, end } = await run({ turns: [{ think: "Hm.", stop: "max_tokens" }], afterwards: "again" });
    expect([end, fake.requests().length]).toEqual(["agent_stuck", 3]);
  });

  it("the room ends at the model's limit, and a transcript that stores such an answer goes on", async () => {
    const scenario: Scenario = { turns: [{ think: "Hm.", stop: "max_tokens" }, { tools: [FINISH] }] };
    const old = await run(scenario, { spec: { model: "claude-haiku-4-5" }, settings: { maxTokens: 50_000 } });
    expect(old.end).toBe("agent_stuck");
    expect(old.fake.requests().map(({ request }) => request.max_tokens)).toEqual([50_000, 64_000, 64_000]);
    const next = handOver(old.fixture);
    const later = await run({ turns: [{ tools: [FINISH] }] }, { fixture: next, spec: { model: "claude-haiku-4-5" } });
    expect([later.end, later.fake.requests()[0]?.status]).toEqual(["well", 200]);
  });
});

describe("[A12] a summary keeps the current task and what people say after it", () => {
  const long = { usage: { input_tokens: 150_000 } };

  it("of a follow-up task it keeps that task, not the first one", async () => {
    const first = await run({ turns: [{ tools: [step("a")] }, { tools: [FINISH] }] }, { spec: { prompt: "First." } });
    const { fake, end } = await run(
      { turns: [{}, {}, { tools: [step("b")], ...long }, { tools: [FINISH] }] },
      {
        fixture: handOver(first.fixture),
        spec: { prompt: "Second." },
        instructions: "Use tabs.",
        settings: { compaction: "own" },
      },
    );
    expect(end).toBe("well");
    expect(sent(fake)).toContain("<task>\\nSecond.");
    expect(sent(fake)).not.toContain("<task>\\nFirst.");
    expect(sent(fake)).toContain("Today is ");
  });

  it.each(["own", "provider"] as const)("a message during the work stays as it was said (%s)", async (compaction) => {
    const { fake, end } = await run(
      { turns: [{ tools: [step("a")], ...long }, { tools: [step("b")] }, { tools: [FINISH] }] },
      {
        settings: { compaction },
        onTool: (agentRun) => agentRun.of("tool.started").length === 1 && agentRun.sendMessage("Use 7 tabs."),
      },
    );
    expect(end).toBe("well");
    expect(sent(fake)).toContain("Use 7 tabs.");
  });

  it("a message that was heard before the summary was begun stays too", async () => {
    const { fake, end } = await run(
      { turns: [{ tools: [FINISH], ...long }, { tools: [step("b")] }, { tools: [FINISH] }] },
      { settings: { compaction: "own" }, before: (agentRun) => agentRun.sendMessage("Then 7 more.", "follow_up") },
    );
    expect(end).toBe("well");
    expect(sent(fake)).toContain("Then 7 more.");
  });

  it("its own request reads the cache and writes nothing", async () => {
    const words = "Some output of a command. ".repeat(2_000);
    const say = { name: "bash", input: { command: `echo '${words}'` } };
    const turns = [{ tools: [say] }, { tools: [say] }, { tools: [step("a")], ...long }, { tools: [FINISH] }];
    for (const compaction of ["own", "provider"] as const) {
      const { fake, end } = await run({ turns }, { settings: { compaction } });
      expect(end).toBe("well");
      const summary = fake.requests()[3];
      expect(summary?.request.tool_choice).toBeUndefined();
      const whole = JSON.stringify(summary?.request.messages).length / 4;
      const dear = computePrice("claude-sonnet-5-5", {
        inputTokens: whole,
        outputTokens: 0,
        cacheReadTokens: 0,
        cacheWrite5mTokens: 0,
        cacheWrite1hTokens: 0,
      });
      expect(summary?.usd).toBeLessThan(dear / 3);
    }
  });

  it("a call in place of the summary is refused once, without a loss of the cache", async () => {
    const { fake, fixture, end } = await run(
      { turns: [{ tools: [step("a")], ...long }, { tools: [FINISH] }], summary: "calls_first" },
      { settings: { compaction: "own" } },
    );
    expect(end).toBe("well");
    expect(fixture.ran()).toEqual(["a"]);
    expect(sent(fake, 2)).toContain("Write the summary now, as text.");
    expect(sent(fake)).toContain("Summary of the turns up to 1.");
  });

  it("the size is a setting, and a window of a million can be used", async () => {
    const sizes = async (spec: object, settings: object = {}): Promise<unknown> =>
      records((await run({ turns: [{ tools: [FINISH] }] }, { spec, settings })).fixture, "begin")[0]?.["compactAt"];
    expect(await sizes({})).toBe(150_000);
    expect(await sizes({ compactAt: 800_000 })).toBe(800_000);
    expect(await sizes({ compactAt: 5_000_000 })).toBe(900_000);
    expect(await sizes({ compactAt: 800_000, model: "claude-haiku-4-5" })).toBe(180_000);
  });
});

describe("[A19] tools and system prompt are cached for an hour, for all tasks", () => {
  it("a task six minutes after another one reads them and writes nothing of them", async () => {
    let now = 0;
    const fake = await startFakeModel({
      scenarios: { default: { turns: [{ tools: [FINISH] }] } },
      apiKey: KEY,
      now: () => now,
    });
    closers.push(() => fake.close());
    for (const taskId of ["task_1", "task_2"]) {
      const fixture = new TaskFixture();
      closers.push(() => fixture.close());
      const spec = { taskId, prompt: `Do ${taskId}.` };
      await new AgentRun({ fixture, model: { baseURL: fake.url, token: KEY }, spec }).run();
      now += 6 * 60_000;
    }
    const [first, second] = fake.requests().map(({ prompt }) => prompt);
    expect(first?.written1h).toBeGreaterThan(1_000);
    expect(second).toMatchObject({ read: first?.written1h, written1h: 0 });
    // The messages of a task end with it.
    expect(second?.written5m).toBeGreaterThan(0);
  });
});

describe("[A13] finish counts alone, or when every other call of its answer succeeded", () => {
  const fails = { name: "edit", input: { path: "a.txt", old: "absent", new: "x" } };

  it.each([
    ["after the failing calls", [fails, FINISH]],
    ["before them", [FINISH, fails]],
  ])("%s", async (_name, tools) => {
    const { fake, agentRun, end } = await run({ turns: [{ tools }, { tools: [step("a")] }, { tools: [FINISH] }] });
    expect(end).toBe("well");
    expect(fake.requests()).toHaveLength(3);
    expect(sent(fake, 1)).toContain("Not accepted: other calls of this answer did not succeed");
    expect(sent(fake, 1)).toContain("edit a.txt");
    expect(agentRun.notices()).toEqual([]);
  });

  it("with calls that succeed it counts", async () => {
    const { fake, end } = await run({ turns: [{ tools: [FINISH, step("a")] }] });
    expect([end, fake.requests().length]).toEqual(["well", 1]);
  });
});

describe("[A14] what the provider refuses once is not sent again", () => {
  const refusal = "messages.1.content.0: the thinking block is bound to a different conversation";
  const refuses = (times: number) => ({ faults: [{ kind: "status" as const, status: 400, message: refusal, times }] });
  const turns = [{ tools: [step("a")] }, { tools: [FINISH] }];

  it("an inherited conversation is begun again with the task, its log and the changes", async () => {
    const first = await run({ turns }, { spec: { prompt: "First." } });
    const { fake, fixture, agentRun, end } = await run(
      { turns: [{}, {}, { ...refuses(1), tools: [step("b")] }, { tools: [FINISH] }] },
      {
        fixture: handOver(first.fixture),
        spec: { taskId: "task_2", prompt: "Second." },
        before: (one) => one.sendMessage("And 7 tabs."),
      },
    );
    expect(end).toBe("well");
    expect(fixture.ran()).toEqual(["b"]);
    expect(agentRun.notices()).toEqual(["conversation_restarted"]);
    const again = sent(fake, 1);
    for (const words of ["<task>\\nSecond.", "And 7 tabs.", "It is done and was checked.", "git diff"])
      expect(again).toContain(words);
    expect(fake.requests()[1]?.request.messages).toHaveLength(1);
  });

  it("a second refusal ends the task", async () => {
    const first = await run({ turns });
    const { agentRun, end } = await run(
      { turns: [{}, {}, refuses(2)] },
      { fixture: handOver(first.fixture), spec: { taskId: "task_2" } },
    );
    expect([end, agentRun.notices()]).toEqual(["agent_error", ["conversation_restarted"]]);
  });

  it("a later attempt begins again too, and names the changes of the first", async () => {
    const fixture = new TaskFixture();
    const edit = { name: "edit", input: { path: "a.txt", old: "one", new: "seven" } };
    const first = await run({ turns: [{ tools: [edit] }, { ...refuses(9) }] }, { fixture, saveEach: 1 });
    expect(first.end).toBe("agent_error");
    fixture.nextAttempt();
    const second = await run({ turns: [{ tools: [FINISH] }, { ...refuses(1) }] }, { fixture });
    expect(second.end).toBe("well");
    expect(sent(second.fake)).toContain("+seven");
  });

  it("thinking and effort are learned where the provider lists no capabilities", async () => {
    const proxy = { fakeOptions: { models: "unlisted" as const } };
    const haiku = await run({ turns }, { ...proxy, spec: { model: "claude-haiku-4-5", effort: "max" } });
    expect(haiku.end).toBe("well");
    const last = haiku.fake.requests().at(-1)?.request;
    expect(last?.thinking).toMatchObject({ type: "enabled" });
    expect(last?.output_config).toBeUndefined();
    const opus = await run({ turns }, { ...proxy, spec: { model: "claude-opus-4-5", effort: "xhigh" } });
    expect(opus.end).toBe("well");
    expect(opus.fake.requests().at(-1)?.request.output_config).toEqual({ effort: "high" });
    expect(new Set(opus.agentRun.notices())).toEqual(new Set(["model_settings"]));
  });

  it("a cache mark of an hour is learned, also by a conversation that is already under way", async () => {
    const proxy = { fakeOptions: { refuses: ["ttl" as const] } };
    const marks = (fake: FakeModel): string[] =>
      fake
        .requests()
        .map(({ request }) => JSON.stringify((request.system as object[])[0]).replace(/.*cache_control/, ""));
    const short = '":{"type":"ephemeral"}}';
    const first = await run({ turns }, proxy);
    expect([first.end, first.agentRun.notices()]).toEqual(["well", ["model_settings"]]);
    expect(marks(first.fake)).toEqual([short, short]);
    expect(records(first.fixture, "settings")).toMatchObject([{ refused: ["hour_cache"] }]);
    const direct = await run({ turns });
    expect(marks(direct.fake)[0]).toContain('"ttl":"1h"');
    const next = await run({ turns: [{}, {}, ...turns] }, { ...proxy, fixture: handOver(direct.fixture) });
    expect([next.end, new Set(marks(next.fake))]).toEqual(["well", new Set([short])]);
    expect(records(next.fixture, "settings")).toHaveLength(1);
  });

  it("where it lists them they are asked for, and people see a lower effort", async () => {
    const { fake, agentRun, end } = await run({ turns }, { spec: { model: "claude-opus-4-5", effort: "max" } });
    expect(end).toBe("well");
    expect(fake.requests().map(({ status }) => status)).toEqual([200, 200]);
    expect(fake.requests()[0]?.request).toMatchObject({
      thinking: { type: "enabled" },
      output_config: { effort: "high" },
    });
    expect(agentRun.notices()).toEqual(["effort_lowered"]);
    const current = await run({ turns }, { spec: { effort: "xhigh" } });
    expect(current.fake.requests()[0]?.request.output_config).toEqual({ effort: "xhigh" });
  });

  it("a task that the model declines goes to the fall-back model, once", async () => {
    const declined = { turns: [{ tools: [step("a")] }, { faults: [{ kind: "refusal" as const }], tools: [FINISH] }] };
    const { fake, fixture, agentRun, end } = await run(declined, { spec: { fallbackModel: "claude-opus-5-5" } });
    expect(end).toBe("well");
    expect(fake.requests().map(({ model }) => model)).toEqual([
      "claude-sonnet-5-5",
      "claude-sonnet-5-5",
      "claude-opus-5-5",
    ]);
    expect(fixture.ran()).toEqual(["a"]);
    expect(sent(fake)).toContain("echo a >> log.txt");
    expect(agentRun.notices()).toEqual(["fallback_model"]);
    expect((await run(declined)).end).toBe("refused");
  });
});
