/**
 * One command in a shell of its own, from its start until nothing of it is left.
 *
 * B1 Output goes to a file, never through a pipe, and the end is the shell's own `exit`: a child
 *    that keeps the output open holds nothing up.
 * B2 Nothing that a command started outlives it: not in the background, not in a session of its
 *    own, not by ignoring SIGTERM.
 * B3 The environment is made from an allow-list.
 */
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { closeSync, ftruncateSync, fstatSync, openSync } from "node:fs";
import { allowedEnvironment } from "./environment.ts";
import { endAll, MARKER } from "./processes.ts";

/** A command that writes more is stopped, bytes. */
export const OUTPUT_LIMIT = 20 * 1024 * 1024;
const POLL_MS = 50;
const GRACE_MS = 1_500;
const FIXED = { CI: "1", PAGER: "cat", GIT_PAGER: "cat", GIT_TERMINAL_PROMPT: "0", NO_COLOR: "1", TERM: "dumb" };

export type End = "exited" | "timed out" | "too much output" | "aborted";

export interface Ended {
  readonly end: End;
  /** Null: ended by a signal or a limit. */
  readonly exitCode: number | null;
  readonly ms: number;
}

export interface CommandOptions {
  readonly script: string;
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  /** Both outputs; made, never longer than OUTPUT_LIMIT once the command has ended. */
  readonly log: string;
  /** Null: for as long as it takes. */
  readonly timeoutMs: number | null;
  readonly signal: AbortSignal;
}

/**
 * Resolves when the command has ended and everything it started is gone. Rejects when no shell
 * could be started.
 */
export async function runCommand({ script, cwd, env, log, timeoutMs, signal }: CommandOptions): Promise<Ended> {
  const begun = performance.now();
  const marker = randomUUID();
  const fd = openSync(log, "w", 0o600);
  try {
    const child = spawn("/bin/bash", ["--norc", "-c", script], {
      cwd,
      env: { ...allowedEnvironment(), ...env, ...FIXED, [MARKER]: marker },
      detached: true,
      stdio: ["ignore", fd, fd],
    });
    const ended = await new Promise<Omit<Ended, "ms">>((resolve, reject) => {
      const settle = (): void => {
        clearTimeout(timer);
        clearInterval(poll);
        signal.removeEventListener("abort", abort);
      };
      const done = (end: End, exitCode: number | null = null): void => {
        settle();
        resolve({ end, exitCode });
      };
      const abort = (): void => done("aborted");
      const timer = timeoutMs === null ? undefined : setTimeout(() => done("timed out"), timeoutMs);
      const poll = setInterval(() => fstatSync(fd).size > OUTPUT_LIMIT && done("too much output"), POLL_MS);
      signal.addEventListener("abort", abort, { once: true });
      child.on("exit", (code) => done("exited", code));
      child.on("error", (error) => {
        settle();
        reject(error);
      });
    });
    if (child.pid !== undefined) await endAll(child.pid, marker, ended.end === "too much output" ? 0 : GRACE_MS);
    return { ...ended, ms: Math.round(performance.now() - begun) };
  } finally {
    if (fstatSync(fd).size > OUTPUT_LIMIT) ftruncateSync(fd, OUTPUT_LIMIT);
    closeSync(fd);
  }
}
