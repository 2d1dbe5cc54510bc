/** Commands that only look: tasks, inspect, diff. */
import type { Command } from "commander";
import type { SlipwayClient } from "../../client/client.ts";
import { SlipwayProblem } from "../../client/problem.ts";
import type { Attempt, Machine } from "../../client/types.ts";
import { TASK_STATES, type TaskState } from "../../core/task.ts";
import type { WireEvent, WireTask } from "../../core/protocol/rest.ts";
import { CliExit, EXIT } from "../exit.ts";
import { asJson, client, open, print, printJson, wholeNumber, type Io, type ReadOptions } from "../io.ts";
import { createRenderer, usageWords } from "../terminal/event-renderer.ts";
import { clean, cut, duration, paint, table } from "../terminal/text.ts";
import { diffStat, failureLines } from "../terminal/live-view.ts";

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
      throw new CliExit(EXIT.usage, `${JSON.stringify(clean(word))} is no state; they are ${TASK_STATES.join(", ")}.`);
    return state;
  });
}

export function tasksCommand(program: Command, io: Io): void {
  asJson(client(program.command("tasks")))
    .description("list tasks, newest first")
    .option("--state <list>", "only these states, comma-separated", states)
    .option("--thread <id>", "only this thread")
    .option("--search <text>", "only with this text in title, prompt or repository")
    .option("--limit <number>", "how many", wholeNumber, 20)
    .option("--cursor <id>", "go on after a list's `next`")
    .action(async (options: TasksOptions) => {
      const { state, thread, search, limit, cursor } = options;
      const page = await open(io, options).tasks({
        limit,
        ...(state === undefined ? {} : { state }),
        ...(thread === undefined ? {} : { thread }),
        ...(search === undefined ? {} : { q: search }),
        ...(cursor === undefined ? {} : { cursor }),
      });
      if (options.json) return printJson(io, page);
      if (page.items.length === 0) {
        io.err.write(`No tasks. Submit one: ${io.command} submit <repo> "<prompt>"\n`);
        return;
      }
      print(io, table(["ID", "STATE", "AGE", "TITLE", "REPOSITORY"], page.items.map(taskRow)));
      if (page.next !== null) io.err.write(`More: --cursor ${page.next}\n`);
    });
}

function taskRow(task: WireTask): string[] {
  const age = duration(Date.now() - Date.parse(task.createdAt));
  return [
    task.id,
    task.phase === null ? task.state : `${task.state}/${clean(task.phase)}`,
    age,
    cut(clean(task.title), 50),
    clean(task.repo),
  ];
}

const LAST_EVENTS = 15;

export function inspectCommand(program: Command, io: Io): void {
  asJson(client(program.command("inspect")))
    .description("everything about one task: where it stands, its attempts, its last events")
    .argument("<id>", "the task")
    .option("--events <number>", "how many of the last events", wholeNumber, LAST_EVENTS)
    .action(async (id: string, options: ReadOptions & { readonly events: number }) => {
      const server = open(io, options);
      const task = await server.task(id);
      const [machine, attempts, events] = await Promise.all([
        machineOf(server, id),
        server.attempts(id),
        server.events(id, { after: Math.max(0, task.seq - options.events), limit: 1_000 }),
      ]);
      if (options.json) return printJson(io, { task, machine, attempts: attempts.items, events: events.items });
      for (const line of [...overview(task, machine), ...attemptLines(attempts.items), ...eventLines(events.items, io)]) print(io, line);
      const stat = task.headSha === null ? [] : await diffStat(server, id);
      if (stat.length > 0) print(io, ["", "work so far", ...stat].join("\n"));
    });
}

/** Null for people who are no operators: they see the task itself only. */
async function machineOf(server: SlipwayClient, id: string): Promise<Machine | null> {
  try {
    return await server.machine(id);
  } catch (thrown) {
    if (thrown instanceof SlipwayProblem && (thrown.status === 403 || thrown.status === 404)) return null;
    throw thrown;
  }
}

function overview(task: WireTask, machine: Machine | null): string[] {
  const rows: [string, string | null][] = [
    ["task", task.id],
    ["title", clean(task.title)],
    ["state", task.phase === null ? task.state : `${task.state} (${clean(task.phase)})`],
    ["waits for", task.wait === null ? null : `${task.wait.reason}, ${task.wait.position} before it`],
    ["attempt", `${task.attempt} (at most ${task.maxAttempts})`],
    ["repository", clean(task.repo)],
    ["base", task.base === null ? null : `${clean(task.base)} ${task.baseSha?.slice(0, 10) ?? ""}`.trimEnd()],
    ["branch", `${clean(task.branch)} ${task.headSha?.slice(0, 10) ?? ""}`.trimEnd()],
    [
      "agent",
      `${clean(task.agent)}${task.model === null ? "" : `, ${clean(task.model)}`}${task.effort === null ? "" : `, effort ${task.effort}`}`,
    ],
    ["question", task.question === null ? null : `${clean(task.question.question)} (${task.question.id})`],
    ["usage", usageWords({ tokens: task.usage.inputTokens + task.usage.outputTokens, usd: task.usage.usd, turns: task.usage.turns })],
    ["created", task.createdAt],
    ["deadline", task.dueAt],
    ["settled", task.settledAt],
    ["container", machine?.container ?? null],
    ["accepts", machine === null || machine.can.length === 0 ? null : machine.can.join(", ")],
    ["stuck", machine === null || machine.stuck === null ? null : `${clean(machine.stuck.reason)}, since ${machine.stuck.since}`],
  ];
  const lines = rows.flatMap(([name, value]) => (value === null ? [] : [`${name.padEnd(11)} ${value}`]));
  return [...lines, ...failureLines(task)];
}

function attemptLines(attempts: readonly Attempt[]): string[] {
  if (attempts.length === 0) return [];
  const rows = attempts.map((attempt) => [
    String(attempt.number),
    attempt.container,
    attempt.startedAt,
    attempt.endedAt === null ? "runs" : duration(Date.parse(attempt.endedAt) - Date.parse(attempt.startedAt)),
    attempt.exitCode === null ? "" : String(attempt.exitCode),
    clean(attempt.failure ?? ""),
  ]);
  return ["", table(["ATTEMPT", "CONTAINER", "STARTED", "TOOK", "EXIT", "FAILURE"], rows)];
}

function eventLines(events: readonly WireEvent[], io: Io): string[] {
  const renderer = createRenderer(paint(io.out, io.env), io.out.columns || 100);
  const lines = events.flatMap((event) => renderer.lines(event));
  return lines.length === 0 ? [] : ["", "last events", ...lines];
}

export function diffCommand(program: Command, io: Io): void {
  asJson(client(program.command("diff")))
    .description("what a task changed; works while it runs and after its container is gone")
    .argument("<id>", "the task")
    .option("--patch", "the whole patch, for `git apply`")
    .action(async (id: string, options: ReadOptions & { readonly patch?: true }) => {
      const server = open(io, options);
      if (options.json) return printJson(io, await server.diff(id));
      if (!options.patch) return print(io, (await diffStat(server, id)).join("\n") || "No work was saved yet.");
      const patch = await server.patch(id);
      // For a pipe it must be the exact bytes; on a terminal it must not command it.
      if (io.out.isTTY)
        print(
          io,
          patch
            .split("\n")
            .map((line) => clean(line.replaceAll("\t", "    ")))
            .join("\n"),
        );
      else io.out.write(patch);
    });
}
