/** What an agent is equipped with once the checkout is there: the tools' schemas, and what the repository wants it to know. */
import { readInstructions, type Place } from "./instructions.ts";
import type { McpServers } from "./mcp-config.ts";
import { openMcp } from "./mcp.ts";
import { toolSchemas } from "./tools/schemas.ts";
import type { ToolSchema } from "./tools/tool.ts";
import type { Toolbox } from "./tools/toolbox.ts";

export interface Equipment {
  readonly toolSchemas: readonly ToolSchema[];
  readonly instructions: string;
  /** What is missing and why; each is worth a notice. */
  readonly problems: readonly string[];
  /** Ends the MCP servers. Idempotent. */
  close(): Promise<void>;
}

export interface EquipOptions extends Place {
  readonly tools: Toolbox;
  readonly mcpServers: McpServers;
  /** What commands are told too. */
  readonly env: Readonly<Record<string, string>>;
  readonly proxy: string | null;
}

/** Rejects with the signal's reason, or when the base commit is not there. */
export async function equip({ tools, mcpServers, env, proxy, ...place }: EquipOptions, signal: AbortSignal): Promise<Equipment> {
  const instructions = await readInstructions(place, signal);
  const mcp = await openMcp(mcpServers, { root: place.root, env, proxy }, signal);
  tools.noteWith(instructions.notesFor);
  for (const { schema, call } of mcp.tools) tools.add(schema.name, call);
  const missing = mcp.problems.length === 0 ? [] : [`Of your tools some are missing:\n${mcp.problems.join("\n")}`];
  return {
    toolSchemas: toolSchemas(mcp.tools.map(({ schema }) => schema)),
    instructions: [instructions.text, ...missing].filter((text) => text !== "").join("\n\n"),
    problems: mcp.problems,
    close: mcp.close,
  };
}
