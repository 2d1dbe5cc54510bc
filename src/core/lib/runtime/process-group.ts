/**
 * The only place that starts processes (test/project/processes.test.ts).
 *
 * - Starting fails with a `ProcessStartError`, whatever is missing: the program, a descriptor
 *   (EMFILE, ENFILE), a process (EAGAIN) or memory (ENOMEM). Node reports these in three ways: it
 *   throws, it emits `error`, or it returns a child without streams.
 * - A started child has all its streams, and an `error` that it emits later ends nothing.
 */
import { spawn, type ChildProcessByStdio, type SpawnOptions } from "node:child_process";
import { pipeline, type Readable, type Writable } from "node:stream";
import { errorMessage } from "../../error.ts";
import { startRunTimer } from "./run-timer.ts";

type Stdio = "pipe" | "ignore" | number;

export interface StartOptions<In extends Stdio, Out extends Stdio, Err extends Stdio> extends Omit<
  SpawnOptions,
  "stdio" | "signal" | "shell"
> {
  readonly stdio: readonly [stdin: In, stdout: Out, stderr: Err];
}

export type Child<
  In extends Stdio = "pipe",
  Out extends Stdio = "pipe",
  Err extends Stdio = "pipe",
> = ChildProcessByStdio<
  In extends "pipe" ? Writable : null,
  Out extends "pipe" ? Readable : null,
  Err extends "pipe" ? Readable : null
> & { readonly pid: number };

/** The program does not run: it could not be started. */
export class ProcessStartError extends Error {
  /** ENOENT, EACCES, EMFILE, ENFILE, EAGAIN, ENOMEM, ...; null when Node gave none. */
  readonly code: string | null;

  constructor(program: string, cause: unknown) {
    super(`${program} could not be started: ${errorMessage(cause)}`, { cause });
    this.name = "ProcessStartError";
    this.code = cause instanceof Error && "code" in cause ? String(cause.code) : null;
  }

  /** True when this machine has no program of this name, rather than no resources to run it. */
  get isMissing(): boolean {
    return this.code === "ENOENT";
  }
}

/**
 * Resolves before the child can emit anything but `spawn`: a caller that attaches its listeners
 * without another wait misses nothing. @throws ProcessStartError
 */
export function startProcess<const In extends Stdio, const Out extends Stdio, const Err extends Stdio>(
  program: string,
  args: readonly string[],
  { stdio, ...options }: StartOptions<In, Out, Err>,
): Promise<Child<In, Out, Err>> {
  return new Promise((resolve, reject) => {
    const fail = (cause: unknown): void => reject(new ProcessStartError(program, cause));
    try {
      const child = spawn(program, args, { ...options, stdio: [...stdio] });
      // Attached for good: a failed kill is reported here too.
      child.on("error", fail);
      child.once("spawn", () => resolve(child as unknown as Child<In, Out, Err>));
    } catch (error) {
      fail(error);
    }
  });
}

/**
 * Signals the group of a child that was started with `detached`. Ignores a group that has ended.
 */
export function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch {
    // The group has already ended.
  }
}

export interface ProcessGroupOptions {
  readonly cwd?: string;
  readonly env: NodeJS.ProcessEnv;
  /** Standard input. A stream that breaks ends the input. */
  readonly input?: string | Readable | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Bytes of standard output that are kept; more stops the group. */
  readonly maxStdoutBytes: number;
  /** Characters of standard error that are kept, from its end. */
  readonly maxStderrChars: number;
  /** Receives standard error as it arrives. Must not throw. */
  readonly onStderr?: ((text: string) => void) | undefined;
  /** `total` counts from the start, `idle` from the last output; ms. */
  readonly timeout: { readonly kind: "total" | "idle"; readonly ms: number };
  /** From SIGTERM to SIGKILL, ms. 0 sends SIGKILL at once. */
  readonly graceMs: number;
}

export interface ProcessGroupResult {
  /** Why the group was stopped; null when the program ended without intervention. */
  readonly stopped: "aborted" | "timeout" | "output_limit" | null;
  readonly exitCode: number | null;
  readonly exitSignal: NodeJS.Signals | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

/**
 * Runs one program in a new process group with bounded output.
 *
 * - A signal goes to the whole group: helpers of the program end with it.
 * - The result arrives only after every process that holds the output pipes has ended or closed
 *   them, also after an abort, a timeout or too much output.
 * - The exit code does not reject. @throws ProcessStartError
 */
export async function runProcessGroup(
  program: string,
  args: readonly string[],
  options: ProcessGroupOptions,
): Promise<ProcessGroupResult> {
  const { cwd, env, input, signal, maxStdoutBytes, maxStderrChars, onStderr, timeout, graceMs } = options;
  const place = cwd === undefined ? {} : { cwd };
  // The input may break before the program runs.
  if (typeof input === "object") input.on("error", () => undefined);
  const child = await startProcess(program, args, {
    ...place,
    env,
    detached: true,
    stdio: ["pipe", "pipe", "pipe"],
  }).catch((error: unknown) => {
    if (typeof input === "object") input.destroy();
    throw error;
  });
  const chunks: Buffer[] = [];
  let size = 0;
  let stderr = "";
  let stopped: ProcessGroupResult["stopped"] = null;
  let killTimer: NodeJS.Timeout | undefined;
  const stop = (reason: ProcessGroupResult["stopped"]): void => {
    if (stopped !== null) return;
    stopped = reason;
    signalGroup(child.pid, graceMs === 0 ? "SIGKILL" : "SIGTERM");
    if (graceMs > 0) killTimer = setTimeout(() => signalGroup(child.pid, "SIGKILL"), graceMs);
  };
  const timer = startRunTimer(timeout.ms, () => stop("timeout"));
  const onOutput = (): void => void (timeout.kind === "idle" && timer.refresh());
  const onAbort = (): void => stop("aborted");
  signal?.addEventListener("abort", onAbort, { once: true });
  if (signal?.aborted === true) onAbort();
  child.stdout.on("data", (chunk: Buffer) => {
    onOutput();
    if (size < maxStdoutBytes) chunks.push(chunk.subarray(0, maxStdoutBytes - size));
    size += chunk.length;
    if (size > maxStdoutBytes) stop("output_limit");
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    onOutput();
    stderr = (stderr + text).slice(-maxStderrChars);
    onStderr?.(text);
  });
  child.stdin.on("error", () => undefined);
  if (typeof input === "object") pipeline(input, child.stdin, () => undefined);
  else child.stdin.end(input ?? "");
  return new Promise((resolve) => {
    child.once("close", (exitCode, exitSignal) => {
      timer.clear();
      clearTimeout(killTimer);
      signal?.removeEventListener("abort", onAbort);
      resolve({ stopped, exitCode, exitSignal, stdout: Buffer.concat(chunks), stderr });
    });
  });
}

/** A tool of this machine ran and failed, or did not end in time. */
export class ToolExitError extends Error {
  /** What it wrote to standard output before. */
  readonly stdout: string;

  constructor(message: string, stdout: string) {
    super(message);
    this.name = "ToolExitError";
    this.stdout = stdout;
  }
}

const TOOL_OUTPUT_BYTES = 2 ** 20;
const TOOL_ERROR_CHARS = 4_000;

/**
 * Runs a small tool of this machine. @returns its standard output. Throws ProcessStartError, or
 * ToolExitError when it ends with another code than 0.
 */
export async function runTool(
  program: string,
  args: readonly string[],
  { env, timeoutMs }: { readonly env: NodeJS.ProcessEnv; readonly timeoutMs: number },
): Promise<string> {
  const { stopped, exitCode, exitSignal, stdout, stderr } = await runProcessGroup(program, args, {
    env,
    maxStdoutBytes: TOOL_OUTPUT_BYTES,
    maxStderrChars: TOOL_ERROR_CHARS,
    timeout: { kind: "total", ms: timeoutMs },
    graceMs: 0,
  });
  const text = stdout.toString("utf8");
  if (stopped === null && exitCode === 0) return text;
  const reason = stopped === null ? `ended with ${exitCode ?? exitSignal}` : `was stopped (${stopped})`;
  throw new ToolExitError(`${program} ${reason}: ${stderr.trim()}`, text);
}
