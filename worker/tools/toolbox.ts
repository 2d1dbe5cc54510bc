/**
 * The tools that agents drive, by name. Mutating tools run one at a time: whoever drives them waits
 * for each. What a tool says comes from files, programs and servers of third parties, so hidden
 * characters are taken out of all of it.
 */
import { isAbort, errorMessage } from "../../src/core/error.ts";
import { writeFileSync } from "node:fs";
import { Bash, DEFAULT_TIMEOUT_MS } from "./shell/bash.ts";
import { OUTPUT_LIMIT } from "./shell/command.ts";
import { edit } from "./files/edit.ts";
import { glob } from "./search/glob.ts";
import { grep } from "./search/grep.ts";
import { withoutHidden } from "../lib/hidden-characters.ts";
import { Jobs } from "./shell/jobs.ts";
import { Logs } from "./shell/logs.ts";
import { readLogExcerpt } from "./shell/output.ts";
import { read } from "./files/read.ts";
import { inputNames } from "./schemas.ts";
import {
  optionalCount,
  optionalFlag,
  optionalChoice,
  requireText,
  ToolError,
  type ToolInput,
  type ToolResult,
  type ToolRunner,
} from "./tool.ts";
import { write } from "./files/write.ts";

const LONGEST_MS = 3_600_000;
const WAIT_MS = 30_000;
const LONGEST_WAIT_MS = 600_000;
/** Of the harness, not of models: start in the workspace again. */
const FROM_ROOT = "fromRoot";

type Tool = (input: ToolInput, signal: AbortSignal) => Promise<ToolResult>;

export interface Toolbox extends ToolRunner {
  /** Adds a tool (of an MCP server); its answer is bounded as a command's is. Names are unique. */
  add(name: string, tool: Tool): void;
}

/** `logs`: a folder of ours, for the logs of commands. `env`: added to what commands see. */
export function createTools(root: string, logs: string, env: Readonly<Record<string, string>> = {}): Toolbox {
  const kept = new Logs(logs);
  const bash = new Bash(root, kept, env);
  const jobs = new Jobs(kept, env);
  const tools = new Map<string, Tool>([
    [
      "bash",
      async (input, signal) => {
        if (optionalFlag(input, FROM_ROOT)) bash.backToRoot();
        const command = requireText(input, "command");
        if (optionalFlag(input, "background")) return jobs.start(command, bash.cwd);
        return await bash.run(
          command,
          Math.min(optionalCount(input, "timeoutMs") ?? DEFAULT_TIMEOUT_MS, LONGEST_MS),
          signal,
        );
      },
    ],
    ["job", async (input, signal) => await look(jobs, input, signal)],
    ["read", async (input) => await read(root, logs, input)],
    ["edit", async (input) => await edit(root, input)],
    ["write", async (input) => await write(root, input)],
    ["grep", async (input, signal) => await grep(root, input, signal)],
    ["glob", async (input, signal) => await glob(root, input, signal)],
  ]);
  return {
    add(name, tool) {
      if (tools.has(name)) throw new Error(`there are two tools "${name}"`);
      tools.set(name, async (input, signal) => bounded(kept, await tool(input, signal)));
    },
    async run(name, input, signal) {
      signal.throwIfAborted();
      try {
        const tool = tools.get(name);
        if (tool === undefined)
          throw new ToolError(`There is no tool "${name}". There are: ${[...tools.keys()].join(", ")}.`);
        checkNames(name, input);
        const result = await tool(input, signal);
        return { ...result, output: withoutHidden(result.output) };
      } catch (thrown) {
        if (signal.aborted || isAbort(thrown)) throw thrown;
        const output = thrown instanceof ToolError ? thrown.message : `The tool failed: ${errorMessage(thrown)}`;
        return { output: withoutHidden(output), exitCode: 1, truncated: false };
      }
    },
    close: async () => await jobs.close(),
  };
}

function checkNames(name: string, input: ToolInput): void {
  const known = inputNames(name);
  const strange = known === null ? [] : Object.keys(input).filter((key) => !known.includes(key) && key !== FROM_ROOT);
  if (strange.length > 0)
    throw new ToolError(`${name} has no "${strange.join('", "')}". It takes: ${known?.join(", ") ?? ""}.`);
}

async function look(jobs: Jobs, input: ToolInput, signal: AbortSignal): Promise<ToolResult> {
  const action = optionalChoice(input, "action", ["status", "wait", "kill", "list"]);
  switch (action) {
    case "list":
      return jobs.list();
    case "status":
      return jobs.status(requireText(input, "id"));
    case "wait":
      return await jobs.wait(
        requireText(input, "id"),
        Math.min(optionalCount(input, "timeoutMs") ?? WAIT_MS, LONGEST_WAIT_MS),
        signal,
      );
    case "kill":
      return await jobs.kill(requireText(input, "id"));
    case null:
      throw new ToolError('"action" must be one of status, wait, kill, list.');
  }
}

/** Head and tail, the whole in a log. */
function bounded(logs: Logs, result: ToolResult): ToolResult {
  const log = logs.make("answer");
  writeFileSync(log, result.output.slice(0, OUTPUT_LIMIT), { mode: 0o600 });
  const { output, truncated } = readLogExcerpt(log);
  if (truncated) logs.done(log);
  else logs.drop(log);
  return { ...result, output, truncated: result.truncated || truncated };
}
