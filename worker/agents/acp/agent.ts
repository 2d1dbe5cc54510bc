/**
 * Any agent program that speaks the Agent Client Protocol (version 1) on its standard input and
 * output.
 *
 * E1 It runs under the rules for processes; when `run` ends, nothing of it is left.
 * E2 It is told where the gateway is and given the attempt's token as its key: the one thing that
 *    it can spend, and worth nothing elsewhere.
 * E3 A message that steers interrupts the turn and begins the next one: the protocol has no other
 *    way.
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
import { failedChecksPrompt, GO_ON, messagePrompt, interruptionPrompt, firstPrompt } from "./messages.ts";

const START_MS = 60_000;
/** From asking a turn to stop to not waiting any longer. */
const CANCEL_MS = 2_000;
/** How often is looked for messages while a turn goes on. */
const LOOK_MS = 500;
/** From the end of the connection to the program's own. */
const LAST_WORDS_MS = 3_000;
const CONTINUATIONS = 3;
const REPAIRS = 2;
const TITLE_LIMIT = 72;
const CURSOR = "acp";

export interface AcpAgentOptions {
  readonly root: string;
  /** What commands are told too. */
  readonly env: Readonly<Record<string, string>>;
}

/** The command comes with the task (`acpCommand`); bash runs it in the checkout. */
export function createAcpAgent({ root, env }: AcpAgentOptions): Agent {
  return {
    async run(context) {
      const { acpCommand } = context.spec;
      if (acpCommand === undefined) throw new AgentFailure("agent_error", "No command was given for this agent.");
      const program = Program.start({
        command: "/bin/bash",
        args: ["--norc", "-c", acpCommand],
        cwd: root,
        env: { ...env, ...modelEnvironment(context) },
      });
      const work = new Work(context, program, root);
      try {
        return await work.toTheEnd();
      } finally {
        await work.close();
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

class Work {
  readonly #context: AgentContext;
  readonly #program: Program;
  readonly #root: string;
  readonly #screen: AcpEventMapper;
  readonly #connection: ClientConnection;
  /** Rejects with the program's end. */
  readonly #gone: Promise<never>;
  #sessionId: string | null = null;

  constructor(context: AgentContext, program: Program, root: string) {
    this.#context = context;
    this.#program = program;
    this.#root = root;
    const screen = new AcpEventMapper(context);
    this.#screen = screen;
    this.#gone = program.ended.then((why) => {
      throw new AgentFailure(
        "agent_error",
        `The agent's program is gone: ${why}.`,
        program.errors === "" ? null : program.errors,
      );
    });
    this.#gone.catch(() => undefined);
    const stream = ndJsonStream(
      Writable.toWeb(program.input),
      Readable.toWeb(program.output) as ReadableStream<Uint8Array>,
    );
    this.#connection = client({ name: "slipway" })
      .onNotification(methods.client.session.update, ({ params }) => screen.update(params.update))
      .onRequest(methods.client.session.requestPermission, ({ params }) => grantPermission(params, screen))
      .onRequest(
        methods.client.elicitation.create,
        async ({ params }) => await answerElicitation(params, context, screen),
      )
      .connect(stream);
    this.#connection.closed.catch(() => undefined);
  }

  async toTheEnd(): Promise<AgentResult> {
    await this.#open();
    let [prompt, continuations, repairs] = [firstPrompt(this.#context), 0, 0];
    for (;;) {
      const { stopReason, heard } = await this.#turn(prompt);
      await this.#context.checkpoint(CURSOR, "due");
      if (heard.length > 0) {
        prompt = interruptionPrompt(heard);
        continue;
      }
      if (stopReason !== "end_turn") {
        if (stopReason === "refusal" || stopReason === "cancelled" || ++continuations > CONTINUATIONS)
          throw this.#stopped(stopReason);
        prompt = GO_ON;
        continue;
      }
      const messages = await this.#context.receiveMessages("end");
      if (messages.length > 0) {
        prompt = messagePrompt(messages);
        continue;
      }
      const verified = await this.#context.verify();
      const failing = verified.filter(({ exitCode }) => exitCode !== 0);
      if (failing.length === 0 || repairs === REPAIRS) return await this.#result(verified);
      repairs += 1;
      prompt = failedChecksPrompt(failing);
    }
  }

  async #result(verified: readonly Verified[]): Promise<AgentResult> {
    await this.#context.checkpoint(CURSOR, "now");
    return { title: titleOf(this.#context.spec.prompt), summary: this.#screen.said, verified };
  }

  /** Asks the program to stop, if a session is open; does not wait for it. */
  async close(): Promise<void> {
    if (this.#sessionId !== null && this.#context.signal.aborted) await this.#cancel().catch(() => undefined);
    this.#screen.endOfTurn();
    this.#connection.close();
  }

  async #open(): Promise<void> {
    const { agent } = this.#connection;
    const hello = await this.#within(
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
    if (hello.protocolVersion !== PROTOCOL_VERSION)
      throw new AgentFailure(
        "agent_error",
        `The agent's program speaks version ${hello.protocolVersion} of the protocol; version ${PROTOCOL_VERSION} is needed.`,
      );
    const mcpServers = this.#servers(hello.agentCapabilities?.mcpCapabilities?.http === true);
    const session = await this.#within(agent.request(methods.agent.session.new, { cwd: this.#root, mcpServers }));
    this.#sessionId = session.sessionId;
    this.#context.mark(CURSOR);
  }

  /** The program starts them itself. */
  #servers(http: boolean): McpServer[] {
    const pairs = (record: Readonly<Record<string, string>> = {}) =>
      Object.entries(record).map(([name, value]) => ({ name, value }));
    return Object.entries(this.#context.spec.mcpServers ?? {}).flatMap(([name, server]): McpServer[] => {
      if ("command" in server)
        return [{ name, command: server.command, args: server.args ?? [], env: pairs(server.env) }];
      if (http) return [{ type: "http", name, url: server.url, headers: pairs(server.headers) }];
      this.#screen.notice(
        "warning",
        "mcp_problem",
        `The agent's program cannot use MCP servers behind HTTP; "${name}" is left out.`,
      );
      return [];
    });
  }

  async #turn(text: string): Promise<{ stopReason: PromptResponse["stopReason"]; heard: ReceivedMessage[] }> {
    const { signal } = this.#context;
    const sessionId = this.#sessionId ?? "";
    let over = false;
    const asked = this.#connection.agent
      .request(methods.agent.session.prompt, { sessionId, prompt: [{ type: "text", text }] })
      .catch((error: unknown) => this.#failed(error))
      .finally(() => (over = true));
    asked.catch(() => undefined);
    const heard: ReceivedMessage[] = [];
    while (!over && heard.length === 0) {
      await Promise.race([asked.catch(() => undefined), this.#gone, this.#context.sleep(LOOK_MS)]);
      signal.throwIfAborted();
      if (!over) heard.push(...(await this.#context.receiveMessages("step")));
      if (!over && heard.length === 0 && this.#screen.takeWorked()) await this.#context.checkpoint(CURSOR, "due");
    }
    if (!over) await this.#cancel(asked);
    // What was told before the answer is handled before what follows from it.
    await new Promise((resolve) => setImmediate(resolve));
    this.#screen.endOfTurn();
    const stopReason = over ? (await asked).stopReason : "cancelled";
    return { stopReason, heard };
  }

  async #cancel(asked?: Promise<unknown>): Promise<void> {
    await this.#connection.agent.notify(methods.agent.session.cancel, { sessionId: this.#sessionId ?? "" });
    if (asked === undefined) return;
    const late = this.#context.sleep(CANCEL_MS).then(() => "late");
    const how = await Promise.race([
      asked.then(
        () => "over",
        () => "over",
      ),
      this.#gone,
      late,
    ]);
    if (how === "late")
      throw new AgentFailure("agent_error", "The agent's program was asked to stop for a message and did not.");
  }

  /**
   * The gateway's refusals reach us as the program's errors: a person may have granted more
   * meanwhile.
   */
  async #failed(error: unknown): Promise<PromptResponse> {
    this.#context.signal.throwIfAborted();
    await this.#sayWhyGone();
    const text = truncate(errorMessage(error), 2_000);
    if (this.#context.model !== null && /\b402\b|budget/i.test(text)) {
      if ((await this.#context.budgetQuestion()) === "continue") return { stopReason: "max_turn_requests" };
      throw new AgentFailure("budget_exceeded", "The task's budget is used up.", text);
    }
    throw new AgentFailure(
      "agent_error",
      `The agent's program gave up: ${text}`,
      this.#program.errors === "" ? null : this.#program.errors,
    );
  }

  /**
   * A program that has just ended says more than its broken connection. @throws AgentFailure when
   * it has.
   */
  async #sayWhyGone(): Promise<void> {
    if (this.#connection.signal.aborted) await Promise.race([this.#gone, this.#context.sleep(LAST_WORDS_MS)]);
  }

  #stopped(stopReason: PromptResponse["stopReason"]): AgentFailure {
    const why = {
      refusal: "the model refused",
      cancelled: "it cancelled by itself",
      max_tokens: "the limit of tokens",
      max_turn_requests: "the limit of requests",
      end_turn: "",
    };
    return new AgentFailure(
      "agent_error",
      `The agent's program stopped before its end: ${why[stopReason]}.`,
      this.#screen.said || null,
    );
  }

  async #within<T>(asked: Promise<T>): Promise<T> {
    const { signal } = this.#context;
    asked.catch(() => undefined);
    const late = this.#context.sleep(START_MS).then((): never => {
      throw new AgentFailure(
        "agent_error",
        `The agent's program did not answer within ${START_MS / 1_000} s. Does it speak the Agent Client Protocol on standard output?`,
      );
    });
    late.catch(() => undefined);
    try {
      return await Promise.race([asked, this.#gone, late]);
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof AgentFailure) throw error;
      await this.#sayWhyGone();
      throw new AgentFailure(
        "agent_error",
        `The agent's program could not begin: ${truncate(errorMessage(error), 2_000)}`,
      );
    }
  }
}

function titleOf(text: string): string {
  return truncate((text.trim().split("\n")[0] ?? "").trim(), TITLE_LIMIT) || "Changes by an agent";
}
