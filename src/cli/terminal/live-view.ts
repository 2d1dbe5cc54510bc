/** `slipway watch`, and the live part of submit, retry and demo. */
import { setTimeout as delay } from "node:timers/promises";
import type { SlipwayClient } from "../../client/client.ts";
import { SlipwayProblem } from "../../client/problem.ts";
import { isSettledState } from "../../core/task.ts";
import type { WireTask } from "../../core/protocol/rest.ts";
import { CliExit, EXIT, type ExitCode } from "../exit.ts";
import { createEventRenderer, statusLine, formatUsage } from "./event-renderer.ts";
import { openSpinner, type SpinnerStream } from "./spinner.ts";
import { formatWait } from "./wait-words.ts";
import { stripControls, stripControlsKeepLines, formatDuration, createPaint, pluralize } from "./text.ts";

export interface WatchView {
  readonly out: SpinnerStream;
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
  /** How this program was called, for hints. */
  readonly command: string;
  readonly after?: number;
}

/**
 * Shows a task until it settles. @returns the task as it ended. @throws CliExit 130 when `signal`
 * fires.
 */
export async function showLiveView(client: SlipwayClient, taskId: string, view: WatchView): Promise<WireTask> {
  const { out, env, signal } = view;
  const colours = createPaint(out, env);
  const renderer = createEventRenderer(colours, out.columns || 100);
  let connection = "";
  const status = openSpinner(
    out,
    (columns) => `${statusLine(renderer.progress(), Date.now(), columns - connection.length)}${connection}`,
  );
  const away = createNotice(status.line, colours.yellow);
  const ended = new AbortController();
  void tellWait(client, taskId, ended.signal, {
    isQueued: () => renderer.progress().state === "queued",
    tell: (words) => status.line(colours.yellow(`${" ".repeat(11)}waits: ${words}`)),
  });
  try {
    const events = client.watch(taskId, {
      signal,
      after: view.after ?? 0,
      onConnection(state) {
        connection = state.kind === "lost" ? " · reconnecting" : "";
        away(state.kind);
      },
    });
    for await (const event of events) {
      for (const line of renderer.lines(event)) status.line(line);
      if (event.type === "question")
        status.line(colours.dim(`${" ".repeat(11)}${view.command} answer ${taskId} "your answer"`));
    }
  } catch (thrown) {
    if (!signal.aborted) throw thrown;
    status.close();
    throw new CliExit(
      EXIT.interrupted,
      `Stopped following; the task continues. To cancel it: ${view.command} cancel ${taskId}`,
    );
  } finally {
    ended.abort();
    status.close();
  }
  const task = await client.task(taskId);
  for (const line of await formatEnding(client, task, colours)) out.write(`${line}\n`);
  return task;
}

/** The time before the first line about waiting: a task that is claimed at once prints none, ms. */
const FIRST_LOOK_MS = 800;
const LOOK_MS = 3_000;

/** Says why a queued task waits, and again when the reason changes. Never rejects. */
async function tellWait(
  client: SlipwayClient,
  taskId: string,
  signal: AbortSignal,
  { isQueued, tell }: { readonly isQueued: () => boolean; readonly tell: (words: string) => void },
): Promise<void> {
  let said = "";
  for (let pause = FIRST_LOOK_MS; ; pause = LOOK_MS) {
    await delay(pause, undefined, { signal, ref: false }).catch(() => undefined);
    if (signal.aborted) return;
    if (!isQueued()) continue;
    const task = await client.task(taskId).catch(() => null);
    if (signal.aborted || task === null || task.wait === null || task.wait.reason === said || !isQueued()) continue;
    said = task.wait.reason;
    tell(formatWait(task.wait));
  }
}

/**
 * Prints one line when the server is unreachable and one when it is back; quick reconnects are
 * silent.
 */
function createNotice(print: (line: string) => void, colour: (text: string) => string): (kind: string) => void {
  let lostAt: number | null = null;
  let announced = false;
  return (kind) => {
    if (kind !== "lost") {
      if (announced && kind === "live") print(colour("! connected again"));
      if (kind === "live") {
        lostAt = null;
        announced = false;
      }
      return;
    }
    lostAt ??= Date.now();
    if (announced || Date.now() - lostAt < 2_000) return;
    announced = true;
    print(colour("! the server does not answer; reconnecting"));
  };
}

type Colours = ReturnType<typeof createPaint>;

/** The result in a few lines. */
export async function formatEnding(client: SlipwayClient, task: WireTask, colours: Colours): Promise<string[]> {
  const lines: string[] = [""];
  const took = formatDuration(Date.parse(task.settledAt ?? task.updatedAt) - Date.parse(task.createdAt));
  const tokens =
    task.usage.inputTokens + task.usage.outputTokens + task.usage.cacheReadTokens + task.usage.cacheWriteTokens;
  const spent = tokens > 0 ? `, ${formatUsage({ tokens, usd: task.usage.usd, turns: task.usage.turns })}` : "";
  if (task.state === "done") {
    const result =
      task.outcome === "pushed"
        ? `pushed ${stripControls(task.branch)} ${task.headSha?.slice(0, 10) ?? ""}`
        : "nothing to change";
    lines.push(colours.green(colours.bold(`done: ${result}`)) + colours.dim(`  ${took}${spent}`));
    if (task.pullRequest !== null) lines.push(`  ${stripControls(task.pullRequest.url)}`);
  } else {
    lines.push(colours.red(colours.bold(task.state)) + colours.dim(`  ${took}${spent}`), ...formatFailure(task));
  }
  if (task.summary) lines.push(...stripControlsKeepLines(task.summary).map((line) => `  ${line}`));
  if (task.headSha !== null) lines.push(...(await formatDiffStat(client, task.id)));
  return lines;
}

export function formatFailure(task: WireTask): string[] {
  const { failure } = task;
  if (failure === null) return [];
  const evidence = failure.evidence === null ? [] : stripControlsKeepLines(failure.evidence.trimEnd()).slice(-12);
  return [
    `  ${failure.code} while ${failure.stage}: ${stripControls(failure.message)}`,
    ...evidence.map((line) => `    ${line}`),
    `  ${stripControls(failure.advice)}`,
  ];
}

export async function formatDiffStat(client: SlipwayClient, taskId: string): Promise<string[]> {
  try {
    const { files, truncated } = await client.diff(taskId);
    const additions = files.reduce((sum, file) => sum + file.additions, 0);
    const deletions = files.reduce((sum, file) => sum + file.deletions, 0);
    const shown = files
      .slice(0, 20)
      .map((file) => `  ${file.status.padEnd(9)} ${stripControls(file.path)}  +${file.additions} -${file.deletions}`);
    const more = files.length > shown.length ? [`  … and ${pluralize(files.length - shown.length, "more file")}`] : [];
    return [
      ...shown,
      ...more,
      `  ${pluralize(files.length, "file")} changed, +${additions} -${deletions}${truncated ? " (shown in part)" : ""}`,
    ];
  } catch (thrown) {
    // No work was saved, so there is no diff.
    if (thrown instanceof SlipwayProblem && thrown.status === 404) return [];
    throw thrown;
  }
}

export function exitCodeForTask(task: WireTask): ExitCode {
  return isSettledState(task.state) && task.state !== "done" ? EXIT.failed : EXIT.ok;
}
