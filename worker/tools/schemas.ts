/** What the built-in tools are called and take, in the words that a model reads. */
import type { AgentContext } from "../agents/agent.ts";

type Schemas = AgentContext["toolSchemas"];
type Properties = Readonly<Record<string, { readonly type: string; readonly description: string }>>;

const object = (properties: Properties, required: readonly string[]) => ({ type: "object", properties, required: [...required] });
const path = { type: "string", description: "Path of the file, from the top of the checkout." };

const BUILT_IN: Schemas = [
  {
    name: "bash",
    description:
      "Runs a command in a bash of its own. The folder is kept from one command to the next, variables are not. Nothing may wait for input; what still runs at the end is stopped. Long output is cut in the middle.",
    inputSchema: object(
      {
        command: { type: "string", description: "The command." },
        timeoutMs: { type: "integer", description: "Stopped after this many milliseconds (120000)." },
      },
      ["command"],
    ),
  },
  {
    name: "read",
    description: "Reads a text file with line numbers, or lists a folder.",
    inputSchema: object(
      {
        path,
        start: { type: "integer", description: "First line, from 1." },
        end: { type: "integer", description: "Last line, included." },
      },
      ["path"],
    ),
  },
  {
    name: "edit",
    description: "Replaces one exact piece of a file, which must occur exactly once.",
    inputSchema: object(
      {
        path,
        old: { type: "string", description: "The piece as it is, with its white space." },
        new: { type: "string", description: "What takes its place." },
      },
      ["path", "old", "new"],
    ),
  },
  {
    name: "write",
    description: "Writes a whole file; folders are made as needed.",
    inputSchema: object({ path, content: { type: "string", description: "The whole text." } }, ["path", "content"]),
  },
];

/** @param extra of other sources, such as MCP servers; a built-in tool goes before one of the same name. */
export function toolSchemas(extra: Schemas = []): Schemas {
  const taken = new Set(BUILT_IN.map(({ name }) => name));
  return [...BUILT_IN, ...extra.filter(({ name }) => !taken.has(name))];
}
