import type { CoordinatorLink } from "../connection/link.ts";
import type { ToolRunner } from "../tools/tool.ts";
import type { Clock } from "../../src/core/ports/runtime.ts";
import type { WorkerSpec } from "../../src/core/protocol/worker.ts";
import { OutputSign, SIGN_MS, withSignsOfLife } from "../lib/signs-of-life.ts";

export interface Verified {
  readonly command: string;
  /** Null when a signal or the time limit ended the command. */
  readonly exitCode: number | null;
  readonly tail: string;
}

/** The limit of a command of the agent: test suites may take an hour. */
const VERIFY_MS = 60 * 60_000;

/**
 * Runs the commands in order at the root of the checkout; a failed command does not stop the next.
 * Rejects only with the signal's reason. An interruption ends the command that runs, and the rest
 * is not run.
 */
export async function verify(
  parts: { readonly link: CoordinatorLink; readonly tools: ToolRunner; readonly clock: Clock },
  { verify: commands, signMs: everyMs = SIGN_MS }: Pick<WorkerSpec, "verify" | "signMs">,
  signal: AbortSignal,
  interrupt?: AbortSignal,
): Promise<readonly Verified[]> {
  const { link, tools, clock } = parts;
  const results: Verified[] = [];
  for (const command of commands) {
    if (interrupt?.aborted) break;
    const begun = clock.now();
    const sign = new OutputSign();
    const onOutput = (lines: string, bytes: number): void => sign.note(lines, bytes);
    const watch = interrupt === undefined ? { onOutput } : { interrupt, onOutput };
    const run = () => tools.run("bash", { command, timeoutMs: VERIFY_MS, fromRoot: true }, signal, watch);
    const { exitCode, output: tail } = await withSignsOfLife({ link, clock, everyMs }, "A check", run, sign.describe);
    link.emit("verify", { command, exitCode, ms: Math.max(0, clock.now() - begun), tail });
    results.push({ command, exitCode, tail });
  }
  return results;
}
