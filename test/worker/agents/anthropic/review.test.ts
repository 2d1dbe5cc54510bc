/** The reviewer's turn, with real tools, a real checkout and the fake model. */
import { afterEach, describe, expect, it } from "vitest";
import { startFakeModel, type FakeModel } from "../../../../src/broker/model/fake/server.ts";
import type { Scenario } from "../../../../src/broker/model/fake/scenario.ts";
import { AgentRun, FINISH, KEY, Killed, step, TaskFixture, type AgentRunOptions } from "./harness.ts";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

const REVIEWER = "claude-haiku-5-5";
const write = (path: string, content: string) => ({ name: "write", input: { path, content } });
const OBJECTION = "SEND BACK\n1. new.txt:1 says helo: a reader sees a typo.";
const TURNS = [
  { tools: [write("new.txt", "helo\n"), step("first")] },
  { tools: [FINISH] },
  { tools: [write("new.txt", "hello\n")] },
  { tools: [FINISH] },
];

interface Prepared {
  readonly fixture: TaskFixture;
  readonly fake: FakeModel;
  next(options?: Partial<AgentRunOptions>): AgentRun;
}

async function prepare(scenario: Scenario): Promise<Prepared> {
  const fake = await startFakeModel({ scenarios: { default: scenario }, apiKey: KEY });
  const fixture = new TaskFixture();
  closers.push(
    () => fake.close(),
    () => fixture.close(),
  );
  const model = { baseURL: fake.url, token: KEY };
  const next = (options: Partial<AgentRunOptions> = {}): AgentRun =>
    new AgentRun({ model, fixture, ...options, spec: { reviewModel: REVIEWER, ...options.spec } });
  return { fixture, fake, next };
}

const reviews = (fake: FakeModel) => fake.requests().filter(({ model }) => model === REVIEWER);
const read = (fake: FakeModel, index: number): string => JSON.stringify(reviews(fake)[index]?.request.messages);

describe("[A18] a reviewer reads the change before it is delivered", () => {
  it("sees the task, what people said and the change with its new files; not the agent's words", async () => {
    const { fake, next } = await prepare({
      turns: [{ say: "My private reasons.", tools: [write("new.txt", "hello\n")] }, { tools: [FINISH] }],
    });
    const agentRun = next({ onTool: (run) => run.sendMessage("Greet politely.", "steer") });
    const result = await agentRun.run();
    expect(result.verified?.at(-1)).toEqual({
      command: `review by ${REVIEWER}`,
      exitCode: 0,
      tail: "The change does what the task asks.",
    });
    expect(result.summary).toBe("It is done and was checked.");
    const said = read(fake, 0);
    for (const text of ["Do the work.", "Greet politely.", "+hello"]) expect(said).toContain(text);
    expect(said).not.toContain("My private reasons.");
    expect(agentRun.deltas.join("")).not.toContain("ACCEPT");
  });

  it("sends the work back once; the agent corrects it, and the second verdict is in the result", async () => {
    const { fixture, fake, next } = await prepare({
      turns: TURNS,
      reviews: [{ say: OBJECTION }, { say: "ACCEPT\nFine." }],
    });
    const agentRun = next();
    const result = await agentRun.run();
    expect(fixture.read("new.txt")).toBe("hello\n");
    expect(agentRun.of("verify").map(({ exitCode }) => exitCode)).toEqual([1, 0]);
    expect(JSON.stringify(fake.requests().at(-2)?.request.messages)).toContain("says helo");
    expect(result).toMatchObject({
      summary: "It is done and was checked.",
      verified: [{ exitCode: 0, tail: "Fine." }],
    });
  });

  it("an objection that stays is told to people, and the work is delivered", async () => {
    const { fake, next } = await prepare({ turns: TURNS, reviews: [{ say: OBJECTION }] });
    const result = await next().run();
    expect(reviews(fake)).toHaveLength(2);
    expect(result.verified).toMatchObject([{ exitCode: 1 }]);
    expect(result.summary).toContain("The reviewer still objects:");
    expect(result.summary).toContain("says helo");
  });

  it("a worker that was killed after the objection does not ask for it again", async () => {
    const { fixture, next } = await prepare({ turns: TURNS, reviews: [{ say: OBJECTION }] });
    await next().run();
    const records = fixture.records();
    const objected = records.findIndex(({ data }) => data["source"] === "review");
    for (let at = objected; at < records.length; at += 1) {
      const one = await prepare({ turns: TURNS, reviews: [{ say: OBJECTION }] });
      await expect(one.next({ kill: { at, when: "after" } }).run()).rejects.toBeInstanceOf(Killed);
      const result = await one.next().run();
      expect(result.summary, `killed at record ${at}`).toContain("The reviewer still objects:");
      const sentBack = one.fixture.records().filter(({ data }) => data["source"] === "review");
      expect(sentBack, `killed at record ${at}`).toHaveLength(1);
    }
  });

  it.each([
    [
      "a budget that is used up",
      { faults: [{ kind: "status" as const, status: 402, type: "budget_exceeded", times: 9 }] },
    ],
    ["a refusal", { faults: [{ kind: "status" as const, status: 403, times: 9 }] }],
    ["a provider that is down", { faults: [{ kind: "status" as const, status: 529, times: 99 }] }],
    ["an answer without a verdict", { say: "Looks nice." }],
  ])("%s holds nothing up, and is told", async (_, review) => {
    const { next } = await prepare({ turns: TURNS.slice(0, 2), reviews: [review] });
    const agentRun = next({ settings: { patienceMs: 100 } });
    const result = await agentRun.run();
    expect(result).toMatchObject({ summary: "It is done and was checked.", verified: [] });
    expect(agentRun.notices()).toContain("review_missing");
  });

  it("is not asked where nothing was changed, a check fails, or the task wants none", async () => {
    const unchanged = await prepare({ turns: [{ tools: [FINISH] }] });
    await unchanged.next().run();
    const failing = await prepare({ turns: TURNS.slice(0, 2), afterwards: "again" });
    await failing.next({ spec: { verify: ["exit 3"] } }).run();
    const unasked = await prepare({ turns: TURNS.slice(0, 2) });
    await new AgentRun({ model: { baseURL: unasked.fake.url, token: KEY }, fixture: unasked.fixture }).run();
    for (const { fake } of [unchanged, failing, unasked]) expect(reviews(fake)).toEqual([]);
  });
});
