/** Runs a search program and ends it when it has written enough lines. */
import { createInterface } from "node:readline";
import { NO_SECRETS, type Redaction } from "../../../src/core/lib/json/redaction.ts";
import { ProcessStartError, startProcess } from "../../../src/core/lib/runtime/process-group.ts";
import { ToolError } from "../tool.ts";

const TIMEOUT_MS = 60_000;
const LINE_LIMIT = 300;
const ERROR_LIMIT = 2_000;
/** Kept before secrets are removed. */
const MOST_ERRORS = 64 * 1_024;

export interface SearchResult {
  readonly lines: readonly string[];
  /** The program wrote more lines than the limit. */
  readonly more: boolean;
  /** Null: the program was ended at the limit. */
  readonly exitCode: number | null;
  readonly errors: string;
}

export interface Search {
  readonly program: string;
  readonly args: readonly string[];
  readonly cwd: string;
  /** The most lines that are returned. */
  readonly limit: number;
  /** Ends each line of the program's output. */
  readonly separator: "\n" | "\0";
  readonly secrets?: Redaction;
}

/**
 * @returns null when the program is not installed. @throws ToolError when it takes too long;
 * rejects with the signal's reason.
 */
export async function search(
  { program, args, cwd, limit, separator, secrets = NO_SECRETS }: Search,
  signal: AbortSignal,
): Promise<SearchResult | null> {
  // Settings of git or of the loader in the environment must not change what is found.
  const { PATH = "", HOME = "" } = process.env;
  const env = { PATH, HOME, GIT_OPTIONAL_LOCKS: "0", LC_ALL: "C.UTF-8" };
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  signal.throwIfAborted();
  const child = await startProcess(program, args, { cwd, env, stdio: ["ignore", "pipe", "pipe"] }).catch(
    (error: unknown) => {
      if (error instanceof ProcessStartError && error.isMissing) return null;
      throw error;
    },
  );
  if (child === null) return null;
  const stop = AbortSignal.any([signal, timeout]);
  stop.addEventListener("abort", () => child.kill("SIGKILL"), { once: true });
  const closed = new Promise((resolve) => child.once("close", resolve));
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (errors += errors.length > MOST_ERRORS ? "" : text));
  const lines: string[] = [];
  let more = false;
  const output = separator === "\n" ? createInterface({ input: child.stdout }) : splitAtNul(child.stdout);
  for await (const written of output) {
    const line = secrets.redact(written);
    if (lines.length === limit) {
      more = true;
      child.kill("SIGKILL");
      break;
    }
    lines.push(
      separator === "\n" && line.length > LINE_LIMIT
        ? `${line.slice(0, LINE_LIMIT)}... (${line.length} characters)`
        : line,
    );
  }
  await closed;
  signal.throwIfAborted();
  if (timeout.aborted)
    throw new ToolError(`The search did not end within ${TIMEOUT_MS / 1_000} s. Give a "path" or a simpler pattern.`);
  return { lines, more, exitCode: child.exitCode, errors: secrets.redact(errors).slice(0, ERROR_LIMIT) };
}

async function* splitAtNul(stream: NodeJS.ReadableStream): AsyncGenerator<string> {
  let rest = "";
  stream.setEncoding("utf8");
  for await (const chunk of stream) {
    const names = (rest + String(chunk)).split("\0");
    rest = names.pop() ?? "";
    yield* names;
  }
}
