/**
 * Runs one command in a shell of its own.
 *
 * B1 Output goes to a file, never through a pipe, and the end is the shell's own `exit`: a child that keeps the output open holds nothing up.
 * B2 Nothing that a command started outlives it: not in the background, not in a session of its own, not by ignoring SIGTERM.
 * B3 The environment is made from an allow-list: neither the attempt's token nor the broker's address is in it.
 * B4 The folder is kept from one command to the next, shell variables are not.
 */
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { closeSync, existsSync, fstatSync, ftruncateSync, mkdirSync, openSync, readFileSync, readSync, rmSync } from "node:fs";
import { join } from "node:path";
import { cut, cutHead } from "../text.ts";
import { endAll, MARKER } from "./processes.ts";
import type { ToolResult } from "./tool.ts";

export const DEFAULT_TIMEOUT_MS = 120_000;
const OUTPUT_LIMIT = 20 * 1024 * 1024;
const HEAD = 4 * 1024;
const TAIL = 12 * 1024;
const POLL_MS = 50;
const GRACE_MS = 1_500;

const KEPT = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR"];
const FIXED = { CI: "1", PAGER: "cat", GIT_PAGER: "cat", GIT_TERMINAL_PROMPT: "0", NO_COLOR: "1", TERM: "dumb" };

export interface BashResult extends ToolResult {
  readonly ms: number;
}

type End = "exited" | "timed out" | "too much output" | "aborted";

export class Bash {
  readonly #root: string;
  readonly #jobs: string;
  readonly #env: Readonly<Record<string, string>>;
  #cwd: string;

  /** `jobs`: a folder of ours, outside of what the agent works on. */
  constructor(root: string, jobs: string, env: Readonly<Record<string, string>> = {}) {
    this.#root = root;
    this.#env = env;
    this.#cwd = root;
    this.#jobs = jobs;
  }

  /** The next command starts in the workspace again. */
  backToRoot(): void {
    this.#cwd = this.#root;
  }

  /** Rejects with the signal's reason when aborted; by then everything the command started is gone. */
  async run(command: string, timeoutMs: number, signal: AbortSignal): Promise<BashResult> {
    signal.throwIfAborted();
    const job = randomUUID();
    const dir = join(this.#jobs, job);
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    const fd = openSync(join(dir, "output"), "w+", 0o600);
    const begun = performance.now();
    try {
      const [end, exitCode] = await this.#wait(command, job, dir, fd, timeoutMs, signal);
      if (end === "aborted") throw signal.reason;
      this.#keepFolder(join(dir, "cwd"));
      const ms = Math.round(performance.now() - begun);
      return { ...shown(fd, end, timeoutMs), exitCode: end === "exited" ? exitCode : null, ms };
    } finally {
      closeSync(fd);
      rmSync(dir, { recursive: true, force: true });
    }
  }

  async #wait(
    command: string,
    job: string,
    dir: string,
    fd: number,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<[End, number | null]> {
    const env = { ...allowed(), ...this.#env, ...FIXED, [MARKER]: job, SLIPWAY_CWD: join(dir, "cwd") };
    const cwd = existsSync(this.#cwd) ? this.#cwd : this.#root;
    const script = `trap 'pwd >"$SLIPWAY_CWD" 2>/dev/null' EXIT\n${command}\n`;
    const child = spawn("/bin/bash", ["--norc", "-c", script], { cwd, env, detached: true, stdio: ["ignore", fd, fd] });
    const group = child.pid;
    const ended = await new Promise<[End, number | null]>((resolve, reject) => {
      const settle = (): void => {
        clearTimeout(timer);
        clearInterval(poll);
        signal.removeEventListener("abort", abort);
      };
      const done = (end: End, exitCode: number | null = null): void => {
        settle();
        resolve([end, exitCode]);
      };
      const abort = (): void => done("aborted");
      const timer = setTimeout(() => done("timed out"), timeoutMs);
      const poll = setInterval(() => fstatSync(fd).size > OUTPUT_LIMIT && done("too much output"), POLL_MS);
      signal.addEventListener("abort", abort, { once: true });
      child.on("exit", (code) => done("exited", code));
      child.on("error", (error) => {
        settle();
        reject(error);
      });
    });
    if (group !== undefined) await endAll(group, job, ended[0] === "too much output" ? 0 : GRACE_MS);
    return ended;
  }

  #keepFolder(file: string): void {
    if (!existsSync(file)) return;
    const cwd = readFileSync(file, "utf8").replace(/\n$/, "");
    if (cwd !== "" && existsSync(cwd)) this.#cwd = cwd;
  }
}

function allowed(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => KEPT.includes(name) || name.startsWith("LC_"));
  return Object.fromEntries(kept);
}

/** Head and tail of the output, with a word about what is left out or why it ended. */
function shown(fd: number, end: End, timeoutMs: number): { output: string; truncated: boolean } {
  const { size } = fstatSync(fd);
  if (size > OUTPUT_LIMIT) ftruncateSync(fd, OUTPUT_LIMIT);
  const bytes = Math.min(size, OUTPUT_LIMIT);
  const truncated = bytes > HEAD + TAIL;
  const why =
    end === "timed out"
      ? `\n[stopped: no end after ${timeoutMs} ms]`
      : end === "too much output"
        ? "\n[stopped: more than 20 MB of output]"
        : "";
  if (!truncated) return { output: part(fd, 0, bytes) + why, truncated: end === "too much output" };
  const head = cut(part(fd, 0, HEAD), HEAD);
  const tail = cutHead(part(fd, bytes - TAIL, TAIL), TAIL);
  return { output: `${head}\n[... ${bytes - HEAD - TAIL} bytes left out ...]\n${tail}${why}`, truncated: true };
}

/** Text of a range of bytes, without the pieces of characters at its ends. */
function part(fd: number, from: number, length: number): string {
  const buffer = Buffer.alloc(length);
  const read = readSync(fd, buffer, 0, length, from);
  let start = 0;
  while (from > 0 && start < 3 && ((buffer[start] ?? 0) & 0xc0) === 0x80) start += 1;
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(buffer.subarray(start, read), { stream: true });
}
