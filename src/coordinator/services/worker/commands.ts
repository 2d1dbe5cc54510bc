/**
 * Commands for a running worker, read from the task's log: there is no queue beside it. A command's
 * id is the seq of its event, so the poll is stateless (decision 005).
 */
import type { EventData, TaskEvent } from "../../../core/event.ts";
import type { Attachment } from "../../../core/values/attachment.ts";
import type { MessageRow, Store } from "../../../core/ports/store.ts";
import type { Task } from "../../../core/task.ts";
import { attachmentsOf } from "../tasks/attachments.ts";
import type { WorkerCommand } from "../../../core/protocol/worker.ts";
import type { Bus, Clock } from "../../../core/ports/runtime.ts";

export interface CommandDeps {
  readonly store: Store;
  readonly bus: Bus;
  readonly clock: Clock;
}

export interface Poll {
  readonly taskId: string;
  readonly after: number;
  /** Longest wait for the first command, ms. */
  readonly waitMs: number;
  readonly signal: AbortSignal;
  /** The newest task. @throws SlipwayError stale_attempt, which ends the poll. */
  task(): Promise<Task>;
}

const EVENTS = 1_000;

/** Resolves with the first commands after `after`; with none after `waitMs` or when aborted. */
export async function pollCommands({ store, bus, clock }: CommandDeps, poll: Poll): Promise<WorkerCommand[]> {
  const { taskId, waitMs, signal } = poll;
  const deadline = clock.monotonic() + waitMs;
  let from = poll.after;
  for (;;) {
    const task = await poll.task();
    const hint = new AbortController();
    const remainingMs = deadline - clock.monotonic();
    // Subscribed before the read, so that a hint between the two is not missed.
    const hinted = nextHint({ bus, clock }, taskId, Math.max(0, remainingMs), AbortSignal.any([signal, hint.signal]));
    const found = await readCommands(store, taskId, from);
    if (found.length > 0 || remainingMs <= 0 || signal.aborted) {
      hint.abort();
      const { graceMs } = task.snapshot.context.policy;
      return found.map((command) => (command.type === "cancel" ? { ...command, graceMs } : command));
    }
    from = Math.max(from, task.seq);
    await hinted;
  }
}

async function readCommands(store: Store, taskId: string, after: number): Promise<WorkerCommand[]> {
  for (let from = after; ;) {
    const { items, more } = await store.eventsOfOthers(taskId, from, EVENTS);
    const found = (await Promise.all(items.map((event) => toCommand(store, event)))).filter(
      (command) => command !== null,
    );
    // Commands of later pages are returned by the next poll, so the size of a response is bounded.
    if (found.length > 0 || !more) return found;
    from = items.at(-1)?.seq ?? from;
  }
}

async function toCommand(store: Store, event: TaskEvent): Promise<WorkerCommand | null> {
  const { seq: id, type, data } = event;
  if (type === "message" && data["role"] === "user") {
    const message = await store.message(event.taskId, String(data["id"]));
    if (message?.status !== "queued") return null;
    const interrupt = data["interrupt"] === true ? { interrupt: true as const } : {};
    const { mode } = message;
    return {
      id,
      type: "message",
      messageId: message.id,
      ...messageParts(message),
      mode: mode ?? "steer",
      ...interrupt,
    };
  }
  if (type === "message.status" && data["status"] === "withdrawn")
    return { id, type: "withdraw", messageId: String(data["id"]) };
  if (type === "answer") return { id, type: "answer", questionId: String(data["questionId"]), text: answerText(data) };
  if (type === "task.state" && event.to === "cancelling" && event.from !== "cancelling")
    return { id, type: "cancel", graceMs: 0 };
  return null;
}

/** What a worker gets of a message. */
export function messageParts(message: Pick<MessageRow, "content">): { text: string; attachments?: Attachment[] } {
  const attachments = attachmentsOf(message.content);
  return { text: messageText(message), ...(attachments.length === 0 ? {} : { attachments }) };
}

/** The text of a user message. */
export function messageText({ content }: Pick<MessageRow, "content">): string {
  return content.flatMap(({ type, text }) => (type === "text" ? [String(text)] : [])).join("\n");
}

/** The answer as the worker gets it: for a question of the coordinator, the decision. */
export function answerText(data: EventData): string {
  return String(data["decision"] ?? data["text"]);
}

/** Resolves at the next hint about the task, after `ms`, or when aborted. */
function nextHint(
  { bus, clock }: Pick<CommandDeps, "bus" | "clock">,
  taskId: string,
  ms: number,
  signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve) => {
    const cancelTimer = clock.timer(ms, done);
    const unsubscribe = bus.onHint((hint) => hint.taskId === taskId && done());
    signal.addEventListener("abort", done, { once: true });
    function done(): void {
      cancelTimer();
      unsubscribe();
      signal.removeEventListener("abort", done);
      resolve();
    }
  });
}
