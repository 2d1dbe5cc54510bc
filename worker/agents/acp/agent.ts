/**
 * Runs any agent program that speaks the Agent Client Protocol (version 1) on its standard input
 * and output.
 *
 * E1 The program runs under the process rules of program.ts; when `run` settles, it has ended with
 *    everything that it started.
 * E2 Its environment holds the gateway's address and, as the API key, the attempt's token, which is
 *    valid for nothing else.
 * E3 A message that steers cancels the turn and starts the next one, because the protocol has no
 *    other way to deliver it.
 */
import { Readable, Writable } from "node:stream";
import {
  client,
  methods,
  ndJsonStream,
  PROTOCOL_VERSION,
  type ClientConnection,
  type McpServer,
  type PromptResponse,
} from "@agentclientprotocol/sdk";
import { errorMessage } from "../../../src/core/error.ts";
import { truncate } from "../../lib/text.ts";
import { Program } from "../../tools/shell/program.ts";
import { AgentFailure, type Agent, type AgentContext, type AgentResult, type ReceivedMessage } from "../agent.ts";
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
import { answerElicitation, grantPermission } from "./requests.ts";

const START_MS = 60_000;
/** The time that a program has to end a cancelled turn. */
const CANCEL_MS = 2_000;
/** The interval between checks for messages during a turn. */
const MESSAGE_POLL_MS = 500;
/** The time from the end of the connection to the end of the program. */
const EXIT_MS = 3_000;

export interface AcpAgentOptions {
  readonly root: string;
  /** The environment variables that commands get. */
  readonly env: Readonly<Record<string, string>>;
}

/** The command comes with the task (`program`); bash runs it in the checkout. */
export function createAcpAgent({ root, env }: AcpAgentOptions): Agent {
  return {
    async run(context) {
      const settings = context.spec.program;
      if (settings?.protocol !== "acp") throw new AgentFailure("agent_error", "No command was given for this agent.");
      const program = await Program.start({
        command: "/bin/bash",
        args: ["--norc", "-c", settings.command],
        cwd: root,
        env: { ...env, ...modelEnvironment(context) },
      });
      const run = new AcpRun(context, program, root);
      try {
        return await run.execute();
      } finally {
        await run.close();
        await program.close();
      }
    },
  };
}

class AcpRun {
  readonly #context: AgentContext;
  readonly #program: Program;
  readonly #root: string;
  readonly #events: AcpEventMapper;
  readonly #conversation: ProgramConversation;
  readonly #connection: ClientConnection;
  /** Rejects when the program ends. */
  readonly #programEnd: Promise<never>;
  #sessionId: string | null = null;

  constructor(context: AgentContext, program: Program, root: string) {
    this.#context = context;
    this.#program = program;
    this.#root = root;
    this.#conversation = new ProgramConversation(context);
    const events = new AcpEventMapper(context, this.#conversation);
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

  async execute(): Promise<AgentResult> {
    await this.#openSession();
    const [context, conversation] = [this.#context, this.#conversation];
    const verified = await runTurns({
      context,
      conversation,
      first: firstPrompt(context, conversation),
      runTurn: (prompt) => context.alive("The agent's program", () => this.#runTurn(prompt)),
    });
    return await toResult(context, { summary: this.#events.lastMessage, isReport: true, verified });
  }

  /** Sends a cancel request when the agent was stopped; does not wait for its effect. */
  async close(): Promise<void> {
    if (this.#sessionId !== null && this.#context.signal.aborted) await this.#sendCancel().catch(() => undefined);
    this.#events.endTurn();
    this.#connection.close();
  }

  async #openSession(): Promise<void> {
    const { agent } = this.#connection;
    const initialized = await this.#withStartTimeout(
      agent.request(methods.agent.initialize, {
        protocolVersion: PROTOCOL_VERSION,
        clientInfo: { name: "slipway", version: "1" },
        clientCapabilities: {
          fs: { readTextFile: false, writeTextFile: false },
          terminal: false,
          elicitation: { form: {} },
        },
      }),
    );
    if (initialized.protocolVersion !== PROTOCOL_VERSION)
      throw new AgentFailure(
        "agent_error",
        `The agent's program speaks version ${initialized.protocolVersion} of the protocol; version ${PROTOCOL_VERSION} is required.`,
      );
    const mcpServers = this.#toMcpServers(initialized.agentCapabilities?.mcpCapabilities?.http === true);
    const session = await this.#withStartTimeout(
      agent.request(methods.agent.session.new, { cwd: this.#root, mcpServers }),
    );
    this.#sessionId = session.sessionId;
    this.#context.mark(CURSOR);
  }

  /** The task's MCP servers in the protocol's form; the program starts them itself. */
  #toMcpServers(supportsHttp: boolean): McpServer[] {
    const toPairs = (record: Readonly<Record<string, string>> = {}) =>
      Object.entries(record).map(([name, value]) => ({ name, value }));
    return Object.entries(this.#context.spec.mcpServers ?? {}).flatMap(([name, server]): McpServer[] => {
      if ("command" in server)
        return [{ name, command: server.command, args: server.args ?? [], env: toPairs(server.env) }];
      if (supportsHttp) return [{ type: "http", name, url: server.url, headers: toPairs(server.headers) }];
      this.#events.notice(
        "warning",
        "mcp_problem",
        `The agent's program does not support MCP servers over HTTP; "${name}" is left out.`,
      );
      return [];
    });
  }

  /** Runs one turn until it ends or a message that steers arrives (E3). */
  async #runTurn(text: string): Promise<TurnEnd> {
    const { signal } = this.#context;
    const sessionId = this.#sessionId ?? "";
    let [ended, isCancelled] = [false, false];
    this.#events.beginTurn();
    const response = this.#connection.agent
      .request(methods.agent.session.prompt, { sessionId, prompt: [{ type: "text", text }] })
      .then(({ stopReason }) => this.#toEnd(stopReason, isCancelled))
      .catch((error: unknown) => this.#handleError(error))
      .finally(() => (ended = true));
    response.catch(() => undefined);
    const messages: ReceivedMessage[] = [];
    while (!ended && messages.length === 0) {
      await Promise.race([response.catch(() => undefined), this.#programEnd, this.#context.sleep(MESSAGE_POLL_MS)]);
      signal.throwIfAborted();
      if (!ended) messages.push(...(await this.#context.receiveMessages("step")));
      if (!ended && messages.length === 0 && this.#events.takeToolEnded()) {
        await this.#conversation.save();
        await this.#context.checkpoint(CURSOR, "due");
      }
    }
    if (!ended) {
      isCancelled = true;
      await this.#cancelTurn(response);
    }
    const end = isCancelled ? null : await response;
    return end === null || messages.length > 0 ? { kind: "interrupted", messages } : end;
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
    await this.#connection.agent.notify(methods.agent.session.cancel, { sessionId: this.#sessionId ?? "" });
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
    const text = truncate(errorMessage(error), 2_000);
    if (isBudgetRefusal(this.#context, text)) return await askForBudget(this.#context, text);
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
        `The agent's program could not start: ${truncate(errorMessage(error), 2_000)}`,
      );
    }
  }
}
