/**
 * Commands in the foreground. Rules B1 to B3 are in command.ts.
 *
 * B4 The current directory is kept from one command to the next, shell variables are not.
 */
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { NO_SECRETS, type Redaction } from "../../../src/core/lib/json/redaction.ts";
import { OUTPUT_LIMIT, runCommand, type End } from "./command.ts";
import type { Logs } from "./logs.ts";
import { readLogExcerpt } from "./output.ts";
import { commandEnvironment } from "./environment.ts";
import { findPrograms } from "../../lib/programs.ts";
import type { CallWatch, ToolResult } from "../tool.ts";

export const DEFAULT_TIMEOUT_MS = 120_000;

export interface BashResult extends ToolResult {
  readonly ms: number;
}

export class Bash {
  readonly #root: string;
  readonly #logs: Logs;
  readonly #env: Readonly<Record<string, string>>;
  readonly #secrets: () => Redaction;
  #cwd: string;

  /** @param logs in a directory outside the workspace. */
  constructor(
    root: string,
    logs: Logs,
    env: Readonly<Record<string, string>> = {},
    secrets: () => Redaction = () => NO_SECRETS,
  ) {
    this.#root = root;
    this.#secrets = secrets;
    this.#env = env;
    this.#cwd = root;
    this.#logs = logs;
  }

  /** The next command starts in the root of the workspace. */
  resetCwd(): void {
    this.#cwd = this.#root;
  }

  /** The directory in which the next command starts. */
  get cwd(): string {
    return existsSync(this.#cwd) ? this.#cwd : this.#root;
  }

  /** Rejects with the signal's reason once everything that the command started has ended. */
  async run(command: string, timeoutMs: number, signal: AbortSignal, watch: CallWatch = {}): Promise<BashResult> {
    signal.throwIfAborted();
    const log = this.#logs.create("command");
    const cwdFile = `${log}.cwd`;
    let keepLog = false;
    try {
      const script = `trap 'pwd >"$SLIPWAY_CWD" 2>/dev/null' EXIT\n${command}\n`;
      const env = { ...this.#env, SLIPWAY_CWD: cwdFile };
      const { end, exitCode, ms } = await runCommand({ script, cwd: this.cwd, env, log, timeoutMs, signal, ...watch });
      if (end === "aborted") throw signal.reason;
      this.#rememberCwd(cwdFile);
      this.#redactLog(log);
      const { output, truncated } = readLogExcerpt(log, this.#secrets());
      keepLog = truncated;
      return {
        output: output + describeEnd(end, timeoutMs) + (exitCode === 127 ? describeMissing(output) : ""),
        truncated: truncated || end === "too much output",
        exitCode,
        ms,
      };
    } finally {
      rmSync(cwdFile, { force: true });
      if (keepLog) this.#logs.keep(log);
      else this.#logs.remove(log);
    }
  }

  /** In the whole log, which the model may read in parts. One at its limit ends anywhere. */
  #redactLog(log: string): void {
    const secrets = this.#secrets();
    if (secrets.longest === 0) return;
    const text = readFileSync(log, "utf8");
    const isCut = statSync(log).size === OUTPUT_LIMIT;
    const redacted = isCut ? secrets.redactTorn(text) : secrets.redact(text);
    if (redacted !== text) writeFileSync(log, redacted);
  }

  #rememberCwd(file: string): void {
    if (!existsSync(file)) return;
    const cwd = readFileSync(file, "utf8").replace(/\n$/, "");
    if (cwd !== "" && existsSync(cwd)) this.#cwd = cwd;
  }
}

/** Commands whose place in the sandbox helps a model that missed one. */
const USUAL = [
  "node",
  "npm",
  "python3",
  "pip",
  "perl",
  "ruby",
  "go",
  "cargo",
  "java",
  "gcc",
  "make",
  "jq",
  "curl",
  "rg",
];

/** A hint after "command not found"; empty when the output names no command. */
function describeMissing(output: string): string {
  const name = /(?:^|: )([^\s:]+): (?:command )?not found$/m.exec(output)?.[1];
  if (name === undefined) return "";
  const present = findPrograms(USUAL, commandEnvironment()["PATH"]).join(", ") || "none of the usual ones";
  return `\n[${name} is not installed here. These are: ${present}. Use one of them, or a tool of the project itself]`;
}

function describeEnd(end: End, timeoutMs: number): string {
  if (end === "interrupted")
    return "\n[stopped: a person interrupted; the message follows. Start the command again if it is still needed]";
  if (end === "too much output") return "\n[stopped: more than 20 MB of output]";
  if (end !== "timed out") return "";
  return `\n[stopped: it did not end within ${timeoutMs} ms. Set a longer "timeoutMs", or start a long command with "background": true]`;
}
