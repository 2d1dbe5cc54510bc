/**
 * Tools of MCP servers: programs that run in the workspace, or servers that are reached through the egress proxy.
 *
 * M1 The list of tools is taken once and does not change: it stands at the beginning of a conversation that must not change.
 * M2 A server that does not start, dies, hangs or floods is told; nothing of it rejects but the signal's reason.
 * M3 What a server says about its tools and what they answer is a third party's: bounded, without hidden characters, marked with its name.
 */
import type { Client } from "@modelcontextprotocol/sdk/client/index.js";
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import type { CallToolResult, Tool } from "@modelcontextprotocol/sdk/types.js";
import { messageOf } from "../src/error.ts";
import type { McpServer, McpServers } from "../src/mcp-servers.ts";
import { httpTransport, StdioTransport } from "./mcp-transport.ts";
import { cut } from "./text.ts";
import { stripHidden } from "./tools/hidden.ts";
import { ToolError, type ToolInput, type ToolResult, type ToolSchema } from "./tools/tool.ts";

const START_MS = 30_000;
const CALL_MS = 120_000;
const TOOLS = 64;
const PAGES = 10;
const DESCRIPTION_LIMIT = 2_000;
const SCHEMA_LIMIT = 32 * 1024;
const NAME_LIMIT = 64;

export interface McpTool {
  readonly schema: ToolSchema;
  call(input: ToolInput, signal: AbortSignal): Promise<ToolResult>;
}

export interface Mcp {
  /** Sorted by name. */
  readonly tools: readonly McpTool[];
  /** What is missing and why, for people and for the agent. */
  readonly problems: readonly string[];
  /** Ends all servers; nothing of them is left. Idempotent. */
  close(): Promise<void>;
}

export interface McpPlace {
  /** Where servers are started. */
  readonly root: string;
  /** What commands are told too, such as the proxy. */
  readonly env: Readonly<Record<string, string>>;
  /** The address of the proxy that http servers are reached through; null = directly. */
  readonly proxy: string | null;
}

/** Starts all at once; each has half a minute. Rejects with the signal's reason only. */
export async function openMcp(servers: McpServers, place: McpPlace, signal: AbortSignal): Promise<Mcp> {
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

async function open(name: string, server: McpServer, place: McpPlace, signal: AbortSignal): Promise<Mcp> {
  const { Client: Sdk } = await import("@modelcontextprotocol/sdk/client/index.js");
  // What a server says about its own answers is not checked: compiling its schemas would run patterns of its making.
  const unchecked = { getValidator: () => (data: unknown) => ({ valid: true as const, data: data as never, errorMessage: undefined }) };
  const client = new Sdk({ name: "slipway", version: "1" }, { capabilities: {}, jsonSchemaValidator: unchecked });
  client.onerror = () => {};
  const { transport, over } =
    "url" in server ? { transport: await httpTransport(server, place.proxy), over: () => null } : stdio(server, place);
  const close = async (): Promise<void> => {
    await client.close().catch(() => undefined);
    await transport.close();
  };
  try {
    await client.connect(transport as Transport, { timeout: START_MS, signal });
    const { listed, problems } = await toolsOf(name, client, signal);
    const tools = listed.map(({ tool, schema }) => ({
      schema,
      call: async (input: ToolInput, stop: AbortSignal) =>
        await call({ name, tool, client, over, limit: server.timeoutMs ?? CALL_MS }, input, stop),
    }));
    return { tools, problems, close };
  } catch (thrown) {
    await close();
    const why = stripHidden(cut(over() ?? messageOf(thrown), 1_000)).text;
    return { tools: [], problems: [`The MCP server "${name}" could not be used: ${why}`], close };
  }
}

function stdio(
  server: Extract<McpServer, { command: string }>,
  { root, env }: McpPlace,
): { transport: StdioTransport; over: () => string | null } {
  const { command, args = [], env: own = {} } = server;
  const transport = new StdioTransport({ command, args, cwd: root, env: { ...env, ...own } });
  return { transport, over: () => transport.over };
}

interface Listed {
  readonly tool: string;
  readonly schema: ToolSchema;
}

async function toolsOf(name: string, client: Client, signal: AbortSignal): Promise<{ listed: Listed[]; problems: string[] }> {
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
      problems.push(`A tool of the MCP server "${name}" was left out: its schema is too large, or its name is there twice.`);
    else listed.set(schema.name, { tool: tool.name, schema });
  }
  if (cursor !== undefined || found.length > TOOLS) problems.push(`Of the MCP server "${name}" only the first ${TOOLS} tools are used.`);
  return { listed: [...listed.values()], problems: [...new Set(problems)] };
}

function schemaOf(server: string, tool: Tool): ToolSchema | null {
  const json = stripHidden(JSON.stringify(tool.inputSchema)).text;
  if (json.length > SCHEMA_LIMIT) return null;
  const words = cut(stripHidden(tool.description ?? tool.title ?? "").text, DESCRIPTION_LIMIT);
  return {
    name: `mcp__${server}__${tool.name.replace(/[^a-zA-Z0-9_-]/g, "_").slice(0, NAME_LIMIT)}`,
    description: `Of the MCP server "${server}", in its own words: ${words}`,
    inputSchema: JSON.parse(json) as Record<string, unknown>,
  };
}

interface Called {
  readonly name: string;
  readonly tool: string;
  readonly client: Client;
  readonly over: () => string | null;
  readonly limit: number;
}

async function call({ name, tool, client, over, limit }: Called, input: ToolInput, signal: AbortSignal): Promise<ToolResult> {
  const gone = over();
  if (gone !== null) throw new ToolError(`The MCP server "${name}" is gone: ${gone}. Go on without its tools.`);
  try {
    const result = (await client.callTool({ name: tool, arguments: { ...input } }, undefined, {
      timeout: limit,
      signal,
    })) as CallToolResult;
    return { output: textOf(result), exitCode: result.isError === true ? 1 : 0, truncated: false };
  } catch (thrown) {
    signal.throwIfAborted();
    const why = over();
    if (why !== null)
      throw new ToolError(`The MCP server "${name}" went away during the call: ${why}. Its effects are unknown; go on without its tools.`);
    throw new ToolError(`The MCP server "${name}" did not do it: ${cut(messageOf(thrown), 2_000)}`);
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
