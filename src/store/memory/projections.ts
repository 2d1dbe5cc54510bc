/** The projections of one task's log, in memory. */
import type { TaskEvent } from "../../core/event.ts";
import type { AttemptRow, MessageRow, ToolCallRow } from "../../core/ports/store.ts";
import { projectEvent, type ProjectionChange } from "../shared/projection.ts";

export class MemoryProjections {
  messages: MessageRow[] = [];
  toolCalls: ToolCallRow[] = [];
  attempts: AttemptRow[] = [];

  apply(event: TaskEvent): void {
    const change = projectEvent(event);
    if (change !== null) this.#change(change);
  }

  /** A user's message takes precedence over a worker's with the same id. */
  message(id: string): MessageRow | null {
    const found = this.messages.filter((row) => row.id === id);
    return found.find(({ role }) => role === "user") ?? found[0] ?? null;
  }

  queued(): MessageRow[] {
    return this.messages.filter(({ status }) => status === "queued");
  }

  /** Throws when an event is a message of a user with a taken id (P1 of projection.ts). */
  assertNew(events: readonly TaskEvent[]): void {
    for (const { type, data } of events)
      if (type === "message" && data["role"] === "user" && this.message(String(data["id"]))?.role === "user")
        throw new Error(`there is a message ${String(data["id"])} already`);
  }

  #isRunning({ attempt, id }: ToolCallRow): boolean {
    return this.toolCalls.some((row) => row.attempt === attempt && row.id === id && row.endedAt === null);
  }

  recordExit(attempt: number, exitCode: number | null): void {
    this.attempts = this.attempts.map((row) =>
      row.number === attempt ? { ...row, exitCode: row.exitCode ?? exitCode } : row,
    );
  }

  #change(change: ProjectionChange): void {
    switch (change.kind) {
      case "message":
        this.messages.push(change.row);
        return;
      case "message.status":
        this.messages = this.messages.map((row) =>
          row.id === change.id && row.role === "user" ? { ...row, status: change.status } : row,
        );
        return;
      case "tool":
        if (!this.#isRunning(change.row)) this.toolCalls.push(change.row);
        return;
      case "tool.end": {
        const { id, attempt, endedAt, output, exitCode, truncated } = change;
        this.toolCalls = this.toolCalls.map((row) =>
          row.id === id && row.attempt === attempt && row.endedAt === null
            ? { ...row, endedAt, output, exitCode, truncated }
            : row,
        );
        return;
      }
      case "attempt":
        if (!this.attempts.some(({ number }) => number === change.row.number)) this.attempts.push(change.row);
        return;
      case "attempt.end":
        this.attempts = this.attempts.map((row) =>
          row.number === change.number && row.endedAt === null
            ? { ...row, endedAt: change.endedAt, failure: change.failure }
            : row,
        );
        return;
    }
  }
}
