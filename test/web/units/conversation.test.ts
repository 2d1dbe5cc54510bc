/** The fold of events into a conversation, and the parts of the page that need no browser. */
import { describe, expect, it } from "vitest";
import type { WireEvent } from "../../../src/core/protocol/events.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { ConversationFold } from "../../../web/src/lib/log/conversation.ts";
import { addToStop, type StopProof } from "../../../web/src/lib/log/stop-proof.ts";
import { toSections } from "../../../web/src/lib/log/sections.ts";
import { collectRuns, collectWaits, forecastEnd, forecastStart } from "../../../web/src/lib/tasks/forecast.ts";
import { events, foldAll, textOf, tool, type Part } from "./log-events.ts";
import { parsePatch } from "../../../web/src/lib/patch.ts";

describe("the conversation", () => {
  it("[F4] output of a running tool is shown until its result is there, and is bounded", () => {
    const fold = new ConversationFold();
    const [started, finished] = events(tool("t1"));
    if (started === undefined || finished === undefined) throw new Error("no events");
    expect(fold.addLive("t1", "early")).toBe(false);
    fold.add(started);
    expect(fold.addLive("t1", "one\n")).toBe(true);
    expect(fold.get().blocks).toMatchObject([{ kind: "tool", result: null, live: "one\n" }]);
    fold.addLive("t1", "x".repeat(20_000));
    expect(fold.get().blocks).toMatchObject([{ live: "x".repeat(8_000) }]);
    fold.add(finished);
    expect(fold.addLive("t1", "late")).toBe(true);
    expect(fold.get().blocks).toMatchObject([{ result: { output: "a" }, live: "x".repeat(8_000) }]);
    expect(fold.addLive("msg_1", "text of a message")).toBe(false);
  });

  it("a finished tool call has its result, one of an ended attempt is marked as lost", () => {
    const { blocks } = foldAll([
      ...tool("1"),
      { type: "tool.started", data: { id: "2", name: "bash", input: {} } },
      { type: "task.state", to: "retrying", data: { reason: "failed", code: "worker_lost" } },
    ]);
    expect(blocks.map((block) => (block.kind === "tool" ? block.result : block.kind))).toEqual([
      { output: "a", exitCode: 0, ms: 5, truncated: false },
      "lost",
      "line",
    ]);
  });

  it("a step has the end of what it printed, of its own attempt, and its progress is no line of the conversation", () => {
    const step = (name: string, status = "started"): Part => ({
      type: "task.step",
      data: { name, status, detail: null },
    });
    const notice = (code: string, text: string): Part => ({ type: "notice", data: { level: "info", code, text } });
    const setup = (id: string, output: string): Part[] => [
      { type: "tool.started", data: { id, name: "setup", input: { command: "npm ci" } } },
      { type: "tool.finished", data: { id, name: "setup", output, exitCode: 0, ms: 5, truncated: false } },
    ];
    const { blocks } = foldAll([
      notice("step.image", "too early"),
      step("mirror"),
      notice("step.mirror", "Receiving objects: 10%"),
      notice("step.mirror", "Receiving objects: 90%"),
      step("mirror", "ended"),
      notice("mirror", "a notice of another kind"),
      step("clone", "ended"),
      step("setup"),
      ...setup("s1", "\u001b[32madded\u001b[0m 3 packages\n"),
      ...setup("s2", "x".repeat(20_000)),
      { ...step("mirror"), attempt: 2 },
    ]);
    const logs = blocks.flatMap((block) =>
      block.kind === "steps" ? block.steps.map(({ name, log }) => [name, log]) : [],
    );
    const [mirror, clone, installed, second] = logs;
    expect(mirror).toEqual(["mirror", "Receiving objects: 10%\nReceiving objects: 90%\n"]);
    expect([clone, second]).toEqual([
      ["clone", ""],
      ["mirror", ""],
    ]);
    expect(installed).toEqual(["setup", `${"x".repeat(7_999)}\n`]);
    expect(blocks.map((block) => (block.kind === "line" ? block.text : block.kind))).toEqual([
      "too early",
      "steps",
      "a notice of another kind",
      "tool",
      "tool",
      "steps",
    ]);
    const first = foldAll([step("setup"), ...setup("s1", "\u001b[32madded\u001b[0m\n")]).blocks[0];
    expect(first).toMatchObject({ steps: [{ name: "setup", log: "$ npm ci\n\u001b[32madded\u001b[0m\n" }] });
  });

  it("the time in each state follows from the events that change it, whatever their type", () => {
    const { spans } = foldAll([
      { type: "task.submitted", from: null, to: "queued" },
      { type: "task.state", from: "queued", to: "provisioning" },
      { type: "task.state", from: "provisioning", to: "running" },
      { type: "task.state", from: "running", to: "pushing" },
      { type: "push", from: "pushing", to: "done", data: { branch: "b", sha: "a".repeat(40) } },
    ]);
    expect(spans.map(({ state, from, to }) => [state, to === null ? null : to - from])).toEqual([
      ["queued", 1_000],
      ["provisioning", 1_000],
      ["running", 1_000],
      ["pushing", 1_000],
      ["done", null],
    ]);
  });

  it("consecutive tool calls are one group of work between the agent's texts", () => {
    const { blocks } = foldAll([textOf("one"), ...tool("1"), ...tool("2"), textOf("two"), ...tool("3")]);
    expect(toSections(blocks).map((section) => (section.kind === "work" ? section.tools : section.block.kind))).toEqual(
      ["text", 2, "text", 1],
    );
  });

  it("an answer belongs to its question, and a message has the status that the server reported", () => {
    const { blocks, statuses } = foldAll([
      { type: "question", data: { id: "q1", question: "Which?", options: ["a", "b"] } },
      { type: "answer", data: { questionId: "q1", text: "a" } },
      { type: "message", data: { id: "m1", role: "user", content: [{ type: "text", text: "hello" }] } },
      { type: "message.status", data: { id: "m1", status: "delivered" } },
    ]);
    expect(blocks[0]).toMatchObject({ kind: "question", answer: { text: "a" } });
    expect(statuses.get("m1")).toBe("delivered");
  });

  it("a snapshot does not change when further events are added", () => {
    const fold = new ConversationFold();
    const [first, second] = events([textOf("one"), textOf("two")]);
    fold.add(first!);
    const before = fold.get();
    fold.add(second!);
    expect(before.blocks).toHaveLength(1);
    expect(fold.get().blocks).toHaveLength(2);
  });
});

describe("a patch", () => {
  const patch = [
    "diff --git a/x b/x",
    "--- a/x",
    "+++ b/x",
    "@@ -1,3 +1,4 @@",
    " first",
    "-const voucher = find(code);",
    "+const voucher = lock(tx, code);",
    "+// new",
    " last",
    "\\ No newline at end of file",
  ].join("\n");

  it("has the line numbers of both files, and no header lines", () => {
    expect(parsePatch(patch).map(({ kind, number }) => [kind, number])).toEqual([
      ["hunk", 0],
      ["same", 1],
      ["del", 2],
      ["add", 2],
      ["add", 3],
      ["same", 4],
    ]);
  });

  it("marks the words that differ where one line replaces another", () => {
    const [, , before, after] = parsePatch("@@ -1,1 +1,1 @@\n x\n-find(code);\n+lock(tx, code);");
    expect(before?.parts).toEqual([
      { text: "find(", isChanged: true },
      { text: "code);", isChanged: false },
    ]);
    expect(after?.parts).toEqual([
      { text: "lock(tx, ", isChanged: true },
      { text: "code);", isChanged: false },
    ]);
  });
});

describe("the proof of a stop", () => {
  const stopping: Part[] = [
    { type: "checkpoint", data: { sha: "a".repeat(40), cursor: null, files: 1, additions: 4, deletions: 2 } },
    ...tool("t1").slice(0, 1),
    { type: "task.state", to: "cancelling", data: { reason: "cancel", force: false, by: "user_1" } },
  ];
  const ended: Part[] = [
    {
      type: "tool.finished",
      from: "cancelling",
      to: "cancelling",
      data: { id: "t1", name: "bash", output: "", exitCode: null, ms: 1, truncated: false },
    },
    { type: "task.state", from: "cancelling", to: "cancelled", data: { reason: "stopped" } },
  ];

  it("[W6] says who asked, what ended, what is saved, and that the container is gone; no stage is ahead of the log", () => {
    expect(foldAll(stopping).stop).toEqual({
      askedAt: 2_000,
      by: "user_1",
      isForced: false,
      attempt: 1,
      ended: null,
      seq: 3,
      isPart: false,
      goneAt: null,
    });
    const { stop, saved } = foldAll([...stopping, ...ended]);
    expect(stop).toMatchObject({ ended: { count: 1, at: 3_000 }, goneAt: 4_000 });
    expect(saved).toMatchObject({ additions: 4, deletions: 2, at: 0 });
    expect(foldAll(ended).stop).toBeNull();
  });

  it("the commands of a stop are counted, and where events after the request were not read, it says so", () => {
    const log = events([...stopping, ...ended]);
    const add = (stop: StopProof | null, event: WireEvent): StopProof | null => addToStop(stop, event);
    expect(log.reduce(add, null)).toMatchObject({ ended: { count: 1 }, isPart: false });
    const later = log.slice(stopping.length).map((event) => ({ ...event, seq: event.seq + 2_000 }));
    const read = [...log.slice(0, stopping.length), ...later];
    expect(read.reduce(add, null)).toMatchObject({ ended: { count: 1 }, isPart: true });
  });

  it("a stop that is asked for again without time to save is forced", () => {
    const again: Part = {
      type: "task.state",
      from: "cancelling",
      to: "cancelling",
      data: { reason: "cancel", force: true },
    };
    expect(foldAll([...stopping, again]).stop).toMatchObject({ askedAt: 2_000, by: "user_1", isForced: true });
  });
});

describe("the forecast of a waiting task", () => {
  const at = (minute: number): string => new Date(minute * 60_000).toISOString();
  const ran = (wait: number): WireTask =>
    ({ state: "done", attempt: 1, createdAt: at(0), startedAt: at(wait) }) as unknown as WireTask;
  const waiting = { state: "queued", attempt: 0, createdAt: at(100), startedAt: null } as unknown as WireTask;
  const now = 101 * 60_000;

  it("is the middle one of the waits here, less what it waited; nothing with few of them, nothing when it is late", () => {
    const waits = collectWaits([ran(1), ran(9), ran(4), ran(3), ran(30), ran(0), waiting], now);
    expect(waits.map((ms) => ms / 60_000)).toEqual([1, 3, 4, 9, 30]);
    expect(forecastStart(waiting, waits, now)).toBe("usually starts in 3 min");
    expect(forecastStart(waiting, waits, now + 165_000)).toBe("usually starts within a minute");
    expect(forecastStart(waiting, waits, now + 240_000)).toBe("");
    expect(forecastStart(waiting, waits.slice(1), now)).toBe("");
  });

  it("its end is the middle half of how long tasks worked here; nothing with few of them", () => {
    const worked = (minutes: number, more: object = {}): WireTask =>
      ({ ...ran(10), settledAt: at(10 + minutes), ...more }) as unknown as WireTask;
    const failed = worked(90, { state: "failed" });
    const old = worked(-10 * 24 * 60);
    const runs = collectRuns([worked(4), worked(9), worked(1), worked(6), worked(60), failed, old, waiting], now);
    expect(runs.map((ms) => ms / 60_000)).toEqual([1, 4, 6, 9, 60]);
    expect(forecastEnd(runs)).toBe("Usually done in 4–9 min");
    expect(forecastEnd(runs.slice(1))).toBe("");
    expect(forecastEnd([1_000, 1_000, 2_000, 9_000, 12_000])).toBe("Usually done within a minute");
  });
});
