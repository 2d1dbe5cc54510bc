/**
 * What people say to a running worker, read off the task's log: there is no queue beside it.
 * A command's id is the seq of the event behind it, so the poll needs no state of its own (decision
 * 005).
 */
import type { EventData, TaskEvent } from "../../../core/event.ts";
import type { MessageRow, Store } from "../../../core/ports/store.ts";
import type { Task } from "../../../core/task.ts";
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
  /** The longest wait for the first command, ms. */
  readonly waitMs: number;
  readonly signal: AbortSignal;
  /** The newest task. @throws SlipwayError stale_attempt, which ends the poll. */
  task(): Promise<Task>;
}

const EVENTS = 1_000;

/**
 * Resolves as soon as there is a command after `after`, or with none when the time is up or the
 * signal is aborted.
 */
export async function pollCommands({ store, bus, clock }: CommandDeps, poll: Poll): Promise<WorkerCommand[]> {
  const { taskId, waitMs, signal } = poll;
  const until = clock.now() + waitMs;
  let from = poll.after;
  for (;;) {
    const task = await poll.task();
    const hint = new AbortController();
    const left = until - clock.now();
    // Listen first, then read: a hint between the two is not missed.
    const woken = nextHint({ bus, clock }, taskId, Math.max(0, left), AbortSignal.any([signal, hint.signal]));
    const found = await commandsNow(store, taskId, from);
    if (found.length > 0 || left <= 0 || signal.aborted) {
      hint.abort();
      const { graceMs } = task.snapshot.context.policy;
      return found.map((command) => (command.type === "cancel" ? { ...command, graceMs } : command));
    }
    from = Math.max(from, task.seq);
    await woken;
  }
}

async function commandsNow(store: Store, taskId: string, after: number): Promise<WorkerCommand[]> {
  for (let from = after; ;) {
    const { items, more } = await store.eventsOfOthers(taskId, from, EVENTS);
    const found = (await Promise.all(items.map((event) => commandOf(store, event)))).filter(
      (command) => command !== null,
    );
    // What follows on the next page comes with the next poll: an answer is no larger than a page.
    if (found.length > 0 || !more) return found;
    from = items.at(-1)?.seq ?? from;
  }
}

async function commandOf(store: Store, event: TaskEvent): Promise<WorkerCommand | null> {
  const { seq: id, type, data } = event;
  if (type === "message" && data["role"] === "user") {
    const message = await store.message(event.taskId, String(data["id"]));
    if (message?.status !== "queued") return null;
    return { id, type: "message", messageId: message.id, text: messageText(message), mode: message.mode ?? "steer" };
  }
  if (type === "message.status" && data["status"] === "withdrawn")
    return { id, type: "withdraw", messageId: String(data["id"]) };
  if (type === "answer") return { id, type: "answer", questionId: String(data["questionId"]), text: answerText(data) };
  if (type === "task.state" && event.to === "cancelling" && event.from !== "cancelling")
    return { id, type: "cancel", graceMs: 0 };
  return null;
}

/** The words of a person's message. */
export function messageText({ content }: Pick<MessageRow, "content">): string {
  return content.map((block) => String(block["text"] ?? "")).join("\n");
}

/** What the worker hears: of a question that the coordinator asked, the decision. */
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
    const callOff = clock.timer(ms, done);
    const off = bus.onHint((hint) => hint.taskId === taskId && done());
    signal.addEventListener("abort", done, { once: true });
    function done(): void {
      callOff();
      off();
      signal.removeEventListener("abort", done);
      resolve();
    }
  });
}
