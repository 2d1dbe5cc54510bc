/** A person interrupts: a command, the calls that wait, an answer, a check, a summary. */
import { afterEach, describe, expect, it } from "vitest";
import { startFakeModel, type FakeModel } from "../../../../src/broker/model/fake/server.ts";
import type { Scenario } from "../../../../src/broker/model/fake/scenario.ts";
import { TaskFixture, FINISH, KEY, AgentRun, step, type AgentRunOptions } from "./harness.ts";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

/** Starts a run and interrupts it once `when` holds. */
async function interrupt(
  scenario: Scenario,
  when: (agentRun: AgentRun, fake: FakeModel) => boolean,
  options: Partial<AgentRunOptions> = {},
): Promise<{ fixture: TaskFixture; fake: FakeModel; agentRun: AgentRun }> {
  const fake = await startFakeModel({ scenarios: { default: scenario }, apiKey: KEY });
  const fixture = new TaskFixture();
  closers.push(
    () => fake.close(),
    () => fixture.close(),
  );
  const agentRun = new AgentRun({ model: { baseURL: fake.url, token: KEY }, ...options, fixture });
  const end = agentRun.run();
  await expect.poll(() => when(agentRun, fake)).toBe(true);
  agentRun.sendMessage("Use 7 tabs.", "steer", true);
  await end;
  return { fixture, fake, agentRun };
}

const sent = (fake: FakeModel, index = -1): string => JSON.stringify(fake.requests().at(index)?.request.messages);

describe("[A6] a message that interrupts is read at once", () => {
  it("the running command ends with its output so far, and the calls after it are not run", async () => {
    const slow = { name: "bash", input: { command: "echo begun; sleep 300" } };
    const { fixture, fake, agentRun } = await interrupt(
      { turns: [{ tools: [slow, step("never"), FINISH] }, { tools: [FINISH] }] },
      (one) => one.of("tool.started").length === 1,
    );
    expect(agentRun.of("tool.finished")[0]).toMatchObject({ exitCode: null });
    expect(fixture.ran()).toEqual([]);
    for (const words of ["a person interrupted", "Not run: a person interrupted", "Use 7 tabs."])
      expect(sent(fake)).toContain(words);
    expect(fake.requests().map(({ status }) => status)).toEqual([200, 200]);
  });

  it("an answer is cut off and asked for again with the message", async () => {
    const { fake, agentRun } = await interrupt(
      {
        turns: [{ say: "word ".repeat(600), delayMs: 20, tools: [FINISH] }, { tools: [FINISH] }],
        afterwards: "again",
      },
      (one, model) => one.deltas.length > 3 && model.requests().length === 1,
    );
    expect(sent(fake, 1)).toContain("Use 7 tabs.");
    expect(agentRun.notices()).toEqual([]);
  });

  it("a check ends, and its end is not held against the work", async () => {
    const { fake, agentRun } = await interrupt(
      { turns: [{ tools: [FINISH] }, { tools: [step("a")] }, { tools: [FINISH] }] },
      (one) => one.of("check").length === 1,
      { spec: { verify: ["test -e log.txt || sleep 300"] } },
    );
    expect(sent(fake)).toContain("Use 7 tabs.");
    expect(sent(fake)).not.toContain("do not pass");
    expect(agentRun.of("verify").at(-1)).toMatchObject({ exitCode: 0 });
  });
});
