/**
 * One command in a new shell, from its start until all of its processes have ended.
 *
 * B1 Output goes to a file, not through a pipe, and the command ends with its shell: a child that
 *    keeps the output open delays nothing.
 * B2 No process that a command started outlives it, even if it runs in the background, in a new
 *    session, with a cleaned environment, or ignores SIGTERM.
 * B3 The environment is built from an allow-list.
 */
import { randomUUID } from "node:crypto";
import { closeSync, ftruncateSync, fstatSync, openSync } from "node:fs";
import { createMark, runMarked } from "../../../src/core/lib/runtime/process-mark.ts";
import { startProcess } from "../../../src/core/lib/runtime/process-group.ts";
import { followLines } from "./tail.ts";
import { commandEnvironment } from "./environment.ts";
import { endProcesses, MARKER } from "./processes.ts";

/** A command that writes more bytes than this is stopped. */
export const OUTPUT_LIMIT = 20 * 1024 * 1024;
const POLL_MS = 50;
const GRACE_MS = 1_500;
const FIXED = { CI: "1", PAGER: "cat", GIT_PAGER: "cat", GIT_TERMINAL_PROMPT: "0", NO_COLOR: "1", TERM: "dumb" };

export type End = "exited" | "timed out" | "interrupted" | "too much output" | "aborted";

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
  /** The file for both outputs. It is created, and at most OUTPUT_LIMIT long after the end. */
  readonly log: string;
  /** Null: no limit. */
  readonly timeoutMs: number | null;
  readonly signal: AbortSignal;
  readonly interrupt?: AbortSignal;
  /** Gets whole lines while the command runs, and how many bytes it has printed. */
  readonly onOutput?: (lines: string, bytes: number) => void;
}

/**
 * Resolves when all processes of the command have ended. Rejects when no shell could be started.
 */
export async function runCommand(options: CommandOptions): Promise<Ended> {
  const { script, cwd, env, log, timeoutMs, signal, interrupt, onOutput } = options;
  const startedAt = performance.now();
  const marker = randomUUID();
  const fd = openSync(log, "w", 0o600);
  try {
    const mark = createMark("soft", marker);
    const child = await startProcess("/bin/bash", runMarked(mark, "/bin/bash", ["--norc", "-c", script]), {
      cwd,
      env: { ...commandEnvironment(), ...env, ...FIXED, [MARKER]: marker },
      detached: true,
      stdio: ["ignore", fd, fd],
    });
    const ended = await new Promise<Omit<Ended, "ms">>((resolve) => {
      const cleanUp = (): void => {
        clearTimeout(timer);
        clearInterval(poll);
        tail?.stop();
        interrupt?.removeEventListener("abort", stop);
        signal.removeEventListener("abort", abort);
      };
      const done = (end: End, exitCode: number | null = null): void => {
        cleanUp();
        resolve({ end, exitCode });
      };
      const abort = (): void => done("aborted");
      const timer = timeoutMs === null ? undefined : setTimeout(() => done("timed out"), timeoutMs);
      const poll = setInterval(() => fstatSync(fd).size > OUTPUT_LIMIT && done("too much output"), POLL_MS);
      const tail = onOutput === undefined ? null : followLines(log, onOutput);
      const stop = (): void => done("interrupted");
      interrupt?.addEventListener("abort", stop, { once: true });
      signal.addEventListener("abort", abort, { once: true });
      if (interrupt?.aborted) stop();
      if (signal.aborted) abort();
      child.on("exit", (code) => done("exited", code));
    });
    await endProcesses(child.pid, marker, ended.end === "too much output" ? 0 : GRACE_MS);
    return { ...ended, ms: Math.round(performance.now() - startedAt) };
  } finally {
    if (fstatSync(fd).size > OUTPUT_LIMIT) ftruncateSync(fd, OUTPUT_LIMIT);
    closeSync(fd);
  }
}
