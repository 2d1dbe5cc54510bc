/** A life that ends at any line of the transcript, and the next one that goes on from it. */
import fc from "fast-check";
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startFakeModel, type FakeModel } from "../../../../src/broker/model/fake/server.ts";
import type { Scenario } from "../../../../src/broker/model/fake/scenario.ts";
import { Conversation } from "../../../../worker/agents/anthropic/conversation/conversation.ts";
import { parseRecord } from "../../../../worker/agents/anthropic/conversation/records.ts";
import { Bench, FINISH, KEY, Killed, Life, linesOf, step, type Kill } from "./harness.ts";

const NAMES = ["a", "b", "c", "d", "e", "f"];
/** What an agent does that looks before it repeats: only what is missing. */
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
 * Lines of a run that nothing interrupts: the beginning, and per turn itself, and a call and a
 * result each.
 */
const LINES = 1 + 6 + 2 * 10;

let fake: FakeModel;
beforeAll(async () => {
  fake = await startFakeModel({ scenarios: { default: WORK }, apiKey: KEY });
});
afterAll(async () => await fake.close());

const foldOf = (bench: Bench): Conversation => {
  const view = new Conversation();
  for (const record of linesOf(bench.file)) view.add(parseRecord(record), record.attempt === 0);
  return view;
};

interface Death extends Kill {
  /** Goes on in the same container, or in the next one, from the checkpoint. */
  readonly goesOn: "same" | "next";
}

/** Lives until one ends by itself. */
async function live(bench: Bench, taskId: string, deaths: readonly Death[], saveEach: number): Promise<void> {
  const lives = [...deaths.toSorted((one, other) => one.at - other.at), null];
  for (const death of lives) {
    const before = readFileSync(bench.file, "utf8");
    const known = new Set(linesOf(bench.file).flatMap(({ data }) => (data["kind"] === "result" ? [data["id"]] : [])));
    const kill = death === null || death.at < linesOf(bench.file).length ? {} : { kill: death };
    const life = new Life({
      bench,
      model: { baseURL: fake.url, token: KEY },
      spec: { taskId, verify: [CHECK] },
      saveEach,
      ...kill,
    });
    const end = await life.run().then(
      () => "ended" as const,
      (thrown: unknown) => {
        if (thrown instanceof Killed) return "killed" as const;
        throw thrown;
      },
    );
    expect(readFileSync(bench.file, "utf8").startsWith(before)).toBe(true);
    const calls = linesOf(bench.file).slice(before.split("\n").length - 1);
    expect(calls.filter(({ data }) => data["kind"] === "call" && known.has(data["id"]))).toEqual([]);
    if (end === "ended") return;
    if (death?.goesOn === "next") bench.nextAttempt();
  }
}

const death = fc.record({
  at: fc.integer({ min: 0, max: LINES }),
  when: fc.constantFrom("before" as const, "after" as const),
  goesOn: fc.constantFrom("same" as const, "next" as const),
});

describe("[A10] killed at any record, the next worker process continues", () => {
  it(
    "40 random runs: the tree is right, the transcript only grows, no finished call runs again",
    { timeout: 400_000 },
    async () => {
      let task = 0;
      await fc.assert(
        fc.asyncProperty(
          fc.array(death, { minLength: 1, maxLength: 3 }),
          fc.constantFrom(0, 1, 3),
          async (deaths, saveEach) => {
            const bench = new Bench();
            try {
              await live(bench, `task_${(task += 1)}`, deaths, saveEach);
              expect(bench.read("log.txt").trim().split("\n").toSorted()).toEqual(NAMES);
              const ran = bench.ran();
              expect(new Set(ran).size).toBe(ran.length);
              expect(foldOf(bench).openCalls).toEqual([]);
            } finally {
              bench.close();
            }
          },
        ),
        { numRuns: 40, endOnFailure: true },
      );
    },
  );

  const after = async (
    kill: Kill,
    goesOn: Death["goesOn"],
    saveEach: number,
  ): Promise<{ bench: Bench; text: string }> => {
    const bench = new Bench();
    const taskId = `task_${kill.at}_${kill.when}_${goesOn}_${saveEach}`;
    await live(bench, taskId, [{ ...kill, goesOn }], saveEach);
    return { bench, text: JSON.stringify(foldOf(bench).messages()) };
  };

  it("a call that had started gets an unknown result, and the model is asked to check it", async () => {
    const { bench, text } = await after({ at: 3, when: "before" }, "same", 1);
    expect(text).toContain("Unknown: the worker was interrupted");
    expect(text).toContain("The files are as you left them");
    expect(bench.ran().filter((name) => name === "a")).toHaveLength(1);
    bench.close();
  });

  it("the files are those of the checkpoint, and later calls are named", async () => {
    const { bench, text } = await after({ at: 10, when: "after" }, "next", 0);
    expect(text).toContain("The files stand at the last checkpoint");
    expect(text).toContain("bash echo a >> log.txt");
    bench.close();
  });

  it("an accepted finish is kept, unless the files are older than it", async () => {
    const same = await after({ at: LINES, when: "before" }, "same", 1);
    expect(same.text).not.toContain("interrupted");
    const next = await after({ at: LINES - 1, when: "after" }, "next", 0);
    expect(next.text).toContain("The files stand at the last checkpoint");
    same.bench.close();
    next.bench.close();
  });

  it("[A6] a delivered message that was not recorded is recorded by the next process, once", async () => {
    const bench = new Bench();
    const told = (): number =>
      linesOf(bench.file).filter(({ data }) => String(data["text"]).includes("Use tabs.")).length;
    const options = { bench, model: { baseURL: fake.url, token: KEY } };
    // The lines before: the beginning, an answer, two calls with their results.
    const first = new Life({ ...options, spec: { taskId: "task_heard" }, kill: { at: 6, when: "before" } });
    const tool = first.tool.bind(first);
    first.tool = async (name, input) => {
      if (told() === 0) first.person("Use tabs.");
      return await tool(name, input);
    };
    await expect(first.run()).rejects.toThrow(Killed);
    expect(told()).toBe(0);
    const delivered = [{ id: "m_1_1", text: "Use tabs." }];
    await expect(
      new Life({ ...options, spec: { taskId: "task_heard", delivered }, kill: { at: 9, when: "after" } }).run(),
    ).rejects.toThrow(Killed);
    expect(told()).toBe(1);
    await new Life({ ...options, spec: { taskId: "task_heard", delivered } }).run();
    expect(told()).toBe(1);
    bench.close();
  });

  it("a transcript of another agent is rejected", async () => {
    const bench = new Bench();
    bench.adopt(JSON.stringify({ attempt: 1, data: { kind: "something" } }));
    await expect(new Life({ bench, model: { baseURL: fake.url, token: KEY } }).run()).rejects.toMatchObject({
      code: "agent_error",
    });
    bench.close();
  });
});
