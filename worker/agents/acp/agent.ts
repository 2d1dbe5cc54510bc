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
import type { Verified } from "../../workspace/verify.ts";
import { AgentFailure, type Agent, type AgentContext, type AgentResult, type ReceivedMessage } from "../agent.ts";
import { answerElicitation, grantPermission } from "./requests.ts";
import { AcpEventMapper } from "./event-mapper.ts";
import {
  CONTINUE,
  chooseTitle,
  failedChecksPrompt,
  firstPrompt,
  interruptionPrompt,
  messagePrompt,
} from "./messages.ts";

const START_MS = 60_000;
/** The time that a program has to end a cancelled turn. */
const CANCEL_MS = 2_000;
/** The interval between checks for messages during a turn. */
const MESSAGE_POLL_MS = 500;
/** The time from the end of the connection to the end of the program. */
const EXIT_MS = 3_000;
const MAX_CONTINUATIONS = 3;
const MAX_REPAIRS = 2;
const TITLE_LIMIT = 72;
/** The program's own conversation cannot be resumed, so the cursor only records that it started. */
const CURSOR = "acp";

export interface AcpAgentOptions {
  readonly root: string;
  /** The environment variables that commands get. */
  readonly env: Readonly<Record<string, string>>;
}

/** The command comes with the task (`acpCommand`); bash runs it in the checkout. */
export function createAcpAgent({ root, env }: AcpAgentOptions): Agent {
  return {
    async run(context) {
      const { acpCommand } = context.spec;
      if (acpCommand === undefined) throw new AgentFailure("agent_error", "No command was given for this agent.");
      const program = await Program.start({
        command: "/bin/bash",
        args: ["--norc", "-c", acpCommand],
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

function modelEnvironment({ model, spec }: AgentContext): Record<string, string> {
  if (model === null) return {};
  return {
    ANTHROPIC_BASE_URL: model.baseURL,
    ANTHROPIC_API_KEY: model.token,
    ...(spec.model === null ? {} : { ANTHROPIC_MODEL: spec.model }),
  };
}

interface TurnResult {
  readonly stopReason: PromptResponse["stopReason"];
  /** The messages for which the turn was cancelled. */
  readonly messages: readonly ReceivedMessage[];
}

class AcpRun {
  readonly #context: AgentContext;
  readonly #program: Program;
  readonly #root: string;
  readonly #events: AcpEventMapper;
  readonly #connection: ClientConnection;
  /** Rejects when the program ends. */
  readonly #programEnd: Promise<never>;
  #sessionId: string | null = null;

  constructor(context: AgentContext, program: Program, root: string) {
    this.#context = context;
    this.#program = program;
    this.#root = root;
    const events = new AcpEventMapper(context);
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
    let [prompt, continuations, repairs] = [firstPrompt(this.#context), 0, 0];
    for (;;) {
      const { stopReason, messages: interruptions } = await this.#runTurn(prompt);
      await this.#context.checkpoint(CURSOR, "due");
      if (interruptions.length > 0) {
        prompt = interruptionPrompt(interruptions);
        continue;
      }
      if (stopReason !== "end_turn") {
        if (stopReason === "refusal" || stopReason === "cancelled" || ++continuations > MAX_CONTINUATIONS)
          throw this.#createStopFailure(stopReason);
        prompt = CONTINUE;
        continue;
      }
      const messages = await this.#context.receiveMessages("end");
      if (messages.length > 0) {
        prompt = messagePrompt(messages);
        continue;
      }
      const verified = await this.#context.verify();
      const failing = verified.filter(({ exitCode }) => exitCode !== 0);
      if (failing.length === 0 || repairs === MAX_REPAIRS) return await this.#finish(verified);
      repairs += 1;
      prompt = failedChecksPrompt(failing);
    }
  }

  async #finish(verified: readonly Verified[]): Promise<AgentResult> {
    await this.#context.checkpoint(CURSOR, "now");
    const summary = this.#events.lastMessage;
    return { title: formatTitle(chooseTitle(summary, this.#context.spec.prompt)), summary, verified };
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
  async #runTurn(text: string): Promise<TurnResult> {
    const { signal } = this.#context;
    const sessionId = this.#sessionId ?? "";
    let ended = false;
    const response = this.#connection.agent
      .request(methods.agent.session.prompt, { sessionId, prompt: [{ type: "text", text }] })
      .catch((error: unknown) => this.#handleError(error))
      .finally(() => (ended = true));
    response.catch(() => undefined);
    const messages: ReceivedMessage[] = [];
    while (!ended && messages.length === 0) {
      await Promise.race([response.catch(() => undefined), this.#programEnd, this.#context.sleep(MESSAGE_POLL_MS)]);
      signal.throwIfAborted();
      if (!ended) messages.push(...(await this.#context.receiveMessages("step")));
      if (!ended && messages.length === 0 && this.#events.takeToolEnded())
        await this.#context.checkpoint(CURSOR, "due");
    }
    if (!ended) await this.#cancelTurn(response);
    // Updates that arrived before the response are handled before the turn ends.
    await new Promise((resolve) => setImmediate(resolve));
    this.#events.endTurn();
    const stopReason = ended ? (await response).stopReason : "cancelled";
    return { stopReason, messages };
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
  async #handleError(error: unknown): Promise<PromptResponse> {
    this.#context.signal.throwIfAborted();
    await this.#throwIfProgramEnded();
    const text = truncate(errorMessage(error), 2_000);
    if (this.#context.model !== null && /\b402\b|budget/i.test(text)) {
      if ((await this.#context.budgetQuestion()) === "continue") return { stopReason: "max_turn_requests" };
      throw new AgentFailure("budget_exceeded", "The task's budget is used up.", text);
    }
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

function formatTitle(text: string): string {
  return truncate((text.trim().split("\n")[0] ?? "").trim(), TITLE_LIMIT) || "Changes by an agent";
}
