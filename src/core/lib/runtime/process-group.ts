/**
 * Runs one program in a new process group with bounded output.
 *
 * - A signal goes to the whole group: helpers of the program end with it.
 * - The result arrives only after every process that holds the output pipes has ended or closed
 *   them, also after an abort, a timeout or too much output.
 * - The exit code does not reject. Only a program that cannot be started does.
 */
import { spawn } from "node:child_process";
import { pipeline, type Readable } from "node:stream";
import { startRunTimer } from "./run-timer.ts";

export interface ProcessGroupOptions {
  readonly cwd: string;
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

export function runProcessGroup(
  program: string,
  args: readonly string[],
  options: ProcessGroupOptions,
): Promise<ProcessGroupResult> {
  const { cwd, env, input, signal, maxStdoutBytes, maxStderrChars, onStderr, timeout, graceMs } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd, env, detached: true, stdio: ["pipe", "pipe", "pipe"] });
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
    const release = (): void => {
      timer.clear();
      clearTimeout(killTimer);
      signal?.removeEventListener("abort", onAbort);
    };
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
    child.once("error", (error) => {
      release();
      reject(error);
    });
    child.once("close", (exitCode, exitSignal) => {
      release();
      resolve({ stopped, exitCode, exitSignal, stdout: Buffer.concat(chunks), stderr });
    });
  });
}

function signalGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // The group has already ended.
  }
}
