/**
 * Events -> lines for a terminal. Pure but for what it remembers of the task; all text of others is
 * cleaned.
 */
import { isSettledState, type TaskState } from "../../core/task.ts";
import type { WireEvent } from "../../core/protocol/rest.ts";
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
  /** The lines that this event adds; often none. */
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
  let beganAt: number | null = null;
  let state: TaskState = "queued";
  let since = 0;
  let attempt = 0;
  let step: { what: string; since: number } | null = null;
  const tools = new Map<string, { what: string; since: number }>();
  let todo: Progress["todo"] = null;
  let todoLine = "";
  const usage = { tokens: 0, usd: 0, turns: 0 };
  const room = Math.max(40, width - 12);

  const withTime = (at: number, lines: readonly string[]): string[] => {
    const elapsed = formatDuration(at - (beganAt ?? at)).padStart(9);
    return lines.map((line, i) => `${paint.dim(i === 0 ? elapsed : " ".repeat(9))}  ${line}`);
  };

  function onState(event: WireEvent): string[] {
    const lines: string[] = [];
    const reason = text(event.data, "reason");
    if (reason === "failed") {
      const detail = stripControls(text(event.data, "detail"));
      lines.push(
        paint.red(`✗ ${stripControls(text(event.data, "code"))}`) +
          (detail === "" ? "" : ` ${truncate(detail, room * 2)}`),
      );
    }
    // The end of the pause between two tries is a deadline too, and nothing went wrong.
    if (reason === "timed_out" && event.from !== "retrying") lines.push(paint.yellow("! out of time"));
    if (reason === "cancel" && event.from !== event.to) lines.push(paint.yellow("! cancelled by a person"));
    if (event.from === event.to) return lines;
    for (const { what } of tools.values()) lines.push(`${paint.dim("·")} ${what} ${paint.dim("(did not finish)")}`);
    tools.clear();
    step = null;
    const tries = event.to === "provisioning" && event.attempt > 1 ? ` (attempt ${event.attempt})` : "";
    lines.push(stateLine(paint, event.to) + tries);
    return lines;
  }

  function onTool(event: WireEvent, at: number): string[] {
    const { data } = event;
    const id = text(data, "id");
    if (event.type === "tool.started") {
      tools.set(id, { what: toolWords(data, room), since: at });
      return [];
    }
    const what = tools.get(id)?.what ?? stripControls(text(data, "name"));
    tools.delete(id);
    const code = data["exitCode"];
    const good = code === null || code === undefined || code === 0;
    const end = good ? paint.green("✓") : paint.red(`✗ exit ${Number(code)}`);
    return [`${paint.cyan("⏺")} ${what} ${end} ${paint.dim(formatDuration(number(data, "ms")))}`];
  }

  function onStep(data: Data, at: number): string[] {
    const name = stripControls(text(data, "name"));
    const detail = stripControls(text(data, "detail"));
    if (text(data, "status") === "started") {
      step = { what: detail === "" ? name : `${name}: ${truncate(detail, 40)}`, since: at };
      return [];
    }
    const took = step === null ? "" : paint.dim(` ${formatDuration(at - step.since)}`);
    step = null;
    return [`${paint.green("✓")} ${name}${took}${detail === "" ? "" : paint.dim(`  ${truncate(detail, room)}`)}`];
  }

  function onTodo(data: Data): string[] {
    const items = list(data, "items");
    const completed = items.filter((item) => item["status"] === "completed").length;
    const current = items.find((item) => item["status"] === "in_progress");
    const words = current === undefined ? null : stripControls(String(current["text"]));
    todo = { completed, total: items.length, current: words };
    const line = `${progressBar(completed, items.length)} ${completed}/${items.length}${words === null ? "" : `  ${truncate(words, room - 20)}`}`;
    if (line === todoLine) return [];
    todoLine = line;
    return [line];
  }

  function linesOf(event: WireEvent, at: number): string[] {
    const { data } = event;
    switch (event.type) {
      case "task.submitted":
        return [`${paint.bold("submitted")} ${stripControls(text(data, "title"))}`];
      case "task.state":
        return onState(event);
      case "task.step":
        return onStep(data, at);
      case "tool.started":
      case "tool.finished":
        return onTool(event, at);
      case "todo":
        return onTodo(data);
      case "message":
        return messageLines(data, paint);
      case "usage":
        usage.tokens +=
          number(data, "inputTokens") +
          number(data, "outputTokens") +
          number(data, "cacheReadTokens") +
          number(data, "cacheWriteTokens");
        usage.usd += number(data, "usd");
        usage.turns += number(data, "turns");
        return [];
      default:
        return otherLines(event, paint, room);
    }
  }

  return {
    lines(event) {
      const at = Date.parse(event.at);
      beganAt ??= at;
      if (event.to !== state || since === 0) since = at;
      const lines = linesOf(event, at);
      state = event.to;
      attempt = event.attempt;
      return withTime(at, lines);
    },
    progress: () => ({ state, since, attempt, doing: [...tools.values()].at(-1) ?? step, todo, usage: { ...usage } }),
  };
}

export function stateLine(paint: Paint, state: TaskState): string {
  const words = `→ ${state}`;
  if (state === "done") return paint.green(paint.bold(words));
  if (state === "failed" || state === "cancelled") return paint.red(paint.bold(words));
  return isSettledState(state) ? words : paint.bold(words);
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
    case "message.status":
      return [paint.dim(`message ${stripControls(text(data, "status"))}`)];
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
      const words = truncate(stripControls(text(data, "text")), room * 2);
      return [text(data, "level") === "info" ? paint.dim(words) : paint.yellow(`! ${words}`)];
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

/** A tool's name and the one argument that says most. */
function toolWords(data: Data, room: number): string {
  const name = stripControls(text(data, "name"));
  const input =
    typeof data["input"] === "object" && data["input"] !== null ? (data["input"] as Record<string, unknown>) : {};
  const main = ["command", "path", "file_path", "pattern", "query", "url"]
    .map((key) => input[key])
    .find((value) => typeof value === "string");
  const words = main ?? Object.values(input).find((value) => typeof value === "string") ?? "";
  return `${name} ${truncate(stripControls(words), Math.max(20, room - name.length - 16))}`.trimEnd();
}

/** Twelve cells. */
export function progressBar(completed: number, total: number): string {
  const cells = 12;
  const full = total === 0 ? 0 : Math.floor((completed / total) * cells);
  return `[${"█".repeat(full)}${"░".repeat(cells - full)}]`;
}

/** What goes on now, on one line of at most `width` characters. */
export function statusLine(progress: Progress, now: number, width: number): string {
  const { state, since, doing, todo, usage } = progress;
  const parts = [`${state} ${formatDuration(now - since)}`];
  if (doing !== null) parts.push(`${doing.what} ${formatDuration(now - doing.since)}`);
  if (todo !== null) parts.push(`${progressBar(todo.completed, todo.total)} ${todo.completed}/${todo.total}`);
  if (usage.tokens > 0) parts.push(formatUsage(usage));
  return truncate(parts.join(" · "), Math.max(10, width - 3));
}

export function formatUsage(usage: Progress["usage"]): string {
  const usd = usage.usd > 0 ? ` $${usage.usd.toFixed(usage.usd < 1 ? 3 : 2)}` : "";
  return `${formatCount(usage.tokens)} tokens${usd}${usage.turns > 0 ? ` ${pluralize(usage.turns, "turn")}` : ""}`;
}
