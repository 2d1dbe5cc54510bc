/** The tools of one MCP server: their list, and their calls. */
import type { Client } from "@modelcontextprotocol/sdk/client/index.js";
import type { CallToolResult, Tool } from "@modelcontextprotocol/sdk/types.js";
import type { Redaction } from "../../src/core/lib/json/redaction.ts";
import { errorMessage } from "../../src/core/error.ts";
import { truncate } from "../lib/text.ts";
import { stripHidden } from "../lib/hidden-characters.ts";
import { ToolError, type ToolInput, type ToolResult, type ToolSchema } from "../tools/tool.ts";
import { START_MS, type McpConnection } from "./connection.ts";

const MAX_TOOLS = 64;
const MAX_PAGES = 10;
/** Characters. */
const DESCRIPTION_LIMIT = 2_000;
const SCHEMA_LIMIT = 32 * 1024;
const NAME_LIMIT = 64;

export interface ListedTool {
  /** The server's own name of the tool. */
  readonly name: string;
  readonly schema: ToolSchema;
}

/** @returns also the problems with the list, as messages for people. */
export async function listTools(
  { server, client, secrets }: { readonly server: string; readonly client: Client; readonly secrets: Redaction },
  signal: AbortSignal,
): Promise<{ tools: ListedTool[]; problems: string[] }> {
  const found: Tool[] = [];
  let cursor: string | undefined;
  for (let page = 0; page < MAX_PAGES && found.length < MAX_TOOLS; page += 1) {
    const answer = await client.listTools(cursor === undefined ? {} : { cursor }, { timeout: START_MS, signal });
    found.push(...answer.tools);
    cursor = answer.nextCursor;
    if (cursor === undefined) break;
  }
  const problems = new Set<string>();
  const tools = new Map<string, ListedTool>();
  for (const tool of found.slice(0, MAX_TOOLS)) {
    const schema = toSchema(server, tool, secrets);
    if (schema === null || tools.has(schema.name))
      problems.add(
        `A tool of the MCP server "${server}" was left out: its schema is too large, or its name is used twice.`,
      );
    else tools.set(schema.name, { name: tool.name, schema });
  }
  if (cursor !== undefined || found.length > MAX_TOOLS)
    problems.add(`Only the first ${MAX_TOOLS} tools of the MCP server "${server}" are used.`);
  return { tools: [...tools.values()], problems: [...problems] };
}

/** @returns null when the input schema is too large. */
function toSchema(server: string, tool: Tool, secrets: Redaction): ToolSchema | null {
  const json = stripHidden(JSON.stringify(tool.inputSchema)).text;
  if (json.length > SCHEMA_LIMIT) return null;
  const description = truncate(
    secrets.redact(stripHidden(tool.description ?? tool.title ?? "").text),
    DESCRIPTION_LIMIT,
  );
  return {
    name: `mcp__${server}__${tool.name.replace(/[^a-zA-Z0-9_-]/g, "_").slice(0, NAME_LIMIT)}`,
    description: `From the MCP server "${server}", which describes it as: ${description}`,
    inputSchema: JSON.parse(json) as Record<string, unknown>,
  };
}

export interface ToolCall {
  readonly server: string;
  readonly tool: string;
  readonly connection: McpConnection;
  /** A text before the output, or "". */
  readonly notice: string;
  readonly timeoutMs: number;
  readonly secrets: Redaction;
}

/** @throws ToolError when the server fails; rejects with the signal's reason. */
export async function callTool(call: ToolCall, input: ToolInput, signal: AbortSignal): Promise<ToolResult> {
  const { server, tool, connection, notice, timeoutMs, secrets } = call;
  try {
    const result = (await connection.client.callTool({ name: tool, arguments: { ...input } }, undefined, {
      timeout: timeoutMs,
      signal,
    })) as CallToolResult;
    return { output: notice + formatResult(result), exitCode: result.isError === true ? 1 : 0, truncated: false };
  } catch (thrown) {
    signal.throwIfAborted();
    const reason = connection.endReason();
    if (reason !== null)
      throw new ToolError(
        `${notice}The MCP server "${server}" ended during the call: ${reason}. The effect of the call is unknown.`,
      );
    throw new ToolError(
      `${notice}The MCP server "${server}" failed: ${truncate(secrets.redact(errorMessage(thrown)), 2_000)}`,
    );
  }
}

function formatResult({ content, structuredContent }: CallToolResult): string {
  const parts = content.map((block) => {
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
  if (parts.length === 0 && structuredContent !== undefined) return JSON.stringify(structuredContent);
  return parts.join("\n") || "[no output]";
}
