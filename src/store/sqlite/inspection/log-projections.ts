/**
 * The rows of messages, tool calls and attempts that a task's log gives, in the form of their
 * tables. Independent of the SQL by which the writer maintains them.
 *
 * L1 Of users' messages with one id, and of calls that run at once in one attempt under one id, the
 *    first is a row. Databases of earlier versions may have the others too (`doubles`).
 */
import type { TaskEvent } from "../../../core/event.ts";
import { projectEvent, type ProjectionChange } from "../../shared/projection.ts";
import type { AttemptRecord, MessageRecord, ToolCallRecord } from "../tables/rows.ts";

type Change<K extends ProjectionChange["kind"]> = Extract<ProjectionChange, { kind: K }>;

export class LogProjections {
  /** By seq; for attempts by number. */
  readonly messages = new Map<number, MessageRecord>();
  readonly toolCalls = new Map<number, ToolCallRecord>();
  readonly attempts = new Map<number, AttemptRecord>();
  /** Seqs of events whose row is optional: missing or present with any content (L1). */
  readonly doubles = { messages: new Set<number>(), toolCalls: new Set<number>() };
  readonly #text: (text: string) => string;
  /** By id: the seqs of users' messages. */
  readonly #userMessages = new Map<string, number>();
  /** By attempt and id: the seqs of calls that have not ended. */
  readonly #runningCalls = new Map<string, number>();

  /** @param text maps long texts before they are kept, for example to a digest. */
  constructor(text: (text: string) => string) {
    this.#text = text;
  }

  /** Call it in the order of `seq`. */
  add(event: TaskEvent): void {
    const change = projectEvent(event);
    if (change === null) return;
    switch (change.kind) {
      case "message":
        return this.#addMessage(change);
      case "message.status":
        return this.#setStatus(change);
      case "tool":
        return this.#addCall(change);
      case "tool.end":
        return this.#endCall(change);
      case "attempt":
        return this.#addAttempt(change);
      case "attempt.end": {
        const row = this.attempts.get(change.number);
        if (row === undefined || row.ended_at !== null) return;
        row.ended_at = change.endedAt;
        row.failure = change.failure;
        return;
      }
    }
  }

  #setStatus({ id, status }: Change<"message.status">): void {
    const row = this.messages.get(this.#userMessages.get(id) ?? 0);
    if (row !== undefined) row.status = status;
  }

  #addMessage({ row: { id, taskId, seq, at, role, mode, status, content } }: Change<"message">): void {
    if (role === "user" && this.#userMessages.has(id)) return void this.doubles.messages.add(seq);
    const text = this.#text(JSON.stringify(content));
    this.messages.set(seq, { task_id: taskId, seq, id, at, role, mode, status, content: text });
    if (role === "user") this.#userMessages.set(id, seq);
  }

  #addCall({ row: { id, taskId, attempt, seq, name, input, startedAt } }: Change<"tool">): void {
    const key = `${attempt} ${id}`;
    if (this.#runningCalls.has(key)) return void this.doubles.toolCalls.add(seq);
    const open = { ended_at: null, output: null, exit_code: null, truncated: 0 } as const;
    const text = this.#text(JSON.stringify(input));
    this.toolCalls.set(seq, { task_id: taskId, seq, attempt, id, name, input: text, started_at: startedAt, ...open });
    this.#runningCalls.set(key, seq);
  }

  #endCall({ attempt, id, endedAt, output, exitCode, truncated }: Change<"tool.end">): void {
    const key = `${attempt} ${id}`;
    const row = this.toolCalls.get(this.#runningCalls.get(key) ?? 0);
    if (row === undefined) return;
    row.ended_at = endedAt;
    row.output = output === null ? null : this.#text(output);
    row.exit_code = exitCode;
    row.truncated = truncated ? 1 : 0;
    this.#runningCalls.delete(key);
  }

  #addAttempt({ row: { taskId, number, container, startedAt } }: Change<"attempt">): void {
    if (this.attempts.has(number)) return;
    const open = { ended_at: null, exit_code: null, failure: null };
    this.attempts.set(number, { task_id: taskId, number, container, started_at: startedAt, ...open });
  }
}
