import { describe, expect, it } from "vitest";
import { progressBar, createEventRenderer, statusLine } from "../../../src/cli/terminal/event-renderer.ts";
import { openSpinner } from "../../../src/cli/terminal/spinner.ts";
import {
  formatCount,
  stripControls,
  stripControlsKeepLines,
  truncate,
  formatDuration,
  createPaint,
  formatTable,
} from "../../../src/cli/terminal/text.ts";
import type { WireEvent } from "../../../src/core/protocol/events.ts";

const plain = createPaint({}, {});
const BEGAN = Date.parse("2026-01-01T00:00:00.000Z");

function story(
  ...parts: readonly [ms: number, type: WireEvent["type"], to: WireEvent["to"], data: Record<string, unknown>][]
): WireEvent[] {
  const events = parts.map(([ms, type, to, data], i) => ({
    taskId: "task_1",
    seq: i + 1,
    at: new Date(BEGAN + ms).toISOString(),
    attempt: to === "queued" ? 0 : 1,
    type,
    from: i === 0 ? null : (parts[i - 1]?.[2] ?? null),
    to,
    data,
  }));
  return events as WireEvent[];
}

function shown(events: readonly WireEvent[]): string {
  const renderer = createEventRenderer(plain, 100);
  return events.flatMap((event) => renderer.lines(event)).join("\n");
}

describe("render", () => {
  it("renders a task from start to end", () => {
    const text = shown(
      story(
        [0, "task.submitted", "queued", { title: "Fix the test" }],
        [1_000, "task.state", "provisioning", { reason: "claimed" }],
        [1_000, "task.step", "provisioning", { name: "mirror", status: "started", detail: null }],
        [2_500, "task.step", "provisioning", { name: "mirror", status: "ended", detail: "main" }],
        [3_000, "task.state", "running", { reason: "ready" }],
        [
          4_000,
          "message",
          "running",
          { id: "m1", role: "assistant", content: [{ type: "text", text: "Two lines\nof words" }] },
        ],
        [4_000, "tool.started", "running", { id: "t1", name: "bash", input: { command: "npm test" } }],
        [
          6_000,
          "tool.finished",
          "running",
          { id: "t1", name: "bash", output: "x", exitCode: 1, ms: 2_000, truncated: false },
        ],
        [
          7_000,
          "todo",
          "running",
          {
            items: [
              { text: "one", status: "completed" },
              { text: "two", status: "in_progress" },
            ],
          },
        ],
        [8_000, "checkpoint", "running", { sha: "a".repeat(40), files: 1, additions: 2, deletions: 3 }],
        [9_000, "task.state", "pushing", { reason: "finished" }],
        [9_500, "push", "done", { branch: "slipway/x", sha: "b".repeat(40) }],
      ),
    );
    expect(text).toBe(
      [
        "    0.0 s  submitted Fix the test",
        "    1.0 s  → provisioning",
        "    2.5 s  ✓ mirror 1.5 s  main",
        "    3.0 s  → running",
        "    4.0 s  Two lines",
        "           of words",
        "    6.0 s  ⏺ bash npm test ✗ exit 1 2.0 s",
        "    7.0 s  [██████░░░░░░] 1/2  two",
        "    8.0 s  ◆ checkpoint aaaaaaaaaa 1 file +2 -3",
        "    9.0 s  → pushing",
        "    9.5 s  ↑ pushed slipway/x bbbbbbbbbb",
      ].join("\n"),
    );
  });

  it("shows failures, notices, questions, and what a lost attempt left open", () => {
    const text = shown(
      story(
        [0, "task.state", "running", { reason: "ready" }],
        [0, "tool.started", "running", { id: "t1", name: "write", input: { path: "a.txt" } }],
        [0, "notice", "running", { level: "warning", code: "egress", text: "blocked" }],
        [0, "question", "running", { id: "q", question: "Which?", options: ["left", "right"] }],
        [0, "answer", "running", { questionId: "q", text: "left" }],
        [0, "verify", "running", { command: "npm test", exitCode: 1, ms: 5, tail: "boom" }],
        [0, "task.state", "retrying", { reason: "failed", code: "worker_lost", detail: "it is gone" }],
      ),
    );
    for (const part of [
      "! blocked",
      "? Which?",
      "1. left",
      "answer: left",
      "✗ verify npm test",
      "  boom",
      "✗ worker_lost it is gone",
      "write a.txt (did not finish)",
      "→ retrying",
    ]) {
      expect(text).toContain(part);
    }
  });

  it("lets no text of a worker command the terminal or forge a line", () => {
    const evil = "\u001b[2J\u001b]0;owned\u0007\r\u009b1m\u202e\u2028fake\u200b\u2060\ufeff\u00ad\u061c\u{e0041}";
    const text = shown(
      story(
        [0, "task.submitted", "queued", { title: evil }],
        [0, "message", "running", { id: "m", role: "assistant", content: [{ type: "text", text: evil }] }],
        [0, "tool.started", "running", { id: evil, name: evil, input: { command: evil } }],
        [0, "tool.finished", "running", { id: evil, name: evil, output: evil, exitCode: 0, ms: 1, truncated: false }],
        [0, "task.step", "running", { name: evil, status: "ended", detail: evil }],
        [0, "todo", "running", { items: [{ text: evil, status: "in_progress" }] }],
        [0, "notice", "running", { level: "info", code: evil, text: evil }],
        [0, "question", "running", { id: evil, question: evil, options: [evil] }],
        [0, "verify", "running", { command: evil, exitCode: 1, ms: 1, tail: evil }],
        [0, "push", "running", { branch: evil, sha: evil }],
        [0, "pull_request", "running", { url: evil }],
        [0, "checkpoint", "running", { sha: evil }],
        [0, "task.state", "failed", { reason: "failed", code: evil, detail: evil }],
      ),
    );
    expect(text.split("\n").length).toBeGreaterThan(12);
    expect(text.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}\u2028\u2029]/u);
  });

  it("shows the current activity on one line", () => {
    const renderer = createEventRenderer(plain, 100);
    for (const event of story(
      [0, "task.state", "running", { reason: "ready" }],
      [1_000, "usage", "running", { inputTokens: 1_000, outputTokens: 234, usd: 0.5, turns: 1 }],
      [1_500, "usage", "running", { inputTokens: 100, usd: 0.5, turns: 1 }],
      [2_000, "tool.started", "running", { id: "t1", name: "bash", input: { command: "make" } }],
    )) {
      renderer.lines(event);
    }
    const line = statusLine(renderer.progress(), BEGAN + 5_000, 100);
    expect(line).toBe("running 5.0 s · bash make 3.0 s · 1.3k tokens $1.00 2 turns");
    expect(Array.from(statusLine(renderer.progress(), BEGAN, 20)).length).toBeLessThanOrEqual(17);
  });
});

describe("status", () => {
  it("prints plain lines without a terminal", () => {
    const written: string[] = [];
    const status = openSpinner({ write: (text) => written.push(text) }, () => "working");
    status.line("one");
    status.close();
    expect(written).toEqual(["one\n"]);
  });

  it("is cleared before each line and at the end on a terminal", () => {
    const written: string[] = [];
    const status = openSpinner({ isTTY: true, columns: 40, write: (text) => written.push(text) }, () => "working");
    status.line("one");
    status.close();
    status.close();
    expect(written[0]).toBe("\r\u001b[2Kone\n");
    expect(written[1]).toContain("working");
    expect(written.at(-1)).toBe("\r\u001b[2K");
    expect(written).toHaveLength(3);
  });
});

describe("text", () => {
  it("counts time and tokens in words", () => {
    expect([0, 9_949, 9_960, 61_000, 3_600_000 * 2.5, 86_400_000 * 3].map(formatDuration)).toEqual([
      "0.0 s",
      "9.9 s",
      "10 s",
      "1 m 01 s",
      "2 h 30 m",
      "3 d 0 h",
    ]);
    expect([999, 1_000, 999_949, 1_500_000].map(formatCount)).toEqual(["999", "1.0k", "999.9k", "1.5M"]);
    expect(progressBar(0, 0)).toBe("[░░░░░░░░░░░░]");
    expect(progressBar(3, 3)).toBe("[████████████]");
  });

  it("cuts between characters", () => {
    expect(truncate("ab😀cd", 4)).toBe("ab😀…");
    expect(truncate("abcd", 4)).toBe("abcd");
  });

  it("cleans", () => {
    expect(stripControls("a\tb\r\nc\u0000")).toBe("a b c\\u0000");
    expect(stripControlsKeepLines("a\r\nb\u001b[1m")).toEqual(["a", "b\\u001b[1m"]);
    expect(stripControls("ümlaut 😀 漢字")).toBe("ümlaut 😀 漢字");
    expect(stripControls("می\u200cخواهم 👩\u200d💻")).toBe("می\u200cخواهم 👩\u200d💻");
    expect(stripControls("a\u200bb\u{e0041}")).toBe("a\\u200bb\\u{e0041}");
  });

  it("colours only a terminal that wants it", () => {
    expect(createPaint({ isTTY: true }, {}).red("x")).toBe("\u001b[31mx\u001b[39m");
    for (const none of [
      createPaint({ isTTY: true }, { NO_COLOR: "1" }),
      createPaint({}, {}),
      createPaint({ isTTY: true }, { TERM: "dumb" }),
    ])
      expect(none.red("x")).toBe("x");
  });

  it("lines up columns", () => {
    expect(
      formatTable(
        ["A", "B"],
        [
          ["long", "x"],
          ["s", "y"],
        ],
      ),
    ).toBe("A     B\nlong  x\ns     y");
  });
});
