/**
 * What one event changes in the lists of messages, tool calls and attempts: pure, and the same for
 * every store.
 *
 * P1 Rows are keyed by the seq of the event that made them: an id that a worker uses twice makes
 *    two rows, it never breaks the log.
 * P2 Only a person's messages have a status; a worker cannot change another message by sending its
 *    id.
 */
import type { EventData, TaskEvent } from "../core/event.ts";
import type { AttemptRow, MessageRow, ToolCallRow } from "../core/ports/store.ts";
import { sandboxName, type TaskState } from "../core/task.ts";

export type ProjectionChange =
  | { readonly kind: "message"; readonly row: MessageRow }
  /** Every message of a person with this id. */
  | { readonly kind: "message.status"; readonly id: string; readonly status: NonNullable<MessageRow["status"]> }
  | { readonly kind: "tool"; readonly row: ToolCallRow }
  /** Every call of this attempt with this id that has not ended. */
  | {
      readonly kind: "tool.end";
      readonly id: string;
      readonly attempt: number;
      readonly endedAt: number;
      readonly output: string | null;
      readonly exitCode: number | null;
      readonly truncated: boolean;
    }
  /** Ignored when the attempt is there already. */
  | { readonly kind: "attempt"; readonly row: AttemptRow }
  /** The attempt of this number, if it has not ended. */
  | {
      readonly kind: "attempt.end";
      readonly number: number;
      readonly endedAt: number;
      readonly failure: string | null;
    };

/** States in which an attempt has, or may have, a sandbox. */
const LIVE: ReadonlySet<TaskState> = new Set<TaskState>(["provisioning", "running", "cancelling"]);

/** The coordinator wrote `data` after checking it, so the casts here are true. */
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
