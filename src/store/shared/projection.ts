/**
 * Projects an event onto the lists of messages, tool calls and attempts. Pure, and shared by every
 * store.
 *
 * P1 Rows are keyed by the seq of their event: an id that a worker uses twice creates two rows
 *    instead of a conflict. The id of a user's message is unique: the coordinator derives it. Of
 *    two running calls with one id in one attempt, the first is kept.
 * P2 Only messages of users have a status, so a worker cannot change a message by sending its id.
 */
import type { EventData, TaskEvent } from "../../core/event.ts";
import type { AttemptRow, MessageRow, ToolCallRow } from "../../core/ports/store.ts";
import { sandboxName, type TaskState } from "../../core/task.ts";

export type ProjectionChange =
  /** A user's message with a taken id is never written (P1). */
  | { readonly kind: "message"; readonly row: MessageRow }
  /** Applies to every user message with this id. */
  | { readonly kind: "message.status"; readonly id: string; readonly status: NonNullable<MessageRow["status"]> }
  /** Ignored while a call of this attempt with this id runs. */
  | { readonly kind: "tool"; readonly row: ToolCallRow }
  /** Applies to the running call of this attempt with this id. */
  | {
      readonly kind: "tool.end";
      readonly id: string;
      readonly attempt: number;
      readonly endedAt: number;
      readonly output: string | null;
      readonly exitCode: number | null;
      readonly truncated: boolean;
    }
  /** Ignored when the attempt exists. */
  | { readonly kind: "attempt"; readonly row: AttemptRow }
  /** Applies to the attempt with this number, unless it has ended. */
  | {
      readonly kind: "attempt.end";
      readonly number: number;
      readonly endedAt: number;
      readonly failure: string | null;
    };

/** States in which an attempt has, or may have, a sandbox. */
const LIVE: ReadonlySet<TaskState> = new Set<TaskState>(["provisioning", "running", "cancelling"]);

/** `data` was validated before it was recorded, so the casts are safe. */
export function projectEvent(event: TaskEvent): ProjectionChange | null {
  const { data } = event;
  switch (event.type) {
    case "message":
      return { kind: "message", row: messageRow(event) };
    case "message.status":
      return {
        kind: "message.status",
        id: data["id"] as string,
        status: data["status"] as NonNullable<MessageRow["status"]>,
      };
    case "tool.started":
      return { kind: "tool", row: toolRow(event) };
    case "tool.finished":
      return {
        kind: "tool.end",
        id: data["id"] as string,
        attempt: event.attempt,
        endedAt: event.at,
        output: (data["output"] as string | undefined) ?? null,
        exitCode: (data["exitCode"] as number | null | undefined) ?? null,
        truncated: data["truncated"] === true,
      };
    default:
      return attemptChange(event);
  }
}

function messageRow({ taskId, seq, at, data }: TaskEvent): MessageRow {
  const user = data["role"] === "user";
  return {
    id: data["id"] as string,
    taskId,
    seq,
    at,
    role: user ? "user" : "assistant",
    content: data["content"] as EventData[],
    mode: user ? ((data["mode"] as MessageRow["mode"] | undefined) ?? null) : null,
    status: user ? ((data["status"] as MessageRow["status"] | undefined) ?? "queued") : null,
  };
}

function toolRow({ taskId, seq, at, attempt, data }: TaskEvent): ToolCallRow {
  return {
    id: data["id"] as string,
    taskId,
    attempt,
    seq,
    name: data["name"] as string,
    input: data["input"] as EventData,
    startedAt: at,
    endedAt: null,
    output: null,
    exitCode: null,
    truncated: false,
  };
}

function attemptChange({ taskId, attempt, at, from, to, type, data }: TaskEvent): ProjectionChange | null {
  if (type === "task.state" && data["reason"] === "claimed") {
    const row = { taskId, number: attempt, container: sandboxName(taskId, attempt), startedAt: at };
    return { kind: "attempt", row: { ...row, endedAt: null, exitCode: null, failure: null } };
  }
  if (from === null || !LIVE.has(from) || LIVE.has(to)) return null;
  const failed = data["reason"] === "failed" || data["reason"] === "timed_out";
  return {
    kind: "attempt.end",
    number: attempt,
    endedAt: at,
    failure: failed && typeof data["code"] === "string" ? data["code"] : null,
  };
}
