/**
 * The definitions of the built-in tools for a model. They are part of every request, so they
 * contain only what helps to use a tool well.
 */
import type { ToolSchema } from "./tool.ts";

const text = (description: string): object => ({ type: "string", description });
const count = (description: string): object => ({ type: "integer", minimum: 1, description });
const flag = (description: string): object => ({ type: "boolean", description });

function tool(
  name: string,
  description: string,
  properties: Readonly<Record<string, object>>,
  required: readonly string[],
): ToolSchema {
  return { name, description, inputSchema: { type: "object", properties, required, additionalProperties: false } };
}

const PIECE = {
  old: text("The current text."),
  new: text("The new text; empty removes the old one."),
  replaceAll: flag("Replace all occurrences."),
};
const PATH = "Relative to the workspace, or absolute inside it.";

const BUILT_IN: readonly ToolSchema[] = [
  tool(
    "bash",
    "Runs a command in a new bash and waits for its end. The current folder is kept from one command to the next, shell variables are not. " +
      "There is no terminal and no input: a command that asks a question does not work. Everything that the command started ends with it; start what must continue " +
      "(a server, a watcher, a long build) with background: true. For long output the head and the tail are shown, with the path of the complete log, which read can page.",
    {
      command: text("One command or a script."),
      timeoutMs: { ...count("The command is ended after this many ms. Default 120000."), maximum: 3_600_000 },
      background: flag("Do not wait: returns the id of a job at once."),
    },
    ["command"],
  ),
  tool(
    "job",
    "Manages commands that were started with background: true. status returns the state and the output since your last call; wait does the same when " +
      "the job has ended, when its port or pattern is there, or after timeoutMs; kill ends it with everything that it started; list names all jobs. All jobs end with your work.",
    {
      action: { type: "string", enum: ["status", "wait", "kill", "list"] },
      id: text("The id of the job; not needed for list."),
      timeoutMs: { ...count("For wait: the longest wait in ms. Default 30000."), maximum: 600_000 },
      port: { ...count("For wait: until this TCP port accepts connections."), maximum: 65_535 },
      pattern: text("For wait: until the output matches this regular expression."),
    },
    ["action"],
  ),
  tool(
    "read",
    "Reads a text file with line numbers, or lists a directory. For a long file the first lines, at most 2000, are returned, with the number of the line to continue from. " +
      "The line numbers and the tab after them are not part of the file.",
    {
      path: text(`${PATH} Or the path of a command's log.`),
      start: count("The first line, from 1."),
      end: count("The last line, included."),
      column: count("For a long line: the first character of line start to show."),
    },
    ["path"],
  ),
  tool(
    "edit",
    "Replaces pieces of a file: old by new, or several with edits, all or none, in their order. Each old must occur in the file exactly as given, white space included, and only once: " +
      "take it from the output of read, with enough lines around it. When one is not found, the result shows the nearest lines; otherwise it shows the new text.",
    {
      path: text(PATH),
      ...PIECE,
      edits: {
        type: "array",
        minItems: 1,
        maxItems: 50,
        description: "In place of old and new.",
        items: { type: "object", properties: PIECE, required: ["old", "new"], additionalProperties: false },
      },
    },
    ["path"],
  ),
  tool(
    "write",
    "Writes a complete file and creates its folders. For a change in an existing file, edit is safer.",
    { path: text(PATH), content: text("The complete content of the file.") },
    ["path", "content"],
  ),
  tool(
    "grep",
    "Finds lines in files by a regular expression. Files that git ignores and binaries are left out. Faster and shorter than grep in bash.",
    {
      pattern: text("A regular expression in Perl syntax; it matches within one line."),
      path: text(`A file or folder to search in. ${PATH}`),
      glob: text("Only files that match, such as *.ts or src/**/*.py"),
      mode: {
        type: "string",
        enum: ["lines", "files", "count"],
        description: "lines (the default), names of files, or number of lines per file.",
      },
      ignoreCase: flag("Ignore case."),
      literal: flag("The pattern is plain text."),
      context: { ...count("Lines around each match."), maximum: 20 },
      limit: { ...count("The most lines in the result. Default 100."), maximum: 1_000 },
    },
    ["pattern"],
  ),
  tool(
    "glob",
    "Finds files by name, most recently changed first. Files that git ignores are left out.",
    {
      pattern: text("Such as *.ts (at any depth), src/**/*.{ts,tsx}, docs/*.md."),
      path: text(`A folder to search in. ${PATH}`),
      limit: { ...count("The most files in the result. Default 200."), maximum: 1_000 },
    },
    ["pattern"],
  ),
];

/** The built-in tools, then `extra` (those of MCP servers) in their order. */
export function toolSchemas(extra: readonly ToolSchema[]): readonly ToolSchema[] {
  return [...BUILT_IN, ...extra];
}

/** The names of the inputs of a built-in tool; null for other tools. */
export function inputNames(name: string): readonly string[] | null {
  const properties = BUILT_IN.find((tool) => tool.name === name)?.inputSchema["properties"];
  return typeof properties === "object" && properties !== null ? Object.keys(properties) : null;
}
