/** Exit codes, and the message for each error. */
import { SlipwayProblem } from "../client/problem.ts";
import { coerceError, SlipwayError } from "../core/error.ts";
import { stripControls } from "./terminal/text.ts";

/**
 * 0 done · 1 failed or cancelled · 2 wrong usage or configuration · 3 the server cannot be reached
 * · 130 interrupted.
 */
export const EXIT = { ok: 0, failed: 1, usage: 2, unreachable: 3, interrupted: 130 } as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/**
 * Ends a command with a message for people and a code for scripts. Without a message it ends
 * silently.
 */
export class CliExit extends Error {
  readonly exit: ExitCode;

  constructor(exit: ExitCode, text = "") {
    super(text);
    this.name = "CliExit";
    this.exit = exit;
  }
}

/** What to print on stderr for an error, and the code to end with. */
export function exitCodeFor(thrown: unknown, debug: boolean): { text: string; exit: ExitCode } {
  if (thrown instanceof CliExit) return { text: thrown.message, exit: thrown.exit };
  if (thrown instanceof SlipwayProblem) return { text: problemText(thrown), exit: exitForProblem(thrown) };
  const error = thrown instanceof SlipwayError ? thrown : coerceError(thrown);
  if (CONFIGURATION.has(error.code)) return { text: error.message, exit: EXIT.usage };
  const cause = error.cause instanceof Error ? ((debug ? error.cause.stack : undefined) ?? error.cause.message) : "";
  return { text: [error.message, cause].filter((text) => text !== "").join("\n"), exit: EXIT.failed };
}
const CONFIGURATION: ReadonlySet<string> = new Set(["config_invalid", "locked", "newer_schema"]);

function exitForProblem(problem: SlipwayProblem): ExitCode {
  if (problem.code === "unreachable") return EXIT.unreachable;
  return problem.status === 400 || problem.status === 422 || problem.status === 401 || problem.status === 403
    ? EXIT.usage
    : EXIT.failed;
}

function problemText(problem: SlipwayProblem): string {
  const fields = problem.errors.map(({ path, message }) => `  ${stripControls(path)}: ${stripControls(message)}`);
  const hint =
    problem.status === 401 && problem.code !== "invalid_credentials"
      ? ["  Run `slipway login`, or set SLIPWAY_TOKEN to a personal access token."]
      : [];
  return [`${stripControls(problem.detail)} (${stripControls(problem.code)})`, ...fields, ...hint].join("\n");
}
