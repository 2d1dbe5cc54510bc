/** Commands that change a task: cancel, retry, answer, message. */
import { Option, type Command } from "commander";
import {
  EFFORTS,
  PULL_REQUEST_MODES,
  RETRY_FROM,
  type Effort,
  type PullRequestMode,
  type RetryFrom,
} from "../../core/task.ts";
import { isBudgetQuestion } from "../../core/budget.ts";
import type { WireTask } from "../../core/protocol/rest.ts";
import { readLimitOptions, withoutUndefined, addLimitOptions, type LimitOptions } from "../limit-options.ts";
import { collectTexts, uploadFiles } from "../attach.ts";
import { CliExit, EXIT } from "../exit.ts";
import {
  confirm,
  jsonOption,
  client,
  openClient,
  print,
  printJson,
  readText,
  type Io,
  type ReadOptions,
} from "../io.ts";
import type { ServerOptions } from "../connect.ts";
import { stripControls } from "../terminal/text.ts";
import { findTaskId } from "../task-argument.ts";
import { watchUntilEnd } from "./submit.ts";

function show(io: Io, options: ReadOptions, task: WireTask): void {
  if (options.json) printJson(io, task);
  else print(io, `${task.id}  ${task.state}`);
}

export function cancelCommand(program: Command, io: Io): void {
  jsonOption(client(program.command("cancel")))
    .description("Cancel a task; its saved work is kept")
    .argument("<id>", "the task")
    .option("--force", "without a grace period (operators)")
    .action(async (given: string, options: ReadOptions & { readonly force?: true }) => {
      const server = openClient(io, options);
      const id = await findTaskId(server, given);
      show(io, options, await (options.force ? server.kill(id) : server.cancel(id)));
    });
}

export function deleteCommand(program: Command, io: Io): void {
  client(program.command("delete"))
    .description("Delete a task that ended: its log, files and saved work. What it cost stays in the books")
    .argument("<id>", "the task")
    .option("--yes", "do not ask")
    .action(async (given: string, options: ServerOptions & { readonly yes?: true }) => {
      const server = openClient(io, options);
      const id = await findTaskId(server, given);
      if (!options.yes && !(await confirm(io, `Delete ${id} for good?`))) return print(io, "Nothing was deleted.");
      await server.deleteTask(id);
      print(io, `${id}  deleted`);
    });
}

export function keepCommand(program: Command, io: Io): void {
  jsonOption(client(program.command("keep")))
    .description("Keep a task when the server deletes others of its age (SLIPWAY_TASKS_EXPIRE_DAYS)")
    .argument("<id>", "the task")
    .option("--off", "no longer keep it")
    .action(async (given: string, options: ReadOptions & { readonly off?: true }) => {
      const server = openClient(io, options);
      const id = await findTaskId(server, given);
      const { keep } = await server.keepTask(id, !options.off);
      if (options.json) return printJson(io, { id, keep });
      print(io, `${id}  ${keep ? "kept" : "expires as others do"}`);
    });
}

interface ModelOptions {
  readonly model?: string;
  readonly effort?: Effort;
}

/** Of a later task of a thread, which is else as the one before. */
const addModelOptions = (command: Command): Command =>
  command
    .option("--model <name>", "another model for the new task")
    .addOption(new Option("--effort <level>", "how hard the model thinks in the new task").choices([...EFFORTS]));

interface RetryOptions extends ReadOptions, LimitOptions, ModelOptions {
  readonly agent?: string;
  readonly from?: RetryFrom;
  readonly prompt?: string;
  readonly updateBase?: true;
  readonly watch?: true;
  readonly pullRequest?: PullRequestMode;
}

export function retryCommand(program: Command, io: Io): void {
  addModelOptions(addLimitOptions(jsonOption(client(program.command("retry")))))
    .description("Create a new task of the thread from one that ended; limits that are not given stay the same")
    .argument("<id>", "the task that ended")
    .addOption(
      new Option("--from <point>", "the start, the last saved work, or only the push").choices([...RETRY_FROM]),
    )
    .option("--prompt <text>", "replaces the prompt")
    .option("--agent <name>", "another agent; it sees the work, and not the conversation")
    .option("--update-base", "merge the newest base into the branch first; conflicts are the agent's work")
    .addOption(
      new Option("--pull-request <mode>", "with --from push: open one for work that is pushed").choices([
        ...PULL_REQUEST_MODES,
      ]),
    )
    .option("-w, --watch", "follow the task until it ends")
    .action(async (given: string, options: RetryOptions) => {
      const server = openClient(io, options);
      const id = await findTaskId(server, given);
      const { from, prompt, agent, model, effort, updateBase, pullRequest } = options;
      const changes = withoutUndefined({ from, prompt, agent, model, effort, updateBase, pullRequest });
      const task = await server.retry(id, { ...changes, ...readLimitOptions(options) });
      if (!options.watch) return show(io, options, task);
      print(io, options.json ? JSON.stringify(task) : `${task.id}  ${task.state}`);
      return watchUntilEnd(io, server, task.id, options, 0);
    });
}

export function answerCommand(program: Command, io: Io): void {
  jsonOption(client(program.command("answer")))
    .description("Answer the open question of a task")
    .argument("<id>", "the task")
    .argument("<text>", "the answer, or the number of an option")
    .option("--question <id>", "which question (default: the open one)")
    .action(async (given: string, text: string, options: ReadOptions & { readonly question?: string }) => {
      const server = openClient(io, options);
      const id = await findTaskId(server, given);
      const { question } = await server.task(id);
      const questionId = options.question ?? question?.id;
      if (questionId === undefined) throw new CliExit(EXIT.failed, "The task has no open question.");
      const choices = question?.id === questionId ? (question.options ?? []) : [];
      const answer = isAmount(questionId, text, choices) ? text : chooseAnswer(text, choices);
      show(io, options, await server.answer(id, { questionId, text: answer }));
    });
}

/** How much more of a budget is granted, where no option has that number. */
const isAmount = (questionId: string, text: string, choices: readonly string[]): boolean =>
  isBudgetQuestion(questionId) && choices[Number(text) - 1] === undefined;

/** @returns the option of that number, or the text itself. */
function chooseAnswer(text: string, choices: readonly string[]): string {
  if (choices.length === 0 || !/^\d+$/.test(text)) return text;
  const choice = choices[Number(text) - 1];
  if (choice !== undefined) return choice;
  const listed = choices.map((option, index) => `  ${index + 1}. ${stripControls(option)}`);
  throw new CliExit(EXIT.usage, [`The question has no option ${text}:`, ...listed].join("\n"));
}

interface MessageOptions extends ReadOptions, ModelOptions {
  readonly attach?: readonly string[];
  readonly followUp?: true;
  readonly updateBase?: true;
  readonly interrupt?: true;
}

export function messageCommand(program: Command, io: Io): void {
  addModelOptions(jsonOption(client(program.command("message"))))
    .description("Send a message to the agent of a task; on an ended task it starts a follow-up")
    .argument("<id>", "the task")
    .argument("<text>", "the message; - reads it from standard input")
    .addOption(
      new Option("--follow-up", "deliver it when the agent has finished its current work").conflicts("interrupt"),
    )
    .option("--update-base", "of a follow-up task: merge the newest base into the branch first")
    .option("--interrupt", "end the command that runs now, and let the agent read the message at once")
    .option("--attach <file>", "picture or other file for the agent (repeatable)", collectTexts)
    .action(async (given: string, text: string, options: MessageOptions) => {
      const server = openClient(io, options);
      const id = await findTaskId(server, given);
      const answer = await server.message(id, {
        text: await readText(io, text),
        ...(await uploadFiles(server, options.attach)),
        mode: options.followUp ? "follow_up" : "steer",
        ...(options.updateBase ? { updateBase: true } : {}),
        ...(options.interrupt ? { interrupt: true } : {}),
        ...withoutUndefined({ model: options.model, effort: options.effort }),
      });
      if (options.json) return printJson(io, answer.kind === "queued" ? answer.message : answer.task);
      if (answer.kind === "queued") return print(io, `${answer.message.id}  ${answer.message.status}`);
      print(io, `${answer.task.id}  ${answer.task.state}`);
      io.err.write(
        `The task had ended, so the message started a follow-up. To follow it: ${io.command} watch ${answer.task.id}\n`,
      );
    });
}
