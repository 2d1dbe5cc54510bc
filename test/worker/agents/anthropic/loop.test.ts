/** The loop with the fake model: answers, messages of people, limits and checks. */
import { afterEach, describe, expect } from "vitest";
import { startFakeModel, type FakeModel } from "../../../../src/broker/model/fake/server.ts";
import type { Scenario } from "../../../../src/broker/model/fake/scenario.ts";
import type { AgentResult } from "../../../../worker/agents/agent.ts";
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
}

async function prepare(scenario: Scenario, options: Partial<AgentRunOptions> = {}): Promise<Ran> {
  const fake = await startFakeModel({ scenarios: { default: scenario }, apiKey: KEY });
  const fixture = options.fixture ?? new TaskFixture();
  closers.push(
    () => fake.close(),
    () => fixture.close(),
  );
  return { fixture, fake, agentRun: new AgentRun({ model: { baseURL: fake.url, token: KEY }, ...options, fixture }) };
}

const failure = async (work: Promise<AgentResult>): Promise<{ code: string; message: string }> =>
  await work.then(
    () => ({ code: "none", message: "it ended well" }),
    (thrown: unknown) => thrown as { code: string; message: string },
  );

const texts = (fake: FakeModel): string => JSON.stringify(fake.requests().at(-1)?.request.messages);
const kinds = (fixture: TaskFixture): string[] => readRecords(fixture.file).map(({ data }) => String(data["kind"]));

describe("[A1] the work of a task", () => {
  it("explores, edits, tests, finishes; each record is written before the next step", async () => {
    const { fixture, fake, agentRun } = await prepare({
      turns: [
        { say: "I look.", tools: [{ name: "read", input: { path: "a.txt" } }, step("x")] },
        { think: "Now the edit.", tools: [{ name: "edit", input: { path: "a.txt", old: "one", new: "two" } }] },
        { tools: [{ name: "todo", input: { items: [{ text: "Edit", status: "completed" }] } }] },
        { tools: [{ name: "report_progress", input: { text: "The edit is made." } }] },
        { tools: [FINISH] },
      ],
    });
    expect(await agentRun.run()).toEqual({
      title: "Do the work",
      summary: "It is done and was checked.",
      verified: [],
    });
    expect(fixture.read("a.txt")).toBe("two\n");
    expect(kinds(fixture)).toEqual([
      "begin",
      "turn",
      "call",
      "result",
      "call",
      "result",
      ...Array(4).fill(["turn", "call", "result"]).flat(),
    ]);
    expect(agentRun.of("todo")).toEqual([{ items: [{ text: "Edit", status: "completed" }] }]);
    expect(JSON.stringify(agentRun.of("message"))).toContain("The edit is made.");
    expect(JSON.stringify(agentRun.of("message"))).toContain("Now the edit.");
    expect(agentRun.deltas.join("")).toContain("I look.");
    expect(fixture.checkpoint?.cursor).toBe(String(readRecords(fixture.file).length));
    expect(fake.requests()).toHaveLength(5);
  });

  it("the request has the task's text, fixed tools, summarized thinking and at most four cache marks; the cache is read", async () => {
    const many = Array.from({ length: 30 }, (_, i) => ({ name: "bash", input: { command: `echo ${i}` } }));
    const { fake, agentRun } = await prepare(
      { turns: [{ tools: many }, { tools: many }, { tools: [FINISH] }] },
      {
        spec: { model: "claude-sonnet-5-5", effort: "high", prompt: "Rename it." },
        instructions: "Notes of the project: use tabs.",
      },
    );
    await agentRun.run();
    const request = fake.requests().at(-1)?.request;
    expect(request).toMatchObject({
      model: "claude-sonnet-5-5",
      stream: true,
      thinking: { type: "adaptive", display: "summarized" },
      output_config: { effort: "high" },
      metadata: { user_id: "task_agent" },
    });
    expect(JSON.stringify(request).match(/cache_control/g)).toHaveLength(4);
    expect(texts(fake)).toContain("Notes of the project: use tabs.");
    expect(request?.tools?.map(({ name }) => name)).toEqual([
      "bash",
      "read",
      "edit",
      "write",
      "todo",
      "ask_user",
      "report_progress",
      "finish",
    ]);
    expect(JSON.stringify(request?.system)).not.toContain("Rename it.");
  });

  it("without a model the failure names what an operator must do", async () => {
    const fixture = new TaskFixture();
    closers.push(() => fixture.close());
    expect(await failure(new AgentRun({ fixture, model: null }).run())).toMatchObject({ code: "model_auth" });
  });
});

describe("[A2] tools run only when the answer ended with a request for them", () => {
  it("calls of an answer that ended otherwise get a result but do not run", async () => {
    const { fixture, fake, agentRun } = await prepare({
      turns: [
        { tools: [step("never")], stop: "end_turn" },
        { tools: [step("never")], stop: "pause_turn" },
        { tools: [FINISH] },
      ],
    });
    await agentRun.run();
    expect(fixture.ran()).toEqual([]);
    expect(texts(fake)).toContain("Not run");
  });

  it("three cut-off answers in a row end the task with the reason", async () => {
    const { fixture, agentRun } = await prepare({
      turns: [{ tools: [step("never")], stop: "max_tokens" }],
      afterwards: "again",
    });
    expect(await failure(agentRun.run())).toMatchObject({
      code: "agent_stuck",
      message: expect.stringContaining("cut off") as string,
    });
    expect(fixture.ran()).toEqual([]);
  });

  it("a paused answer is continued", async () => {
    const { agentRun } = await prepare({ turns: [{ say: "Wait.", stop: "pause_turn" }, { tools: [FINISH] }] });
    expect(await agentRun.run()).toMatchObject({ title: "Do the work" });
  });
});

describe("[A3] text without a call is a report, not a proof", () => {
  it("after two requests to finish the text becomes the report, with a notice", async () => {
    const { fake, agentRun } = await prepare({ turns: [{ say: "All is well." }], afterwards: "again" });
    expect(await agentRun.run()).toEqual({ title: "Do the work.", summary: "All is well.", verified: [] });
    expect(fake.requests()).toHaveLength(3);
    expect(agentRun.notices()).toEqual(["no_finish"]);
  });

  it("after a nudge the model may finish", async () => {
    const { agentRun } = await prepare({ turns: [{ say: "I think I am done." }, { tools: [FINISH] }] });
    expect(await agentRun.run()).toMatchObject({ title: "Do the work" });
    expect(agentRun.notices()).toEqual([]);
  });

  it("a finish without a summary is refused with the name of the missing input", async () => {
    const { fake, agentRun } = await prepare({
      turns: [{ tools: [{ name: "finish", input: { title: "T" } }] }, { tools: [FINISH] }],
    });
    expect(await agentRun.run()).toMatchObject({ summary: "It is done and was checked." });
    expect(texts(fake)).toContain("summary:");
  });
});

describe("[A4] checks run after finish, and the model gets their output", () => {
  it("a failing check is repaired", async () => {
    const { fake, agentRun } = await prepare(
      { turns: [{ tools: [FINISH] }, { tools: [step("fix")] }, { tools: [FINISH] }] },
      { spec: { verify: ["grep -q fix log.txt"] } },
    );
    expect((await agentRun.run()).summary).toBe("It is done and was checked.");
    expect(agentRun.of("verify").map(({ exitCode }) => exitCode)).toEqual([2, 0]);
    expect(texts(fake)).toContain("do not pass");
  });

  it("a check that never passes ends after two rounds and is named in the summary", async () => {
    const { fake, agentRun } = await prepare(
      { turns: [{ tools: [FINISH] }], afterwards: "again" },
      { spec: { verify: ["echo broken; exit 3"] } },
    );
    expect((await agentRun.run()).summary).toContain("`echo broken; exit 3`");
    expect(fake.requests()).toHaveLength(3);
    expect(texts(fake)).toContain("exit code 3");
  });
});

describe("[A5] an agent that does not end is stopped, with the reason", () => {
  it("the same call with the same result: a nudge, then a stop", async () => {
    const same = { name: "bash", input: { command: "cat a.txt" } };
    const { fixture, fake, agentRun } = await prepare({ turns: [{ tools: [same] }], afterwards: "again" });
    expect(await failure(agentRun.run())).toMatchObject({
      code: "agent_stuck",
      message: expect.stringContaining("bash cat a.txt") as string,
    });
    expect(agentRun.notices()).toEqual(["agent_circles"]);
    expect(fake.requests()).toHaveLength(6);
    expect(fixture.checkpoint).not.toBeNull();
  });

  it("a cycle of two calls, and an unknown tool", async () => {
    const call = (command: string) => ({ tools: [{ name: "bash", input: { command } }] });
    const turns = Array.from({ length: 30 }, (_, i) => call(i % 2 === 0 ? "echo a" : "echo b"));
    const two = await prepare({ turns });
    expect(await failure(two.agentRun.run())).toMatchObject({
      code: "agent_stuck",
      message: expect.stringContaining("2 calls") as string,
    });
    const unknown = await prepare({ turns: [{ tools: [{ name: "teleport", input: {} }] }], afterwards: "again" });
    expect(await failure(unknown.agentRun.run())).toMatchObject({ code: "agent_stuck" });
    expect(unknown.fake.requests()).toHaveLength(5);
  });

  it("endless work ends at the limit of turns, after a warning", async () => {
    const turns = Array.from({ length: 40 }, (_, i) => ({ tools: [step(`s${i}`)] }));
    const { fixture, fake, agentRun } = await prepare({ turns }, { settings: { turns: 10 } });
    expect(await failure(agentRun.run())).toMatchObject({
      code: "budget_exceeded",
      message: expect.stringContaining("10 turns") as string,
    });
    expect(agentRun.notices()).toEqual(["budget_near"]);
    expect(texts(fake)).toContain("Four fifths of the turns");
    expect(fixture.ran()).toHaveLength(10);
    expect(fixture.checkpoint?.cursor).toBe(String(readRecords(fixture.file).length));
  });

  it("the model is warned when most of the time is used", async () => {
    let now = 0;
    const turns = [{ tools: [step("a")] }, { tools: [FINISH] }];
    const { agentRun, fake } = await prepare(
      { turns },
      { spec: { wallMs: 1_000 }, settings: { now: () => (now += 500) } },
    );
    await agentRun.run();
    expect(texts(fake)).toContain("Four fifths of the time");
  });

  it("the calls of one answer are bounded", async () => {
    const flood = Array.from({ length: 60 }, (_, i) => step(`f${i}`));
    const { fixture, agentRun } = await prepare({ turns: [{ tools: flood }, { tools: [FINISH] }] });
    await agentRun.run();
    expect(fixture.ran()).toHaveLength(32);
    expect(agentRun.notices()).toEqual(["too_many_calls"]);
  });

  it("long output is cut before it is recorded", async () => {
    const flood = { name: "bash", input: { command: "head -c 3000000 /dev/zero | tr '\\0' x" } };
    const { fixture, agentRun } = await prepare({ turns: [{ tools: [flood] }, { tools: [FINISH] }] });
    await agentRun.run();
    expect(Math.max(...readRecords(fixture.file).map((line) => JSON.stringify(line).length))).toBeLessThan(120_000);
  });
});

describe("[A6] messages of people are delivered at the next safe point", () => {
  it("a steering message joins the results of the calls; a follow-up waits for the end", async () => {
    const { fake, agentRun } = await prepare({
      turns: [{ tools: [step("a")] }, { tools: [FINISH] }, { tools: [step("b")] }, { tools: [FINISH] }],
    });
    agentRun.sendMessage("Use tabs.");
    agentRun.sendMessage("Then b, please.", "follow_up");
    await agentRun.run();
    const userTexts = fake.requests().map(
      ({ request }) =>
        JSON.stringify(request.messages)
          .match(/Use tabs|Then b/g)
          ?.join() ?? "",
    );
    expect(userTexts).toEqual(["Use tabs", "Use tabs", "Use tabs,Then b", "Use tabs,Then b"]);
  });

  it("a question is answered; the work is saved before the wait", async () => {
    const ask = { name: "ask_user", input: { question: "Which?", options: ["a", "b"] } };
    const { fake, agentRun } = await prepare(
      { turns: [{ tools: [step("x"), ask] }, { tools: [FINISH] }] },
      { answer: () => "The first.", saveEach: 0 },
    );
    await agentRun.run();
    expect(texts(fake)).toContain("The first.");
    expect(agentRun.events.map(({ type }) => type).slice(-4)).toEqual([
      "checkpoint",
      "question",
      "message",
      "checkpoint",
    ]);
  });

  it("an unanswered question holds the task until it is stopped; the next attempt finds the answer", async () => {
    const ask = { name: "ask_user", input: { question: "Which?" } };
    const { fixture, fake, agentRun } = await prepare({ turns: [{ tools: [step("x"), ask] }, { tools: [FINISH] }] });
    const end = failure(agentRun.run());
    await expect.poll(() => agentRun.of("question").length).toBe(1);
    agentRun.stop.abort(new Error("parked"));
    expect(await end).toMatchObject({ message: "parked" });
    fixture.nextAttempt();
    fixture.answers = { [String(agentRun.of("question")[0]?.["id"])]: "The second." };
    const later = new AgentRun({ fixture, model: { baseURL: fake.url, token: KEY } });
    expect(await later.run()).toMatchObject({ title: "Do the work" });
    expect(fixture.ran()).toEqual(["x"]);
    expect(later.of("question")).toEqual([]);
    expect(texts(fake)).toContain("The second.");
  });

  it("a stop during a command or an answer takes effect at once", async () => {
    const slow = await prepare({ turns: [{ tools: [{ name: "bash", input: { command: "sleep 60" } }] }] });
    const first = failure(slow.agentRun.run());
    await expect.poll(() => slow.agentRun.of("tool.started").length).toBe(1);
    slow.agentRun.stop.abort(new Error("cancelled"));
    expect(await first).toMatchObject({ message: "cancelled" });
    const talking = await prepare({ turns: [{ say: "word ".repeat(2_000), delayMs: 20 }] });
    const second = failure(talking.agentRun.run());
    await expect.poll(() => talking.agentRun.deltas.length).toBeGreaterThan(3);
    talking.agentRun.stop.abort(new Error("cancelled"));
    expect(await second).toMatchObject({ message: "cancelled" });
    expect(kinds(talking.fixture)).toEqual(["begin"]);
  });
});

describe("[A7] a follow-up task continues the conversation", () => {
  const handOver = (fixture: TaskFixture): TaskFixture => {
    const next = new TaskFixture();
    closers.push(() => next.close());
    const inherited = readRecords(fixture.file).map(({ data }) => JSON.stringify({ attempt: 0, data }));
    next.adopt(inherited.join("\n"));
    return next;
  };
  const turns = [{ tools: [step("a")] }, { tools: [FINISH] }, { tools: [step("b")] }, { tools: [FINISH] }];

  it("with the same model and tools the conversation is continued", async () => {
    const { fixture, fake, agentRun } = await prepare({ turns });
    await agentRun.run();
    const next = handOver(fixture);
    const later = new AgentRun({
      fixture: next,
      model: { baseURL: fake.url, token: KEY },
      spec: { prompt: "Now b.", budget: { turns: 3 } },
    });
    await later.run();
    expect(next.ran()).toEqual(["b"]);
    expect(texts(fake)).toContain("Now b.");
    expect(texts(fake)).toContain("Do the work.");
  });

  it("a stopped task that is taken up again is informed, with the calls that its files lack", async () => {
    const { fixture, fake, agentRun } = await prepare(
      { turns: [...turns.slice(0, 1), ...turns.slice(2)] },
      { saveEach: 0, settings: { turns: 1 } },
    );
    expect(await failure(agentRun.run())).toMatchObject({ code: "budget_exceeded" });
    const next = handOver(fixture);
    next.checkpoint = { sha: "HEAD", cursor: "3" };
    await new AgentRun({ fixture: next, model: { baseURL: fake.url, token: KEY } }).run();
    expect(next.ran()).toEqual(["b"]);
    expect(texts(fake)).toContain("is taken up again");
    expect(texts(fake)).toContain("bash echo a");
  });

  it("a stopped task is recognised although its setup failed then and passes now; the note is withdrawn", async () => {
    const { fixture, fake, agentRun } = await prepare(
      { turns: [...turns.slice(0, 1), ...turns.slice(2)] },
      { settings: { turns: 1 }, notes: ["The setup failed: no compiler."] },
    );
    expect(await failure(agentRun.run())).toMatchObject({ code: "budget_exceeded" });
    expect(JSON.stringify(fake.requests()[0]?.request.messages)).toContain("no compiler");
    await new AgentRun({ fixture: handOver(fixture), model: { baseURL: fake.url, token: KEY } }).run();
    expect(texts(fake)).toContain("is taken up again");
    expect(texts(fake)).toContain("no longer apply");
  });

  it("a transcript of an older version, whose prompt contains the note, is recognised", async () => {
    const { fixture, fake, agentRun } = await prepare(
      { turns: [...turns.slice(0, 1), ...turns.slice(2)] },
      { settings: { turns: 1 }, spec: { prompt: "Do the work.\n\n[Slipway] Before you began, its setup failed." } },
    );
    expect(await failure(agentRun.run())).toMatchObject({ code: "budget_exceeded" });
    await new AgentRun({ fixture: handOver(fixture), model: { baseURL: fake.url, token: KEY } }).run();
    expect(texts(fake)).toContain("is taken up again");
  });

  it("with another model a new conversation starts, with the delivered result", async () => {
    const { fixture, fake, agentRun } = await prepare({ turns });
    await agentRun.run();
    const next = handOver(fixture);
    const model = { baseURL: fake.url, token: KEY };
    await new AgentRun({
      fixture: next,
      model,
      spec: { taskId: "task_2", prompt: "Now b.", model: "claude-haiku-5-5" },
    }).run();
    expect(next.ran()).toEqual(["a"]);
    expect(fake.requests().at(-1)?.request.messages[0]).toMatchObject({ role: "user" });
    expect(texts(fake)).toContain("It is done and was checked.");
  });
});
