/**
 * The built-in tools as a model is told about them. The text is part of every request: short, and
 * only what helps to use a tool well.
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

const PATH = "Relative to the workspace, or absolute inside of it.";

const BUILT_IN: readonly ToolSchema[] = [
  tool(
    "bash",
    "Runs a command in a fresh bash and waits for its end. The folder is kept from one command to the next, shell variables are not. " +
      "There is no terminal and no input: nothing that asks a question works. Everything that the command started is ended with it; what has to go on " +
      "(a server, a watcher, a long build) is started with background: true. Of a long output head and tail are shown, and the path of the whole log, which read can page.",
    {
      command: text("One command or a whole script."),
      timeoutMs: { ...count("Ended after this, ms. 120000 if not given."), maximum: 3_600_000 },
      background: flag("Do not wait: gives the id of a job at once."),
    },
    ["command"],
  ),
  tool(
    "job",
    "Looks at commands that were started with background: true. status gives the state and the output that is new since your last look; wait does the same when " +
      "the job has ended, or after timeoutMs; kill ends it with everything that it started; list names all jobs. Jobs do not outlive your work.",
    {
      action: { type: "string", enum: ["status", "wait", "kill", "list"] },
      id: text("The job's id; not needed for list."),
      timeoutMs: { ...count("For wait: at most this long, ms. 30000 if not given."), maximum: 600_000 },
    },
    ["action"],
  ),
  tool(
    "read",
    "Reads a text file with line numbers, or lists a directory. Of a long file the first 2000 lines are given, with the number to go on from. " +
      "The line numbers and the tab after them are not part of the file.",
    {
      path: text(`${PATH} Or the path of a command's log.`),
      start: count("First line, from 1."),
      end: count("Last line, included."),
    },
    ["path"],
  ),
  tool(
    "edit",
    "Replaces one piece of a file. old must be in the file exactly as given, white space included, and only once: take it from what read shows, with enough lines around it. " +
      "When it is not found, the answer shows the nearest lines.",
    {
      path: text(PATH),
      old: text("What is there now."),
      new: text("What stands there then; empty removes it."),
      replaceAll: flag("All occurrences, not just one."),
    },
    ["path", "old", "new"],
  ),
  tool(
    "write",
    "Writes a whole file and makes the folders on the way. For a change in a file that exists, edit is safer.",
    { path: text(PATH), content: text("Everything that the file will hold.") },
    ["path", "content"],
  ),
  tool(
    "grep",
    "Finds lines in files by a regular expression. Files that git ignores and binaries are left out. Quicker and shorter than grep in bash.",
    {
      pattern: text("A regular expression in Perl's way of writing, for one line."),
      path: text(`A file or folder to search in. ${PATH}`),
      glob: text("Only files like this: *.ts, src/**/*.py"),
      mode: {
        type: "string",
        enum: ["lines", "files", "count"],
        description: "lines (if not given), names of files, or number of lines per file.",
      },
      ignoreCase: flag("Capitals do not matter."),
      literal: flag("The pattern is plain text."),
      context: { ...count("Lines around each hit."), maximum: 20 },
      limit: { ...count("Lines of the answer, 100 if not given."), maximum: 1_000 },
    },
    ["pattern"],
  ),
  tool(
    "glob",
    "Finds files by name, those changed last first. Files that git ignores are left out.",
    {
      pattern: text("Such as *.ts (at any depth), src/**/*.{ts,tsx}, docs/*.md."),
      path: text(`A folder to look in. ${PATH}`),
      limit: { ...count("Files in the answer, 200 if not given."), maximum: 1_000 },
    },
    ["pattern"],
  ),
];

/** The built-in tools, then `extra` (those of MCP servers) in their order. */
export function toolSchemas(extra: readonly ToolSchema[]): readonly ToolSchema[] {
  return [...BUILT_IN, ...extra];
}

/** The input's names of a built-in tool; null for others. */
export function inputNames(name: string): readonly string[] | null {
  const properties = BUILT_IN.find((one) => one.name === name)?.inputSchema["properties"];
  return typeof properties === "object" && properties !== null ? Object.keys(properties) : null;
}
