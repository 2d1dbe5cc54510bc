/**
 * A program that communicates over its standard input and output, under the process rules of
 * command.ts.
 *
 * P1 When `ended` resolves, the program has ended with everything that it started.
 * P2 A program that floods is ended: its output exceeds a token bucket, or one line exceeds a
 *    limit.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { Transform, type Readable, type Writable } from "node:stream";
import { truncateStart } from "../../lib/text.ts";
import { allowedEnvironment } from "./environment.ts";
import { endProcesses, MARKER } from "./processes.ts";

/** The token bucket: its size in bytes, and the bytes per second that refill it. */
const BURST = 20 * 1024 * 1024;
const REFILL = 1024 * 1024;
/** Bytes. */
const LINE_LIMIT = 10 * 1024 * 1024;
/** Characters of standard error that are kept. */
const STDERR_TAIL = 4_000;
/** The time from SIGTERM to SIGKILL. */
const GRACE_MS = 1_500;
/** The wait for output that is still in the pipe when the program has ended. */
const DRAIN_MS = 500;

export interface ProgramOptions {
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
}

export class Program {
  readonly input: Writable;
  /** Ends with the program, even if a child of it keeps the pipe open. */
  readonly output: Readable;
  /** Resolves with the reason, as text. Never rejects. */
  readonly ended: Promise<string>;
  #reason = "";
  #errors = "";
  #graceMs = GRACE_MS;
  readonly #child: ChildProcess;
  readonly #stop = new AbortController();

  private constructor(options: ProgramOptions) {
    const { command, args, cwd, env } = options;
    const marker = randomUUID();
    const child = spawn(command, args, {
      cwd,
      env: { ...allowedEnvironment(), CI: "1", NO_COLOR: "1", ...env, [MARKER]: marker },
      detached: true,
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.#child = child;
    this.input = child.stdin;
    this.input.on("error", () => {});
    const output = createFloodGuard((reason) => this.#stopWith(reason, 0));
    output.on("error", () => {});
    child.stdout.on("error", () => {}).pipe(output);
    this.output = output;
    child.stderr
      .setEncoding("utf8")
      .on("data", (text: string) => (this.#errors = truncateStart(this.#errors + text, STDERR_TAIL)));
    this.ended = this.#waitForEnd(marker);
  }

  /** Never throws: a program that cannot be started has ended. */
  static start(options: ProgramOptions): Program {
    return new Program(options);
  }

  /** The tail of its standard error. */
  get errors(): string {
    return this.#errors.trim();
  }

  /** Ends it with everything that it started. Idempotent. */
  async close(reason = "it was ended"): Promise<void> {
    this.#stopWith(reason, GRACE_MS);
    await this.ended;
  }

  #stopWith(reason: string, graceMs: number): void {
    if (this.#stop.signal.aborted) return;
    this.#reason ||= reason;
    this.#graceMs = graceMs;
    this.#stop.abort();
  }

  async #waitForEnd(marker: string): Promise<string> {
    const child = this.#child;
    await new Promise<void>((resolve) => {
      child.on("exit", (code, signal) => {
        this.#reason ||= code === null ? `it was ended by ${signal ?? "a signal"}` : `it ended with exit code ${code}`;
        resolve();
      });
      child.on("error", (error) => {
        this.#reason ||= `it could not be started: ${error.message}`;
        resolve();
      });
      this.#stop.signal.addEventListener("abort", () => resolve(), { once: true });
    });
    if (child.pid !== undefined) await endProcesses(child.pid, marker, this.#graceMs);
    this.input.destroy();
    // The last output may still be in the pipe. Other holders of the pipe have ended, or are not
    // waited for.
    if (!this.output.readableEnded)
      await Promise.race([once(this.output, "end").catch(() => undefined), delay(DRAIN_MS)]);
    child.stdout?.destroy();
    child.stderr?.destroy();
    this.output.destroy();
    return this.#reason;
  }
}

/** P2 */
function createFloodGuard(onFlood: (reason: string) => void): Transform {
  let [tokens, refilledAt, lineLength] = [BURST, performance.now(), 0];
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      const now = performance.now();
      tokens = Math.min(BURST, tokens + ((now - refilledAt) / 1_000) * REFILL) - chunk.length;
      refilledAt = now;
      const end = chunk.lastIndexOf(10);
      lineLength = end === -1 ? lineLength + chunk.length : chunk.length - end - 1;
      if (tokens < 0) onFlood("it wrote more than 20 MB at once");
      if (lineLength > LINE_LIMIT) onFlood("it wrote a line of more than 10 MB");
      if (tokens < 0 || lineLength > LINE_LIMIT) return done();
      done(null, chunk);
    },
  });
}
