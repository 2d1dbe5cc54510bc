/** Events of a log, from what matters of each. */
import type { WireEvent } from "../../../src/core/protocol/events.ts";
import { ConversationFold } from "../../../web/src/lib/log/conversation.ts";

export type Part = Partial<Omit<WireEvent, "data">> &
  Pick<WireEvent, "type"> & { readonly data?: Record<string, unknown> };

export function events(parts: readonly Part[]): WireEvent[] {
  const made = parts.map((part, i) => ({
    taskId: "task_1",
    seq: i + 1,
    at: new Date(i * 1_000).toISOString(),
    attempt: 1,
    from: "running",
    to: "running",
    data: {},
    ...part,
  }));
  return made as WireEvent[];
}

export function foldAll(parts: readonly Part[]) {
  const fold = new ConversationFold();
  for (const event of events(parts)) fold.add(event);
  return fold.get();
}

export const tool = (id: string): Part[] => [
  { type: "tool.started", data: { id, name: "bash", input: { command: "ls" } } },
  { type: "tool.finished", data: { id, name: "bash", output: "a", exitCode: 0, ms: 5, truncated: false } },
];
export const textOf = (text: string): Part => ({
  type: "message",
  data: { id: text, role: "assistant", content: [{ type: "text", text }] },
});
