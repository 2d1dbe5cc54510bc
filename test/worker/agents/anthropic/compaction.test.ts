/**
 * A long conversation is replaced by a summary: the provider's, or one from a turn where the
 * provider has none.
 */
import { afterEach, describe, expect, it } from "vitest";
import { startFakeModel, type FakeModel } from "../../../../src/broker/model/fake/server.ts";
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
): Promise<{ fixture: TaskFixture; fake: FakeModel; agentRun: AgentRun }> {
  const fake = await startFakeModel({
    scenarios: { default: { turns: [{ say: "wrong" }] }, long: scenario },
    apiKey: KEY,
  });
  const fixture = new TaskFixture();
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
