/**
 * Runs the repository's setup commands in order. Each command is logged as a tool call. The first
 * failure skips the remaining commands; the agent starts regardless.
 */
import { isAbort } from "../../src/core/error.ts";
import { SETUP_MINUTES, type WorkerSpec } from "../../src/core/protocol/worker.ts";
import type { WorkerParts } from "../session.ts";
import type { CommandVariables } from "../tools/shell/variables.ts";
import type { ToolResult } from "../tools/tool.ts";

/** Interval of progress notices, ms. */
const NOTICE_MS = 60_000;
const TAIL = 3_000;

/** @returns the failure message for the agent, or null. Rejects only when aborted. */
export async function runSetup(
  parts: WorkerParts & { readonly variables: CommandVariables },
  { setup: commands, setupVariables }: Pick<WorkerSpec, "setup" | "setupVariables">,
  signal: AbortSignal,
): Promise<string | null> {
  const { clock, link, tools, variables } = parts;
  const endsAt = clock.now() + SETUP_MINUTES * 60_000;
  for (const [index, { command, timeoutMs }] of commands.entries()) {
    const id = parts.newId("tool");
    const begun = clock.now();
    link.emit("tool.started", { id, name: "setup", input: { command } });
    const ended = new AbortController();
    void emitProgress(parts, command, ended.signal);
    const limits = { timeoutMs: Math.max(1, Math.min(timeoutMs, endsAt - begun)), fromRoot: true };
    const run = (script: string): Promise<ToolResult> => tools.run("bash", { command: script, ...limits }, signal);
    const running = setupVariables === true ? variables.runInSetup(command, run) : run(command);
    const result = await running.finally(() => ended.abort());
    link.emit("tool.finished", { id, name: "setup", ...result, ms: Math.max(0, clock.now() - begun) });
    if (result.exitCode === 0) continue;
    const left = commands.length - index - 1;
    const how = result.exitCode === null ? "was stopped before its end" : `ended with exit code ${result.exitCode}`;
    const skipped = left === 0 ? "" : ` The ${left} after it did not run.`;
    const text = `The setup command "${command.slice(0, 200)}" ${how}.${skipped}\n${result.output.slice(-TAIL)}`;
    link.emit("notice", { level: "warning", code: "setup_failed", text });
    return text;
  }
  return null;
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
