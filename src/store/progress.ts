/**
 * Projects events onto the progress that lists show. Pure, and shared by every store and the
 * checker.
 *
 * P1 Later events replace what earlier ones said; null = these events say nothing about it.
 * P2 The activity is one line without control characters, bounded in length.
 */
import type { EventData, TaskEvent } from "../core/event.ts";
import type { TaskProgress } from "../core/task.ts";

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** Code points of the activity. */
const LINE = 160;
/** The inputs of tools that say most, the best first. */
const MAIN_INPUTS = ["command", "path", "file_path", "pattern", "query", "url"];

/** Data of another form than that of its type says nothing. */
export function projectProgress(events: readonly TaskEvent[]): TaskProgress {
  const progress: Mutable<TaskProgress> = { todo: null, changes: null, activity: null };
  for (const event of events) {
    const { type, at, data } = event;
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
  };
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
