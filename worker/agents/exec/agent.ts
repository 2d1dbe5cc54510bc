/**
 * Runs any command line with the prompt: `claude -p`, aider, mini, a script. Its standard output
 * becomes messages, its exit code decides.
 *
 * X1 The command runs once per prompt, under the process rules of program.ts; when a run is over,
 *    everything that it started has ended.
 * X2 It has no memory: each prompt has the task, and what was asked and done so far as text.
 * X3 It cannot be steered: a message waits for the end of the run, unless it interrupts. Then the
 *    run is ended.
 * X4 Its environment is that of other programs: the gateway's address, and the attempt's token as
 *    the API key.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ExecProgram } from "../../../src/core/values/agent-program.ts";
import { Program } from "../../tools/shell/program.ts";
import { AgentFailure, type Agent, type AgentContext, type AgentResult } from "../agent.ts";
import { ProgramConversation } from "../programs/conversation.ts";
import { AcpEventMapper } from "../programs/event-mapper.ts";
import { firstPrompt } from "../programs/prompts.ts";
import {
  askForBudget,
  CURSOR,
  isBudgetRefusal,
  modelEnvironment,
  runTurns,
  toResult,
  type TurnEnd,
} from "../programs/turns.ts";
import { TextReader, type OutputReader } from "./output.ts";
import { StreamJsonReader } from "./stream-json.ts";

/** Between two looks at a run: the work is saved, and output that has paused becomes a message. */
const POLL_MS = 5_000;
const TAKES_PROMPT = /\$\{?PROMPT(?:_FILE)?\b/;
/**
 * `PROMPT` is a shell variable that is not exported, because the size of an environment is limited.
 */
const PREAMBLE = 'export PROMPT_FILE="$1"; PROMPT="$(cat -- "$1")"; shift\n';

export interface ExecAgentOptions {
  readonly root: string;
  /** For the file of the prompt. */
  readonly stateDir: string;
  /** The environment variables that commands get. */
  readonly env: Readonly<Record<string, string>>;
}

export function createExecAgent(options: ExecAgentOptions): Agent {
  return {
    async run(context) {
      const { program } = context.spec;
      if (program?.protocol !== "exec") throw new AgentFailure("agent_error", "No command was given for this agent.");
      return await new ExecRun(context, program, options).execute();
    },
  };
}

class ExecRun {
  readonly #context: AgentContext;
  readonly #settings: ExecProgram;
  readonly #options: ExecAgentOptions;
  readonly #conversation: ProgramConversation;
  readonly #events: AcpEventMapper;

  constructor(context: AgentContext, settings: ExecProgram, options: ExecAgentOptions) {
    this.#context = context;
    this.#settings = settings;
    this.#options = options;
    this.#conversation = new ProgramConversation(context);
    this.#events = new AcpEventMapper(context, this.#conversation);
  }

  async execute(): Promise<AgentResult> {
    const [context, conversation] = [this.#context, this.#conversation];
    context.mark(CURSOR);
    const verified = await runTurns({
      context,
      conversation,
      first: firstPrompt(context, conversation),
      runTurn: async (text, isFirst) => {
        const prompt = isFirst ? text : firstPrompt(context, conversation, text);
        return await context.alive("The agent's program", () => this.#runTurn(prompt));
      },
    });
    // Lines of plain text are a log rather than a report: they give no title.
    const isReport = this.#settings.output === "stream-json";
    return await toResult(context, { summary: this.#events.lastMessage, verified, isReport });
  }

  async #runTurn(prompt: string): Promise<TurnEnd> {
    this.#events.beginTurn();
    const interrupt = this.#context.watchInterrupt();
    const program = await this.#start(prompt);
    const reader =
      this.#settings.output === "stream-json" ? new StreamJsonReader(this.#events) : new TextReader(this.#events);
    const read = readLines(program, (line) => reader.line(this.#context.secrets.redact(line)));
    try {
      await this.#wait(program, interrupt.signal);
      if (interrupt.signal.aborted) await program.close();
      await read;
    } finally {
      interrupt.stop();
      await program.close();
      reader.end();
      this.#events.endTurn();
      this.#events.addCost(reader.usd);
    }
    if (!interrupt.signal.aborted) return await this.#toEnd(program, reader);
    const messages = await this.#context.receiveMessages("step");
    return messages.length === 0 ? { kind: "again" } : { kind: "interrupted", messages };
  }

  async #start(prompt: string): Promise<Program> {
    const { root, env, stateDir } = this.#options;
    const { command } = this.#settings;
    const file = join(stateDir, "prompt.md");
    writeFileSync(file, prompt, { mode: 0o600 });
    const program = await Program.start({
      command: "/bin/bash",
      args: ["--norc", "-c", `${PREAMBLE}${command}`, "slipway", file],
      cwd: root,
      env: { ...env, ...modelEnvironment(this.#context) },
      secrets: this.#context.secrets,
    });
    program.input.end(TAKES_PROMPT.test(command) ? "" : prompt);
    return program;
  }

  /** Resolves when the program has ended or a message interrupts. */
  async #wait(program: Program, interrupt: AbortSignal): Promise<void> {
    let hasEnded = false;
    const ended = program.ended.then(() => (hasEnded = true));
    const interrupted = new Promise<void>((resolve) => {
      interrupt.addEventListener("abort", () => resolve(), { once: true });
    });
    while (!hasEnded && !interrupt.aborted) {
      await Promise.race([ended, interrupted, this.#context.sleep(POLL_MS)]);
      this.#context.signal.throwIfAborted();
      if (hasEnded || interrupt.aborted) continue;
      this.#events.flushMessage();
      await this.#conversation.save();
      await this.#context.checkpoint(CURSOR, "due");
    }
  }

  async #toEnd(program: Program, reader: OutputReader): Promise<TurnEnd> {
    const { exitCode, errors } = program;
    const words = `${reader.failure ?? ""}\n${errors}\n${reader.tail}\n${this.#events.turnMessage}`;
    if (isBudgetRefusal(this.#context, words)) return await askForBudget(this.#context, words.trim());
    if (exitCode === 0 && reader.failure === null) return { kind: "ended" };
    const reason = await program.ended;
    const message =
      reader.failure === null
        ? `The agent's program did not succeed: ${reason}.`
        : `The agent's program gave up: ${reader.failure}`;
    throw new AgentFailure("agent_error", message, errors || reader.tail || null);
  }
}

/** Lines end with a line feed: a carriage return alone overwrites a line. */
async function readLines(program: Program, read: (line: string) => void): Promise<void> {
  let rest = "";
  try {
    for await (const chunk of program.output.setEncoding("utf8") as AsyncIterable<string>) {
      const lines = chunk.split("\n");
      lines[0] = rest + (lines[0] ?? "");
      rest = lines.pop() ?? "";
      for (const line of lines) read(line);
    }
  } catch {
    // The output of a program that was ended breaks off.
  }
  if (rest !== "") read(rest);
}
