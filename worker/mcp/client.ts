/**
 * Tools of MCP servers: programs that run in the workspace, or servers that are reached through the
 * egress proxy.
 *
 * M1 The list of tools is taken once and does not change: it stands at the beginning of a
 *    conversation that must not change.
 * M2 A server that does not start, dies, hangs or floods is told; nothing of it rejects but the
 *    signal's reason.
 * M3 What a server says about its tools and what they answer is a third party's: bounded, without
 *    hidden characters, marked with its name.
 * M4 A program that was there and has gone is started again when a tool of it is called, a few
 *    times in an attempt. No call is sent twice, and the agent is told that what the program
 *    remembered is gone.
 */
import type { Client } from "@modelcontextprotocol/sdk/client/index.js";
import type { CallToolResult, Tool } from "@modelcontextprotocol/sdk/types.js";
import { errorMessage } from "../../src/core/error.ts";
import type { McpServer, McpServers } from "../../src/core/values/mcp-servers.ts";
import { raceAbort } from "../../src/core/lib/async.ts";
import { httpTransport, StdioTransport, type Closable } from "./transport.ts";
import { truncate } from "../lib/text.ts";
import { stripHidden } from "../lib/hidden-characters.ts";
import { ToolError, type ToolInput, type ToolResult, type ToolSchema } from "../tools/tool.ts";

const START_MS = 30_000;
const CALL_MS = 120_000;
/** How often a server is started again. */
const RESTARTS = 3;
const TOOLS = 64;
const PAGES = 10;
const DESCRIPTION_LIMIT = 2_000;
const SCHEMA_LIMIT = 32 * 1024;
const NAME_LIMIT = 64;

export interface McpTool {
  readonly schema: ToolSchema;
  call(input: ToolInput, signal: AbortSignal): Promise<ToolResult>;
}

export interface McpClients {
  /** Sorted by name. */
  readonly tools: readonly McpTool[];
  /** What is missing and why, for people and for the agent. */
  readonly problems: readonly string[];
  /** Ends all servers; nothing of them is left. Idempotent. */
  close(): Promise<void>;
}

export interface McpOptions {
  /** Where servers are started. */
  readonly root: string;
  /** What commands are told too, such as the proxy. */
  readonly env: Readonly<Record<string, string>>;
  /** The address of the proxy that http servers are reached through; null = directly. */
  readonly proxy: string | null;
}

/** Starts all at once; each has half a minute. Rejects with the signal's reason only. */
export async function openMcp(servers: McpServers, place: McpOptions, signal: AbortSignal): Promise<McpClients> {
  const opened = await Promise.all(Object.entries(servers).map(([name, server]) => open(name, server, place, signal)));
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

async function open(name: string, server: McpServer, place: McpOptions, signal: AbortSignal): Promise<McpClients> {
  let line: Line | null = null;
  try {
    line = await connect(server, place, signal);
    const { listed, problems } = await toolsOf(name, line.client, signal);
    const kept = keep(name, line, (stop) => connect(server, place, stop));
    const limit = server.timeoutMs ?? CALL_MS;
    const tools = listed.map(({ tool, schema }) => ({
      schema,
      call: async (input: ToolInput, stop: AbortSignal) => {
        const there = await kept.line(stop);
        return await call({ ...there, name, tool, limit }, input, stop);
      },
    }));
    return { tools, problems, close: kept.close };
  } catch (thrown) {
    const why = words((await line?.close(errorMessage(thrown))) ?? errorMessage(thrown));
    return {
      tools: [],
      problems: [`The MCP server "${name}" could not be used: ${why}`],
      close: () => Promise.resolve(),
    };
  }
}

interface Line {
  readonly client: Client;
  /** Why the server is gone; null while it is there, and always for one behind HTTP. */
  over(): string | null;
  /** Idempotent. @returns why it is gone: `why`, unless it had gone before. */
  close(why?: string): Promise<string | null>;
}

/** @throws Error with words for people when the server is not there; nothing of it is left then. */
async function connect(server: McpServer, place: McpOptions, signal: AbortSignal): Promise<Line> {
  const [{ Client: Sdk }, { McpError }] = await Promise.all([
    import("@modelcontextprotocol/sdk/client/index.js"),
    import("@modelcontextprotocol/sdk/types.js"),
  ]);
  // What a server says about its own answers is not checked: compiling its schemas would run
  // patterns of its making.
  const unchecked = {
    getValidator: () => (data: unknown) => ({ valid: true as const, data: data as never, errorMessage: undefined }),
  };
  const client = new Sdk({ name: "slipway", version: "1" }, { capabilities: {}, jsonSchemaValidator: unchecked });
  client.onerror = () => {};
  const { transport, over } =
    "url" in server ? { transport: await httpTransport(server, place.proxy), over: () => null } : stdio(server, place);
  const close = async (why?: string): Promise<string | null> => {
    await transport.close(why);
    await client.close().catch(() => undefined);
    return over() ?? why ?? null;
  };
  try {
    await client.connect(transport, { timeout: START_MS, signal });
    return { client, over, close };
  } catch (thrown) {
    // A pipe that broke says less than how the program came to its end, which may be known a moment
    // later.
    const said = thrown instanceof McpError ? errorMessage(thrown) : undefined;
    throw new Error(words((await close(said)) ?? errorMessage(thrown)), { cause: thrown });
  }
}

const words = (text: string): string => stripHidden(truncate(text, 1_000)).text;

interface Kept {
  /**
   * @returns the line, and what the agent has to know of it: words before the call's own, or "".
   * @throws ToolError when there is none any more; rejects with the signal's reason.
   */
  line(signal: AbortSignal): Promise<{ line: Line; news: string }>;
  close(): Promise<void>;
}

/** M4 */
function keep(name: string, first: Line, connectAgain: (signal: AbortSignal) => Promise<Line>): Kept {
  const closed = new AbortController();
  let line = first;
  let restarts = RESTARTS;
  let starting: Promise<void> | null = null;
  let news = "";

  async function restart(gone: string): Promise<void> {
    restarts -= 1;
    line = await connectAgain(closed.signal).catch((thrown: unknown) => {
      throw new ToolError(
        `The MCP server "${name}" is gone: ${gone}. It could not be started again: ${errorMessage(thrown)}`,
      );
    });
    news = `[The MCP server "${name}" was gone (${truncate(gone, 300)}) and has been started again: what it remembered is lost.]\n`;
  }

  return {
    async line(signal) {
      const gone = line.over();
      if (gone !== null) {
        if (starting === null && (restarts === 0 || closed.signal.aborted))
          throw new ToolError(`The MCP server "${name}" is gone: ${gone}. Go on without its tools.`);
        starting ??= restart(gone).finally(() => (starting = null));
        await raceAbort(starting, signal);
      }
      const said = news;
      news = "";
      return { line, news: said };
    },
    async close() {
      closed.abort();
      await starting?.catch(() => undefined);
      await line.close();
    },
  };
}

function stdio(
  server: Extract<McpServer, { command: string }>,
  { root, env }: McpOptions,
): { transport: Closable; over: () => string | null } {
  const { command, args = [], env: own = {} } = server;
  const transport = new StdioTransport({ command, args, cwd: root, env: { ...env, ...own } });
  return { transport, over: () => transport.over };
}

interface Listed {
  readonly tool: string;
  readonly schema: ToolSchema;
}

async function toolsOf(
  name: string,
  client: Client,
  signal: AbortSignal,
): Promise<{ listed: Listed[]; problems: string[] }> {
  const found: Tool[] = [];
  let cursor: string | undefined;
  for (let page = 0; page < PAGES && found.length < TOOLS; page += 1) {
    const answer = await client.listTools(cursor === undefined ? {} : { cursor }, { timeout: START_MS, signal });
    found.push(...answer.tools);
    cursor = answer.nextCursor;
    if (cursor === undefined) break;
  }
  const problems: string[] = [];
  const listed = new Map<string, Listed>();
  for (const tool of found.slice(0, TOOLS)) {
    const schema = schemaOf(name, tool);
    if (schema === null || listed.has(schema.name))
      problems.push(
        `A tool of the MCP server "${name}" was left out: its schema is too large, or its name is there twice.`,
      );
    else listed.set(schema.name, { tool: tool.name, schema });
  }
  if (cursor !== undefined || found.length > TOOLS)
    problems.push(`Of the MCP server "${name}" only the first ${TOOLS} tools are used.`);
  return { listed: [...listed.values()], problems: [...new Set(problems)] };
}

function schemaOf(server: string, tool: Tool): ToolSchema | null {
  const json = stripHidden(JSON.stringify(tool.inputSchema)).text;
  if (json.length > SCHEMA_LIMIT) return null;
  const words = truncate(stripHidden(tool.description ?? tool.title ?? "").text, DESCRIPTION_LIMIT);
  return {
    name: `mcp__${server}__${tool.name.replace(/[^a-zA-Z0-9_-]/g, "_").slice(0, NAME_LIMIT)}`,
    description: `Of the MCP server "${server}", in its own words: ${words}`,
    inputSchema: JSON.parse(json) as Record<string, unknown>,
  };
}

interface Called {
  readonly name: string;
  readonly tool: string;
  readonly line: Line;
  readonly news: string;
  readonly limit: number;
}

async function call(
  { name, tool, line, news, limit }: Called,
  input: ToolInput,
  signal: AbortSignal,
): Promise<ToolResult> {
  try {
    const result = (await line.client.callTool({ name: tool, arguments: { ...input } }, undefined, {
      timeout: limit,
      signal,
    })) as CallToolResult;
    return { output: news + textOf(result), exitCode: result.isError === true ? 1 : 0, truncated: false };
  } catch (thrown) {
    signal.throwIfAborted();
    const why = line.over();
    if (why !== null)
      throw new ToolError(
        `${news}The MCP server "${name}" went away during the call: ${why}. What the call did is unknown.`,
      );
    throw new ToolError(`${news}The MCP server "${name}" did not do it: ${truncate(errorMessage(thrown), 2_000)}`);
  }
}

function textOf({ content, structuredContent }: CallToolResult): string {
  const said = content.map((block) => {
    switch (block.type) {
      case "text":
        return block.text;
      case "image":
      case "audio":
        return `[${block.type}, ${block.mimeType}, not shown]`;
      case "resource":
        return "text" in block.resource ? block.resource.text : `[resource ${block.resource.uri}, not shown]`;
      case "resource_link":
        return `[resource ${block.uri}]`;
    }
  });
  if (said.length === 0 && structuredContent !== undefined) return JSON.stringify(structuredContent);
  return said.join("\n") || "[no words]";
}
