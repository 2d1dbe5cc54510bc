/**
 * Runs git for the harness in an untrusted tree: the agent may have written its configuration.
 *
 * G1 Hooks, file-system monitors, commit signatures and prompts that the tree configures do not
 *    run.
 * G2 The attempt's token goes through the environment of the git process that talks to the broker,
 *    never through arguments or files.
 */
import { dirname } from "node:path";
import type { Readable } from "node:stream";
import type { SimpleGitOptions } from "simple-git";
import { GitError } from "../../src/core/lib/git/git-error.ts";
import { readProgress, withoutProgress } from "../../src/core/lib/git/git-progress.ts";
import { runProcessGroup } from "../../src/core/lib/runtime/process-group.ts";

export interface GitOptions {
  readonly cwd: string;
  /** Replaces the checkout's index. */
  readonly indexFile?: string;
  /** The value of an Authorization header. */
  readonly authorization?: string;
  /** Standard input. A stream that breaks ends the input. */
  readonly input?: string | Readable;
  readonly signal?: AbortSignal;
  /** Time limit, ms; 10 minutes by default. */
  readonly timeoutMs?: number;
  /** Receives git's progress. The time limit then counts from the last output. */
  readonly progress?: ((text: string) => void) | undefined;
}

const OUTPUT_LIMIT = 16 * 1024 * 1024;
const TIMEOUT_MS = 600_000;

const SETTINGS: readonly (readonly [string, string])[] = [
  ["core.hooksPath", "/dev/null"],
  ["core.fsmonitor", "false"],
  ["commit.gpgSign", "false"],
  ["gc.auto", "0"],
  ["maintenance.auto", "false"],
  ["protocol.version", "2"],
  ["credential.helper", ""],
  ["core.quotePath", "false"],
  ["advice.detachedHead", "false"],
  ["checkout.workers", "2"],
];

function environment(options: GitOptions): NodeJS.ProcessEnv {
  const settings: (readonly [string, string])[] = [...SETTINGS, ["safe.directory", options.cwd]];
  if (options.authorization !== undefined)
    settings.push(["http.extraHeader", `Authorization: ${options.authorization}`]);
  const env: NodeJS.ProcessEnv = {
    PATH: process.env["PATH"],
    HOME: process.env["HOME"] ?? "/nonexistent",
    LC_ALL: "C",
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_CONFIG_GLOBAL: "/dev/null",
    GIT_TERMINAL_PROMPT: "0",
    GIT_CEILING_DIRECTORIES: dirname(options.cwd),
    GIT_EDITOR: "true",
    NO_PROXY: "127.0.0.1",
    GIT_CONFIG_COUNT: String(settings.length),
  };
  settings.forEach(([key, value], index) => {
    env[`GIT_CONFIG_KEY_${index}`] = key;
    env[`GIT_CONFIG_VALUE_${index}`] = value;
  });
  if (options.indexFile !== undefined) env["GIT_INDEX_FILE"] = options.indexFile;
  return env;
}

/**
 * Returns standard output without the last line end.
 * @throws GitError with the end of git's output; the signal's reason when aborted.
 */
export async function git(args: readonly string[], options: GitOptions): Promise<string> {
  const { cwd, input, signal, timeoutMs, progress } = options;
  signal?.throwIfAborted();
  const { stopped, exitCode, exitSignal, stdout, stderr } = await runProcessGroup("git", args, {
    cwd,
    env: environment(options),
    input,
    signal,
    maxStdoutBytes: OUTPUT_LIMIT,
    maxStderrChars: 8_000,
    onStderr: progress === undefined ? undefined : readProgress(progress),
    timeout: { kind: progress === undefined ? "total" : "idle", ms: timeoutMs ?? TIMEOUT_MS },
    graceMs: 0,
  });
  signal?.throwIfAborted();
  const text = stdout.toString("utf8");
  if (stopped === null && exitCode === 0) return text.replace(/\n$/, "");
  const reason = stopped === null ? `ended with ${exitCode ?? exitSignal}` : STOP_REASONS[stopped];
  throw gitError(args, reason, (progress === undefined ? stderr : withoutProgress(stderr)) || text);
}

const STOP_REASONS = {
  aborted: "was aborted",
  timeout: "timed out",
  output_limit: "exceeded the output limit",
} as const;

function gitError(args: readonly string[], reason: string, output: string): GitError {
  return new GitError(output.slice(-4_000), `git ${args[0] ?? ""} ${reason}`);
}

type PlumbingOptions = Pick<GitOptions, "cwd" | "indexFile" | "signal">;

/**
 * simple-git rejects these settings unless each kind is named; all of them close the environment.
 */
const UNSAFE: NonNullable<SimpleGitOptions["unsafe"]> = {
  allowUnsafeConfigEnvCount: true,
  allowUnsafeConfigPaths: true,
  allowUnsafeCredentialHelper: true,
  allowUnsafeEditor: true,
  allowUnsafeFsMonitor: true,
  allowUnsafeHooksPath: true,
};

/**
 * Runs git commands that start no other program and receive no token, by way of simple-git, in the
 * environment of G1. It is loaded at the first checkpoint: nothing before the agent's first step
 * uses it. Commands that may start a program (`add` and `checkout` run filters of the tree's
 * configuration) need `git`, which ends the whole process group. Standard output without the last
 * line end; rejects like `git`.
 */
export async function gitPlumbing(args: readonly string[], options: PlumbingOptions): Promise<string> {
  const { cwd, signal } = options;
  signal?.throwIfAborted();
  const { simpleGit } = await import("simple-git");
  const env = environment(options);
  const names = Object.keys(env);
  const runner = simpleGit({
    baseDir: cwd,
    timeout: { block: TIMEOUT_MS },
    allowEnvironment: names,
    unsafe: UNSAFE,
    // By default simple-git accepts a failed command that wrote nothing to standard error.
    errors: (error, { exitCode, stdErr, stdOut }) =>
      error ??
      (exitCode === 0 ? undefined : Buffer.concat([...stdErr, ...stdOut, Buffer.from(`\nended with ${exitCode}`)])),
    ...(signal === undefined ? {} : { abort: signal }),
  });
  try {
    return (await runner.env(env).raw([...args])).replace(/\n$/, "");
  } catch (thrown) {
    signal?.throwIfAborted();
    throw gitError(args, "failed", thrown instanceof Error ? thrown.message : String(thrown));
  }
}
