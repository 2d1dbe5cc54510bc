/**
 * Runs git for the harness, in a tree that the agent may have prepared against us.
 *
 * G1 No hook, file-system monitor, signature or prompt of the tree's making is ever run or waited
 *    for.
 * G2 The attempt's token goes through the environment of the git process that talks to the broker,
 *    never through arguments or files.
 */
import { spawn } from "node:child_process";
import { dirname } from "node:path";
import { pipeline, type Readable } from "node:stream";
import type { SimpleGitOptions } from "simple-git";

export class GitError extends Error {
  readonly output: string;

  constructor(args: readonly string[], reason: string, output: string) {
    super(`git ${args[0] ?? ""} ${reason}`);
    this.name = "GitError";
    this.output = output;
  }
}

export interface GitOptions {
  readonly cwd: string;
  /** Another index than the checkout's own. */
  readonly indexFile?: string;
  /** The value of an Authorization header. */
  readonly authorization?: string;
  /** Of a stream that breaks git sees the end. */
  readonly input?: string | Readable;
  readonly signal?: AbortSignal;
  /** Killed after this; 10 minutes unless told. */
  readonly timeoutMs?: number;
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
 * Standard output without the last line end. Rejects with a GitError that holds what git said, or
 * with the signal's reason.
 */
export async function git(args: readonly string[], options: GitOptions): Promise<string> {
  options.signal?.throwIfAborted();
  return await new Promise((resolve, reject) => {
    const child = spawn("git", args, {
      cwd: options.cwd,
      env: environment(options),
      detached: true,
      stdio: ["pipe", "pipe", "pipe"],
    });
    let [out, err, over] = ["", "", ""];
    const stop = (why: string): void => {
      over ||= why;
      if (child.pid === undefined) return;
      try {
        process.kill(-child.pid, "SIGKILL");
      } catch {
        // gone already
      }
    };
    const abort = (): void => stop("aborted");
    const timer = setTimeout(() => stop("timed out"), options.timeoutMs ?? TIMEOUT_MS);
    options.signal?.addEventListener("abort", abort, { once: true });
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      out += text;
      if (out.length > OUTPUT_LIMIT) stop("said too much");
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      err = (err + text).slice(-8_000);
    });
    child.stdin.on("error", () => {});
    if (typeof options.input === "object") pipeline(options.input, child.stdin, () => {});
    else child.stdin.end(options.input ?? "");
    const end = (settle: () => void): void => {
      clearTimeout(timer);
      options.signal?.removeEventListener("abort", abort);
      settle();
    };
    child.on("error", (error) => end(() => reject(error)));
    child.on("close", (code, killedBy) =>
      end(() => {
        if (options.signal?.aborted) return reject(options.signal.reason as Error);
        if (code === 0 && over === "") return resolve(out.replace(/\n$/, ""));
        reject(new GitError(args, over || `ended with ${code ?? killedBy}`, (err || out).slice(-4_000)));
      }),
    );
  });
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
 * environment of G1. Commands that may start one (`add` and `checkout` run filters of the tree's
 * configuration) need `git`, which ends the whole process group.
 * Standard output without the last line end; rejects like `git`.
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
    throw new GitError(args, "failed", thrown instanceof Error ? thrown.message.slice(-4_000) : String(thrown));
  }
}
