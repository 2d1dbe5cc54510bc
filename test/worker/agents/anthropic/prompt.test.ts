/**
 * What the model is told: the system prompt, the facts of its sandbox, and tasks without a change.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { startFakeModel, type FakeModel } from "../../../../src/broker/model/fake/server.ts";
import type { Scenario } from "../../../../src/broker/model/fake/scenario.ts";
import type { AgentResult } from "../../../../worker/agents/agent.ts";
import { systemPrompt } from "../../../../worker/agents/anthropic/model/request.ts";
import { findPrograms } from "../../../../worker/lib/programs.ts";
import { TaskFixture, FINISH, KEY, AgentRun, readRecords, step, type AgentRunOptions } from "./harness.ts";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

async function run(
  turns: Scenario["turns"],
  options: Partial<AgentRunOptions> = {},
): Promise<{ fake: FakeModel; fixture: TaskFixture; agentRun: AgentRun; result: AgentResult }> {
  const fake = await startFakeModel({ scenarios: { default: { turns } }, apiKey: KEY });
  const fixture = options.fixture ?? new TaskFixture();
  closers.push(
    () => fake.close(),
    () => fixture.close(),
  );
  const agentRun = new AgentRun({ model: { baseURL: fake.url, token: KEY }, ...options, fixture });
  return { fake, fixture, agentRun, result: await agentRun.run() };
}

const sent = (fake: FakeModel): string => JSON.stringify(fake.requests().at(-1)?.request.messages);

describe("[A16] the prompt", () => {
  it("the system prompt is short, the same for every task, and names what belongs into a delivery", () => {
    // About four characters per token.
    expect(systemPrompt().length / 4).toBeLessThan(1_500);
    for (const words of [".gitignore", "git diff", "git log", "secret", "in the background"])
      expect(systemPrompt()).toContain(words);
  });

  it("the first message states system, programs, network and limits; all of it is in the first record", async () => {
    const spec = { egress: "none", budget: { usd: 2.5, turns: 40 }, wallMs: 45 * 60_000 } as const;
    const { fixture } = await run([{ tools: [FINISH] }], { spec });
    const text = String(readRecords(fixture.file)[0]?.data["text"]);
    for (const words of [
      "There is no network",
      "45 minutes of work",
      "$2.50 for the model",
      "40 turns",
      "GiB of memory",
      "git",
    ])
      expect(text).toContain(words);
    expect(text).toMatch(/\d cores?,/);
    const open = await run([{ tools: [FINISH] }], { spec: { egress: "open" } });
    expect(sent(open.fake)).toContain("Public hosts can be reached");
  });

  it("only programs that are there are named", () => {
    expect(findPrograms(["git", "no-such-program"])).toEqual(["git"]);
    expect(findPrograms(["git"], "/nonexistent:")).toEqual([]);
  });
});

describe("[A17] a task without a change ends with its answer", () => {
  const answer = { name: "finish", input: { summary: "It is defined in a.txt." } };

  it("finish needs no title then", async () => {
    const { result } = await run([{ tools: [answer] }], { spec: { prompt: "Where is it defined?" } });
    expect(result).toMatchObject({ title: "Where is it defined?", summary: "It is defined in a.txt." });
  });

  it("with changed files the title is asked for", async () => {
    const { fake, result } = await run([{ tools: [step("x")] }, { tools: [answer] }, { tools: [FINISH] }]);
    expect(result.title).toBe("Do the work");
    expect(sent(fake)).toContain("the title is missing");
  });
});

describe("[A7] a transcript of an older version", () => {
  const RECORDED = readFileSync(join(import.meta.dirname, "older-transcript.jsonl"), "utf8").trim();

  it("is continued by a later attempt with the prompt and the tools that it recorded", async () => {
    const fixture = new TaskFixture();
    fixture.adopt(RECORDED);
    fixture.nextAttempt();
    const { fake, agentRun, result } = await run([{}, {}, { tools: [step("c")] }, { tools: [FINISH] }], { fixture });
    expect(result.title).toBe("Do the work");
    expect([fake.requests().length, agentRun.notices()]).toEqual([2, []]);
    const [begin] = RECORDED.split("\n").map((line) => (JSON.parse(line) as { data: { system: string } }).data);
    expect(JSON.stringify(fake.requests()[0]?.request.system)).toContain(JSON.stringify(begin?.system));
    expect(sent(fake)).toContain("echo a >> log.txt");
  });

  it("is continued by a follow-up task", async () => {
    const fixture = new TaskFixture();
    fixture.adopt(RECORDED.replaceAll('{"attempt":1,', '{"attempt":0,'));
    const spec = { taskId: "task_2", prompt: "And now c." };
    const { fake, agentRun } = await run([{}, {}, { tools: [step("c")] }, { tools: [FINISH] }], { fixture, spec });
    expect([fake.requests().length, agentRun.notices()]).toEqual([2, []]);
    expect(sent(fake)).toContain("And now c.");
  });
});
