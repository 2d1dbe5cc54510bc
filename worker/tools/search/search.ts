/** Runs a program that searches, and takes no more of its lines than were asked for. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { allowedEnvironment } from "../shell/environment.ts";
import { ToolError } from "../tool.ts";

const TIMEOUT_MS = 60_000;
const LINE_LIMIT = 300;
const ERROR_LIMIT = 2_000;

export interface Found {
  readonly lines: readonly string[];
  /** There was more than was taken. */
  readonly more: boolean;
  /** Null: the program was ended because enough was found. */
  readonly exitCode: number | null;
  readonly errors: string;
}

export interface Search {
  readonly program: string;
  readonly args: readonly string[];
  readonly cwd: string;
  /** Lines that are taken. */
  readonly limit: number;
  /** What ends a line of the output. */
  readonly end: "\n" | "\0";
}

/**
 * @returns null when there is no such program. Rejects with the signal's reason. @throws ToolError
 * when it takes too long.
 */
export async function search({ program, args, cwd, limit, end }: Search, signal: AbortSignal): Promise<Found | null> {
  const env = { ...allowedEnvironment(), GIT_OPTIONAL_LOCKS: "0", LC_ALL: "C.UTF-8" };
  const late = AbortSignal.timeout(TIMEOUT_MS);
  const child = spawn(program, args, {
    cwd,
    env,
    stdio: ["ignore", "pipe", "pipe"],
    signal: AbortSignal.any([signal, late]),
  });
  const over = once(child, "close").catch((error: unknown) => error);
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (errors = (errors + text).slice(0, ERROR_LIMIT)));
  const lines: string[] = [];
  let more = false;
  const parts = end === "\n" ? createInterface({ input: child.stdout }) : zeros(child.stdout);
  for await (const line of parts) {
    if (lines.length === limit) {
      more = true;
      child.kill("SIGKILL");
      break;
    }
    lines.push(
      end === "\n" && line.length > LINE_LIMIT ? `${line.slice(0, LINE_LIMIT)}... (${line.length} characters)` : line,
    );
  }
  const ended = await over;
  signal.throwIfAborted();
  if (late.aborted) throw new ToolError(`No end after ${TIMEOUT_MS / 1_000} s. Give a "path" or a simpler pattern.`);
  if (ended instanceof Error) {
    if ("code" in ended && ended.code === "ENOENT") return null;
    throw ended;
  }
  return { lines, more, exitCode: child.exitCode, errors };
}

async function* zeros(stream: NodeJS.ReadableStream): AsyncGenerator<string> {
  let rest = "";
  stream.setEncoding("utf8");
  for await (const piece of stream) {
    const names = (rest + String(piece)).split("\0");
    rest = names.pop() ?? "";
    yield* names;
  }
}
