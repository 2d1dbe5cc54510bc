/** The calls of one answer: those that only read run at once, and a command says how it ended. */
import { afterEach, describe, expect, it } from "vitest";
import { startFakeModel } from "../../../../src/broker/model/fake/server.ts";
import { detectLoop } from "../../../../worker/agents/anthropic/loop-detection.ts";
import { TaskFixture, FINISH, KEY, AgentRun, readRecords, step } from "./harness.ts";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

async function runCalls(tools: { name: string; input: Record<string, unknown> }[]): Promise<{
  agentRun: AgentRun;
  fixture: TaskFixture;
  results: Record<string, string>[];
}> {
  const fake = await startFakeModel({
    scenarios: { default: { turns: [{ tools }, { tools: [FINISH] }] } },
    apiKey: KEY,
  });
  const fixture = new TaskFixture();
  closers.push(
    () => fake.close(),
    () => fixture.close(),
  );
  const agentRun = new AgentRun({ fixture, model: { baseURL: fake.url, token: KEY } });
  await agentRun.run();
  const content = fake.requests().at(-1)?.request.messages.at(-1)?.content ?? [];
  return { agentRun, fixture, results: content as unknown as Record<string, string>[] };
}

const read = (path: string) => ({ name: "read", input: { path } });

describe("[A15] calls of one answer", () => {
  it("neighbours that only read run at once, the others one after another; results in call order", async () => {
    const { agentRun, fixture, results } = await runCalls([
      read("a.txt"),
      read("missing.txt"),
      step("x"),
      read("log.txt"),
      step("y"),
    ]);
    const order = agentRun.events.flatMap(({ type, data }) =>
      type.startsWith("tool.") ? [`${type.slice(5, 6)} ${String(data["name"])}`] : [],
    );
    expect(order).toEqual([
      "s read",
      "s read",
      "f read",
      "f read",
      "s bash",
      "f bash",
      "s read",
      "f read",
      "s bash",
      "f bash",
    ]);
    expect(results.slice(0, 5).map(({ content }) => content?.split("\n")[0])).toEqual([
      "     1\tone",
      '"missing.txt" does not exist.',
      expect.stringMatching(/^\[exit code 0, \d+\.\d s\]$/),
      "     1\tx",
      expect.stringMatching(/^\[exit code 0/),
    ]);
    expect(fixture.ran()).toEqual(["x", "y"]);
    const kinds = readRecords(fixture.file).map(({ data }) => String(data["kind"]));
    expect(kinds.slice(2, 8)).toEqual(["call", "call", "result", "result", "call", "result"]);
  });

  it("a command's result ends with its exit code and duration; that of a failed file tool does not", async () => {
    const { results } = await runCalls([{ name: "bash", input: { command: "echo out; exit 3" } }, read("missing.txt")]);
    expect(results[0]?.["content"]).toMatch(/^out\n\[exit code 3, \d+\.\d s\]$/);
    expect(results[1]?.["content"]).not.toContain("exit code");
    expect(results.map(({ is_error }) => is_error)).toEqual([true, true]);
  });

  it("[A5] the duration does not hide a repetition", () => {
    const call = { id: "1", name: "bash", input: { command: "make" } };
    const trace = [1, 2, 3, 4].map((seconds) => ({
      call,
      result: { kind: "result" as const, id: "1", output: `x\n[exit code 0, ${seconds}.0 s]`, status: "ok" as const },
    }));
    expect(detectLoop(trace)).toMatchObject({ kind: "nudge" });
  });
});
