/**
 * Commands that are waited for. Rules B1 to B3 are in command.ts.
 *
 * B4 The folder is kept from one command to the next, shell variables are not.
 */
import { existsSync, readFileSync, rmSync } from "node:fs";
import { runCommand, type End } from "./command.ts";
import type { Logs } from "./logs.ts";
import { readLogExcerpt } from "./output.ts";
import type { ToolResult } from "../tool.ts";

export const DEFAULT_TIMEOUT_MS = 120_000;

export interface BashResult extends ToolResult {
  readonly ms: number;
}

export class Bash {
  readonly #root: string;
  readonly #logs: Logs;
  readonly #env: Readonly<Record<string, string>>;
  #cwd: string;

  /** `logs`: in a folder of ours, outside of what the agent works on. */
  constructor(root: string, logs: Logs, env: Readonly<Record<string, string>> = {}) {
    this.#root = root;
    this.#env = env;
    this.#cwd = root;
    this.#logs = logs;
  }

  /** The next command starts in the workspace again. */
  backToRoot(): void {
    this.#cwd = this.#root;
  }

  /** Where the next command starts. */
  get cwd(): string {
    return existsSync(this.#cwd) ? this.#cwd : this.#root;
  }

  /**
   * Rejects with the signal's reason when aborted; by then everything the command started is gone.
   */
  async run(command: string, timeoutMs: number, signal: AbortSignal): Promise<BashResult> {
    signal.throwIfAborted();
    const log = this.#logs.make("command");
    const folder = `${log}.cwd`;
    let keep = false;
    try {
      const script = `trap 'pwd >"$SLIPWAY_CWD" 2>/dev/null' EXIT\n${command}\n`;
      const env = { ...this.#env, SLIPWAY_CWD: folder };
      const { end, exitCode, ms } = await runCommand({ script, cwd: this.cwd, env, log, timeoutMs, signal });
      if (end === "aborted") throw signal.reason;
      this.#keepFolder(folder);
      const { output, truncated } = readLogExcerpt(log);
      keep = truncated;
      return { output: output + why(end, timeoutMs), truncated: truncated || end === "too much output", exitCode, ms };
    } finally {
      rmSync(folder, { force: true });
      if (keep) this.#logs.done(log);
      else this.#logs.drop(log);
    }
  }

  #keepFolder(file: string): void {
    if (!existsSync(file)) return;
    const cwd = readFileSync(file, "utf8").replace(/\n$/, "");
    if (cwd !== "" && existsSync(cwd)) this.#cwd = cwd;
  }
}

function why(end: End, timeoutMs: number): string {
  if (end === "too much output") return "\n[stopped: more than 20 MB of output]";
  if (end !== "timed out") return "";
  return `\n[stopped: no end after ${timeoutMs} ms. Give more with "timeoutMs", or start what runs for long with "background": true]`;
}
