import type { CoordinatorLink } from "../connection/link.ts";
import type { ToolRunner } from "../tools/tool.ts";
import type { Clock } from "../../src/core/ports/runtime.ts";

export interface Verified {
  readonly command: string;
  /** Null when a signal or the time limit ended the command. */
  readonly exitCode: number | null;
  readonly tail: string;
}

const VERIFY_MS = 15 * 60_000;

/**
 * Runs the commands in order at the root of the checkout; a failed command does not stop the next.
 * Rejects only with the signal's reason.
 */
export async function verify(
  parts: { readonly link: CoordinatorLink; readonly tools: ToolRunner; readonly clock: Clock },
  commands: readonly string[],
  signal: AbortSignal,
): Promise<readonly Verified[]> {
  const { link, tools, clock } = parts;
  const results: Verified[] = [];
  for (const command of commands) {
    const begun = clock.now();
    const { exitCode, output: tail } = await tools.run(
      "bash",
      { command, timeoutMs: VERIFY_MS, fromRoot: true },
      signal,
    );
    link.emit("verify", { command, exitCode, ms: Math.max(0, clock.now() - begun), tail });
    results.push({ command, exitCode, tail });
  }
  return results;
}
