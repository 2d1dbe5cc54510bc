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
  if (STORAGE.has(error.code)) return { text: `${error.message} (${error.code})`, exit: EXIT.failed };
  const cause = error.cause instanceof Error ? ((debug ? error.cause.stack : undefined) ?? error.cause.message) : "";
  return { text: [error.message, cause].filter((text) => text !== "").join("\n"), exit: EXIT.failed };
}
/** Errors that are printed with their code, for scripts and the log of scheduled backups. */
const STORAGE: ReadonlySet<string> = new Set(["storage_unavailable", "storage_refused"]);
const CONFIGURATION: ReadonlySet<string> = new Set(["config_invalid", "locked", "newer_schema"]);

function exitForProblem(problem: SlipwayProblem): ExitCode {
  if (problem.code === "unreachable") return EXIT.unreachable;
  return problem.status === 400 || problem.status === 422 || problem.status === 401 || problem.status === 403
    ? EXIT.usage
    : EXIT.failed;
}

/** Field of the API -> option of the command line. */
const TYPED: Readonly<Record<string, string>> = {
  "budget.minutes": "--minutes",
  "budget.threadUsd": "--thread-usd",
  "budget.turns": "--turns",
  "budget.usd": "--usd",
  "limits.cpus": "--cpus",
  "limits.diskMb": "--disk",
  "limits.memoryMb": "--memory",
  agent: "--agent",
  base: "--base",
  branch: "--branch",
  cursor: "--cursor",
  effort: "--effort",
  egress: "--egress",
  email: "the e-mail address",
  expiresInDays: "--days",
  image: "--image",
  limit: "--limit",
  maxAttempts: "--max-attempts",
  model: "--model",
  name: "the name",
  password: "the password",
  priority: "--priority",
  prompt: "the prompt",
  pullRequest: "--pull-request",
  q: "--search",
  repo: "the repository",
  scopes: "--scopes",
  state: "--state",
  thread: "--thread",
  title: "--title",
  verify: "--verify",
};

/** `script.0.bash` is the first step. */
function fieldSentence(path: string, message: string): string {
  const [, step, rest = ""] = /^script\.(\d+)(.*)$/.exec(path) ?? [];
  const field = step === undefined ? path.replace(/\.\d+$/, "") : "";
  const typed = step === undefined ? (TYPED[field] ?? path) : `step ${Number(step) + 1} of --script${rest}`;
  return `${stripControls(typed)} ${stripControls(message)}${/[.!?]$/.test(message) ? "" : "."}`;
}

function problemText(problem: SlipwayProblem): string {
  const sentences = problem.errors.map(({ path, message }) => fieldSentence(path, message));
  if (problem.code === "invalid_request" && sentences.length > 0) return `${sentences.join("\n")} (invalid_request)`;
  const fields = sentences.map((sentence) => `  ${sentence}`);
  const hint =
    problem.status === 401 && problem.code !== "invalid_credentials"
      ? ["  Run `slipway login`, or set SLIPWAY_TOKEN to a personal access token."]
      : problem.code === "fresh_login_required"
        ? ["  Run `slipway login` (by a code, also without a password), then this again within ten minutes."]
        : [];
  const isLoggedOut = problem.code === "unauthenticated" && problem.detail.includes("Authorization:");
  const detail = isLoggedOut ? "You are not logged in." : stripControls(problem.detail);
  return [`${detail} (${stripControls(problem.code)})`, ...fields, ...hint].join("\n");
}
