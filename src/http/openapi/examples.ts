/** Examples of the components, each valid against its schema. */
const TASK_ID = "task_01k9z3v8q4m2x6w7y5t1r0pnab";
const AT = "2026-03-14T09:26:53.589Z";
const SHA = "5f0c2d7e9a1b4c6d8e0f1a2b3c4d5e6f70819203";

function event(seq: number, type: string, data: object, from = "running", to = from): object {
  return { taskId: TASK_ID, seq, at: AT, attempt: 1, type, from, to, data };
}

export const EXAMPLES: Readonly<Record<string, readonly object[] | undefined>> = {
  Submit: [
    { repo: "https://github.com/acme/shop", prompt: "The cart loses its items after a login. Fix it, with a test." },
    {
      repo: "https://github.com/acme/shop",
      base: "develop",
      prompt: "Update the dependencies and fix what breaks.",
      agent: "anthropic",
      budget: { usd: 5, minutes: 45 },
      verify: ["npm test"],
    },
  ],
  Problem: [
    {
      type: "urn:slipway:problem:image_not_allowed",
      title: "The image is not allowed on this server",
      status: 400,
      code: "image_not_allowed",
      detail: "An operator can add node:22 to SLIPWAY_IMAGES.",
    },
  ],
  ToolInput: [{ command: "npm test" }, { path: "src/cart.ts", old: "items = []", new: "items = load()" }],
  Message: [
    {
      id: "msg_01k9z3w1",
      seq: 12,
      at: AT,
      role: "user",
      content: [{ type: "text", text: "Leave the API as it is." }],
      mode: "steer",
      status: "delivered",
    },
  ],
  ToolCall: [
    {
      id: "toolu_01",
      attempt: 1,
      seq: 14,
      name: "bash",
      input: { command: "npm test" },
      startedAt: AT,
      endedAt: AT,
      output: "42 passed",
      exitCode: 0,
      truncated: false,
    },
  ],
  EventTaskState: [
    { ...event(2, "task.state", { reason: "claimed" }, "queued", "provisioning") },
    event(30, "task.state", { reason: "cancel", force: false, by: "user_01k9z3" }, "running", "cancelling"),
  ],
  EventTaskStep: [
    event(3, "task.step", { name: "mirror", status: "ended", detail: "main at 5f0c2d7e" }, "provisioning"),
  ],
  EventMessage: [
    event(8, "message", { id: "m1", role: "assistant", content: [{ type: "text", text: "I look at the cart." }] }),
  ],
  EventToolStarted: [event(9, "tool.started", { id: "toolu_01", name: "bash", input: { command: "npm test" } })],
  EventToolFinished: [
    event(10, "tool.finished", {
      id: "toolu_01",
      name: "bash",
      output: "42 passed",
      exitCode: 0,
      ms: 5_210,
      truncated: false,
    }),
  ],
  EventTodo: [
    event(11, "todo", {
      items: [
        { text: "Reproduce it", status: "completed" },
        { text: "Fix it", status: "in_progress" },
      ],
    }),
  ],
  EventCheckpoint: [event(15, "checkpoint", { sha: SHA, cursor: "7", files: 2, additions: 31, deletions: 4 })],
  EventQuestion: [
    event(16, "question", { id: "q_1", question: "Keep the old field?", options: ["keep it", "remove it"] }),
  ],
  EventAnswer: [event(17, "answer", { questionId: "q_1", text: "keep it", by: "user_01k9z3" })],
  EventPush: [event(40, "push", { branch: "slipway/cart-01k9z3", sha: SHA }, "pushing", "done")],
  StreamClientFrame: [
    { type: "auth", token: "…" },
    { type: "subscribe", topic: `task:${TASK_ID}`, after: 12 },
    { type: "subscribe", topic: "tasks", after: null },
  ],
  StreamServerFrame: [
    { type: "ready" },
    { type: "subscribed", topic: `task:${TASK_ID}`, after: 12 },
    { type: "delta", topic: `task:${TASK_ID}`, messageId: "m1", text: "I look at" },
    { type: "error", code: "not_found", topic: "task:task_x" },
  ],
};
