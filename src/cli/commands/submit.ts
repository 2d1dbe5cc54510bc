/** `slipway submit` and `slipway watch`. */
import { readFileSync } from "node:fs";
import { Option, type Command } from "commander";
import { errorMessage } from "../../core/error.ts";
import {
  EFFORTS,
  EGRESS_POLICIES,
  PULL_REQUEST_MODES,
  type Effort,
  type Egress,
  type PullRequestMode,
  type ScriptStep,
} from "../../core/task.ts";
import type { SubmitRequest } from "../../core/protocol/rest.ts";
import type { SlipwayClient } from "../../client/client.ts";
import { readLimitOptions, withoutUndefined, addLimitOptions, type LimitOptions } from "../limit-options.ts";
import { collectTexts, uploadFiles } from "../attach.ts";
import { CliExit, EXIT } from "../exit.ts";
import {
  jsonOption,
  client,
  untilInterrupted,
  openClient,
  print,
  printJson,
  readText,
  parseWholeNumber,
  type Io,
  type ReadOptions,
} from "../io.ts";
import { findTaskId } from "../task-argument.ts";
import { exitCodeForTask, showLiveView } from "../terminal/live-view.ts";

interface SubmitOptions extends ReadOptions, LimitOptions {
  readonly base?: string;
  readonly branch?: string;
  readonly title?: string;
  readonly agent?: string;
  readonly model?: string;
  readonly effort?: Effort;
  readonly script?: string;
  readonly egress?: Egress;
  readonly image?: string;
  readonly pullRequest?: PullRequestMode;
  readonly verify?: readonly string[];
  readonly priority?: number;
  readonly maxAttempts?: number;
  readonly pushCheck: boolean;
  readonly review?: true;
  readonly idempotencyKey?: string;
  readonly attach?: readonly string[];
  readonly watch?: true;
}

export function submitCommand(program: Command, io: Io): void {
  addLimitOptions(jsonOption(client(program.command("submit"))))
    .description("Submit a task: a repository and a prompt")
    .argument("<repo>", "address of the git repository")
    .argument("<prompt>", "what to do; - reads it from standard input")
    .option("--base <branch>", "branch to start from (default: the repository's default branch)")
    .option("--branch <name>", "branch to push to (default: slipway/<id>)")
    .option("--title <text>", "short title (default: from the prompt)")
    .option("--agent <name>", "agent that works on it")
    .option("--model <name>", "model that the agent uses")
    .addOption(new Option("--effort <level>", "how hard the model thinks").choices([...EFFORTS]))
    .option("--script <file>", "JSON steps for the scripted agent")
    .addOption(new Option("--egress <policy>", "what the sandbox may reach").choices([...EGRESS_POLICIES]))
    .option("--image <name>", 'image of the sandbox; "default" is Slipway\'s own (what .slipway.yml says, else that)')
    .addOption(new Option("--pull-request <mode>", "open a pull request").choices([...PULL_REQUEST_MODES]))
    .option("--verify <command>", "command that runs after the agent (repeatable)", collectTexts)
    .option("--attach <file>", "picture or other file for the agent (repeatable)", collectTexts)
    .option("--priority <number>", "-10 to 10; higher priorities go first", parseWholeNumber)
    .option("--max-attempts <number>", "1 to 10", parseWholeNumber)
    .option("--review", "another model reviews the change, and may send it back once")
    .option("--no-push-check", "begin also when the upstream would refuse the push; the work is kept as a diff")
    .option("--idempotency-key <key>", "repeating a submission with the same key returns the same task")
    .option("-w, --watch", "follow the task until it ends")
    .action(async (repo: string, prompt: string, options: SubmitOptions) => {
      const server = openClient(io, options);
      const request = {
        ...toRequest(repo, await readText(io, prompt), options),
        ...(await uploadFiles(server, options.attach)),
      };
      const task = await server.submit(
        request,
        options.idempotencyKey === undefined ? {} : { idempotencyKey: options.idempotencyKey },
      );
      if (options.watch) {
        if (options.json) print(io, JSON.stringify(task));
        else print(io, `${task.id}  ${task.state}`);
        return watchUntilEnd(io, server, task.id, options, 0);
      }
      if (options.json) return printJson(io, task);
      print(io, task.id);
      io.err.write(`To follow it: ${io.command} watch ${task.id}\n`);
    });
}

/** Only what was given; the server applies the defaults. */
function toRequest(repo: string, prompt: string, options: SubmitOptions): SubmitRequest {
  const { base, branch, title, agent, model, effort, egress, image, pullRequest, priority, maxAttempts } = options;
  const given = { base, branch, title, agent, model, effort, egress, image, pullRequest, priority, maxAttempts };
  return {
    repo,
    prompt,
    ...withoutUndefined(given),
    ...(options.pushCheck ? {} : { checkPush: false }),
    ...(options.review === undefined ? {} : { review: options.review }),
    ...(options.script === undefined ? {} : { script: readScript(options.script) }),
    ...(options.verify === undefined ? {} : { verify: [...options.verify] }),
    ...readLimitOptions(options),
  };
}

/** A JSON list; the server validates the steps. */
function readScript(file: string): ScriptStep[] {
  let steps: unknown;
  try {
    steps = JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    throw new CliExit(EXIT.usage, `The script cannot be read: ${errorMessage(error)}`);
  }
  if (!Array.isArray(steps)) throw new CliExit(EXIT.usage, "The script must be a JSON list of steps.");
  return steps as ScriptStep[];
}

interface WatchOptions extends ReadOptions {
  readonly after?: number;
}

export function watchCommand(program: Command, io: Io): void {
  jsonOption(client(program.command("watch")))
    .description("Follow a task live until it ends. Ctrl-C ends the view, not the task")
    .argument("<id>", "the task")
    .option("--after <seq>", "start after this event", parseWholeNumber)
    .action(async (given: string, options: WatchOptions) => {
      const server = openClient(io, options);
      const id = await findTaskId(server, given);
      // Fails at once for a wrong id or an unreachable server; afterwards the watch waits for the
      // server.
      await server.task(id);
      await watchUntilEnd(io, server, id, options, options.after ?? 0);
    });
}

/** With --json: one event per line. */
export async function watchUntilEnd(
  io: Io,
  server: SlipwayClient,
  id: string,
  options: ReadOptions,
  after: number,
): Promise<void> {
  await untilInterrupted(async (signal) => {
    if (options.json === undefined) {
      io.end(
        exitCodeForTask(
          await showLiveView(server, id, { out: io.out, env: io.env, signal, command: io.command, after }),
        ),
      );
      return;
    }
    try {
      for await (const event of server.watch(id, { signal, after })) print(io, JSON.stringify(event));
    } catch (thrown) {
      if (signal.aborted) throw new CliExit(EXIT.interrupted);
      throw thrown;
    }
    io.end(exitCodeForTask(await server.task(id)));
  });
}
