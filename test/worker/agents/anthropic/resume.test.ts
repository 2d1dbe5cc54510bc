/** A worker process that ends at any record of the transcript, and the next one that continues. */
import fc from "fast-check";
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startFakeModel, type FakeModel } from "../../../../src/broker/model/fake/server.ts";
import type { Scenario } from "../../../../src/broker/model/fake/scenario.ts";
import { Conversation } from "../../../../worker/agents/anthropic/conversation/conversation.ts";
import { sized } from "../../../support/random.ts";
import { parseRecord } from "../../../../worker/agents/anthropic/conversation/records.ts";
import { TaskFixture, FINISH, KEY, Killed, AgentRun, readRecords, step, type Kill } from "./harness.ts";

const NAMES = ["a", "b", "c", "d", "e", "f"];
/** An agent that checks before it repeats runs only what is missing. */
const repair = NAMES.map((name) => `grep -qx ${name} log.txt || echo ${name} >> log.txt`).join("; ");
const CHECK = NAMES.map((name) => `grep -qx ${name} log.txt`).join(" && ");
const REPAIR = { tools: [{ name: "bash", input: { command: `touch log.txt; ${repair}` } }] };
const WORK: Scenario = {
  turns: [
    { say: "I begin.", tools: [step("a"), step("b")] },
    { tools: [{ name: "todo", input: { items: [{ text: "more", status: "pending" }] } }, step("c")] },
    { say: "Half way.", tools: [step("d")] },
    { tools: [step("e"), { name: "read", input: { path: "log.txt" } }, step("f")] },
    ...[1, 2, 3].flatMap(() => [REPAIR, { tools: [FINISH] }]),
  ],
};
/**
 * The records of an uninterrupted run: one to begin, one per turn, and two per call: the call and
 * its result.
 */
const LINES = 1 + 6 + 2 * 10;

const RUNS = sized(4, 40);

let fake: FakeModel;
beforeAll(async () => {
  fake = await startFakeModel({ scenarios: { default: WORK }, apiKey: KEY });
});
afterAll(async () => await fake.close());

const foldFixture = (fixture: TaskFixture): Conversation => {
  const view = new Conversation();
  for (const record of readRecords(fixture.file))
    view.add(parseRecord(record), record.attempt === 0 ? "task" : "attempt");
  return view;
};

interface Death extends Kill {
  /** Continues in the same container, or in a new one from the checkpoint. */
  readonly continuesIn: "same" | "next";
}

/** Starts one run after the other until a run is not killed. */
async function live(fixture: TaskFixture, taskId: string, deaths: readonly Death[], saveEach: number): Promise<void> {
  const runs = [...deaths.toSorted((a, b) => a.at - b.at), null];
  for (const death of runs) {
    const before = readFileSync(fixture.file, "utf8");
    const known = new Set(
      readRecords(fixture.file).flatMap(({ data }) => (data["kind"] === "result" ? [data["id"]] : [])),
    );
    const kill = death === null || death.at < readRecords(fixture.file).length ? {} : { kill: death };
    const agentRun = new AgentRun({
      fixture,
      model: { baseURL: fake.url, token: KEY },
      spec: { taskId, verify: [CHECK] },
      saveEach,
      ...kill,
    });
    const end = await agentRun.run().then(
      () => "ended" as const,
      (thrown: unknown) => {
        if (thrown instanceof Killed) return "killed" as const;
        throw thrown;
      },
    );
    expect(readFileSync(fixture.file, "utf8").startsWith(before)).toBe(true);
    const calls = readRecords(fixture.file).slice(before.split("\n").length - 1);
    expect(calls.filter(({ data }) => data["kind"] === "call" && known.has(data["id"]))).toEqual([]);
    if (end === "ended") return;
    if (death?.continuesIn === "next") fixture.nextAttempt();
  }
}

const death = fc.record({
  at: fc.integer({ min: 0, max: LINES }),
  when: fc.constantFrom("before" as const, "after" as const),
  continuesIn: fc.constantFrom("same" as const, "next" as const),
});

describe("[A10] killed at any record, the next worker process continues", () => {
  it(`${RUNS} random runs: the tree is right, the transcript only grows, no finished call runs again`, async () => {
    let task = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(death, { minLength: 1, maxLength: 3 }),
        fc.constantFrom(0, 1, 3),
        async (deaths, saveEach) => {
          const fixture = new TaskFixture();
          try {
            await live(fixture, `task_${(task += 1)}`, deaths, saveEach);
            expect(fixture.read("log.txt").trim().split("\n").toSorted()).toEqual(NAMES);
            const ran = fixture.ran();
            expect(new Set(ran).size).toBe(ran.length);
            expect(foldFixture(fixture).openCalls).toEqual([]);
          } finally {
            fixture.close();
          }
        },
      ),
      { numRuns: RUNS, endOnFailure: true },
    );
  });

  const after = async (
    kill: Kill,
    continuesIn: Death["continuesIn"],
    saveEach: number,
  ): Promise<{ fixture: TaskFixture; text: string }> => {
    const fixture = new TaskFixture();
    const taskId = `task_${kill.at}_${kill.when}_${continuesIn}_${saveEach}`;
    await live(fixture, taskId, [{ ...kill, continuesIn }], saveEach);
    return { fixture, text: JSON.stringify(foldFixture(fixture).messages()) };
  };

  it("a call that had started gets an unknown result, and the model is asked to check it", async () => {
    const { fixture, text } = await after({ at: 3, when: "before" }, "same", 1);
    expect(text).toContain("Unknown: the worker was interrupted");
    expect(text).toContain("The files are as you left them");
    expect(fixture.ran().filter((name) => name === "a")).toHaveLength(1);
    fixture.close();
  });

  it("the files are those of the checkpoint, and later calls are named", async () => {
    const { fixture, text } = await after({ at: 10, when: "after" }, "next", 0);
    expect(text).toContain("The files stand at the last checkpoint");
    expect(text).toContain("bash echo a >> log.txt");
    fixture.close();
  });

  it("an accepted finish is kept, unless the files are older than it", async () => {
    const same = await after({ at: LINES, when: "before" }, "same", 1);
    expect(same.text).not.toContain("interrupted");
    const next = await after({ at: LINES - 1, when: "after" }, "next", 0);
    expect(next.text).toContain("The files stand at the last checkpoint");
    same.fixture.close();
    next.fixture.close();
  });

  it("[A6] a delivered message that was not recorded is recorded by the next process, once", async () => {
    const fixture = new TaskFixture();
    const told = (): number =>
      readRecords(fixture.file).filter(({ data }) => String(data["text"]).includes("Use tabs.")).length;
    const options = { fixture, model: { baseURL: fake.url, token: KEY } };
    // The records before: begin, an answer, two calls with their results.
    const first = new AgentRun({ ...options, spec: { taskId: "task_heard" }, kill: { at: 6, when: "before" } });
    const tool = first.tool.bind(first);
    first.tool = async (name, input) => {
      if (told() === 0) first.sendMessage("Use tabs.");
      return await tool(name, input);
    };
    await expect(first.run()).rejects.toThrow(Killed);
    expect(told()).toBe(0);
    const delivered = [{ id: "m_1_1", text: "Use tabs." }];
    await expect(
      new AgentRun({ ...options, spec: { taskId: "task_heard", delivered }, kill: { at: 9, when: "after" } }).run(),
    ).rejects.toThrow(Killed);
    expect(told()).toBe(1);
    await new AgentRun({ ...options, spec: { taskId: "task_heard", delivered } }).run();
    expect(told()).toBe(1);
    fixture.close();
  });

  it("a transcript of another agent is rejected", async () => {
    const fixture = new TaskFixture();
    fixture.adopt(JSON.stringify({ attempt: 1, data: { kind: "something" } }));
    await expect(new AgentRun({ fixture, model: { baseURL: fake.url, token: KEY } }).run()).rejects.toMatchObject({
      code: "agent_error",
    });
    fixture.close();
  });
});
