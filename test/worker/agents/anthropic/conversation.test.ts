/** The pure parts: the fold, the next step, loop detection. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Conversation, type Call, type Trace } from "../../../../worker/agents/anthropic/conversation/conversation.ts";
import { nextStep } from "../../../../worker/agents/anthropic/loop.ts";
import type { Begin, ConversationRecord } from "../../../../worker/agents/anthropic/conversation/records.ts";
import { detectLoop } from "../../../../worker/agents/anthropic/loop-detection.ts";

const BEGIN: Begin = {
  kind: "begin",
  model: "m",
  effort: null,
  maxTokens: 1,
  compactAt: 1,
  thinking: "default",
  system: "s",
  tools: [],
  text: "Do it.",
};

const fold = (lines: readonly ConversationRecord[]): Conversation => {
  const view = new Conversation();
  for (const line of lines) view.add(line, "own");
  return view;
};

/**
 * A run as the loop writes it: each answer with its calls, their results in any order, and texts in
 * between.
 */
const run = fc
  .array(
    fc.record({
      calls: fc.integer({ min: 0, max: 4 }),
      texts: fc.array(fc.constantFrom("x", "y"), { maxLength: 2 }),
      turned: fc.boolean(),
    }),
    {
      maxLength: 8,
    },
  )
  .map((turns): ConversationRecord[] => [
    BEGIN,
    ...turns.flatMap(({ calls, texts, turned }, t): ConversationRecord[] => {
      const ids = Array.from({ length: calls }, (_, i) => `${t}_${i}`);
      const content = [
        { type: "text", text: `turn ${t}` },
        ...ids.map((id) => ({ type: "tool_use", id, name: "bash", input: {} })),
      ];
      const order = turned ? ids.toReversed() : ids;
      return [
        { kind: "turn", content, stop: calls > 0 ? "tool_use" : "end_turn", tokens: 1 },
        ...order.flatMap((id): ConversationRecord[] => [
          { kind: "call", id },
          { kind: "result", id, output: `of ${id}`, status: "ok" },
        ]),
        ...(texts.length === 0 && calls === 0 ? ["go on"] : texts).map((text): ConversationRecord => ({
          kind: "told",
          source: "person",
          text,
        })),
      ];
    }),
  ]);

describe("[A9] the fold", () => {
  it("what was sent is a prefix of everything that is sent later", () => {
    fc.assert(
      fc.property(run, (lines) => {
        const sent: string[][] = [];
        const view = new Conversation();
        for (const line of lines) {
          if (line.kind === "turn") sent.push(view.messages().map((message) => JSON.stringify(message)));
          view.add(line, "own");
        }
        const last = view.messages().map((message) => JSON.stringify(message));
        for (const messages of sent) expect(last.slice(0, messages.length)).toEqual(messages);
      }),
    );
  });

  it("results come first, in the order of the calls", () => {
    fc.assert(
      fc.property(run, (lines) => {
        const messages = fold(lines).messages();
        for (const [i, { role, content }] of messages.entries()) {
          const results = content.flatMap((block) => (block.type === "tool_result" ? [block["tool_use_id"]] : []));
          const called = (messages[i - 1]?.content ?? []).flatMap((block) =>
            block.type === "tool_use" ? [block["id"]] : [],
          );
          expect(results).toEqual(role === "user" ? called : []);
          expect(content.findLastIndex(({ type }) => type === "tool_result")).toBe(results.length - 1);
        }
      }),
    );
  });

  it("an empty answer is not sent back; its message is sent again with a nudge", () => {
    const view = fold([BEGIN, { kind: "turn", content: [{ type: "text", text: " " }], stop: "end_turn", tokens: 1 }]);
    expect(view.messages()).toHaveLength(1);
    expect(nextStep(view)).toBe("nudge");
    view.add({ kind: "told", source: "nudge", text: "Say something." }, "own");
    expect(nextStep(view)).toBe("ask_model");
  });
});

describe("[A1] the next step is a function of the transcript", () => {
  const turn = (names: readonly string[], stop = "tool_use"): ConversationRecord => ({
    kind: "turn",
    content: names.map((name, i) => ({ type: "tool_use", id: `${name}_${i}`, name, input: {} })),
    stop,
    tokens: 1,
  });
  const result = (id: string): ConversationRecord => ({ kind: "result", id, output: "ok", status: "ok" });

  it.each([
    ["no request was sent yet", [], "ask_model"],
    ["a call is open", [turn(["bash"])], "run_calls"],
    ["one of two calls is open", [turn(["bash", "read"]), result("bash_0")], "run_calls"],
    ["the calls are done", [turn(["bash"]), result("bash_0")], "ask_model"],
    ["finish was accepted", [turn(["finish"]), result("finish_0")], "conclude"],
    [
      "finish was accepted and a person sent a message",
      [turn(["finish"]), result("finish_0"), { kind: "told", source: "person", text: "And?" }],
      "ask_model",
    ],
  ] as const)("%s", (_name, lines, expected) => {
    expect(nextStep(fold([BEGIN, ...(lines as readonly ConversationRecord[])]))).toBe(expected);
  });
});

describe("[A5] loop detection", () => {
  const trace = (call: string, output: string, status: "ok" | "failed" = "ok"): Trace => {
    const finished: Call = { id: "c", name: "bash", input: { command: call } };
    return { call: finished, result: { kind: "result", id: "c", output, status } };
  };
  const times = (n: number, make: (i: number) => Trace): Trace[] => Array.from({ length: n }, (_, i) => make(i));
  const verdict = (entries: readonly Trace[]): string => detectLoop(entries).kind;

  it("the limit is four equal calls, three failing ones, and two more after the nudge", () => {
    const same = (): Trace => trace("x", "y");
    expect([verdict(times(3, same)), verdict(times(4, same))]).toEqual(["fine", "nudge"]);
    const bad = (): Trace => trace("x", "no", "failed");
    expect([verdict(times(2, bad)), verdict(times(3, bad))]).toEqual(["fine", "nudge"]);
    expect(verdict([...times(4, same), "nudge", same()])).toBe("fine");
    expect(verdict([...times(4, same), "nudge", same(), same()])).toBe("stop");
  });

  it("growing output is not a loop; a cycle of two to four calls is one", () => {
    expect(verdict(times(50, (i) => trace("job output", `line ${i}`)))).toBe("fine");
    for (const period of [2, 3, 4]) {
      expect(verdict(times(3 * period - 1, (i) => trace(`c${i % period}`, "same")))).toBe("fine");
      expect(verdict(times(3 * period, (i) => trace(`c${i % period}`, "same")))).toBe("nudge");
    }
  });

  it("different calls after the nudge are fine", () => {
    expect(
      verdict([...times(4, () => trace("x", "y")), "nudge", trace("a", "1"), trace("b", "2"), trace("x", "y")]),
    ).toBe("fine");
  });
});
