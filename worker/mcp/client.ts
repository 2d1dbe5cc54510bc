/**
 * Tools of MCP servers: programs that run in the workspace, or servers that are reached through the
 * egress proxy.
 *
 * M1 The list of tools is requested once and does not change, because it is part of the start of a
 *    conversation.
 * M2 A server that does not start, dies, hangs or floods becomes a problem or a tool error. Only an
 *    aborted signal rejects.
 * M3 Descriptions and results come from a third party: they are bounded, free of hidden characters,
 *    and marked with the name of the server.
 * M4 A program that has ended is restarted by the next call of one of its tools, a few times per
 *    attempt. No call is sent twice, and the agent is informed that the program lost its state.
 */
import { NO_SECRETS } from "../../src/core/lib/json/redaction.ts";
import { errorMessage } from "../../src/core/error.ts";
import type { McpServer, McpServers } from "../../src/core/values/mcp-servers.ts";
import { raceAbort } from "../../src/core/lib/concurrency/async.ts";
import { truncate } from "../lib/text.ts";
import { ToolError, type ToolInput, type ToolResult, type ToolSchema } from "../tools/tool.ts";
import { cleanMessage, connectServer, type McpConnection, type McpOptions } from "./connection.ts";
import { callTool, listTools } from "./tools.ts";

const CALL_MS = 120_000;
const MAX_RESTARTS = 3;

export interface McpTool {
  readonly schema: ToolSchema;
  call(input: ToolInput, signal: AbortSignal): Promise<ToolResult>;
}

export interface McpClients {
  /** Sorted by name. */
  readonly tools: readonly McpTool[];
  /** What is missing and why, for people and for the agent. */
  readonly problems: readonly string[];
  /** Ends all servers with everything that they started. Idempotent. */
  close(): Promise<void>;
}

/** Starts all servers at once; each has half a minute. Rejects only with the signal's reason. */
export async function openMcp(servers: McpServers, options: McpOptions, signal: AbortSignal): Promise<McpClients> {
  const opened = await Promise.all(
    Object.entries(servers).map(([name, server]) => openServer(name, server, options, signal)),
  );
  const close = async (): Promise<void> => {
    await Promise.all(opened.map(async (server) => await server.close()));
  };
  if (signal.aborted) {
    await close();
    throw signal.reason;
  }
  const tools = opened.flatMap((server) => server.tools).sort((a, b) => (a.schema.name < b.schema.name ? -1 : 1));
  return { tools, problems: opened.flatMap((server) => server.problems), close };
}

/** M2: never rejects. */
async function openServer(
  name: string,
  server: McpServer,
  options: McpOptions,
  signal: AbortSignal,
): Promise<McpClients> {
  let connection: McpConnection | null = null;
  try {
    connection = await connectServer(server, options, signal);
    const { secrets = NO_SECRETS } = options;
    const { tools, problems } = await listTools({ server: name, client: connection.client, secrets }, signal);
    const restarting = new RestartingConnection(name, connection, (stop) => connectServer(server, options, stop));
    const timeoutMs = server.timeoutMs ?? CALL_MS;
    const callable = tools.map(({ name: tool, schema }) => ({
      schema,
      call: async (input: ToolInput, stop: AbortSignal) => {
        const current = await restarting.get(stop);
        return await callTool({ server: name, tool, timeoutMs, secrets, ...current }, input, stop);
      },
    }));
    return { tools: callable, problems, close: async () => await restarting.close() };
  } catch (thrown) {
    const reason = cleanMessage(
      (await connection?.close(errorMessage(thrown))) ?? errorMessage(thrown),
      options.secrets,
    );
    return {
      tools: [],
      problems: [`The MCP server "${name}" could not be used: ${reason}`],
      close: () => Promise.resolve(),
    };
  }
}

/** A connection that is opened again when the server has ended (M4). */
class RestartingConnection {
  readonly #name: string;
  readonly #reconnect: (signal: AbortSignal) => Promise<McpConnection>;
  readonly #closed = new AbortController();
  #connection: McpConnection;
  #restartsLeft = MAX_RESTARTS;
  /** The restart that runs now; all callers share it. */
  #restarting: Promise<void> | null = null;
  /** Reported with the next call after a restart. */
  #notice = "";

  constructor(name: string, first: McpConnection, reconnect: (signal: AbortSignal) => Promise<McpConnection>) {
    this.#name = name;
    this.#connection = first;
    this.#reconnect = reconnect;
  }

  /**
   * @returns the connection, and a notice for the output of the call, or "".
   * @throws ToolError when the server cannot be restarted; rejects with the signal's reason.
   */
  async get(signal: AbortSignal): Promise<{ connection: McpConnection; notice: string }> {
    const reason = this.#connection.endReason();
    if (reason !== null) {
      if (this.#restarting === null && (this.#restartsLeft === 0 || this.#closed.signal.aborted))
        throw new ToolError(`The MCP server "${this.#name}" has ended: ${reason}. Continue without its tools.`);
      this.#restarting ??= this.#restart(reason).finally(() => (this.#restarting = null));
      await raceAbort(this.#restarting, signal);
    }
    const notice = this.#notice;
    this.#notice = "";
    return { connection: this.#connection, notice };
  }

  async close(): Promise<void> {
    this.#closed.abort();
    await this.#restarting?.catch(() => undefined);
    await this.#connection.close();
  }

  async #restart(reason: string): Promise<void> {
    this.#restartsLeft -= 1;
    this.#connection = await this.#reconnect(this.#closed.signal).catch((thrown: unknown) => {
      throw new ToolError(
        `The MCP server "${this.#name}" has ended: ${reason}. It could not be restarted: ${errorMessage(thrown)}`,
      );
    });
    this.#notice = `[The MCP server "${this.#name}" had ended (${truncate(reason, 300)}) and was restarted: its state is lost.]\n`;
  }
}
