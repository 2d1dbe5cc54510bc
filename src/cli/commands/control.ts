/** Commands that change a task: cancel, retry, answer, message. */
import { Option, type Command } from "commander";
import { RETRY_FROM, type RetryFrom } from "../../core/task.ts";
import type { WireTask } from "../../core/protocol/rest.ts";
import { readLimitOptions, withoutUndefined, addLimitOptions, type LimitOptions } from "../limit-options.ts";
import { CliExit, EXIT } from "../exit.ts";
import { jsonOption, client, openClient, print, printJson, readText, type Io, type ReadOptions } from "../io.ts";
import { watchUntilEnd } from "./submit.ts";

function show(io: Io, options: ReadOptions, task: WireTask): void {
  if (options.json) printJson(io, task);
  else print(io, `${task.id}  ${task.state}`);
}

export function cancelCommand(program: Command, io: Io): void {
  jsonOption(client(program.command("cancel")))
    .description("stop a task; its work so far is kept")
    .argument("<id>", "the task")
    .option("--force", "without grace (operators)")
    .action(async (id: string, options: ReadOptions & { readonly force?: true }) => {
      const server = openClient(io, options);
      show(io, options, await (options.force ? server.kill(id) : server.cancel(id)));
    });
}

interface RetryOptions extends ReadOptions, LimitOptions {
  readonly from?: RetryFrom;
  readonly prompt?: string;
  readonly watch?: true;
}

export function retryCommand(program: Command, io: Io): void {
  addLimitOptions(jsonOption(client(program.command("retry"))))
    .description("a new task of the same thread, made from one that ended; bounds that are not given stay as they were")
    .argument("<id>", "the task that ended")
    .addOption(
      new Option("--from <point>", "the start, the last saved work, or only the push").choices([...RETRY_FROM]),
    )
    .option("--prompt <text>", "another prompt")
    .option("-w, --watch", "watch it until it ends")
    .action(async (id: string, options: RetryOptions) => {
      const server = openClient(io, options);
      const { from, prompt } = options;
      const task = await server.retry(id, { ...withoutUndefined({ from, prompt }), ...readLimitOptions(options) });
      if (!options.watch) return show(io, options, task);
      print(io, options.json ? JSON.stringify(task) : `${task.id}  ${task.state}`);
      return watchUntilEnd(io, server, task.id, options, 0);
    });
}

export function answerCommand(program: Command, io: Io): void {
  jsonOption(client(program.command("answer")))
    .description("answer the question that a task waits with")
    .argument("<id>", "the task")
    .argument("<text>", "the answer, or the number of an option")
    .option("--question <id>", "which question (the open one)")
    .action(async (id: string, text: string, options: ReadOptions & { readonly question?: string }) => {
      const server = openClient(io, options);
      const { question } = await server.task(id);
      const questionId = options.question ?? question?.id;
      if (questionId === undefined) throw new CliExit(EXIT.failed, "The task has no open question.");
      const option =
        question?.id === questionId && /^\d+$/.test(text) ? question.options?.[Number(text) - 1] : undefined;
      show(io, options, await server.answer(id, { questionId, text: option ?? text }));
    });
}

export function messageCommand(program: Command, io: Io): void {
  jsonOption(client(program.command("message")))
    .description("say something to the agent of a task; to one that ended it begins a follow-up")
    .argument("<id>", "the task")
    .argument("<text>", "the message; - reads it from standard input")
    .option("--follow-up", "only after it finished what it does now")
    .action(async (id: string, text: string, options: ReadOptions & { readonly followUp?: true }) => {
      const answer = await openClient(io, options).message(id, {
        text: await readText(io, text),
        mode: options.followUp ? "follow_up" : "steer",
      });
      if (options.json) return printJson(io, answer.kind === "queued" ? answer.message : answer.task);
      if (answer.kind === "queued") return print(io, `${answer.message.id}  ${answer.message.status}`);
      print(io, `${answer.task.id}  ${answer.task.state}`);
      io.err.write(`The task had ended, so this is a follow-up. To watch it: ${io.command} watch ${answer.task.id}\n`);
    });
}
