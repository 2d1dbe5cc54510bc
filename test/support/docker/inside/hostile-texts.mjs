// Texts with terminal sequences, hidden characters and markup, sent to the broker past the
// worker's cleaning. Prints the status of each batch.
import { acked, at, post } from "./broker.mjs";

export const EVIL =
  "\u001b[2J\u001b]52;c;b3duZWQ=\u0007\u001b]8;;http://evil.example\u0007\u009b31m\r\nFORGED LINE \u202egnp.exe\u2066\u200b\u2060\ufeff\u00ad\u{e0041}<img src=x onerror=alert(1)>@everyone Fixes #1 ![x](http://evil.example/b.png)";
const text = EVIL;
const send = async (...events) => {
  const seq = await acked();
  console.log((await post(events.map(([type, data], i) => ({ seq: seq + 1 + i, at, type, data })))).status);
};
await send(
  ["notice", { level: "warning", code: text.slice(0, 90), text }],
  [
    "message",
    {
      id: "evil",
      role: "assistant",
      content: [
        { type: "text", text },
        { type: "thinking", text },
      ],
    },
  ],
  ["tool.started", { id: "evil_tool", name: text.slice(0, 90), input: { command: text, [text]: text } }],
  ["tool.finished", { id: "evil_tool", name: text.slice(0, 90), output: text, exitCode: 1, ms: 1, truncated: false }],
  ["todo", { items: [{ text, status: "in_progress" }] }],
  ["verify", { command: text, exitCode: 1, ms: 1, tail: text }],
  ["task.step", { name: "setup", status: "ended", detail: text }],
  ["question", { id: "evil_question", question: text, options: [text] }],
);
// Larger than the schema allows: a title, a summary, a message of a megabyte.
for (const [type, data] of [
  ["finished", { sha: "1".repeat(40), title: "x".repeat(1_000_000), summary: "" }],
  ["finished", { sha: "1".repeat(40), title: "", summary: "x".repeat(1_000_000) }],
  ["message", { id: "big", role: "assistant", content: [{ type: "text", text: "x".repeat(1_000_000) }] }],
  ["question", { id: "big", question: "x".repeat(5_000), options: null }],
  ["notice", { level: "info", code: "x", text: "x".repeat(5_000) }],
])
  await send([type, data]);
