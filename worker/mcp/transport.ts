/**
 * The two transports to an MCP server: a program under the process rules of program.ts, and HTTP
 * through the egress proxy.
 */
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import type { JSONRPCMessage } from "@modelcontextprotocol/sdk/types.js";
import type { McpServer } from "../../src/core/values/mcp-servers.ts";
import { Program, type ProgramOptions } from "../tools/shell/program.ts";

/** Some servers print a greeting on standard output; after this many lines the server is ended. */
const MAX_INVALID_LINES = 1_000;
/** Bytes. */
const RESPONSE_LIMIT = 20 * 1024 * 1024;

/** A transport that can be closed with a reason. */
export type ClosableTransport = Transport & { close(why?: string): Promise<void> };

export class StdioTransport implements ClosableTransport {
  onclose?: () => void;
  onerror?: (error: Error) => void;
  onmessage?: (message: JSONRPCMessage) => void;
  readonly #options: ProgramOptions;
  #program: Program | null = null;
  #endReason: string | null = null;

  constructor(options: ProgramOptions) {
    this.#options = options;
  }

  /** Why the server has ended; null while it runs. */
  get endReason(): string | null {
    return this.#endReason;
  }

  async start(): Promise<void> {
    const { ReadBuffer } = await import("@modelcontextprotocol/sdk/shared/stdio.js");
    const program = await Program.start(this.#options);
    const buffer = new ReadBuffer();
    let invalidLines = 0;
    const readMessage = (): JSONRPCMessage | null => {
      while (invalidLines < MAX_INVALID_LINES) {
        try {
          return buffer.readMessage();
        } catch (error) {
          invalidLines += 1;
          this.onerror?.(error instanceof Error ? error : new Error("not a message"));
        }
      }
      void program.close(`it wrote ${MAX_INVALID_LINES} lines that are not protocol messages`);
      return null;
    };
    program.output.on("data", (chunk: Buffer) => {
      if (invalidLines === MAX_INVALID_LINES) return;
      buffer.append(chunk);
      for (let message = readMessage(); message !== null; message = readMessage()) this.onmessage?.(message);
    });
    void program.ended.then((reason) => {
      this.#endReason = program.errors === "" ? reason : `${reason}. Standard error: ${program.errors}`;
      this.onclose?.();
    });
    this.#program = program;
  }

  async send(message: JSONRPCMessage): Promise<void> {
    const program = this.#program;
    if (program === null || this.#endReason !== null) throw new Error("the server has ended");
    await new Promise<void>((resolve, reject) => {
      program.input.write(`${JSON.stringify(message)}\n`, (error) => (error ? reject(error) : resolve()));
    });
  }

  /** @param why the reason; a server that has ended before keeps its own. */
  async close(why?: string): Promise<void> {
    await this.#program?.close(why);
  }
}

/** Redirects stay within the origin; responses are bounded in size. */
export async function httpTransport(
  { url, headers = {} }: Extract<McpServer, { url: string }>,
  proxy: string | null,
): Promise<ClosableTransport> {
  const [{ StreamableHTTPClientTransport }, { Agent, EnvHttpProxyAgent, fetch: undiciFetch }] = await Promise.all([
    import("@modelcontextprotocol/sdk/client/streamableHttp.js"),
    import("undici"),
  ]);
  const limits = { maxResponseSize: RESPONSE_LIMIT };
  const noProxy = "127.0.0.1,localhost,::1";
  const dispatcher =
    proxy === null
      ? new Agent(limits)
      : new EnvHttpProxyAgent({ ...limits, httpProxy: proxy, httpsProxy: proxy, noProxy });
  const transport = new StreamableHTTPClientTransport(new URL(url), {
    requestInit: { headers },
    fetch: async (address, init) =>
      (await undiciFetch(address, { ...(init as object), dispatcher })) as unknown as Response,
  }) as Transport;
  const close = transport.close.bind(transport);
  transport.close = async () => {
    await close();
    await dispatcher.destroy();
  };
  return transport;
}
