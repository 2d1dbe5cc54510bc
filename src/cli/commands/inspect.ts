/** Commands that read tasks: tasks, inspect, diff. */
import { formatUsd } from "../../core/lib/figures.ts";
import type { Command } from "commander";
import type { SlipwayClient } from "../../client/client.ts";
import { SlipwayProblem } from "../../client/problem.ts";
import type { Attempt, Machine, PullRequestView } from "../../client/types.ts";
import { TASK_STATES, type TaskState } from "../../core/task.ts";
import type { WireEvent } from "../../core/protocol/events.ts";
import type { WireTask } from "../../core/protocol/rest.ts";
import { CliExit, EXIT } from "../exit.ts";
import {
  jsonOption,
  client,
  openClient,
  print,
  printJson,
  parseWholeNumber,
  type Io,
  type ReadOptions,
} from "../io.ts";
import { findTaskId } from "../task-argument.ts";
import { createEventRenderer, formatUsage } from "../terminal/event-renderer.ts";
import { stripControls, truncate, formatDuration, createPaint, formatTable } from "../terminal/text.ts";
import { formatDiffStat, formatFailure } from "../terminal/live-view.ts";
import { formatWait } from "../terminal/wait-words.ts";

interface TasksOptions extends ReadOptions {
  readonly state?: readonly TaskState[];
  readonly thread?: string;
  readonly search?: string;
  readonly limit: number;
  readonly cursor?: string;
}

function states(text: string): TaskState[] {
  return text.split(",").map((word) => {
    const state = TASK_STATES.find((known) => known === word.trim());
    if (state === undefined)
      throw new CliExit(
        EXIT.usage,
        `${JSON.stringify(stripControls(word))} is not a state. The states are ${TASK_STATES.join(", ")}.`,
      );
    return state;
  });
}

export function tasksCommand(program: Command, io: Io): void {
  jsonOption(client(program.command("tasks")))
    .description("List tasks, newest first")
    .option("--state <list>", `only these states, comma-separated: ${TASK_STATES.join(", ")}`, states)
    .option("--thread <id>", "only tasks of this thread: its id, or a task of it")
    .option("--search <text>", "only tasks with this text in title, prompt or repository")
    .option("--limit <number>", "how many to list", parseWholeNumber, 20)
    .option("--cursor <id>", "continue after the `next` of an earlier list")
    .action(async (options: TasksOptions) => {
      const { state, thread, search, limit, cursor } = options;
      const server = openClient(io, options);
      const page = await server.tasks({
        limit,
        ...(state === undefined ? {} : { state }),
        ...(thread === undefined ? {} : { thread: await findThreadId(server, thread) }),
        ...(search === undefined ? {} : { q: search }),
        ...(cursor === undefined ? {} : { cursor }),
      });
      if (options.json) return printJson(io, page);
      if (page.items.length === 0) {
        const isFiltered = [state, thread, search, cursor].some((filter) => filter !== undefined);
        const hint = `No tasks. Submit one: ${io.command} submit <repo> "<prompt>"`;
        io.err.write(`${isFiltered ? "No task matches." : hint}\n`);
        return;
      }
      print(io, formatTable(["ID", "STATE", "AGE", "TITLE", "REPOSITORY"], page.items.map(taskRow)));
      if (page.next !== null) io.err.write(`More: --cursor ${page.next}\n`);
    });
}

async function findThreadId(server: SlipwayClient, text: string): Promise<string> {
  if (text.startsWith("thread_")) return text;
  return (await server.task(await findTaskId(server, text))).threadId;
}

function taskRow(task: WireTask): string[] {
  const age = formatDuration(Date.now() - Date.parse(task.createdAt));
  return [
    task.id,
    task.phase === null ? task.state : `${task.state}/${stripControls(task.phase)}`,
    age,
    truncate(stripControls(task.title), 50),
    stripControls(task.repo),
  ];
}

const LAST_EVENTS = 15;

export function inspectCommand(program: Command, io: Io): void {
  jsonOption(client(program.command("inspect")))
    .description("Show one task: state, attempts, last events")
    .argument("<id>", "the task")
    .option("--events <number>", "how many of the last events to show", parseWholeNumber, LAST_EVENTS)
    .action(async (given: string, options: ReadOptions & { readonly events: number }) => {
      const server = openClient(io, options);
      const id = await findTaskId(server, given);
      const task = await server.task(id);
      const [machine, pullRequest, attempts, events] = await Promise.all([
        readMachine(server, id),
        describePullRequest(server, task),
        server.attempts(id),
        server.events(id, { after: Math.max(0, task.seq - options.events), limit: 1_000 }),
      ]);
      if (options.json) return printJson(io, { task, machine, attempts: attempts.items, events: events.items });
      for (const line of [
        ...overview(task, machine, pullRequest),
        ...attemptLines(attempts.items),
        ...eventLines(events.items, io),
      ])
        print(io, line);
      const stat = task.headSha === null ? [] : await formatDiffStat(server, id);
      if (stat.length > 0) print(io, ["", "work so far", ...stat].join("\n"));
    });
}

/** Null for users without the operator role, who see the task only. */
async function readMachine(server: SlipwayClient, id: string): Promise<Machine | null> {
  try {
    return await server.machine(id);
  } catch (thrown) {
    if (thrown instanceof SlipwayProblem && (thrown.status === 403 || thrown.status === 404)) return null;
    throw thrown;
  }
}

/** Null for tasks without one. */
async function describePullRequest(server: SlipwayClient, task: WireTask): Promise<string | null> {
  if (task.pullRequest === null) return null;
  const { url, state, checks, problem } = await server.pullRequest(task.id);
  const now = problem === null ? "" : ` when it was opened. ${stripControls(problem)}`;
  return `${stripControls(url)} ${stripControls(state)}${now}${checks === null ? "" : formatChecks(checks)}`;
}

function formatChecks({ passed, failed, running, failing }: NonNullable<PullRequestView["checks"]>): string {
  if (passed + failed + running === 0) return ", no checks";
  const names = failing.length === 0 ? "" : ` (${failing.map(stripControls).join(", ")})`;
  const parts = [
    ...(passed === 0 ? [] : [`${passed} passed`]),
    ...(failed === 0 ? [] : [`${failed} failed${names}`]),
    ...(running === 0 ? [] : [`${running} running`]),
  ];
  return `, checks: ${parts.join(", ")}`;
}

function overview(task: WireTask, machine: Machine | null, pullRequest: string | null): string[] {
  const rows: [string, string | null][] = [
    ["task", task.id],
    ["thread", task.threadId],
    ["title", stripControls(task.title)],
    ["state", task.phase === null ? task.state : `${task.state} (${stripControls(task.phase)})`],
    ["waits", task.wait === null ? null : formatWait(task.wait)],
    ["attempt", `${task.attempt} (at most ${task.maxAttempts})`],
    ["repository", stripControls(task.repo)],
    ["base", task.base === null ? null : `${stripControls(task.base)} ${task.baseSha?.slice(0, 10) ?? ""}`.trimEnd()],
    ["branch", `${stripControls(task.branch)} ${task.headSha?.slice(0, 10) ?? ""}`.trimEnd()],
    ["pull req.", pullRequest],
    [
      "agent",
      `${stripControls(task.agent)}${task.model === null ? "" : `, ${stripControls(task.model)}`}${task.effort === null ? "" : `, effort ${task.effort}`}`,
    ],
    ["question", task.question === null ? null : `${stripControls(task.question.question)} (${task.question.id})`],
    [
      "usage",
      formatUsage({
        tokens: task.usage.inputTokens + task.usage.outputTokens,
        usd: task.usage.usd,
        turns: task.usage.turns,
      }),
    ],
    ["budget", formatBudget(task)],
    ["created", task.createdAt],
    ["deadline", task.dueAt],
    ["settled", task.settledAt],
    ["container", machine?.container ?? null],
    [
      "stuck",
      machine === null || machine.stuck === null
        ? null
        : `${stripControls(machine.stuck.reason)}, since ${machine.stuck.since}`,
    ],
  ];
  const lines = rows.flatMap(([name, value]) => (value === null ? [] : [`${name.padEnd(11)} ${value}`]));
  return [...lines, ...formatFailure(task)];
}

/** Usage and limit of each budget; null = the task has no budget. */
function formatBudget({ budget, usage, threadBudget }: WireTask): string | null {
  const { usd, turns, minutes } = budget ?? {};
  const parts = [
    ...(usd === undefined ? [] : [`${formatUsd(usage.usd)} of ${formatUsd(usd)}`]),
    ...(turns === undefined ? [] : [`${usage.turns} of ${turns} turns`]),
    ...(minutes === undefined ? [] : [`${minutes} minutes of work`]),
    // Servers of an earlier version do not return it.
    ...(threadBudget ? [`thread ${formatUsd(threadBudget.spentUsd)} of ${formatUsd(threadBudget.limitUsd)}`] : []),
  ];
  return parts.length === 0 ? null : parts.join(", ");
}

function attemptLines(attempts: readonly Attempt[]): string[] {
  if (attempts.length === 0) return [];
  const rows = attempts.map((attempt) => [
    String(attempt.number),
    attempt.container,
    attempt.startedAt,
    attempt.endedAt === null ? "runs" : formatDuration(Date.parse(attempt.endedAt) - Date.parse(attempt.startedAt)),
    attempt.exitCode === null ? "" : String(attempt.exitCode),
    stripControls(attempt.failure ?? ""),
  ]);
  return ["", formatTable(["ATTEMPT", "CONTAINER", "STARTED", "TOOK", "EXIT", "FAILURE"], rows)];
}

function eventLines(events: readonly WireEvent[], io: Io): string[] {
  const renderer = createEventRenderer(createPaint(io.out, io.env), io.out.columns || 100);
  const lines = events.flatMap((event) => renderer.lines(event));
  return lines.length === 0 ? [] : ["", "last events", ...lines];
}

export function diffCommand(program: Command, io: Io): void {
  jsonOption(client(program.command("diff")))
    .description("Show what a task changed, while it runs or afterwards")
    .argument("<id>", "the task")
    .option("--patch", "print the whole patch, for `git apply`")
    .action(async (given: string, options: ReadOptions & { readonly patch?: true }) => {
      const server = openClient(io, options);
      const id = await findTaskId(server, given);
      if (options.json) return printJson(io, await server.diff(id));
      if (!options.patch) {
        // Unknown tasks and tasks without saved work are both `not_found` for the diff.
        await server.task(id);
        return print(io, (await formatDiffStat(server, id)).join("\n") || "No work was saved yet.");
      }
      const patch = await server.patch(id);
      // A pipe gets the exact bytes; a terminal gets no control characters.
      if (io.out.isTTY)
        print(
          io,
          patch
            .split("\n")
            .map((line) => stripControls(line.replaceAll("\t", "    ")))
            .join("\n"),
        );
      else io.out.write(patch);
    });
}
