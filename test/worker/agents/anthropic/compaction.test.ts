/**
 * A long conversation: the provider leaves out old results, where they are most of it; else it is
 * replaced by a summary, the provider's or one from a turn where the provider has none.
 */
import { afterEach, describe, expect, it } from "vitest";
import {
  startFakeModel,
  type FakeModel,
  type FakeModelOptions,
  type ServedRequest,
} from "../../../../src/broker/model/fake/server.ts";
import { editPrompt } from "../../../../src/broker/model/fake/context-edit.ts";
import { findClearing } from "../../../../src/broker/model/fake/strict.ts";
import type { Scenario } from "../../../../src/broker/model/fake/scenario.ts";
import { TaskFixture, FINISH, KEY, AgentRun, readRecords, step, type AgentRunOptions } from "./harness.ts";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

const long = { usage: { input_tokens: 150_000 } };
const TURNS: Scenario["turns"] = [
  { tools: [step("a")] },
  { tools: [step("b"), { name: "todo", input: { items: [{ text: "Then c", status: "pending" }] } }], ...long },
  { tools: [step("c")] },
  { tools: [step("d")], ...long },
  { tools: [step("e")] },
  { tools: [FINISH] },
];

async function run(
  scenario: Scenario,
  options: Partial<AgentRunOptions> = {},
  fakeOptions: Partial<FakeModelOptions> = {},
): Promise<{ fixture: TaskFixture; fake: FakeModel; agentRun: AgentRun }> {
  const fake = await startFakeModel({
    scenarios: { default: { turns: [{ say: "wrong" }] }, long: scenario },
    apiKey: KEY,
    ...fakeOptions,
  });
  const fixture = options.fixture ?? new TaskFixture();
  closers.push(
    () => fake.close(),
    () => fixture.close(),
  );
  const spec = { prompt: "[scenario:long] Do it." };
  const agentRun = new AgentRun({ fixture, model: { baseURL: fake.url, token: KEY }, spec, ...options });
  await agentRun.run();
  return { fixture, fake, agentRun };
}

const compactions = (fixture: TaskFixture): Record<string, unknown>[] =>
  readRecords(fixture.file).flatMap(({ data }) => (data["kind"] === "compacted" ? [data] : []));

describe("[A9] the transcript is append-only: a summary is one more record", () => {
  it("the provider's signed summary starts the next request, with its beta", async () => {
    const { fixture, fake, agentRun } = await run({ turns: TURNS });
    expect(fixture.ran()).toEqual(["a", "b", "c", "d", "e"]);
    expect(compactions(fixture).map(({ block }) => (block as { type: string } | null)?.type)).toEqual([
      "compaction",
      "compaction",
    ]);
    const after = fake.requests().at(-1);
    expect(after?.headers["anthropic-beta"]).toContain("compact-2026-09-04");
    expect(after?.request.messages[0]).toMatchObject({ role: "assistant", content: [{ type: "compaction" }] });
    expect(JSON.stringify(after?.request.messages[1])).toContain("Do it.");
    expect(agentRun.notices()).toEqual(["compacted", "compacted"]);
  });

  it("when the provider refuses, a turn without tools writes the summary, with the task and the list of steps", async () => {
    const { fixture, fake } = await run({ turns: TURNS, compaction: "refused" });
    expect(fixture.ran()).toEqual(["a", "b", "c", "d", "e"]);
    const [first] = compactions(fixture);
    expect(first).toMatchObject({
      block: null,
      text: expect.stringContaining("Summary of the turns up to 2.") as string,
    });
    expect(first?.["text"]).toContain("Then c");
    expect(first?.["text"]).toContain("Do it.");
    const asked = fake.requests().filter(({ request }) => JSON.stringify(request.messages).includes("you write now"));
    expect(asked).toHaveLength(2);
    expect(fake.requests().at(-1)?.request.messages[0]?.role).toBe("user");
  });

  it("with `own` compaction the provider's beta is not used", async () => {
    const { fixture, fake } = await run({ turns: TURNS }, { settings: { compaction: "own" } });
    expect(fixture.ran()).toEqual(["a", "b", "c", "d", "e"]);
    expect(fake.requests().some(({ headers }) => headers["anthropic-beta"] !== undefined)).toBe(false);
  });

  it("a note that a later attempt withdrew is not part of the summary", async () => {
    const fake = await startFakeModel({ scenarios: { default: { turns: TURNS } }, apiKey: KEY });
    const fixture = new TaskFixture();
    closers.push(
      () => fake.close(),
      () => fixture.close(),
    );
    const parts = { fixture, model: { baseURL: fake.url, token: KEY }, settings: { compaction: "own" as const } };
    const first = new AgentRun({ ...parts, notes: ["There is no compiler."], kill: { at: 4, when: "after" } });
    await expect(first.run()).rejects.toThrow();
    await new AgentRun(parts).run();
    expect(JSON.stringify(readRecords(fixture.file)[0])).toContain("no compiler");
    expect(compactions(fixture)).toHaveLength(2);
    expect(JSON.stringify(compactions(fixture))).not.toContain("no compiler");
  });

  it("a worker that restarts after a summary sends the same conversation", async () => {
    for (const compaction of ["provider", "own"] as const) {
      const fake = await startFakeModel({ scenarios: { default: { turns: TURNS } }, apiKey: KEY });
      const fixture = new TaskFixture();
      closers.push(
        () => fake.close(),
        () => fixture.close(),
      );
      const parts = { fixture, model: { baseURL: fake.url, token: KEY }, settings: { compaction } };
      const first = new AgentRun({ ...parts, kill: { at: 18, when: "before" } });
      await expect(first.run()).rejects.toThrow();
      expect(readRecords(fixture.file).map(({ data }) => data["kind"])).toContain("compacted");
      await new AgentRun(parts).run();
      expect(fixture.ran().toSorted()).toEqual(["a", "b", "c", "d", "e"]);
    }
  });
});

describe("[A20] old results leave the prompt before the conversation is summarized", () => {
  const READS = 4;
  const ANSWERS = 18;
  /** 2,000 tokens each. */
  const files = Object.fromEntries(
    Array.from({ length: READS * ANSWERS }, (_, i) => [`f${i}`, `${`${i} `.padEnd(80, "x")}\n`.repeat(100)]),
  );
  const reads = (answer: number) =>
    Array.from({ length: READS }, (_, i) => ({ name: "read", input: { path: `f${answer * READS + i}` } }));
  const outputs: Scenario["turns"] = [
    ...Array.from({ length: ANSWERS }, (_, i) => ({ tools: reads(i) })),
    { tools: [FINISH] },
  ];
  const settings = { compactAt: 80_000 };
  const withFiles = (): TaskFixture => new TaskFixture(files);
  const isSummary = ({ request }: ServedRequest): boolean =>
    request.compaction !== undefined || JSON.stringify(request.messages).includes("you write now");
  /** The calls whose results are left out; null = the request asks for nothing. */
  const left = ({ request }: ServedRequest): number | null => {
    const keep = findClearing(request)?.keep.value;
    const uses = JSON.stringify(request.messages).split('"type":"tool_use"').length - 1;
    return keep === undefined ? null : uses - keep;
  };

  it("a task whose outputs dominate goes on without a summary, and what is left is read from the cache", async () => {
    const { fake, agentRun } = await run({ turns: outputs }, { fixture: withFiles(), settings });
    const requests = fake.requests();
    expect(requests.filter(isSummary)).toEqual([]);
    expect(agentRun.notices()).toEqual(["results_cleared", "results_cleared"]);
    expect(String(agentRun.of("notice")[0]?.["text"])).toMatch(/^The results of \d\d older calls/);
    expect(new Set(requests.map(left)).size).toBe(3);
    expect(Math.max(...requests.map(({ prompt }) => prompt?.total ?? 0))).toBeLessThan(80_000);
    // Each answer adds 8,000 tokens; only a request that leaves out more writes what stays again.
    const dear = requests.filter(({ prompt }) => (prompt?.written5m ?? 0) > 12_000);
    expect(dear).toHaveLength(2);
    for (const { prompt } of dear) expect(prompt?.written5m).toBeLessThan(40_000);
    const edited = requests.find((one) => left(one) !== null);
    expect(edited?.headers["anthropic-beta"]).toBe("context-management-2025-06-27");
    expect(edited === undefined ? null : findClearing(edited.request)?.exclude_tools).toEqual(["ask_user"]);
  });

  it("results that the model has not seen, and answers of people, stay", async () => {
    const many = Array.from({ length: 24 }, (_, i) => ({ name: "read", input: { path: `f${i + 32}` } }));
    const ask = { name: "ask_user", input: { question: "Which?" } };
    const turns = [
      ...Array.from({ length: 7 }, (_, i) => ({ tools: i === 0 ? [ask, ...reads(0)] : reads(i) })),
      { tools: many },
      { tools: [FINISH] },
    ];
    const { fake } = await run({ turns }, { fixture: withFiles(), settings, answer: () => "The seventh." });
    const last = fake.requests().at(-1)!;
    expect(left(last)).toBe(1 + 7 * READS);
    const { request } = editPrompt(last.request);
    const sent = JSON.stringify(request.messages);
    expect(sent).toContain("The seventh.");
    expect(sent).toContain("32 xxx");
    expect(sent).not.toContain("27 xxx");
  });

  it("a task whose texts dominate is summarized as before", async () => {
    const words = "I compare what I have read so far. ".repeat(900);
    const turns = [
      ...Array.from({ length: 12 }, (_, i) => ({ say: words, tools: [step(`s${i}`)] })),
      { tools: [FINISH] },
    ];
    const { fake, agentRun } = await run({ turns }, { settings });
    expect(agentRun.notices()).toEqual(["compacted"]);
    expect(fake.requests().map(left)).toEqual(fake.requests().map(() => null));
  });

  it("a worker that restarts sends the same conversation, with the same results left out", async () => {
    const fixture = withFiles();
    const fake = await startFakeModel({ scenarios: { default: { turns: outputs } }, apiKey: KEY });
    closers.push(
      () => fake.close(),
      () => fixture.close(),
    );
    const parts = { fixture, model: { baseURL: fake.url, token: KEY }, settings };
    // Nine records an answer: it, its calls and their results.
    const first = new AgentRun({ ...parts, kill: { at: 9 * 11, when: "before" } });
    await expect(first.run()).rejects.toThrow();
    const before = fake.requests().at(-1)!;
    const second = new AgentRun(parts);
    await second.run();
    const after = fake.requests()[fake.requests().indexOf(before) + 1]!;
    expect(left(before)).toBeGreaterThan(20);
    expect(left(after)).toBe(left(before));
    expect(after.prompt?.read).toBeGreaterThan(20_000);
    expect([...first.notices(), ...second.notices()].filter((code) => code === "results_cleared")).toHaveLength(2);
    expect(fake.requests().filter(isSummary)).toEqual([]);
  });

  it("a summary after that reads the cache of what is left, so the model itself writes it", async () => {
    const words = "I compare what I have read so far. ".repeat(900);
    const talk = Array.from({ length: 8 }, (_, i) => ({ say: words, tools: [step(`s${i}`)] }));
    const turns = [...outputs.slice(0, 9), ...talk, { tools: [FINISH] }];
    const { fake, agentRun } = await run({ turns }, { fixture: withFiles(), settings });
    expect(agentRun.notices()).toEqual(["results_cleared", "compacted"]);
    const summary = fake.requests().find(isSummary)!;
    expect(summary.request.compaction).toBeUndefined();
    expect(left(summary)).toBeGreaterThan(20);
    expect(summary.prompt).toMatchObject({ written5m: 0, written1h: 0 });
    expect(summary.prompt?.read).toBeGreaterThan((summary.prompt?.total ?? 0) * 0.8);
    expect(left(fake.requests().at(-1)!)).toBeNull();
  });

  it("a refusal of the field is learned, and the conversation is summarized instead", async () => {
    const { fake, fixture, agentRun } = await run(
      { turns: outputs },
      { fixture: withFiles(), settings },
      { refuses: ["context_management"] },
    );
    expect(agentRun.notices()).toEqual(["model_settings", "compacted"]);
    expect(fake.requests().map(left)).toEqual(fake.requests().map(() => null));
    const learned = readRecords(fixture.file).flatMap(({ data }) => (data["kind"] === "settings" ? [data] : []));
    expect(learned).toMatchObject([{ refused: ["clearing"] }]);
  });
});
