/**
 * Runs the repository's setup commands in order. Each command is logged as a tool call. The first
 * failure skips the remaining commands; the agent starts regardless.
 */
import { isAbort } from "../../../src/core/error.ts";
import { SETUP_MINUTES, type WorkerSpec } from "../../../src/core/protocol/worker.ts";
import type { WorkerParts } from "../../session.ts";
import type { CommandVariables } from "../../tools/shell/variables.ts";
import type { ToolResult } from "../../tools/tool.ts";

/** Interval of progress notices, ms. */
const NOTICE_MS = 60_000;
const TAIL = 3_000;

export interface SetupParts extends WorkerParts {
  readonly variables: CommandVariables;
}

export interface SetupOptions {
  /** So many of the first commands do not run: what they make is there. */
  readonly skip?: number;
  /** Called once the first `count` commands have succeeded in this run. */
  readonly milestone?: { readonly count: number; readonly reached: () => Promise<void> };
}

/** @returns the failure message for the agent, or null. Rejects only when aborted. */
export async function runSetup(
  parts: SetupParts,
  { setup: commands, setupVariables }: Pick<WorkerSpec, "setup" | "setupVariables">,
  signal: AbortSignal,
  { skip = 0, milestone }: SetupOptions = {},
): Promise<string | null> {
  const endsAt = parts.clock.now() + SETUP_MINUTES * 60_000;
  for (const [index, { command, timeoutMs }] of commands.entries()) {
    if (index < skip) continue;
    const limitMs = Math.max(1, Math.min(timeoutMs, endsAt - parts.clock.now()));
    const result = await runCommand(parts, { command, limitMs, withVariables: setupVariables === true }, signal);
    if (result.exitCode !== 0) return reportFailure(parts, command, result, commands.length - index - 1);
    if (milestone?.count === index + 1) await milestone.reached();
  }
  return null;
}

interface Run {
  readonly command: string;
  readonly limitMs: number;
  readonly withVariables: boolean;
}

async function runCommand(parts: SetupParts, run: Run, signal: AbortSignal): Promise<ToolResult> {
  const { clock, link, tools, variables } = parts;
  const { command, limitMs: timeoutMs, withVariables } = run;
  const id = parts.newId("tool");
  const begun = clock.now();
  link.emit("tool.started", { id, name: "setup", input: { command } });
  const ended = new AbortController();
  void emitProgress(parts, command, ended.signal);
  const execute = (script: string): Promise<ToolResult> =>
    tools.run("bash", { command: script, timeoutMs, fromRoot: true }, signal);
  const running = withVariables ? variables.runInSetup(command, execute) : execute(command);
  const result = await running.finally(() => ended.abort());
  link.emit("tool.finished", { id, name: "setup", ...result, ms: Math.max(0, clock.now() - begun) });
  return result;
}

function reportFailure({ link }: SetupParts, command: string, result: ToolResult, left: number): string {
  const how = result.exitCode === null ? "was stopped before its end" : `ended with exit code ${result.exitCode}`;
  const skipped = left === 0 ? "" : ` The ${left} after it did not run.`;
  const text = `The setup command "${command.slice(0, 200)}" ${how}.${skipped}\n${result.output.slice(-TAIL)}`;
  link.emit("notice", { level: "warning", code: "setup_failed", text });
  return text;
}

async function emitProgress({ clock, link }: WorkerParts, command: string, ended: AbortSignal): Promise<void> {
  try {
    for (let ms = NOTICE_MS; ; ms += NOTICE_MS) {
      await clock.sleep(NOTICE_MS, ended);
      link.emit("notice", {
        level: "info",
        code: "setup_runs",
        text: `${command.slice(0, 200)} has been running for ${ms / 1_000} s.`,
      });
    }
  } catch (thrown) {
    if (!isAbort(thrown)) throw thrown;
  }
}
