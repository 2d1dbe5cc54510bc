/** One connection to an MCP server, from its start to its end. */
import type { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { errorMessage } from "../../src/core/error.ts";
import type { McpServer } from "../../src/core/values/mcp-servers.ts";
import { NO_SECRETS, type Redaction } from "../../src/core/lib/json/redaction.ts";
import { truncate } from "../lib/text.ts";
import { stripHidden } from "../lib/hidden-characters.ts";
import { httpTransport, StdioTransport, type ClosableTransport } from "./transport.ts";

/** The longest time that a server may take to start and to list a page of its tools. */
export const START_MS = 30_000;

export interface McpOptions {
  /** The directory in which servers are started. */
  readonly root: string;
  /** Environment variables for servers, such as the proxy. */
  readonly env: Readonly<Record<string, string>>;
  /** The proxy through which HTTP servers are reached; null = directly. */
  readonly proxy: string | null;
  /** Removed from what servers say. */
  readonly secrets?: Redaction;
}

export interface McpConnection {
  readonly client: Client;
  /** Why the server has ended; null while it runs, and always for an HTTP server. */
  endReason(): string | null;
  /** Idempotent. @returns why the server ended: `why`, unless it had ended before. */
  close(why?: string): Promise<string | null>;
}

/** @throws Error with a message for people when the server cannot be used; it is ended then. */
export async function connectServer(
  server: McpServer,
  options: McpOptions,
  signal: AbortSignal,
): Promise<McpConnection> {
  const [{ Client: SdkClient }, { McpError }] = await Promise.all([
    import("@modelcontextprotocol/sdk/client/index.js"),
    import("@modelcontextprotocol/sdk/types.js"),
  ]);
  // The schemas that a server declares for its own results are not validated: compiling them would
  // run regular expressions of a third party.
  const noValidation = {
    getValidator: () => (data: unknown) => ({ valid: true as const, data: data as never, errorMessage: undefined }),
  };
  const client = new SdkClient(
    { name: "slipway", version: "1" },
    { capabilities: {}, jsonSchemaValidator: noValidation },
  );
  client.onerror = () => {};
  const { transport, endReason } = await openTransport(server, options);
  const close = async (why?: string): Promise<string | null> => {
    await transport.close(why);
    await client.close().catch(() => undefined);
    return endReason() ?? why ?? null;
  };
  try {
    await client.connect(transport, { timeout: START_MS, signal });
    return { client, endReason, close };
  } catch (thrown) {
    // How the program ended explains more than a broken pipe; it is known once `close` resolves.
    const why = thrown instanceof McpError ? errorMessage(thrown) : undefined;
    throw new Error(cleanMessage((await close(why)) ?? errorMessage(thrown), options.secrets), { cause: thrown });
  }
}

/** A third party's message: bounded, and without secrets and hidden characters. */
export const cleanMessage = (text: string, secrets: Redaction = NO_SECRETS): string =>
  stripHidden(truncate(secrets.redact(text), 1_000)).text;

async function openTransport(
  server: McpServer,
  { root, env, proxy, secrets = NO_SECRETS }: McpOptions,
): Promise<{ transport: ClosableTransport; endReason: () => string | null }> {
  if ("url" in server) return { transport: await httpTransport(server, proxy), endReason: () => null };
  const { command, args = [], env: ownEnv = {} } = server;
  const transport = new StdioTransport({ command, args, cwd: root, env: { ...env, ...ownEnv }, secrets });
  return { transport, endReason: () => transport.endReason };
}
