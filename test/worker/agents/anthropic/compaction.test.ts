/**
 * A conversation that has become long is replaced by a summary: the provider's, or our own where
 * the provider has none.
 */
import { afterEach, describe, expect, it } from "vitest";
import { startFakeModel, type FakeModel } from "../../../../src/broker/model/fake/server.ts";
import type { Scenario } from "../../../../src/broker/model/fake/scenario.ts";
import { Bench, FINISH, KEY, Life, linesOf, step, type LifeOptions } from "./harness.ts";

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
  options: Partial<LifeOptions> = {},
): Promise<{ bench: Bench; fake: FakeModel; life: Life }> {
  const fake = await startFakeModel({
    scenarios: { default: { turns: [{ say: "wrong" }] }, long: scenario },
    apiKey: KEY,
  });
  const bench = new Bench();
  closers.push(
    () => fake.close(),
    () => bench.close(),
  );
  const spec = { prompt: "[scenario:long] Do it." };
  const life = new Life({ bench, model: { baseURL: fake.url, token: KEY }, spec, ...options });
  await life.run();
  return { bench, fake, life };
}

const compactions = (bench: Bench): Record<string, unknown>[] =>
  linesOf(bench.file).flatMap(({ data }) => (data["kind"] === "compacted" ? [data] : []));

describe("[A9] the transcript is append-only: a summary is one more record", () => {
  it("the provider's signed summary starts the next request, with its beta", async () => {
    const { bench, fake, life } = await run({ turns: TURNS });
    expect(bench.ran()).toEqual(["a", "b", "c", "d", "e"]);
    expect(compactions(bench).map(({ block }) => (block as { type: string } | null)?.type)).toEqual([
      "compaction",
      "compaction",
    ]);
    const after = fake.requests().at(-1);
    expect(after?.headers["anthropic-beta"]).toContain("compact-2026-09-04");
    expect(after?.request.messages[0]).toMatchObject({ role: "assistant", content: [{ type: "compaction" }] });
    expect(JSON.stringify(after?.request.messages[1])).toContain("Do it.");
    expect(life.notices()).toEqual(["compacted", "compacted"]);
  });

  it("when the provider refuses, a turn without tools writes the summary, with the task and the list of steps", async () => {
    const { bench, fake } = await run({ turns: TURNS, compaction: "refused" });
    expect(bench.ran()).toEqual(["a", "b", "c", "d", "e"]);
    const [first] = compactions(bench);
    expect(first).toMatchObject({
      block: null,
      text: expect.stringContaining("Summary of the turns up to 2.") as string,
    });
    expect(first?.["text"]).toContain("Then c");
    expect(first?.["text"]).toContain("Do it.");
    expect(fake.requests().filter(({ request }) => request.tool_choice?.type === "none")).toHaveLength(2);
    expect(fake.requests().at(-1)?.request.messages[0]?.role).toBe("user");
  });

  it("with `own` compaction the provider's beta is not used", async () => {
    const { bench, fake } = await run({ turns: TURNS }, { settings: { compaction: "own" } });
    expect(bench.ran()).toEqual(["a", "b", "c", "d", "e"]);
    expect(fake.requests().some(({ headers }) => headers["anthropic-beta"] !== undefined)).toBe(false);
  });

  it("a note that a later attempt withdrew is not part of the summary", async () => {
    const fake = await startFakeModel({ scenarios: { default: { turns: TURNS } }, apiKey: KEY });
    const bench = new Bench();
    closers.push(
      () => fake.close(),
      () => bench.close(),
    );
    const parts = { bench, model: { baseURL: fake.url, token: KEY }, settings: { compaction: "own" as const } };
    const first = new Life({ ...parts, notes: ["There is no compiler."], kill: { at: 4, when: "after" } });
    await expect(first.run()).rejects.toThrow();
    await new Life(parts).run();
    expect(JSON.stringify(linesOf(bench.file)[0])).toContain("no compiler");
    expect(compactions(bench)).toHaveLength(2);
    expect(JSON.stringify(compactions(bench))).not.toContain("no compiler");
  });

  it("a worker that restarts after a summary sends the same conversation", async () => {
    for (const compaction of ["provider", "own"] as const) {
      const fake = await startFakeModel({ scenarios: { default: { turns: TURNS } }, apiKey: KEY });
      const bench = new Bench();
      closers.push(
        () => fake.close(),
        () => bench.close(),
      );
      const parts = { bench, model: { baseURL: fake.url, token: KEY }, settings: { compaction } };
      const first = new Life({ ...parts, kill: { at: 18, when: "before" } });
      await expect(first.run()).rejects.toThrow();
      expect(linesOf(bench.file).map(({ data }) => data["kind"])).toContain("compacted");
      await new Life(parts).run();
      expect(bench.ran().toSorted()).toEqual(["a", "b", "c", "d", "e"]);
    }
  });
});
