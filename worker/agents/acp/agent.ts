/**
 * Runs any agent program that speaks the Agent Client Protocol (version 1) on its standard input
 * and output.
 *
 * E1 The program runs under the process rules of program.ts; when `run` settles, it has ended with
 *    everything that it started.
 * E2 Its environment holds the gateway's address and, as the API key, the attempt's token, which is
 *    valid for nothing else.
 * E3 A message that steers is put into the running turn where the program offers that. Otherwise,
 *    and for a message that interrupts, the turn is cancelled and the message starts the next one.
 * E4 A later attempt continues the program's own session where the program and the saved files
 *    permit it; else a new one begins with a summary.
 */
import { homedir } from "node:os";
import { Readable, Writable } from "node:stream";
import {
  client,
  methods,
  ndJsonStream,
  type ClientConnection,
  type ContentBlock,
  type PromptResponse,
} from "@agentclientprotocol/sdk";
import { errorMessage } from "../../../src/core/error.ts";
import { truncate } from "../../lib/text.ts";
import { commandEnvironment } from "../../tools/shell/environment.ts";
import { Program } from "../../tools/shell/program.ts";
import { AgentFailure, type Agent, type AgentContext, type AgentResult, type ReceivedMessage } from "../agent.ts";
import { ProgramConversation } from "../programs/conversation.ts";
import { AcpEventMapper } from "../programs/event-mapper.ts";
import { firstPrompt, messagePrompt, resumedPrompt } from "../programs/prompts.ts";
import { ProgramState } from "../programs/state.ts";
import {
  askForBudget,
  CURSOR,
  isBudgetRefusal,
  modelEnvironment,
  runTurns,
  toResult,
  type TurnEnd,
} from "../programs/turns.ts";
import { answerElicitation, grantPermission } from "./requests.ts";
import { isAuthError, NotResumed, openSession, type OpenSession } from "./session.ts";

const START_MS = 60_000;
/** The time that a program has to end a cancelled turn. */
const CANCEL_MS = 2_000;
/** The time that a program has to take a message into its turn. */
const STEER_MS = 5_000;
/** The request of programs that take messages into the running turn; no part of version 1. */
const STEER_METHOD = "_session/steering";
/** The interval between checks for messages during a turn. */
const MESSAGE_POLL_MS = 500;
/** Between two saves while nothing ends. */
const SAVE_MS = 5_000;
/** The time from the end of the connection to the end of the program. */
const EXIT_MS = 3_000;

export interface AcpAgentOptions {
  readonly root: string;
  /** The environment variables that commands get. */
  readonly env: Readonly<Record<string, string>>;
}

/** The command comes with the task (`program`); bash runs it in the checkout. */
export function createAcpAgent(options: AcpAgentOptions): Agent {
  return {
    async run(context) {
      const settings = context.spec.program;
      if (settings?.protocol !== "acp") throw new AgentFailure("agent_error", "No command was given for this agent.");
      const { root } = options;
      const home = commandEnvironment()["HOME"] ?? homedir();
      const conversation = new ProgramConversation(context);
      const state = new ProgramState({ context, conversation, root, home, paths: settings.state });
      const parts: RunParts = { ...options, context, conversation, state, mode: settings.mode ?? null };
      const earlier = await state.restore();
      if (earlier === null) return await runProgram(settings.command, parts, null);
      try {
        return await runProgram(settings.command, parts, earlier);
      } catch (error) {
        if (!(error instanceof NotResumed)) throw error;
        const text = `The program does not continue its earlier conversation (${error.message}). It begins a new one and is given what was done.`;
        context.emit("notice", { level: "info", code: "session_new", text });
        await state.discard();
        return await runProgram(settings.command, parts, null);
      }
    },
  };
}

interface RunParts extends AcpAgentOptions {
  readonly context: AgentContext;
  readonly conversation: ProgramConversation;
  readonly state: ProgramState;
  readonly mode: string | null;
}

async function runProgram(command: string, parts: RunParts, earlier: string | null): Promise<AgentResult> {
  const { root, env, context } = parts;
  const program = await Program.start({
    command: "/bin/bash",
    args: ["--norc", "-c", command],
    cwd: root,
    env: { ...env, ...modelEnvironment(context) },
    secrets: context.secrets,
  });
  const run = new AcpRun(parts, program);
  try {
    return await run.execute(earlier);
  } finally {
    await run.close();
    await program.close();
  }
}

class AcpRun {
  readonly #parts: RunParts;
  readonly #context: AgentContext;
  readonly #program: Program;
  readonly #events: AcpEventMapper;
  readonly #connection: ClientConnection;
  /** Rejects when the program ends. */
  readonly #programEnd: Promise<never>;
  #session: OpenSession | null = null;

  constructor(parts: RunParts, program: Program) {
    const { context, conversation } = parts;
    this.#parts = parts;
    this.#context = context;
    this.#program = program;
    const events = new AcpEventMapper(context, conversation);
    this.#events = events;
    this.#programEnd = program.ended.then((reason) => {
      throw this.#createFailure(`The agent's program has ended: ${reason}.`);
    });
    this.#programEnd.catch(() => undefined);
    const stream = ndJsonStream(
      Writable.toWeb(program.input),
      Readable.toWeb(program.output) as ReadableStream<Uint8Array>,
    );
    this.#connection = client({ name: "slipway" })
      .onNotification(methods.client.session.update, ({ params }) => events.update(params.update))
      .onRequest(methods.client.session.requestPermission, ({ params }) => grantPermission(params, events))
      .onRequest(
        methods.client.elicitation.create,
        async ({ params }) => await answerElicitation(params, context, events),
      )
      .connect(stream);
    this.#connection.closed.catch(() => undefined);
  }

  /** @throws NotResumed when the program cannot continue the session. */
  async execute(earlier: string | null): Promise<AgentResult> {
    const { context, conversation } = this.#parts;
    const { agent } = this.#connection;
    const inTime = <T>(response: Promise<T>): Promise<T> => this.#withStartTimeout(response);
    this.#session = await openSession({ ...this.#parts, agent, events: this.#events, inTime }, earlier);
    context.mark(CURSOR);
    const verified = await runTurns({
      context,
      conversation,
      first: earlier === null ? firstPrompt(context, conversation) : resumedPrompt(context, conversation),
      runTurn: async (prompt) => {
        try {
          return await context.alive("The agent's program", () => this.#runTurn(prompt));
        } finally {
          this.#events.endTurn();
        }
      },
      save: async () => await this.#saveState("now"),
    });
    return await toResult(context, { summary: this.#events.lastMessage, isReport: true, verified });
  }

  async #saveState(mode: "due" | "now"): Promise<void> {
    if (this.#session?.canResume === true) await this.#parts.state.save(this.#session.sessionId, mode);
  }

  /** Sends a cancel request when the agent was stopped; does not wait for its effect. */
  async close(): Promise<void> {
    if (this.#session !== null && this.#context.signal.aborted) await this.#sendCancel().catch(() => undefined);
    this.#events.endTurn();
    this.#connection.close();
  }

  /** What people attached, where the program says that it reads pictures; it has the files too. */
  #takePictures(): ContentBlock[] {
    if (this.#session?.showsPictures !== true) return [];
    return this.#context.takePictures().flatMap(({ id, mediaType: mimeType }): ContentBlock[] => {
      const data = this.#context.pictureData(id);
      return data === null ? [] : [{ type: "image", data, mimeType }];
    });
  }

  /** Runs one turn until it ends or a message that steers arrives (E3). */
  async #runTurn(text: string): Promise<TurnEnd> {
    const { signal } = this.#context;
    const { sessionId = "" } = this.#session ?? {};
    let [ended, isCancelled, saveAt] = [false, false, performance.now() + SAVE_MS];
    this.#events.beginTurn();
    const response = this.#connection.agent
      .request(methods.agent.session.prompt, { sessionId, prompt: [{ type: "text", text }, ...this.#takePictures()] })
      .then(({ stopReason }) => this.#toEnd(stopReason, isCancelled))
      .catch((error: unknown) => this.#handleError(error))
      .finally(() => (ended = true));
    response.catch(() => undefined);
    const messages: ReceivedMessage[] = [];
    while (!ended && messages.length === 0) {
      await Promise.race([response.catch(() => undefined), this.#programEnd, this.#context.sleep(MESSAGE_POLL_MS)]);
      signal.throwIfAborted();
      if (ended) continue;
      const canSteer = this.#session?.canSteer === true && !this.#context.isInterrupted;
      const received = await this.#context.receiveMessages("step");
      if (received.length > 0 && !(canSteer && (await this.#steer(received)))) messages.push(...received);
      if (messages.length > 0) continue;
      // While a tool runs too: the program may be killed in the middle of it. The files are saved
      // first, so that the program does not remember what they lack.
      if (!this.#events.takeToolEnded() && performance.now() < saveAt) continue;
      await this.#parts.conversation.save();
      await this.#context.checkpoint(CURSOR, "due");
      await this.#saveState("due");
      saveAt = performance.now() + SAVE_MS;
    }
    if (!ended) {
      isCancelled = true;
      await this.#cancelTurn(response);
    }
    const end = isCancelled ? null : await response;
    return end === null || messages.length > 0 ? { kind: "interrupted", messages } : end;
  }

  /** @returns false when the program did not take the messages into its turn. */
  async #steer(messages: readonly ReceivedMessage[]): Promise<boolean> {
    const { conversation, context } = this.#parts;
    const prompt = [{ type: "text", text: messagePrompt(messages) }];
    const params = {
      sessionId: this.#session?.sessionId ?? "",
      prompt,
      _meta: { steering: { idleBehavior: "promptRequired" } },
    };
    const answer = this.#connection.agent
      .request<{ readonly outcome?: unknown }>(STEER_METHOD, params)
      .catch(() => ({ outcome: "failed" }));
    const { outcome } = await Promise.race([answer, context.sleep(STEER_MS).then(() => ({ outcome: "late" }))]);
    if (outcome !== "injected") return false;
    for (const { id, text } of messages) conversation.add("person", text, id);
    await conversation.save();
    return true;
  }

  /** Updates that arrived before the response are handled before the turn ends. */
  async #toEnd(stopReason: PromptResponse["stopReason"], isCancelled: boolean): Promise<TurnEnd> {
    await new Promise((resolve) => setImmediate(resolve));
    this.#events.endTurn();
    if (isCancelled) return { kind: "ended" };
    const failure = this.#createStopFailure(stopReason);
    if (stopReason === "refusal" || stopReason === "cancelled") throw failure;
    // A program may report the gateway's refusal as its last words.
    const words = this.#events.turnMessage;
    if (isBudgetRefusal(this.#context, words)) return await askForBudget(this.#context, words);
    return stopReason === "end_turn" ? { kind: "ended" } : { kind: "limit", failure };
  }

  async #sendCancel(): Promise<void> {
    await this.#connection.agent.notify(methods.agent.session.cancel, { sessionId: this.#session?.sessionId ?? "" });
  }

  /** @throws AgentFailure when the turn does not end in time. */
  async #cancelTurn(response: Promise<unknown>): Promise<void> {
    await this.#sendCancel();
    const settled = response.then(
      () => "settled",
      () => "settled",
    );
    const timeout = this.#context.sleep(CANCEL_MS).then(() => "timeout");
    if ((await Promise.race([settled, this.#programEnd, timeout])) === "timeout")
      throw new AgentFailure("agent_error", "The agent's program did not end its turn for a message.");
  }

  /**
   * Handles an error response to a prompt. The gateway's refusals arrive as errors of the program;
   * a person may have granted more since then.
   */
  async #handleError(error: unknown): Promise<TurnEnd> {
    this.#context.signal.throwIfAborted();
    await this.#throwIfProgramEnded();
    const text = truncate(this.#context.secrets.redact(errorMessage(error)), 2_000);
    if (isBudgetRefusal(this.#context, text)) return await askForBudget(this.#context, text);
    if (isAuthError(error)) throw new AgentFailure("program_auth", text, this.#program.errors || null);
    throw this.#createFailure(`The agent's program gave up: ${text}`);
  }

  /**
   * The end of the program explains more than its broken connection. @throws AgentFailure when the
   * program ends shortly after its connection.
   */
  async #throwIfProgramEnded(): Promise<void> {
    if (this.#connection.signal.aborted) await Promise.race([this.#programEnd, this.#context.sleep(EXIT_MS)]);
  }

  #createFailure(message: string): AgentFailure {
    return new AgentFailure("agent_error", message, this.#program.errors === "" ? null : this.#program.errors);
  }

  #createStopFailure(stopReason: PromptResponse["stopReason"]): AgentFailure {
    const reasons = {
      refusal: "the model refused",
      cancelled: "the program cancelled the turn",
      max_tokens: "the limit of tokens",
      max_turn_requests: "the limit of requests",
      end_turn: "",
    };
    const message = `The agent's program stopped before its end: ${reasons[stopReason]}.`;
    return new AgentFailure("agent_error", message, this.#events.lastMessage || null);
  }

  /** @throws AgentFailure when the program ends, fails, or does not respond within START_MS. */
  async #withStartTimeout<T>(response: Promise<T>): Promise<T> {
    const { signal } = this.#context;
    response.catch(() => undefined);
    const timeout = this.#context.sleep(START_MS).then((): never => {
      throw new AgentFailure(
        "agent_error",
        `The agent's program did not respond within ${START_MS / 1_000} s. Does it speak the Agent Client Protocol on standard output?`,
      );
    });
    timeout.catch(() => undefined);
    try {
      return await Promise.race([response, this.#programEnd, timeout]);
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof AgentFailure) throw error;
      await this.#throwIfProgramEnded();
      throw new AgentFailure(
        "agent_error",
        `The agent's program could not start: ${truncate(this.#context.secrets.redact(errorMessage(error)), 2_000)}`,
      );
    }
  }
}
