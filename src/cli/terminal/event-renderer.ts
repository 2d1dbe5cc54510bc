/**
 * Events -> lines for a terminal. Its only state is the progress of the task. Text from workers and
 * people is stripped of control characters.
 */
import { formatUsd } from "../../core/lib/figures.ts";
import { isSettledState, type TaskState } from "../../core/task.ts";
import type { WireEvent } from "../../core/protocol/events.ts";
import {
  formatCount,
  stripControls,
  stripControlsKeepLines,
  truncate,
  formatDuration,
  pluralize,
  type Paint,
} from "./text.ts";

export interface Progress {
  readonly state: TaskState;
  /** When the state was entered, epoch ms. */
  readonly since: number;
  readonly attempt: number;
  /** The open step or tool call, or the state. */
  readonly doing: { readonly what: string; readonly since: number } | null;
  readonly todo: { readonly completed: number; readonly total: number; readonly current: string | null } | null;
  readonly usage: { readonly tokens: number; readonly usd: number; readonly turns: number };
}

export interface EventRenderer {
  /** The lines for this event; often none. */
  lines(event: WireEvent): string[];
  progress(): Progress;
}

type Data = WireEvent["data"];
const text = (data: Data, name: string): string => (typeof data[name] === "string" ? data[name] : "");
const number = (data: Data, name: string): number => (typeof data[name] === "number" ? data[name] : 0);
const list = (data: Data, name: string): readonly Record<string, unknown>[] =>
  Array.isArray(data[name])
    ? data[name].filter((item): item is Record<string, unknown> => typeof item === "object" && item !== null)
    : [];

export function createEventRenderer(paint: Paint, width: number): EventRenderer {
  return new TaskEventRenderer(paint, width);
}

class TaskEventRenderer implements EventRenderer {
  readonly #paint: Paint;
  /** Columns for text beside the time. */
  readonly #columns: number;
  readonly #tools = new Map<string, { what: string; since: number }>();
  readonly #usage = { tokens: 0, usd: 0, turns: 0 };
  #beganAt: number | null = null;
  #state: TaskState = "queued";
  #since = 0;
  #attempt = 0;
  #step: { what: string; since: number } | null = null;
  #todo: Progress["todo"] = null;
  #todoLine = "";

  constructor(paint: Paint, width: number) {
    this.#paint = paint;
    this.#columns = Math.max(40, width - 12);
  }

  lines(event: WireEvent): string[] {
    const at = Date.parse(event.at);
    this.#beganAt ??= at;
    if (event.to !== this.#state || this.#since === 0) this.#since = at;
    const lines = this.#renderEvent(event, at);
    this.#state = event.to;
    this.#attempt = event.attempt;
    return this.#withTime(at, lines);
  }

  progress(): Progress {
    return {
      state: this.#state,
      since: this.#since,
      attempt: this.#attempt,
      doing: [...this.#tools.values()].at(-1) ?? this.#step,
      todo: this.#todo,
      usage: { ...this.#usage },
    };
  }

  #withTime(at: number, lines: readonly string[]): string[] {
    const elapsed = formatDuration(at - (this.#beganAt ?? at)).padStart(9);
    return lines.map((line, i) => `${this.#paint.dim(i === 0 ? elapsed : " ".repeat(9))}  ${line}`);
  }

  #renderEvent(event: WireEvent, at: number): string[] {
    const { data } = event;
    switch (event.type) {
      case "task.submitted":
        return [`${this.#paint.bold("submitted")} ${stripControls(text(data, "title"))}`];
      case "task.state":
        return this.#renderState(event);
      case "task.step":
        return this.#renderStep(data, at);
      case "tool.started":
      case "tool.finished":
        return this.#renderTool(event, at);
      case "todo":
        return this.#renderTodo(data);
      case "message":
        return messageLines(data, this.#paint);
      case "usage":
        this.#usage.tokens +=
          number(data, "inputTokens") +
          number(data, "outputTokens") +
          number(data, "cacheReadTokens") +
          number(data, "cacheWriteTokens");
        this.#usage.usd += number(data, "usd");
        this.#usage.turns += number(data, "turns");
        return [];
      default:
        return otherLines(event, this.#paint, this.#columns);
    }
  }

  #renderState(event: WireEvent): string[] {
    const lines: string[] = [];
    const reason = text(event.data, "reason");
    if (reason === "failed") {
      const detail = stripControls(text(event.data, "detail"));
      lines.push(
        this.#paint.red(`✗ ${stripControls(text(event.data, "code"))}`) +
          (detail === "" ? "" : ` ${truncate(detail, this.#columns * 2)}`),
      );
    }
    // The end of a retry delay is a deadline as well, and not an error.
    if (reason === "timed_out" && event.from !== "retrying") lines.push(this.#paint.yellow("! out of time"));
    if (reason === "cancel" && event.from !== event.to) lines.push(this.#paint.yellow("! cancelled by a person"));
    if (event.from === event.to) return lines;
    for (const { what } of this.#tools.values())
      lines.push(`${this.#paint.dim("·")} ${what} ${this.#paint.dim("(did not finish)")}`);
    this.#tools.clear();
    this.#step = null;
    const tries = event.to === "provisioning" && event.attempt > 1 ? ` (attempt ${event.attempt})` : "";
    lines.push(stateLine(this.#paint, event.to) + tries);
    return lines;
  }

  #renderTool(event: WireEvent, at: number): string[] {
    const { data } = event;
    const id = text(data, "id");
    if (event.type === "tool.started") {
      this.#tools.set(id, { what: toolLabel(data, this.#columns), since: at });
      return [];
    }
    const what = this.#tools.get(id)?.what ?? stripControls(text(data, "name"));
    this.#tools.delete(id);
    const code = data["exitCode"];
    const good = code === null || code === undefined || code === 0;
    const end = good ? this.#paint.green("✓") : this.#paint.red(`✗ exit ${Number(code)}`);
    return [`${this.#paint.cyan("⏺")} ${what} ${end} ${this.#paint.dim(formatDuration(number(data, "ms")))}`];
  }

  #renderStep(data: Data, at: number): string[] {
    const name = stripControls(text(data, "name"));
    const detail = stripControls(text(data, "detail"));
    if (text(data, "status") === "started") {
      this.#step = { what: detail === "" ? name : `${name}: ${truncate(detail, 40)}`, since: at };
      return [];
    }
    const took = this.#step === null ? "" : this.#paint.dim(` ${formatDuration(at - this.#step.since)}`);
    this.#step = null;
    return [
      `${this.#paint.green("✓")} ${name}${took}${detail === "" ? "" : this.#paint.dim(`  ${truncate(detail, this.#columns)}`)}`,
    ];
  }

  #renderTodo(data: Data): string[] {
    const items = list(data, "items");
    const completed = items.filter((item) => item["status"] === "completed").length;
    const current = items.find((item) => item["status"] === "in_progress");
    const label = current === undefined ? null : stripControls(String(current["text"]));
    this.#todo = { completed, total: items.length, current: label };
    const line = `${progressBar(completed, items.length)} ${completed}/${items.length}${label === null ? "" : `  ${truncate(label, this.#columns - 20)}`}`;
    if (line === this.#todoLine) return [];
    this.#todoLine = line;
    return [line];
  }
}

export function stateLine(paint: Paint, state: TaskState): string {
  const line = `→ ${state}`;
  if (state === "done") return paint.green(paint.bold(line));
  if (state === "failed" || state === "cancelled") return paint.red(paint.bold(line));
  return isSettledState(state) ? line : paint.bold(line);
}

function messageLines(data: Data, paint: Paint): string[] {
  const person = data["role"] === "user";
  return list(data, "content").flatMap((block) => {
    const lines = stripControlsKeepLines(String(block["text"] ?? "").trim());
    if (block["type"] === "thinking") return lines.map((line) => paint.dim(line));
    return person ? lines.map((line, i) => paint.bold(`${i === 0 ? "you: " : "     "}${line}`)) : lines;
  });
}

function otherLines({ type, data }: WireEvent, paint: Paint, room: number): string[] {
  switch (type) {
    case "message.status": {
      const followUp = typeof data["taskId"] === "string" ? ` to the follow-up ${stripControls(data["taskId"])}` : "";
      return [paint.dim(`message ${stripControls(text(data, "status"))}${followUp}`)];
    }
    case "checkpoint": {
      const counts = `${pluralize(number(data, "files"), "file")} +${number(data, "additions")} -${number(data, "deletions")}`;
      return [`${paint.cyan("◆")} checkpoint ${stripControls(text(data, "sha")).slice(0, 10)} ${paint.dim(counts)}`];
    }
    case "question": {
      const options = Array.isArray(data["options"])
        ? data["options"].map((option, i) => `  ${i + 1}. ${stripControls(String(option))}`)
        : [];
      return [...stripControlsKeepLines(text(data, "question")).map((line) => paint.yellow(`? ${line}`)), ...options];
    }
    case "answer":
      return stripControlsKeepLines(text(data, "text")).map((line, i) =>
        paint.bold(`${i === 0 ? "answer: " : "        "}${line}`),
      );
    case "notice": {
      // A sign of life: the progress line shows the time already.
      if (text(data, "code") === "working") return [];
      const said = text(data, "code") === "worker_notice" ? "the worker says: " : "";
      const line = truncate(said + stripControls(text(data, "text")), room * 2);
      return [text(data, "level") === "info" ? paint.dim(line) : paint.yellow(`! ${line}`)];
    }
    case "verify": {
      const good = data["exitCode"] === 0;
      const tail = good
        ? []
        : stripControlsKeepLines(text(data, "tail").trimEnd())
            .slice(-10)
            .map((line) => `  ${line}`);
      const mark = good ? paint.green("✓") : paint.red("✗");
      return [
        `${mark} verify ${truncate(stripControls(text(data, "command")), room - 20)} ${paint.dim(formatDuration(number(data, "ms")))}`,
        ...tail,
      ];
    }
    case "push":
      return [
        `${paint.green("↑")} pushed ${stripControls(text(data, "branch"))} ${paint.dim(stripControls(text(data, "sha")).slice(0, 10))}`,
      ];
    case "pull_request":
      return [`${paint.green("↑")} pull request ${stripControls(text(data, "url"))}`];
    default:
      return [];
  }
}

/** A tool's name and its most descriptive argument. */
function toolLabel(data: Data, room: number): string {
  const name = stripControls(text(data, "name"));
  const input =
    typeof data["input"] === "object" && data["input"] !== null ? (data["input"] as Record<string, unknown>) : {};
  const main = ["command", "path", "file_path", "pattern", "query", "url"]
    .map((key) => input[key])
    .find((value) => typeof value === "string");
  const argument = main ?? Object.values(input).find((value) => typeof value === "string") ?? "";
  return `${name} ${truncate(stripControls(argument), Math.max(20, room - name.length - 16))}`.trimEnd();
}

/** Twelve cells. */
export function progressBar(completed: number, total: number): string {
  const cells = 12;
  const full = total === 0 ? 0 : Math.floor((completed / total) * cells);
  return `[${"█".repeat(full)}${"░".repeat(cells - full)}]`;
}

/** The current activity on one line of at most `width` characters. */
export function statusLine(progress: Progress, now: number, width: number): string {
  const { state, since, doing, todo, usage } = progress;
  // Until the first event nothing is known.
  const parts = [since === 0 ? "connecting" : `${state} ${formatDuration(now - since)}`];
  if (doing !== null) parts.push(`${doing.what} ${formatDuration(now - doing.since)}`);
  if (todo !== null) parts.push(`${progressBar(todo.completed, todo.total)} ${todo.completed}/${todo.total}`);
  if (usage.tokens > 0) parts.push(formatUsage(usage));
  return truncate(parts.join(" · "), Math.max(10, width - 3));
}

export function formatUsage(usage: Progress["usage"]): string {
  const usd = usage.usd > 0 ? ` ${formatUsd(usage.usd)}` : "";
  return `${formatCount(usage.tokens)} tokens${usd}${usage.turns > 0 ? ` ${pluralize(usage.turns, "turn")}` : ""}`;
}
