/**
 * The tools by name, as agents use them.
 *
 * Callers run one tool at a time, or several that only read; the toolbox does not enforce it.
 * Output comes from files, programs and servers of third parties, so hidden characters are removed
 * from all of it.
 */
import { isAbort, errorMessage } from "../../src/core/error.ts";
import { writeFileSync } from "node:fs";
import { NO_SECRETS, type Redaction } from "../../src/core/lib/json/redaction.ts";
import { Bash, DEFAULT_TIMEOUT_MS } from "./shell/bash.ts";
import { OUTPUT_LIMIT } from "./shell/command.ts";
import { edit } from "./files/edit.ts";
import { glob } from "./search/glob.ts";
import { grep } from "./search/grep.ts";
import { withoutHidden } from "../lib/hidden-characters.ts";
import { Jobs } from "./shell/jobs.ts";
import { Logs } from "./shell/logs.ts";
import { readLogExcerpt } from "./shell/output.ts";
import { SeenFiles } from "./files/seen-files.ts";
import { read } from "./files/read.ts";
import { inputNames } from "./schemas.ts";
import {
  optionalCount,
  optionalFlag,
  optionalChoice,
  optionalText,
  requireText,
  ToolError,
  type CallWatch,
  type ToolInput,
  type ToolResult,
  type ToolRunner,
} from "./tool.ts";
import { write } from "./files/write.ts";

const MAX_TIMEOUT_MS = 3_600_000;
const DEFAULT_WAIT_MS = 30_000;
const MAX_WAIT_MS = 600_000;
/** An input that only the harness uses: run the command in the workspace's root. */
const FROM_ROOT = "fromRoot";

type Tool = (input: ToolInput, signal: AbortSignal, watch: CallWatch) => Promise<ToolResult>;
/** These end by themselves when a person interrupts, with the output so far. */
const INTERRUPTIBLE = new Set(["bash", "job"]);

export interface Toolbox extends ToolRunner {
  /**
   * Adds a tool of an MCP server. Its output is bounded like a command's. @throws for a known name.
   */
  add(name: string, tool: (input: ToolInput, signal: AbortSignal) => Promise<ToolResult>): void;
}

/**
 * @param logDir a directory outside the workspace, for the logs of commands.
 * @param env added to the environment of commands; read when one starts.
 * @param attachmentDir a directory whose files may be read too.
 * @param secrets those that are known; asked when a tool runs, because commands get them later.
 */
export function createTools(
  root: string,
  logDir: string,
  env: Readonly<Record<string, string>> = {},
  attachmentDir: string | null = null,
  secrets: () => Redaction = () => NO_SECRETS,
): Toolbox {
  const besides = attachmentDir === null ? [logDir] : [logDir, attachmentDir];
  const logs = new Logs(logDir);
  const bash = new Bash(root, logs, env, secrets);
  const jobs = new Jobs(logs, env, secrets);
  const seen = new SeenFiles();
  const tools = new Map<string, Tool>([
    [
      "bash",
      async (input, signal, watch) => {
        if (optionalFlag(input, FROM_ROOT)) bash.resetCwd();
        const command = requireText(input, "command");
        if (optionalFlag(input, "background")) return jobs.start(command, bash.cwd);
        const timeoutMs = Math.min(optionalCount(input, "timeoutMs") ?? DEFAULT_TIMEOUT_MS, MAX_TIMEOUT_MS);
        return await bash.run(command, timeoutMs, signal, watch);
      },
    ],
    ["job", async (input, signal, watch) => await runJobAction(jobs, input, signal, watch)],
    ["read", async (input) => await read({ root, besides, seen, secrets: secrets() }, input)],
    ["edit", async (input) => await edit(root, seen, input, secrets())],
    ["write", async (input) => await write(root, seen, input)],
    ["grep", async (input, signal) => await grep(root, input, signal, secrets())],
    ["glob", async (input, signal) => await glob(root, input, signal)],
  ]);
  return {
    add(name, tool) {
      if (tools.has(name)) throw new Error(`the tool "${name}" exists already`);
      tools.set(name, async (input, signal) => boundOutput(logs, await tool(input, signal), secrets()));
    },
    async run(name, input, signal, watch = {}) {
      signal.throwIfAborted();
      const { interrupt } = watch;
      const ends = interrupt === undefined || INTERRUPTIBLE.has(name) ? signal : AbortSignal.any([signal, interrupt]);
      try {
        const tool = tools.get(name);
        if (tool === undefined)
          throw new ToolError(`There is no tool "${name}". The tools are: ${[...tools.keys()].join(", ")}.`);
        checkInputNames(name, input);
        const { onOutput } = watch;
        const show = (lines: string, bytes: number): void => onOutput?.(secrets().redactTorn(lines), bytes);
        const shown = onOutput === undefined ? {} : { onOutput: show };
        const result = await tool(input, ends, { ...watch, ...shown });
        return { ...result, output: secrets().redact(withoutHidden(result.output)) };
      } catch (thrown) {
        if (!signal.aborted && interrupt?.aborted)
          return { output: "[stopped: a person interrupted]", exitCode: null, truncated: false };
        if (signal.aborted || isAbort(thrown)) throw thrown;
        const output = thrown instanceof ToolError ? thrown.message : `The tool failed: ${errorMessage(thrown)}`;
        return { output: secrets().redact(withoutHidden(output)), exitCode: 1, truncated: false };
      }
    },
    close: async () => await jobs.close(),
  };
}

function checkInputNames(name: string, input: ToolInput): void {
  const known = inputNames(name);
  const unknown = known === null ? [] : Object.keys(input).filter((key) => !known.includes(key) && key !== FROM_ROOT);
  if (unknown.length > 0)
    throw new ToolError(`${name} has no input "${unknown.join('", "')}". Its inputs are: ${known?.join(", ") ?? ""}.`);
}

async function runJobAction(
  jobs: Jobs,
  input: ToolInput,
  signal: AbortSignal,
  { interrupt }: CallWatch,
): Promise<ToolResult> {
  const action = optionalChoice(input, "action", ["status", "wait", "kill", "list"]);
  switch (action) {
    case "list":
      return jobs.list();
    case "status":
      return jobs.status(requireText(input, "id"));
    case "wait":
      return await jobs.wait(requireText(input, "id"), {
        timeoutMs: Math.min(optionalCount(input, "timeoutMs") ?? DEFAULT_WAIT_MS, MAX_WAIT_MS),
        port: optionalCount(input, "port"),
        pattern: optionalText(input, "pattern"),
        signal,
        ...(interrupt === undefined ? {} : { interrupt }),
      });
    case "kill":
      return await jobs.kill(requireText(input, "id"));
    case null:
      throw new ToolError('"action" must be one of status, wait, kill, list.');
  }
}

/** Shortens the output to its head and tail; a complete copy is kept as a log. */
function boundOutput(logs: Logs, result: ToolResult, secrets: Redaction): ToolResult {
  const log = logs.create("answer");
  writeFileSync(log, secrets.redact(result.output).slice(0, OUTPUT_LIMIT), { mode: 0o600 });
  const { output, truncated } = readLogExcerpt(log, secrets);
  if (truncated) logs.keep(log);
  else logs.remove(log);
  return { ...result, output, truncated: result.truncated || truncated };
}
