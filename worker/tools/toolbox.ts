/** The tools that agents drive, by name. Mutating tools run one at a time: whoever drives them waits for each. */
import { isAbort, messageOf } from "../../src/error.ts";
import { Bash, DEFAULT_TIMEOUT_MS } from "./bash.ts";
import { edit } from "./edit.ts";
import { read } from "./read.ts";
import { countOf, textOf, ToolError, type ToolInput, type ToolResult, type ToolRunner } from "./tool.ts";
import { write } from "./write.ts";

const LONGEST_MS = 3_600_000;

/** `jobs`: a folder of ours. `env`: added to what commands see. */
export function createTools(root: string, jobs: string, env: Readonly<Record<string, string>> = {}): ToolRunner {
  const bash = new Bash(root, jobs, env);
  const tools: Readonly<Record<string, (input: ToolInput, signal: AbortSignal) => Promise<ToolResult>>> = {
    /** Input: `command`, optional `timeoutMs`, optional `fromRoot`: true = not in the folder that the last command left. */
    bash: async (input, signal) => {
      if (input["fromRoot"] === true) bash.backToRoot();
      const timeoutMs = Math.min(countOf(input, "timeoutMs") ?? DEFAULT_TIMEOUT_MS, LONGEST_MS);
      return await bash.run(textOf(input, "command"), timeoutMs, signal);
    },
    read: async (input) => await read(root, input),
    edit: async (input) => await edit(root, input),
    write: async (input) => await write(root, input),
  };
  return {
    async run(name, input, signal) {
      signal.throwIfAborted();
      try {
        const tool = Object.hasOwn(tools, name) ? tools[name] : undefined;
        if (tool === undefined) throw new ToolError(`There is no tool "${name}".`);
        return await tool(input, signal);
      } catch (thrown) {
        if (signal.aborted || isAbort(thrown)) throw thrown;
        const output = thrown instanceof ToolError ? thrown.message : `The tool failed: ${messageOf(thrown)}`;
        return { output, exitCode: 1, truncated: false };
      }
    },
  };
}
