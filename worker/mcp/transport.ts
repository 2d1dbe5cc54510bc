/**
 * The two ways to an MCP server: a program under the rules for processes, and HTTP through the
 * egress proxy.
 */
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import type { JSONRPCMessage } from "@modelcontextprotocol/sdk/types.js";
import type { McpServer } from "../../src/core/values/mcp-servers.ts";
import { Program, type ProgramOptions } from "../tools/shell/program.ts";

/** Some servers greet on standard output; more than this is another language. */
const STRANGE_LINES = 1_000;
const RESPONSE_LIMIT = 20 * 1024 * 1024;

/** A transport that may be told why it is closed. */
export type Closable = Transport & { close(why?: string): Promise<void> };

export class StdioTransport implements Closable {
  onclose?: () => void;
  onerror?: (error: Error) => void;
  onmessage?: (message: JSONRPCMessage) => void;
  readonly #options: ProgramOptions;
  #program: Program | null = null;
  #over: string | null = null;

  constructor(options: ProgramOptions) {
    this.#options = options;
  }

  /** Why the server is gone; null while it is there. */
  get over(): string | null {
    return this.#over;
  }

  async start(): Promise<void> {
    const { ReadBuffer } = await import("@modelcontextprotocol/sdk/shared/stdio.js");
    const program = Program.start(this.#options);
    const buffer = new ReadBuffer();
    let strange = 0;
    const take = (): JSONRPCMessage | null => {
      while (strange < STRANGE_LINES) {
        try {
          return buffer.readMessage();
        } catch (error) {
          strange += 1;
          this.onerror?.(error instanceof Error ? error : new Error("not a message"));
        }
      }
      void program.close(`it wrote ${STRANGE_LINES} lines that are no messages`);
      return null;
    };
    program.output.on("data", (piece: Buffer) => {
      if (strange === STRANGE_LINES) return;
      buffer.append(piece);
      for (let message = take(); message !== null; message = take()) this.onmessage?.(message);
    });
    void program.ended.then((why) => {
      this.#over = program.errors === "" ? why : `${why}. It said: ${program.errors}`;
      this.onclose?.();
    });
    this.#program = program;
  }

  async send(message: JSONRPCMessage): Promise<void> {
    const program = this.#program;
    if (program === null || this.#over !== null) throw new Error("the server is gone");
    await new Promise<void>((resolve, reject) => {
      program.input.write(`${JSON.stringify(message)}\n`, (error) => (error ? reject(error) : resolve()));
    });
  }

  /** @param why it is ended; what is gone already keeps its own reason. */
  async close(why?: string): Promise<void> {
    await this.#program?.close(why);
  }
}

/** Redirects stay within the origin; answers are bounded. */
export async function httpTransport(
  { url, headers = {} }: Extract<McpServer, { url: string }>,
  proxy: string | null,
): Promise<Closable> {
  const [{ StreamableHTTPClientTransport }, { Agent, EnvHttpProxyAgent, fetch: send }] = await Promise.all([
    import("@modelcontextprotocol/sdk/client/streamableHttp.js"),
    import("undici"),
  ]);
  const limits = { maxResponseSize: RESPONSE_LIMIT };
  const none = "127.0.0.1,localhost,::1";
  const dispatcher =
    proxy === null
      ? new Agent(limits)
      : new EnvHttpProxyAgent({ ...limits, httpProxy: proxy, httpsProxy: proxy, noProxy: none });
  const transport = new StreamableHTTPClientTransport(new URL(url), {
    requestInit: { headers },
    fetch: async (address, init) => (await send(address, { ...(init as object), dispatcher })) as unknown as Response,
  }) as Transport;
  const close = transport.close.bind(transport);
  transport.close = async () => {
    await close();
    await dispatcher.destroy();
  };
  return transport;
}
