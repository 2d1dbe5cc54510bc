/**
 * Projects events onto the progress that lists show. Pure, and shared by every store and the
 * checker.
 *
 * P1 Later events replace what earlier ones said; null = these events say nothing about it.
 * P2 The activity is one line without control characters, bounded in length.
 * P3 Notable events are those that a person should see: a question of any kind, an end, and a task
 *    that another person began or cancels for them. An act of the owner marks everything before it
 *    as seen, so their own cancel, and the end that follows from it, is not notable.
 */
import type { EventData, EventType, TaskEvent } from "../../core/event.ts";
import { NO_PROGRESS, type TaskProgress } from "../../core/task.ts";

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** Code points of the activity. */
const LINE = 160;
/** The inputs of tools that say most, the best first. */
const MAIN_INPUTS = ["command", "path", "file_path", "pattern", "query", "url"];

/**
 * Data of another form than that of its type says nothing.
 * @param ownerId of the task.
 */
export function projectProgress(events: readonly TaskEvent[], ownerId: string): TaskProgress {
  const progress: Mutable<TaskProgress> = { ...NO_PROGRESS };
  for (const event of events) {
    const { type, at, data } = event;
    progress.notable = toNotable(event, ownerId) ?? progress.notable;
    if (type === "todo") progress.todo = toTodo(data) ?? progress.todo;
    if (type === "checkpoint") progress.changes = toChanges(data) ?? progress.changes;
    const text = toLine(describeActivity(event));
    if (text !== "") progress.activity = { at, text };
  }
  return progress;
}

export function mergeProgress(before: TaskProgress, next: TaskProgress): TaskProgress {
  return {
    todo: next.todo ?? before.todo,
    changes: next.changes ?? before.changes,
    activity: next.activity ?? before.activity,
    notable: next.notable ?? before.notable,
  };
}

/** Acts that name in `by` whose they are. A worker cannot name anybody (rule S15). */
const ACTS: ReadonlySet<EventType> = new Set<EventType>([
  "task.submitted",
  "task.state",
  "message",
  "message.status",
  "answer",
]);

function toNotable({ type, seq, from, to, data, workerSeq }: TaskEvent, ownerId: string): number | null {
  const by = workerSeq === null && ACTS.has(type) ? data["by"] : undefined;
  if (by === ownerId) return 0;
  const isForeign = typeof by === "string" && (type === "task.submitted" || data["reason"] === "cancel");
  const isEnd = from !== to && (to === "done" || to === "failed");
  return isForeign || isEnd || type === "question" ? seq : null;
}

function toTodo({ items }: EventData): TaskProgress["todo"] {
  if (!isListOf<{ readonly text: string; readonly status: string }>(items)) return null;
  return {
    done: items.filter(({ status }) => status === "completed").length,
    total: items.length,
    current: items.find(({ status }) => status === "in_progress")?.text ?? null,
  };
}

function toChanges({ files, additions, deletions }: EventData): TaskProgress["changes"] {
  if (typeof files !== "number" || typeof additions !== "number" || typeof deletions !== "number") return null;
  return { files, additions, deletions };
}

function isListOf<T extends object>(value: unknown): value is readonly T[] {
  return Array.isArray(value) && value.every((item) => typeof item === "object" && item !== null);
}

/** Empty for events that show no activity to people. */
function describeActivity({ type, data }: TaskEvent): string {
  switch (type) {
    case "tool.started":
      return describeTool(String(data["name"]), data["input"]);
    case "message": {
      if (data["role"] === "user") return "";
      const blocks = data["content"];
      if (!isListOf<{ readonly type: string; readonly text: string }>(blocks)) return "";
      return String(blocks.findLast((block) => block.type === "text")?.text ?? "");
    }
    case "verify":
      return `check ${String(data["command"])}`;
    case "push":
      return `pushed ${String(data["branch"])}`;
    case "pull_request":
      return `opened pull request ${String(data["number"])}`;
    default:
      return "";
  }
}

function describeTool(name: string, input: unknown): string {
  const given = typeof input === "object" && input !== null ? (input as EventData) : {};
  const main = MAIN_INPUTS.map((key) => given[key]).find((value) => typeof value === "string") ?? "";
  return name === "bash" && main !== "" ? main : `${name} ${main}`;
}

function toLine(text: string): string {
  // The longest text that a worker may send is cut first: only its begin is shown.
  const line = text
    .slice(0, 4 * LINE)
    .replaceAll(/[\s\p{C}]+/gu, " ")
    .trim();
  const points = [...line];
  return points.length <= LINE ? line : `${points.slice(0, LINE - 1).join("")}…`;
}
